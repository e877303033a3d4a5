// Launching the selective scan for one number of lanes a channel: what each .cu file instantiates.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/launch.h"
#include "kernels/state_space/selective_scan/kernel.cuh"
#include "kernels/state_space/selective_scan/launch.h"

namespace based::scan {

inline bool has_aligned_rows(const sequence_view<const bf16>& view) {
  constexpr auto word = static_cast<std::int64_t>(vector16<bf16>);
  return view.batch_stride % word == 0 && view.head_stride % word == 0;
}

inline parameters parameters_of(const selective_scan_args<bf16>& args, const scan_plan& plan) {
  const selective_scan_problem& problem = args.problem;
  const scan_operands<bf16>& given = args.operands;
  auto* const workspace = static_cast<float*>(args.workspace);
  const std::int64_t tiles = channel_tiles(problem, plan);
  return {.u = given.u,
          .delta = given.delta,
          .b = given.b,
          .c = given.c,
          .z = given.z,
          .y = given.y,
          .a = given.a.data(),
          .d = problem.skip ? given.d.data() : nullptr,
          .bias = problem.bias ? given.bias.data() : nullptr,
          .initial_state = problem.initial_state ? args.initial_state.data() : nullptr,
          .final_state = problem.final_state ? args.final_state.data() : nullptr,
          .segment_states = workspace,
          .segment_steps = workspace == nullptr
                               ? nullptr
                               : workspace + problem.rows() * plan.segments * problem.d_state,
          .seqlen = static_cast<int>(problem.seqlen),
          .d_inner = static_cast<int>(problem.d_inner),
          .d_state = static_cast<int>(problem.d_state),
          .group_channels = static_cast<int>(problem.group_channels()),
          .group_tiles = static_cast<int>(tiles / problem.groups),
          .tiles = static_cast<int>(tiles),
          .segments = plan.segments,
          .segment_tokens = plan.segment_tokens,
          .gate = problem.gate,
          .has_words = problem.seqlen % word_tokens == 0 && has_aligned_rows(given.u) &&
                       has_aligned_rows(given.delta) && has_aligned_rows(given.b) &&
                       has_aligned_rows(given.c) && has_aligned_rows(given.y) &&
                       (!problem.gate || has_aligned_rows(given.z))};
}

template <class Config>
void enqueue(const parameters& p, std::int64_t batch, cuda_stream stream) {
  const int segments = Config::has_outputs ? p.segments : p.segments - 1;
  launch_kernel(selective_scan_kernel<Config>,
                {.grid = static_cast<unsigned>(p.tiles * batch * segments),
                 .block = threads,
                 .shared_bytes = sizeof(shared_storage<Config>)},
                stream, p);
}

template <int Lanes, bool Softplus, bool Whole>
void enqueue_passes(const parameters& p, std::int64_t batch, cuda_stream stream) {
  if (p.segments > 1) {
    enqueue<scan_config<pass::states, Lanes, Softplus, false, Whole>>(p, batch, stream);
  }
  p.gate || p.d != nullptr
      ? enqueue<scan_config<pass::outputs, Lanes, Softplus, true, Whole>>(p, batch, stream)
      : enqueue<scan_config<pass::outputs, Lanes, Softplus, false, Whole>>(p, batch, stream);
}

template <int Lanes>
void launch(const selective_scan_args<bf16>& args, const scan_plan& plan, cuda_stream stream) {
  const parameters p = parameters_of(args, plan);
  const bool is_whole =
      p.has_words && p.seqlen % chunk == 0 && p.group_channels % tile_channels(Lanes) == 0;
  const auto with = [&]<bool Softplus>(std::bool_constant<Softplus>) {
    is_whole ? enqueue_passes<Lanes, Softplus, true>(p, args.problem.batch, stream)
             : enqueue_passes<Lanes, Softplus, false>(p, args.problem.batch, stream);
  };
  args.problem.softplus ? with(std::true_type()) : with(std::false_type());
}

}  // namespace based::scan
