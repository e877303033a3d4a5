// Based prefill on Hopper (sm_90a): wgmma, bulk tensor copies, two CTAs a multiprocessor.
#pragma once

#include <cstddef>

#include "kernels/common/prefill.h"

namespace based::sm90 {

/// Tokens that are worked on together.
inline constexpr int chunk_tokens = 64;

/// How a head's sequence is cut, where there are too few heads to fill the card: into segments,
/// worked on side by side after a first kernel has summed up what each contributes to the state.
/// That kernel takes a segment in `pieces`. A part is at least one chunk: segments * pieces <=
/// chunks.
struct split {
  int segments = 1;  ///< 1: the sequence is not split
  int pieces = 1;
};

/// Enqueues the prefill. `args` are validated, and the workspace is large enough. Throws
/// invalid_argument on a device that is no Hopper, or for a split into too many parts.
void launch_prefill(const prefill_args<bf16>& args, split parts, cuda_stream stream);

/// Bytes of workspace that launch_prefill needs.
std::size_t workspace_bytes(const prefill_shape& shape, split parts);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const prefill_shape& shape, split parts);

}  // namespace based::sm90
