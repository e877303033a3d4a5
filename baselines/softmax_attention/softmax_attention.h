// Baseline "softmax_attention": exact attention, what a linear attention has to beat.
//
//   o_i = sum_j softmax_j(s_ij) v_j,   s_ij = q_i . k_j / sqrt(Dh),   j <= i where causal
//
// On the CPU, fp32, FlashAttention's algorithm (arXiv 2205.14135): tiles of 64 queries walk over
// tiles of 64 keys with the online softmax, tiles above the diagonal are never formed. Scores are
// kept transposed, so that maxima, exponentials and sums are vertical SIMD; 2^x is a polynomial.
//
// On CUDA, bf16, FlashAttention-2's algorithm (arXiv 2307.08691) as its library runs it on the
// instruction mma.sync: tiles of 128 queries, four warps, each with its scores, weights and outputs
// in registers; keys from last to first, masks only where a tile crosses the diagonal or the end;
// the division by the sum at the end. It differs in small things: tiles of 64 keys for head
// dimension 64 too, where the library takes 128, with Q in registers; the last tiles of queries
// start first; outputs go straight to global memory, not through shared memory.
#pragma once

#include "kernels/attention/attention.h"
