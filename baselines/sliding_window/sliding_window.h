// Baselines of sliding-window decode (kernels/sliding_window/sliding_window.h).
#pragma once

#include "kernels/sliding_window/sliding_window.h"

namespace based::sliding_window {

// naive: eager PyTorch's operations, one kernel each: the current token copied into the ring;
// scores q K^T, a bf16 tensor [B, H, W]; their softmax, in place, fp32 within a row; its product
// with V. As einsum and softmax on bf16 tensors do it. On the CPU the same passes in fp32.
//
// tile: the Based authors' own decode kernel. Four warps own a (batch, head); K and V are staged
// whole in shared memory; each warp takes a quarter of the rows of K and finds their scores; the
// maximum and the sum of the weights go round through shared memory, and the weights too; each warp
// then sums a quarter of the columns of V. It differs in that there is a ring with a write
// position, a second window and a second head dimension; that cp.async stages, where the original
// loads through registers; that a lane reads 16-byte words of rows, where the original's register
// tiles scatter them as its matrix instructions want; and that it takes three barriers for the
// original's eight.

/// Largest relative errors accepted: bf16 scores and weights, and fp32 ones with a bf16 output.
inline constexpr double naive_tolerance = 1e-2;
inline constexpr double tile_tolerance = 5e-3;

/// Products with K and V over the filled slots; scale, maximum, exponential, sum and division.
constexpr double flops(const window_problem& problem, int slots) {
  return static_cast<double>(problem.batch_heads()) * slots * (4.0 * problem.head_dim + 5);
}

}  // namespace based::sliding_window
