// Mamba-2's state space duality on mma.sync and cp.async: Ampere, Ada, and whatever follows them.
#pragma once

#include <cstddef>

#include "kernels/state_space/ssd.h"

namespace based::ssd_sm80 {

/// Enqueues it. `args` are validated, with a workspace of workspace_bytes(args.problem).
void launch_forward(const ssd_args<bf16>& args, cuda_stream stream);

/// The states of the segments that the sequence is cut into where heads are few; else 0.
std::size_t workspace_bytes(const ssd_problem& problem);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const ssd_problem& problem);

/// What the kernel does not take on the current device.
unsupported_reason unsupported(const ssd_problem& problem);

}  // namespace based::ssd_sm80
