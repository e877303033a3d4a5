// Based prefill without Hopper's instructions (sm_80 and later): mma.sync and cp.async.
#pragma once

#include "kernels/based/prefill.h"

namespace based::sm80 {

/// Why a problem is none for this kernel, or the current device, if there is one.
unsupported_reason unsupported(const prefill_problem& problem);
unsupported_reason unsupported_on(int major_capability);  ///< a device's

/// Enqueues the prefill: one CTA a head. `args` are validated; no workspace.
void launch_prefill(const prefill_args<bf16>& args, cuda_stream stream);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const prefill_problem& problem);

}  // namespace based::sm80
