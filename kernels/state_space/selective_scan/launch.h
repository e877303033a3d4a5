// The selective scan with its states in registers: what the dispatcher calls.
#pragma once

#include "kernels/core/bf16.h"
#include "kernels/core/implementation.h"
#include "kernels/state_space/selective_scan/plan.h"

namespace based::scan {

/// Enqueues the scan as planned for `args.problem`, where `Lanes` lanes share a channel. `args` are
/// validated, and the workspace is large enough.
template <int Lanes>
void launch(const selective_scan_args<bf16>& args, const scan_plan& plan, cuda_stream stream);

}  // namespace based::scan
