// Based prefill in float64, the oracle of every implementation: the definition as it is written,
//
//   o_i = sum_{j <= i} (1 + s + s^2/2) v_j,   s = scale q_i . k_j      (arXiv 2402.18668, eq. 4)
//
// in plain quadratic loops. It has no feature map, no chunks and no state of its own, and shares
// no code with what it judges; only a given initial state goes through the features of
// features.h, written out term by term.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/based/prefill.h"

namespace based::reference {

/// The tensors of one (batch, head): contiguous, on the host.
struct prefill_head {
  std::int64_t seqlen;
  const float* q;                     ///< [N, 16]
  const float* k;                     ///< [N, 16]
  const float* v;                     ///< [N, 64]
  const float* initial_kv = nullptr;  ///< [153, 64], read where options.initial_state
  const float* initial_z = nullptr;   ///< [153], read where options.normalize too
};

/// Writes o[r, :] = o_i with i = rows[r], for any rows of 0..N-1 in any order; `o` is
/// [rows.size(), 64]. Costs O(i) a row. Throws invalid_argument for a row or size out of range.
void prefill_rows(const prefill_head& head, const prefill_options& options,
                  std::span<const std::int64_t> rows, std::span<double> o);

/// The state after all N tokens (and the initial one): kv [153, 64], and z [153] unless `z` is
/// empty. Throws invalid_argument for a size out of range.
void final_state(const prefill_head& head, const prefill_options& options, std::span<double> kv,
                 std::span<double> z);

}  // namespace based::reference
