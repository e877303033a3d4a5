// Based prefill on Hopper (sm_90a): wgmma, bulk tensor copies, two CTAs a multiprocessor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/based/prefill.h"

namespace based::sm90 {

/// Tokens that are worked on together.
inline constexpr int chunk_tokens = 64;

constexpr std::int64_t chunks_of(const prefill_shape& shape) {
  return (shape.seqlen - 1) / chunk_tokens + 1;
}

/// Whether a state goes in or out.
constexpr bool has_state(const prefill_options& options) {
  return options.initial_state || options.final_state;
}

/// Chunks that the quadratic form takes: a grid's limit in y, less one for the final state.
inline constexpr int max_quadratic_chunks = 65534;

/// Enqueues the prefill, a CTA a head. `args` are validated; no workspace. Throws invalid_argument
/// on a device that is no Hopper, as all of these do.
void launch_whole(const prefill_args<bf16>& args, cuda_stream stream);

/// Enqueues the prefill with each head's sequence cut into `segments`, worked on side by side after
/// a first kernel has summed up what each contributes to the state. `args` are validated, and the
/// workspace is large enough. Throws invalid_argument for more segments than chunks.
void launch_split(const prefill_args<bf16>& args, int segments, cuda_stream stream);
std::size_t split_workspace_bytes(const prefill_shape& shape, int segments);

/// Enqueues the prefill so that all of a card's `places` for CTAs, one or two a multiprocessor, are
/// busy to the end, however many heads there are: of the first `places` heads a CTA begins each and
/// hands its state over, exactly, to another that goes on. `args` are validated, and the workspace
/// is large enough. Throws invalid_argument on a device that is no Hopper, for fewer heads, or for
/// sequences of a single chunk.
void launch_balanced(const prefill_args<bf16>& args, int places, cuda_stream stream);
std::size_t balanced_workspace_bytes(int places);

/// The chunk before which the `head`-th of `heads` heads that are handed over changes hands.
constexpr int handed_over_at(int chunks, int heads, int head) {
  return 1 + static_cast<int>(std::int64_t{chunks - 1} * head / heads);
}

/// Enqueues the prefill with each head's sequence in 2 to `max_recompute_segments` segments side
/// by side, each but the first of which adds up the state of all tokens before it by itself. No
/// workspace. Throws invalid_argument on a device that is no Hopper, or for more segments than
/// chunks.
void launch_recompute(const prefill_args<bf16>& args, int segments, cuda_stream stream);
inline constexpr int max_recompute_segments = 5;

/// The chunk that segment `segment` begins with there (`segments`: the end). Later segments are
/// shorter, for all are to take as long, and adding a chunk to the state takes about 4/9 of the
/// time that its whole work takes: with n segments, (1 - (5/9)^i) / (1 - (5/9)^n) of the chunks
/// come before segment i; but each has one at least.
constexpr int recompute_begin(int chunks, int segments, int segment) {
  std::int64_t nines = 1, fives = 1, mixed = 1;  // 9^n, 5^n, 5^i 9^(n - i)
  for (int i = 0; i < segments; ++i) {
    nines *= 9;
    fives *= 5;
    mixed *= i < segment ? 5 : 9;
  }
  const std::int64_t rest = chunks - segments, all = nines - fives;
  return segment + static_cast<int>((rest * (nines - mixed) + all / 2) / all);
}

/// Enqueues the quadratic form. `args` are validated; no workspace. Throws invalid_argument on a
/// device that is no Hopper.
void launch_quadratic(const prefill_args<bf16>& args, cuda_stream stream);

/// Floating-point operations of the tensor cores' products, padding included.
double whole_flops(const prefill_problem& problem);
double split_flops(const prefill_problem& problem, int segments);
double recompute_flops(const prefill_problem& problem, int segments);
double balanced_flops(const prefill_problem& problem);
double quadratic_flops(const prefill_problem& problem);

}  // namespace based::sm90
