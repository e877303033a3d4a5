// Baselines of the selective scan and of its step.
//
// "naive", on the CPU in fp32: the recurrence as it is written, a thread a channel.
//
// "block_scan", on CUDA in bf16, reimplements mamba-ssm's selective_scan_fwd (arXiv 2312.00752,
// section 3.3.2): a block a channel of a sequence, which takes chunks of up to 128 x 16 tokens in
// order, a thread 16 tokens; for each state, a block-wide scan over the pairs (a, b) of x -> a x +
// b, from the state that the chunk before left. B and C are read again by every channel. It
// differs in what nothing here asks for: states at the ends of chunks are not written for a
// backward pass, nor y before the gate; offsets have 64 bits; a thread loads its own tokens in
// 16-byte words, not through shared memory.
//
// "state_update", on CUDA in bf16, reimplements mamba-ssm's Triton step selective_state_update: a
// block of 128 threads has 32 channels of one sequence.
#pragma once

#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/selective_scan_decode.h"
