// Based prefill on Hopper (sm_90a): wgmma, bulk tensor copies, two CTAs a multiprocessor.
#pragma once

#include <cstddef>

#include "kernels/common/prefill.h"

namespace based::sm90 {

/// Tokens that are worked on together.
inline constexpr int chunk_tokens = 64;

/// Chunks that the quadratic form takes: a grid's limit in y.
inline constexpr int max_quadratic_chunks = 65535;

/// Enqueues the prefill. With `segments` > 1 (where there are too few heads to fill the card) each
/// head's sequence is cut into as many, worked on side by side after a first kernel has summed up
/// what each contributes to the state. `args` are validated, and the workspace is large enough.
/// Throws invalid_argument on a device that is no Hopper, or for more segments than chunks.
void launch_prefill(const prefill_args<bf16>& args, int segments, cuda_stream stream);

/// Enqueues the quadratic form, for problems without an initial or a final state. `args` are
/// validated; no workspace. Throws invalid_argument on a device that is no Hopper.
void launch_quadratic(const prefill_args<bf16>& args, cuda_stream stream);

/// Bytes of workspace that launch_prefill needs.
std::size_t workspace_bytes(const prefill_shape& shape, int segments);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const prefill_shape& shape, int segments);
double quadratic_flops(const prefill_shape& shape);

}  // namespace based::sm90
