// Baseline "chunked_ssd": Mamba-2's layer by chunks of tokens, as its authors compute it (arXiv
// 2405.21060, section 6). With cs_l the sum of dt' a up to token l of its chunk, whose last token
// is e:
//
//   states   S_chunk = sum_l exp(cs_e - cs_l) dt'_l x_l b_l^T
//   passing  S = exp(cs_e) S_before + S_chunk, chunk after chunk
//   scan     y_l = exp(cs_l) S_before c_l + sum_{m <= l} exp(cs_l - cs_m) dt'_m (c_l . b_m) x_m
//
// Decays are exponentials of differences of sums, never quotients of exponentials: strong ones
// become 0, and nothing overflows.
//
// On CUDA, bf16, it reimplements mamba-ssm's ssd_combined.py with its five passes and their
// intermediate results in memory: the sums, the chunks' states in fp32, the states before each
// chunk in bf16, the products c_l . b_m of a chunk in fp32, whole; chunks of 256. It differs in
// small things: Triton's autotuned tiles are fixed ones; the products are on mma.sync; the step
// sizes' clamp, which no model sets, is left out; offsets have 64 bits.
//
// On the CPU, fp32, a task is a head with its state, which goes from chunk to chunk of 64 tokens.
#pragma once

#include "kernels/state_space/ssd.h"
