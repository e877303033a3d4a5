// Based prefill on Hopper (sm_90a): wgmma, bulk tensor copies, two CTAs a multiprocessor.
#pragma once

#include <cstddef>

#include "kernels/common/prefill.h"

namespace based::sm90 {

/// Tokens that are worked on together.
inline constexpr int chunk_tokens = 64;

/// Enqueues the prefill. With `segments` > 1 each head's sequence is cut into that many segments,
/// worked on side by side after a first kernel has summed up what each contributes to the state.
/// `args` are validated; segments must be at least 1 and at most the number of chunks.
void launch_prefill(const prefill_args<bf16>& args, int segments, cuda_stream stream);

/// Bytes of workspace that launch_prefill needs.
std::size_t workspace_bytes(const prefill_shape& shape, int segments);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const prefill_shape& shape, int segments);

}  // namespace based::sm90
