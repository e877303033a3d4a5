// What every implementation of the sliding window asks of its arguments.
#include <fmt/format.h>

#include "kernels/core/validate.h"
#include "kernels/sliding_window/sliding_window.h"

namespace based {

void validate(const window_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("window", problem.window);
  require_head_dim(problem.head_dim);
  BASED_REQUIRE(problem.position >= 0,
                fmt::format("position is {}, must be at least 0", problem.position));
  require_addressable(problem.batch, problem.heads, problem.window, problem.head_dim);
}

template <class T>
void validate(const window_args<T>& args, std::size_t workspace_needed) {
  const window_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, problem.head_dim);
  require_output("o", args.o, problem.batch, problem.heads, 1, problem.head_dim);
  if (problem.append) {
    require_view("k", args.k, problem.head_dim);
    require_view("v", args.v, problem.head_dim);
  }
  require_pointer("k_cache", args.k_cache);
  require_pointer("v_cache", args.v_cache);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const window_args<float>&, std::size_t);
template void validate(const window_args<bf16>&, std::size_t);

}  // namespace based
