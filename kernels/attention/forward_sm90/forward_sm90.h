// Softmax attention on Hopper: what the dispatcher calls.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/forward_sm90/plan.h"

namespace based::attention_sm90 {

/// What a plan needs of the workspace: first `counters`, which are cleared before each call.
struct workspace_layout {
  int counters;           ///< 32-bit: of tickets one, or one a meeting
  std::size_t met_begin;  ///< what is met, where blocks are dealt out
  std::size_t bytes;
};
workspace_layout layout_of(const forward_plan& plan, int head_dim);

/// Enqueues that counters are cleared, beside the start of the grid that is enqueued next.
void clear_counters(void* counters, int count, cuda_stream stream);

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
