// What every implementation of ssd_decode asks of its arguments.
#include <fmt/format.h>

#include "kernels/core/validate.h"
#include "kernels/state_space/ssd_decode.h"

namespace based {

void validate(const ssd_decode_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("groups", problem.groups);
  require_head_dim(problem.head_dim);
  const int dim = problem.state_dim;
  BASED_REQUIRE(dim == 64 || dim == 128 || dim == 256,
                fmt::format("state_dim is {}, must be 64, 128 or 256", dim));
  BASED_REQUIRE(
      problem.heads % problem.groups == 0,
      fmt::format("heads is {}, must be a multiple of groups {}", problem.heads, problem.groups));
  require_addressable(problem.batch, problem.heads, problem.head_dim, dim);
}

template <class T>
void validate(const ssd_decode_args<T>& args, std::size_t workspace_needed) {
  const ssd_decode_problem& problem = args.problem;
  validate(problem);
  require_view("x", args.x, problem.head_dim);
  require_scalars("dt", args.dt);
  require_view("b", args.b, problem.state_dim);
  require_view("c", args.c, problem.state_dim);
  if (problem.gate) require_view("z", args.z, problem.head_dim);
  require_output("y", args.y, problem.batch, problem.heads, 1, problem.head_dim);
  const std::size_t head_bytes = static_cast<std::size_t>(problem.heads) * sizeof(float);
  require_state("a", args.a, head_bytes);
  if (problem.bias) require_state("dt_bias", args.dt_bias, head_bytes);
  if (problem.skip) require_state("d", args.d, head_bytes);
  require_state(
      "state", args.state,
      static_cast<std::size_t>(problem.batch_heads() * problem.head_state()) * sizeof(float));
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const ssd_decode_args<float>&, std::size_t);
template void validate(const ssd_decode_args<bf16>&, std::size_t);

}  // namespace based
