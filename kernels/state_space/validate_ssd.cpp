// What every implementation of ssd asks of its arguments.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "kernels/core/validate.h"
#include "kernels/state_space/ssd.h"

namespace based {

void validate(const ssd_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("seqlen", problem.seqlen);
  require_head_dim(problem.head_dim);
  const int state_dim = problem.state_dim;
  BASED_REQUIRE(state_dim == 64 || state_dim == 128 || state_dim == 256,
                fmt::format("state_dim is {}, must be 64, 128 or 256", state_dim));
  require_size("groups", problem.groups);
  BASED_REQUIRE(
      problem.heads % problem.groups == 0,
      fmt::format("heads is {}, must be a multiple of groups {}", problem.heads, problem.groups));
  require_addressable(problem.batch, problem.heads, problem.seqlen, problem.head_dim);
  require_addressable(problem.batch, problem.groups, problem.seqlen, state_dim);
  require_addressable(problem.batch, problem.heads, problem.head_dim, state_dim);
}

template <class T>
void validate(const ssd_args<T>& args, std::size_t workspace_needed) {
  const ssd_problem& p = args.problem;
  validate(p);
  const std::size_t head_bytes = static_cast<std::size_t>(p.heads) * sizeof(float);
  require_view("x", args.x, p.head_dim);
  require_scalars("dt", args.dt);
  require_state("a", args.a, head_bytes);
  require_view("b", args.b, p.state_dim);
  require_view("c", args.c, p.state_dim);
  require_output("y", args.y, p.batch, p.heads, p.seqlen, p.head_dim);
  if (p.bias) require_state("dt_bias", args.dt_bias, head_bytes);
  if (p.skip) require_state("d", args.d, head_bytes);
  if (p.gate) require_view("z", args.z, p.head_dim);
  if (p.initial_state) require_state("initial_state", args.initial_state, p.state_bytes());
  if (p.final_state) require_state("final_state", args.final_state, p.state_bytes());
  if (p.initial_state && p.final_state) {
    require_apart("initial_state", args.initial_state, "final_state", args.final_state);
  }

  const auto y = extent(args.y, p.batch, p.heads, p.seqlen, p.head_dim);
  const auto require_apart_from_y = [&](const char* name, const auto& view, std::int64_t heads,
                                        int dim) {
    require_apart(name, extent(view, p.batch, heads, p.seqlen, dim), "y", y);
  };
  require_apart_from_y("x", args.x, p.heads, p.head_dim);
  require_apart_from_y("dt", args.dt, p.heads, 1);
  require_apart_from_y("b", args.b, p.groups, p.state_dim);
  require_apart_from_y("c", args.c, p.groups, p.state_dim);
  if (p.gate) require_apart_from_y("z", args.z, p.heads, p.head_dim);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const ssd_args<float>&, std::size_t);
template void validate(const ssd_args<bf16>&, std::size_t);

}  // namespace based
