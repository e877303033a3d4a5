// Based prefill on Hopper (sm_90a): what enqueues each of its variants, and what that costs. All
// take validated `args` and enough workspace, and throw invalid_argument on a device that is no
// Hopper.
#pragma once

#include <cstddef>

#include "kernels/based/prefill.h"
#include "kernels/based/prefill_sm90/segments.h"

namespace based::sm90 {

/// Enqueues the prefill with one CTA a head. No workspace.
void launch_whole(const prefill_args<bf16>& args, cuda_stream stream);

/// Enqueues the prefill with each head's sequence cut into `segments`, two at least, worked on side
/// by side after a first kernel has summed up what each contributes to the state. Throws
/// invalid_argument for more segments than chunks.
void launch_split(const prefill_args<bf16>& args, int segments, cuda_stream stream);
std::size_t split_workspace_bytes(const prefill_shape& shape, int segments);

/// Enqueues the prefill with each head's sequence cut into 2 to `max_recompute_segments` segments,
/// worked on side by side; each but the first adds up by itself the state of all tokens before it.
/// No workspace. Throws invalid_argument for more segments than chunks.
void launch_recompute(const prefill_args<bf16>& args, int segments, cuda_stream stream);

/// Enqueues the prefill so that all of a card's `places` for CTAs, one or two a multiprocessor, are
/// busy to the end, however many heads there are: of each of the first `places` heads a CTA does a
/// first part and hands the state over, exactly, to another CTA that goes on. Throws
/// invalid_argument for fewer heads than places, or for sequences of a single chunk.
void launch_balanced(const prefill_args<bf16>& args, int places, cuda_stream stream);
std::size_t balanced_workspace_bytes(int places);

/// Enqueues the quadratic form. No workspace.
void launch_quadratic(const prefill_args<bf16>& args, cuda_stream stream);

/// Floating-point operations of the tensor cores' products, padding included.
double whole_flops(const prefill_problem& problem);
double split_flops(const prefill_problem& problem, int segments);
double recompute_flops(const prefill_problem& problem, int segments);
double balanced_flops(const prefill_problem& problem);
double quadratic_flops(const prefill_problem& problem);

}  // namespace based::sm90
