// Launching the Hopper attention with one way to cut a CTA: what each .cu file instantiates.
#pragma once

#include <cuda_runtime.h>

#include <numbers>

#include "kernels/attention/forward_sm90/forward_sm90.h"
#include "kernels/attention/forward_sm90/kernel.cuh"
#include "kernels/attention/redone.h"
#include "kernels/core/launch.h"
#include "kernels/tile/tensor_map.h"

namespace based::attention_sm90 {

/// What a kernel is given that copies tiles of `Layout`.
template <class Layout, class T>
parameters make_parameters(const attention_args<T>& args, const forward_plan& plan) {
  const attention_problem& problem = args.problem;
  const auto map_of = [&](const auto& view, std::int64_t heads, std::int64_t tokens) {
    return make_tensor_map<Layout>(view, problem.batch, heads, tokens);
  };
  return {.q = map_of(args.q, problem.heads, problem.seqlen),
          .k = map_of(args.k, problem.key_heads(), problem.keys()),
          .v = map_of(args.v, problem.key_heads(), problem.keys()),
          .o = map_of(args.o, problem.heads, problem.seqlen),
          .head = shape_of(problem),
          .order = plan.order,
          .query_heads_per_key_head = static_cast<int>(problem.heads / problem.key_heads()),
          .log2_scale = problem.softmax_scale() * std::numbers::log2e_v<float>,
          .lse = problem.lse ? args.lse.data() : nullptr,
          .redone = attention_counts::redone(),
          .tickets = plan.by_tickets ? static_cast<int*>(args.workspace) : nullptr,
          .meetings = static_cast<std::uint32_t*>(args.workspace),
          .met = reinterpret_cast<float*>(static_cast<char*>(args.workspace) +
                                          layout_of(plan, problem.head_dim).met_begin)};
}

template <class Config, class T>
void launch(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream) {
  using storage = shared_storage<Config, T>;
  const parameters p = make_parameters<typename storage::tile::layout>(args, plan);
  if (plan.has_counters()) {
    clear_counters(args.workspace, layout_of(plan, args.problem.head_dim).counters, stream);
  }
  launch_kernel(forward_kernel<Config, T>,
                {.grid = static_cast<unsigned>(plan.ctas),
                 .block = cta_threads<Config>,
                 .shared_bytes = sizeof(storage),
                 .overlaps_prior_grid = plan.has_counters()},
                stream, p);
}

}  // namespace based::attention_sm90
