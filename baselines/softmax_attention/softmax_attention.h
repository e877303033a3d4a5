// Baseline "softmax_attention": exact attention, what a linear attention has to beat.
//
//   o_i = sum_j softmax_j(s_ij) v_j,   s_ij = q_i . k_j / sqrt(Dh),   j <= i where causal
//
// On the CPU, fp32, FlashAttention's algorithm (arXiv 2205.14135): tiles of 64 queries walk over
// tiles of 64 keys with the online softmax, tiles above the diagonal are never formed. Scores are
// kept transposed, so that maxima, exponentials and sums are vertical SIMD; 2^x is a polynomial.
#pragma once

#include "kernels/common/softmax_attention.h"
