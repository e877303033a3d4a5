// The CUDA implementation "register_scan" of the selective scan: what runs each of its variants
// (plan.h), and the registration.
#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/core/device_attribute.h"
#include "kernels/core/implementation.h"
#include "kernels/core/launch.h"
#include "kernels/core/variants.h"
#include "kernels/state_space/selective_scan/kernel.cuh"
#include "kernels/state_space/selective_scan/plan.h"

namespace based::scan {
namespace {

constexpr int polynomials = 0;  // of eight exponentials: DESIGN_LOG.md

bool has_aligned_rows(const sequence_view<const bf16>& view) {
  constexpr auto word = static_cast<std::int64_t>(vector16<bf16>);
  return view.batch_stride % word == 0 && view.head_stride % word == 0;
}

parameters parameters_of(const selective_scan_args<bf16>& args, const scan_plan& plan) {
  const selective_scan_problem& problem = args.problem;
  const scan_operands<bf16>& given = args.operands;
  auto* const workspace = static_cast<float*>(args.workspace);
  const std::int64_t group_tiles = channel_tiles(problem) / problem.groups;
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
          .group_tiles = static_cast<int>(group_tiles),
          .tiles = static_cast<int>(channel_tiles(problem)),
          .segments = plan.segments,
          .segment_tokens = plan.segment_tokens,
          .softplus = problem.softplus,
          .gate = problem.gate,
          .aligned = has_aligned_rows(given.u) && has_aligned_rows(given.delta) &&
                     has_aligned_rows(given.y) && (!problem.gate || has_aligned_rows(given.z)),
          .shared_aligned = has_aligned_rows(given.b) && has_aligned_rows(given.c)};
}

template <pass Pass>
void launch_pass(const parameters& p, std::int64_t batch, int segments, cuda_stream stream) {
  launch_kernel(selective_scan_kernel<Pass, polynomials>,
                {.grid = static_cast<unsigned>(p.tiles * batch * segments),
                 .block = threads,
                 .shared_bytes = sizeof(shared_storage)},
                stream, p);
}

void launch(const selective_scan_args<bf16>& args, const scan_plan& plan, cuda_stream stream) {
  const parameters p = parameters_of(args, plan);
  if (plan.segments > 1) {
    launch_pass<pass::states>(p, args.problem.batch, plan.segments - 1, stream);
  }
  launch_pass<pass::outputs>(p, args.problem.batch, plan.segments, stream);
}

struct dispatch {
  using operation = selective_scan;
  using entry = variant<selective_scan, card, scan_plan, bf16>;
  static card current_device() { return current_card(); }
  static std::span<const entry> table() {
    static const std::vector<entry> all = [] {
      std::vector<entry> entries;
      for (const scan_rule& rule : scan_rules()) {
        entries.push_back({rule, workspace_bytes, executed_flops, launch});
      }
      return entries;
    }();
    return all;
  }
};
using dispatched = dispatcher<dispatch>;

const registration<selective_scan> registered{{
    .name = "register_scan",
    .summary = "states in registers, inputs and outputs by tensor cores, tokens in order",
    .role = implementation_role::ours,
    .tolerance = 2.5e-3,
    .unsupported = dispatched::unsupported,
    .workspace_bytes = dispatched::workspace_bytes,
    .executed_flops = dispatched::executed_flops,
    .run = dispatched::run<bf16>,
    .variant = dispatched::label,
    .variants = dispatched::names(),
}};

}  // namespace
}  // namespace based::scan
