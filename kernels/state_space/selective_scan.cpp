// The tensors and the work of a selective scan and of its step, and what every implementation asks
// of their arguments.
#include "kernels/state_space/selective_scan.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "kernels/core/validate.h"
#include "kernels/state_space/selective_scan_decode.h"

namespace based {
namespace {

/// As random inputs have them: dt is in `step`, and delta where softplus(delta) is.
constexpr log_uniform_range usual_step = {1e-3f, 0.1f}, strong_step = {0.1f, 4.3f};
constexpr log_uniform_range before_usual_step = {-2.25f, -6.9f};
constexpr log_uniform_range decay_rates = {-1, -16};
constexpr float state_stddev = 0.5f;
constexpr float delta_stddev = 0.25f;  // around a bias

tensor_spec along_time(std::string_view name, tensor_role role, element_type io,
                       const scan_channels& p, std::int64_t channels, std::int64_t seqlen,
                       float stddev) {
  return {.name = name,
          .role = role,
          .type = io,
          .shape = {p.batch, channels, seqlen, 1},
          .stddev = stddev,
          .is_sequence = true,
          .is_along_time = true};
}

tensor_spec states(std::string_view name, tensor_role role, const scan_channels& p) {
  return {.name = name,
          .role = role,
          .type = element_type::f32,
          .shape = {p.batch, p.d_inner, p.d_state},
          .stddev = state_stddev};
}

std::size_t state_bytes(const scan_channels& p) {
  return static_cast<std::size_t>(p.rows() * p.d_state) * sizeof(float);
}

void validate_channels(const scan_channels& p, std::int64_t seqlen) {
  require_size("batch", p.batch);
  require_size("d_inner", p.d_inner);
  BASED_REQUIRE(p.d_state >= 1 && p.d_state <= largest_scan_state,
                fmt::format("d_state is {}, must be 1 to {}", p.d_state, largest_scan_state));
  require_size("groups", p.groups);
  BASED_REQUIRE(p.d_inner % p.groups == 0,
                fmt::format("d_inner is {}, must be a multiple of groups {}", p.d_inner, p.groups));
  require_size("seqlen", seqlen);
  require_addressable(p.batch, p.d_inner, seqlen, static_cast<int>(p.d_state));
}

template <class T>
void require_along_time(const char* name, const sequence_view<T>& view) {
  require_pointer(name, view.data);
  BASED_REQUIRE(
      view.token_stride == 1,
      fmt::format("{} has a stride of {} between tokens, must be 1", name, view.token_stride));
  BASED_REQUIRE(view.batch_stride >= 0 && view.head_stride >= 0,
                fmt::format("{} has strides {}, {}, neither of which may be negative", name,
                            view.batch_stride, view.head_stride));
}

template <class T>
std::span<const std::byte> extent(const sequence_view<T>& view, const scan_channels& p,
                                  std::int64_t channels, std::int64_t seqlen) {
  return based::extent(view, p.batch, channels, seqlen, 1);
}

template <class T>
void validate_operands(const scan_channels& p, const scan_operands<T>& given, std::int64_t seqlen) {
  const std::int64_t shared = p.groups * p.d_state;
  const std::size_t channel_bytes = static_cast<std::size_t>(p.d_inner) * sizeof(float);
  require_along_time("u", given.u);
  require_along_time("delta", given.delta);
  require_state("A", given.a, channel_bytes * static_cast<std::size_t>(p.d_state));
  require_along_time("B", given.b);
  require_along_time("C", given.c);
  if (p.skip) require_state("D", given.d, channel_bytes);
  if (p.bias) require_state("bias", given.bias, channel_bytes);
  if (p.gate) require_along_time("z", given.z);
  require_along_time("y", given.y);
  require_no_overlap("y", {given.y.batch_stride, given.y.head_stride, 1}, p.batch, p.d_inner,
                     seqlen, 1);
  const std::span<const std::byte> y = extent(given.y, p, p.d_inner, seqlen);
  require_apart("u", extent(given.u, p, p.d_inner, seqlen), "y", y);
  require_apart("delta", extent(given.delta, p, p.d_inner, seqlen), "y", y);
  require_apart("B", extent(given.b, p, shared, seqlen), "y", y);
  require_apart("C", extent(given.c, p, shared, seqlen), "y", y);
  if (p.gate) require_apart("z", extent(given.z, p, p.d_inner, seqlen), "y", y);
}

double channel_tokens(const scan_channels& p, std::int64_t seqlen) {
  return static_cast<double>(p.rows()) * static_cast<double>(seqlen);
}

/// FLOPs an element of x: dt A, an exponential, dt u B, and two multiply-adds.
constexpr double update_flops = 7;

}  // namespace

double scan_flops(const scan_channels& p, std::int64_t seqlen) {
  const double token =
      1 + (p.bias ? 1 : 0) + (p.softplus ? 4 : 0) + (p.skip ? 2 : 0) + (p.gate ? 4 : 0);
  return channel_tokens(p, seqlen) * (token + update_flops * static_cast<double>(p.d_state));
}

namespace detail {

std::vector<tensor_spec> scan_tensors(const scan_channels& p, std::int64_t seqlen,
                                      element_type io) {
  using enum tensor_role;
  const bool is_strong = p.inputs == scan_inputs::strong;
  const log_uniform_range step = is_strong ? strong_step : usual_step;
  const log_uniform_range before = is_strong || !p.softplus ? step : before_usual_step;
  const auto sequence = [&](std::string_view name, tensor_role role, float stddev) {
    return along_time(name, role, io, p, p.d_inner, seqlen, stddev);
  };
  const auto of_group = [&](std::string_view name) {
    return along_time(name, input, io, p, p.groups * p.d_state, seqlen, 1);
  };
  const auto of_channel = [&](std::string_view name, std::vector<std::int64_t> shape) {
    return tensor_spec{
        .name = name, .role = input, .type = element_type::f32, .shape = std::move(shape)};
  };
  tensor_spec delta = sequence("delta", input, 0);
  tensor_spec a = of_channel("A", {p.d_inner, p.d_state});
  a.log_uniform = decay_rates;
  // A bias carries the step, and delta scatters about it; without one delta is all.
  if (p.bias && p.softplus) {
    delta.stddev = delta_stddev;
  } else {
    delta.log_uniform = before;
  }
  std::vector<tensor_spec> all = {sequence("u", input, 1), delta, a, of_group("B"), of_group("C")};
  if (p.skip) {
    all.push_back(of_channel("D", {p.d_inner}));
    all.back().stddev = 1;
  }
  if (p.bias) {
    all.push_back(of_channel("bias", {p.d_inner}));
    all.back().log_uniform = before;
  }
  if (p.gate) all.push_back(sequence("z", input, 1));
  all.push_back(sequence("y", output, 0));
  return all;
}

operation_work scan_work(const scan_channels& p, std::int64_t seqlen) {
  // Mamba's own count of 9 an update has more for its parallel scan than the recurrence needs.
  constexpr double nominal = 9;
  const double updates = channel_tokens(p, seqlen) * static_cast<double>(p.d_state);
  return {.nominal_flops = nominal * updates,
          .least_flops = update_flops * updates,
          .tokens = static_cast<double>(p.batch) * static_cast<double>(seqlen),
          .state_bytes = static_cast<double>(p.d_inner * p.d_state) * sizeof(float)};
}

}  // namespace detail

std::vector<tensor_spec> selective_scan::tensors(const problem& p, element_type io) {
  std::vector<tensor_spec> all = detail::scan_tensors(p, p.seqlen, io);
  if (p.initial_state) all.push_back(states("initial_state", tensor_role::input, p));
  if (p.final_state) all.push_back(states("final_state", tensor_role::output, p));
  return all;
}

std::vector<tensor_spec> selective_scan_decode::tensors(const problem& p, element_type io) {
  std::vector<tensor_spec> all = detail::scan_tensors(p, 1, io);
  all.push_back(states("state", tensor_role::updated, p));
  return all;
}

void validate(const selective_scan_problem& problem) {
  validate_channels(problem, problem.seqlen);
}
void validate(const selective_scan_decode_problem& problem) {
  validate_channels(problem, 1);
}

template <class T>
void validate(const selective_scan_args<T>& args, std::size_t workspace_needed) {
  const selective_scan_problem& p = args.problem;
  validate(p);
  validate_operands(p, args.operands, p.seqlen);
  const std::span<const std::byte> y = extent(args.operands.y, p, p.d_inner, p.seqlen);
  if (p.initial_state) {
    require_state("initial_state", args.initial_state, state_bytes(p));
    require_apart("initial_state", std::as_bytes(args.initial_state), "y", y);
  }
  if (p.final_state) {
    require_state("final_state", args.final_state, state_bytes(p));
    require_apart("final_state", std::as_bytes(args.final_state), "y", y);
  }
  if (p.initial_state && p.final_state) {
    require_apart("initial_state", args.initial_state, "final_state", args.final_state);
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template <class T>
void validate(const selective_scan_decode_args<T>& args, std::size_t workspace_needed) {
  const selective_scan_decode_problem& p = args.problem;
  validate(p);
  validate_operands(p, args.operands, 1);
  require_state("state", args.state, state_bytes(p));
  require_apart("state", std::as_bytes(args.state), "y", extent(args.operands.y, p, p.d_inner, 1));
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const selective_scan_args<float>&, std::size_t);
template void validate(const selective_scan_args<bf16>&, std::size_t);
template void validate(const selective_scan_decode_args<float>&, std::size_t);
template void validate(const selective_scan_decode_args<bf16>&, std::size_t);

}  // namespace based
