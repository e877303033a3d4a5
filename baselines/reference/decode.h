// Based decode in float64, the oracle of the recurrent state update, in plain loops over features:
//
//   S += phi_k v^T,   z += phi_k,   o = phi_q^T S   (/ (phi_q^T z + eps))
#pragma once

#include <span>
#include <vector>

#include "kernels/based/decode.h"

namespace based::reference {

/// The tensors of one (batch, head), on the host: q and k as the problem's layout has them.
struct decode_head {
  const float* q;
  const float* k;
  const float* v;   // [64]
  const float* kv;  // [rows, 64], before the step
  const float* z;   // [rows]; null without normalisation
};

struct decode_result {
  std::vector<double> o;   // [64]
  std::vector<double> kv;  // [rows, 64], after the step
  std::vector<double> z;   // [rows]; empty without normalisation
};

decode_result decode_step(const decode_problem& problem, const decode_head& head);

/// What a caller of the padded layout passes as q or k: the 273 features of x (1, x_i, x_i x_j for
/// all i, j), then zeros up to 320. A query carries the weights 1, scale and scale^2 / 2; a key
/// takes weights of 1.
std::vector<float> padded_query_features(const float* x, float scale);
std::vector<float> padded_key_features(const float* x);

}  // namespace based::reference
