// Baseline "naive": what one writes first in a tensor framework, and the "PyTorch" line of the
// papers' figures (arXiv 2402.18668, figure 4):
//
//   o = (phi(q) * (phi(k) * v).cumsum(over N)).sum(over features)
//
// with phi the expanded map of 273 features and every intermediate a tensor in memory.
#pragma once

#include "kernels/based/features.h"
#include "kernels/based/prefill.h"

namespace based::naive {

// On CUDA it reimplements eager PyTorch in bf16, operation by operation and one kernel each: both
// feature maps [B,H,N,273]; their products with v [B,H,N,273,64]; the cumulative sum along N, the
// second tensor of that size; its product with phi(q), which takes the place of the first; the sum
// over the features. Two such tensors, 70 KB a token and head, are alive at once, as in PyTorch,
// and so memory ends where PyTorch's does. The scan carries its running sum in bf16, as PyTorch's
// scan of a bf16 tensor does: each step rounds, the error grows as sqrt(N), to 3e-2 at N = 1024 and
// 8e-2 at N = 8192. That is the original's error, and the reason of `cuda_tolerance`.
//
// It differs in three points: one kernel makes a feature map where PyTorch takes several; the state
// lies as [273, 64], not [64, 273], so that every access is 16 bytes wide; with normalisation, the
// fp32 product phi(q) * phi(k).cumsum is summed in the kernel that forms it. The normaliser is
// fp32, as in the papers' code: a bf16 sum of ones would stop at 256.

// On the CPU it is fp32 throughout and takes three passes: feature maps, running sum, product with
// phi(q) and its sum; the products phi(k) v go straight into the running sum. That tensor of 70 KB
// a token is written once and read once, and so memory sets the pace.

/// Largest relative error accepted of the bf16 running sum, up to N = 32768 (sqrt(N) * 2^-10).
inline constexpr double cuda_tolerance = 2e-1;

/// Maps (one product and one weight a feature), k v products, running sums, q products, their sums.
constexpr double executed_flops(const prefill_problem& problem) {
  return static_cast<double>(problem.shape.tokens()) * expanded_features * (2 + 4 * value_dim);
}

}  // namespace based::naive
