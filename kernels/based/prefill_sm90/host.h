// Host side of the Hopper prefill's kernels: their parameters, and what several launches need.
#pragma once

#include "kernels/based/prefill_sm90/head.cuh"

namespace based::sm90 {

/// The parameters of a validated call. Throws invalid_argument on a device that is no Hopper.
parameters make_parameters(const prefill_args<bf16>& args, int segments);

/// Enqueues the kernel that fills p.partials: the state, from zero, of each segment but a head's
/// last.
void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream);

}  // namespace based::sm90
