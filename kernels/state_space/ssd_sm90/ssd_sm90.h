// Mamba-2's SSD on Hopper: what the dispatcher calls.
#pragma once

#include "kernels/state_space/ssd_sm90/plan.h"

namespace based::ssd_sm90 {

/// Enqueues the forward pass as planned for `args.problem`, whose state dimension is `StateDim`.
/// `args` are validated, and the workspace is large enough.
template <int StateDim>
void launch(const ssd_args<bf16>& args, const ssd_plan& plan, cuda_stream stream);

}  // namespace based::ssd_sm90
