// Softmax attention in float64, the oracle of the softmax baselines, in plain loops:
//
//   o_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij),   s_ij = scale q_i . k_j
//
// over the keys that query i may see, with the row's largest s subtracted first. A query that sees
// none has o = 0 and a log-sum-exp of -inf.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention.h"

namespace based::reference {

/// The tensors of one query head of a batch: contiguous [N, Dh] and [Nkv, Dh], on the host.
struct attention_head {
  attention_problem problem;  ///< batch and heads are not looked at
  const float* q;
  const float* k;
  const float* v;
};

/// Writes o[r, :] = o_i and, unless it is empty, lse[r] = log sum_j exp(s_ij) with i = rows[r]; `o`
/// is [rows.size(), Dh], `lse` [rows.size()]. Throws invalid_argument for a row or size out of
/// range.
void attention_rows(const attention_head& head, std::span<const std::int64_t> rows,
                    std::span<double> o, std::span<double> lse = {});

}  // namespace based::reference
