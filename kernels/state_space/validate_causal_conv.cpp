// What every implementation of causal_conv asks of its arguments.
#include <fmt/format.h>

#include <cstdint>
#include <limits>

#include "kernels/core/validate.h"
#include "kernels/state_space/causal_conv.h"

namespace based {

void validate(const conv_problem& problem) {
  constexpr std::int64_t vector = tensor_alignment / sizeof(bf16);
  constexpr std::int64_t most_channels = std::numeric_limits<std::int32_t>::max();
  require_size("batch", problem.batch);
  require_size("seqlen", problem.seqlen);
  require_size("channels", problem.channels);
  BASED_REQUIRE(problem.channels <= most_channels && problem.channels % vector == 0,
                fmt::format("channels is {}, must be a multiple of {}, {} at most",
                            problem.channels, vector, most_channels));
  BASED_REQUIRE(problem.taps == 3 || problem.taps == 4,
                fmt::format("taps is {}, must be 3 or 4", problem.taps));
  require_addressable(problem.batch, 1, problem.seqlen, static_cast<int>(problem.channels));
}

template <class T>
void validate(const conv_args<T>& args, std::size_t workspace_needed) {
  const conv_problem& p = args.problem;
  validate(p);
  const auto dim = static_cast<int>(p.channels);
  const std::size_t row_bytes = static_cast<std::size_t>(p.channels) * sizeof(float);
  require_view("x", args.x, dim);
  require_state("weight", args.weight, row_bytes * static_cast<std::size_t>(p.taps));
  require_output("y", args.y, p.batch, 1, p.seqlen, dim);
  if (p.bias) require_state("bias", args.bias, row_bytes);
  const auto y = extent(args.y, p.batch, 1, p.seqlen, dim);
  require_apart("x", extent(args.x, p.batch, 1, p.seqlen, dim), "y", y);
  const auto require_inputs = [&](const char* name, const auto& state) {
    require_state(name, state.data(), state.size_bytes(),
                  static_cast<std::size_t>(p.state_elements()) * sizeof(T));
    require_apart(name, std::as_bytes(state), "y", y);
  };
  if (p.initial_state) require_inputs("initial_state", args.initial_state);
  if (p.final_state) {
    require_inputs("final_state", args.final_state);
    require_apart("x", extent(args.x, p.batch, 1, p.seqlen, dim), "final_state",
                  std::as_bytes(args.final_state));
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const conv_args<float>&, std::size_t);
template void validate(const conv_args<bf16>&, std::size_t);

}  // namespace based
