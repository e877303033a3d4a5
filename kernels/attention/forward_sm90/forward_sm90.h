// Softmax attention on Hopper: what the dispatcher calls.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/forward_sm90/plan.h"

namespace based::attention_sm90 {

/// Bytes of workspace that a plan needs.
std::size_t workspace_bytes(const forward_plan& plan);

/// Enqueues that the counter of tickets is cleared, beside the start of the grid that is enqueued
/// next.
void clear_tickets(int* tickets, cuda_stream stream);

/// Enqueues the forward pass as planned for `args.problem`. `args` are validated, and the workspace
/// is large enough. T is bf16 or fp16.
template <class T>
void launch_blocks_256(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream);
template <class T>
void launch_blocks_192(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream);
template <class T>
void launch_blocks_128(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream);
template <class T>
void launch_split_keys(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream);
template <class T>
void launch_band(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream);

}  // namespace based::attention_sm90
