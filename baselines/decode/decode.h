// Baselines of Based decode (kernels/based/decode.h), on the padded state of 320 rows that the
// sources use: q and k come mapped, 273 features and zeros.
#pragma once

#include "kernels/based/decode.h"

namespace based::decode {

// naive: eager PyTorch's operations, one kernel each: z += phi_k; S += phi_k v^T; o = phi_q^T S;
// with normalisation, o divided by phi_q^T z + eps. S, bf16 or fp32, is read twice and written
// once. On the CPU the same passes, in fp32.
//
// expanded: the Based authors' own kernel. Eight warps own a (batch, head); its bf16 state streams
// through shared memory in five tiles of 64 rows, double buffered; a warp takes every eighth row of
// a tile, a lane two columns; rows are updated in place, contracted with their features of q, and
// the tile is written back from shared memory while the next one arrives; the warps' sums meet in
// shared memory at the end. It differs in three points: sums and products are fp32, where the
// original rounds each to bf16; z is fp32 and kept only with normalisation, where the original's is
// bf16 and always kept (and summed by one thread); a lane's two columns are neighbours, one 4-byte
// word.

/// Exact but for the rounding of a bf16 state and output.
inline constexpr double tolerance = 5e-3;

/// Update and contraction of all rows.
constexpr double executed_flops(const decode_problem& problem) {
  return static_cast<double>(problem.batch_heads()) * padded_features * 4.0 * value_dim;
}

}  // namespace based::decode
