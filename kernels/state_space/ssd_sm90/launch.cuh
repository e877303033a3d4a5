// Launching the Hopper SSD for one state dimension: what each .cu file instantiates.
#pragma once

#include <cuda_runtime.h>

#include "kernels/core/launch.h"
#include "kernels/state_space/ssd_sm90/kernel.cuh"
#include "kernels/state_space/ssd_sm90/ssd_sm90.h"
#include "kernels/tile/tensor_map.h"

namespace based::ssd_sm90 {

template <class Config, int HeadDim>
parameters make_parameters(const ssd_args<bf16>& args, const ssd_plan& plan) {
  const ssd_problem& problem = args.problem;
  const auto map_of = [&]<int Cols>(const auto& view, std::int64_t heads) {
    using layout = shared_layout<chunk_tokens, Cols, swizzle::bytes128>;
    return make_tensor_map<layout>(view, problem.batch, heads, problem.seqlen);
  };
  parameters p = {.x = map_of.template operator()<HeadDim>(args.x, problem.heads),
                  .b = map_of.template operator()<Config::state_dim>(args.b, problem.groups),
                  .c = map_of.template operator()<Config::state_dim>(args.c, problem.groups),
                  .z = {},
                  .y = map_of.template operator()<HeadDim>(args.y, problem.heads),
                  .dt = args.dt,
                  .a = args.a.data(),
                  .dt_bias = problem.bias ? args.dt_bias.data() : nullptr,
                  .d = problem.skip ? args.d.data() : nullptr,
                  .initial_state = problem.initial_state ? args.initial_state.data() : nullptr,
                  .final_state = problem.final_state ? args.final_state.data() : nullptr,
                  .partial_states = nullptr,
                  .partial_decays = nullptr,
                  .groups = static_cast<int>(problem.groups),
                  .slices_of_head = HeadDim / slice_dim,
                  .slices_of_group = static_cast<int>(slices_of_group(problem)),
                  .blocks_of_group = 0,
                  .seqlen = static_cast<int>(problem.seqlen),
                  .chunks = static_cast<int>((problem.seqlen - 1) / chunk_tokens + 1),
                  .segments = plan.segments,
                  .softplus = problem.softplus};
  if (problem.gate) p.z = map_of.template operator()<HeadDim>(args.z, problem.heads);
  p.blocks_of_group = (p.slices_of_group + Config::slices - 1) / Config::slices;
  if (plan.segments > 1) {
    const std::int64_t partials =
        problem.batch * problem.groups * p.slices_of_group * (plan.segments - 1);
    p.partial_states = static_cast<float4*>(args.workspace);
    p.partial_decays =
        static_cast<float*>(args.workspace) + partials * slice_dim * Config::state_dim;
  }
  return p;
}

template <class Config, bool Gated, bool StatesOnly>
void enqueue(const parameters& p, dim3 grid, bool overlaps, cuda_stream stream) {
  launch_kernel(ssd_kernel<Config, Gated, StatesOnly>,
                {.grid = grid,
                 .block = roles::threads,
                 .shared_bytes = sizeof(shared_storage<Config>),
                 .overlaps_prior_grid = overlaps},
                stream, p);
}

template <int StateDim>
void launch(const ssd_args<bf16>& args, const ssd_plan& plan, cuda_stream stream) {
  using cut = config<StateDim>;
  const ssd_problem& problem = args.problem;
  const parameters p = problem.head_dim == 64 ? make_parameters<cut, 64>(args, plan)
                                              : make_parameters<cut, 128>(args, plan);
  const auto batch_groups = static_cast<unsigned>(problem.batch * problem.groups);
  const unsigned blocks = batch_groups * p.blocks_of_group;
  const bool split = plan.segments > 1;
  if (split) {
    enqueue<cut, false, true>(p, dim3(blocks, plan.segments - 1), false, stream);
    constexpr int units = slice_dim * StateDim / 4;
    launch_kernel(pass_kernel<StateDim>,
                  {.grid = dim3(units / pass_threads, batch_groups * p.slices_of_group),
                   .block = pass_threads,
                   .overlaps_prior_grid = true},
                  stream, p);
  }
  const dim3 grid(blocks, plan.segments);
  problem.gate ? enqueue<cut, true, false>(p, grid, split, stream)
               : enqueue<cut, false, false>(p, grid, split, stream);
}

}  // namespace based::ssd_sm90
