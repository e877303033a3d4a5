// Based prefill in the two forms of flash-linear-attention's `based` operation, whose kernels split
// the sequence into chunks. o_i = sum_{j <= i} (1 + s + s^2/2) v_j, s = scale q_i . k_j.
//
// On CUDA (registered as `chunked_recurrent` and `chunked_parallel`, bf16) both follow the original
// Triton kernels step by step: q is scaled and rounded to bf16, products of features, weights and
// states are rounded to bf16 before the matrix units, sums are fp32, the output is an fp32 tensor
// (the workspace) that a second kernel normalises and casts. Neither form takes or returns a state.
//
// chunked_recurrent, after fused_chunk: a block walks serially over 16-token chunks with the three
// fp32 states [32], [16 x 32] and [256 x 32] of half the value columns; all 256 second-order
// products are kept, though 136 are distinct. It differs in where things live: the original's four
// warps exchange tiles through shared memory, here a warp keeps the states of 16 columns in
// registers, in the layout in which the next chunk's product reads them. And z is the output of a
// value column of ones, on the matrix units, where the original forms it apart in fp32; it is
// formed only where normalisation asks for it.
//
// chunked_parallel, after parallel: a block owns 128 queries and walks over tiles of 32 keys,
// masking the diagonal's tiles only; no state, so the work is quadratic in N. It differs in that z
// is formed only where normalisation asks for it, and long tiles start first.
//
// On the CPU both are fp32 and keep the algorithms, not the steps. chunked_recurrent: chunks of 32
// tokens in series, the state of all 273 features carried, a task owning half the value columns of
// a head as a block does; it takes and returns a state. chunked_parallel: tiles of 64 queries and
// 64 keys, a task a tile of queries.
#pragma once
