// What every implementation of attention asks of its arguments.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/attention/attention.h"
#include "kernels/core/fp16.h"
#include "kernels/core/validate.h"

namespace based {
void validate(const attention_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("seqlen", problem.seqlen);
  require_head_dim(problem.head_dim);
  require_size("kv_heads", problem.key_heads());
  require_size("kv_seqlen", problem.keys());
  BASED_REQUIRE(problem.heads % problem.key_heads() == 0,
                fmt::format("heads is {}, must be a multiple of kv_heads {}", problem.heads,
                            problem.key_heads()));
  constexpr std::int64_t largest_window = std::numeric_limits<std::int32_t>::max();
  BASED_REQUIRE(
      problem.window >= 0 && problem.window <= largest_window,
      fmt::format("window is {}, must be 0 (none) to {}", problem.window, largest_window));
  BASED_REQUIRE(
      problem.window == 0 || problem.causal,
      fmt::format("window is {}, must be 0 where attention is not causal", problem.window));
  BASED_REQUIRE(problem.scale >= 0 && std::isfinite(problem.scale),
                fmt::format("scale is {}, must be 0 (1/sqrt(head_dim)) or positive and finite",
                            problem.scale));
  require_addressable(problem.batch, problem.heads, problem.seqlen, problem.head_dim);
  require_addressable(problem.batch, problem.key_heads(), problem.keys(), problem.head_dim);
}

template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed) {
  const attention_problem& problem = args.problem;
  validate(problem);
  const int dim = problem.head_dim;
  require_view("q", args.q, dim);
  require_view("k", args.k, dim);
  require_view("v", args.v, dim);
  require_output("o", args.o, problem.batch, problem.heads, problem.seqlen, dim);
  const auto of_queries = [&](const auto& view) {
    return extent(view, problem.batch, problem.heads, problem.seqlen, dim);
  };
  const auto of_keys = [&](const auto& view) {
    return extent(view, problem.batch, problem.key_heads(), problem.keys(), dim);
  };
  const std::span<const std::byte> o = of_queries(args.o);
  require_apart("q", of_queries(args.q), "o", o);
  require_apart("k", of_keys(args.k), "o", o);
  require_apart("v", of_keys(args.v), "o", o);
  if (problem.lse) {
    require_state(
        "lse", args.lse,
        static_cast<std::size_t>(problem.batch * problem.heads * problem.seqlen) * sizeof(float));
    require_apart("lse", std::as_bytes(args.lse), "o", o);
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const attention_args<float>&, std::size_t);
template void validate(const attention_args<bf16>&, std::size_t);
template void validate(const attention_args<fp16>&, std::size_t);

}  // namespace based
