// Baseline "causal_dot_product": Fast Transformers' causal product (arXiv 2006.16236), the line of
// the Based papers' figures under that name, on features written out in memory:
//
//   S_n = S_{n-1} + phi(k_n) v_n^T,   o_n = phi(q_n)^T S_n,   in fp32, token after token
#pragma once

#include "kernels/based/features.h"
#include "kernels/based/prefill.h"

namespace based::causal_dot_product {

// On CUDA the operation is what the library's users time: zero fill of an fp32 output, casts of the
// inputs to fp32, feature maps in fp32, the library's kernel, the cast of the output to bf16. The
// library picks its kernel by the number of features, and so there are two baselines.
//
// causal_dot_product: the papers' 273 features, too many for its fast kernels. Grid (ceil(273/8),
// B, H); 64 threads, each owning one column of an 8 x 64 state in shared memory; token after token
// it updates the column, contracts it with q, and adds the result to the output atomically. The
// order of those additions varies, and with it the last bits.
//
// causal_dot_product_153: the 153 distinct features, which do fit: the fairer comparison. They run
// in the library's instantiation for 129 to 256 features, padded to 256. From 40 heads in all
// (B*H), one block of 256 threads a head: four threads a column hold its state in registers, q, k
// and v of one token at a time come through double-buffered shared memory. Below, one block a
// column: its warps take four tokens each, a lane eight features, and prefix sums, within a thread
// and then across the warps, bring the state to every token.
//
// Where they differ from the originals: int64 offsets; the number of features is a compile-time
// constant, which lets the compiler read the first kernel's state from registers (it takes 0.6 of
// the original's time; the 153 kernels are level with theirs); one kernel makes a feature map and
// its cast, where the originals take several; outputs go straight to global memory where the
// library stages them through shared memory.

// On the CPU it is the library's CPU form, 273 features: inputs mapped in memory first, then one
// thread a head, token after token, the update S += phi(k) v^T and then o = phi(q)^T S, each one
// pass over the 70 KB of state, here with SIMD over the value columns. (One pass for both would
// read the state once, and take about two thirds of the time; it is not the library's loop.)

/// Products and sums of one token with `features` features, their map and weights included.
constexpr double flops_per_token(int features) {
  return features * (2.0 + 4.0 * value_dim);
}

}  // namespace based::causal_dot_product
