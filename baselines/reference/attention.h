// Softmax attention in float64, the oracle of the softmax baselines, in plain loops:
//
//   o_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij),   s_ij = q_i . k_j / sqrt(Dh),  j <= i where
//   causal
//
// with the row's largest s subtracted first.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention.h"

namespace based::reference {

/// The tensors of one (batch, head): contiguous [N, Dh], on the host.
struct attention_head {
  std::int64_t seqlen;
  int head_dim;
  bool causal;
  const float* q;
  const float* k;
  const float* v;
};

/// Writes o[r, :] = o_i with i = rows[r]; `o` is [rows.size(), Dh]. Throws invalid_argument for a
/// row or size out of range.
void attention_rows(const attention_head& head, std::span<const std::int64_t> rows,
                    std::span<double> o);

}  // namespace based::reference
