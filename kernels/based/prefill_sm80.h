// Based prefill without Hopper's instructions (sm_80 and later): mma.sync and cp.async.
#pragma once

#include "kernels/based/prefill.h"

namespace based::sm80 {

inline constexpr int least_major_capability = 8;  ///< mma.sync of bf16, cp.async

inline constexpr int chunk_tokens = 64;  ///< tokens that are worked on together
inline constexpr int stages = 3;         ///< chunks: one worked on, the others on their way

/// Why this kernel cannot run a problem on a device of that major compute capability.
unsupported_reason unsupported_on(const prefill_problem& problem, int major_capability);

/// Enqueues the prefill: one CTA a head. `args` are validated; no workspace.
void launch_prefill(const prefill_args<bf16>& args, cuda_stream stream);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const prefill_problem& problem);

}  // namespace based::sm80
