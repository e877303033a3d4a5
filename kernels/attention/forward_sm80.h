// Softmax attention on mma.sync and cp.async: Ampere, Ada, and whatever follows them.
#pragma once

#include "kernels/attention/attention.h"

namespace based::attention_sm80 {

/// Enqueues the forward pass. `args` are validated. T is bf16 or fp16.
template <class T>
void launch_forward(const attention_args<T>& args, cuda_stream stream);

/// Floating-point operations of the tensor cores' products, masked parts of tiles included, where
/// no block is worked on twice.
double executed_flops(const attention_problem& problem);

/// What the kernel does not take on the current device.
unsupported_reason unsupported(const attention_problem& problem);

}  // namespace based::attention_sm80
