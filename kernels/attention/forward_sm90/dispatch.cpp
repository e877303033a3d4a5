// The CUDA implementation "forward_sm90" of attention: what runs each of its variants (plan.h), and
// the registration.
#include <cuda_runtime_api.h>

#include <array>
#include <vector>

#include "kernels/attention/forward_sm90/forward_sm90.h"
#include "kernels/attention/redone.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"

namespace based::attention_sm90 {
namespace {

/// The current device; without one an H200, so that shapes can be asked about.
card current_card() {
  const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const auto minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  const auto multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  if (!major || !minor || !multiprocessors) return {132, true};
  return {*multiprocessors, *major == 9 && *minor == 0};
}

/// Throws invalid_argument where nothing runs the problem.
auto choose_for(const attention_problem& problem) {
  validate(problem);
  auto choice = choose(forward_rules(), problem, current_card());
  if (choice.rule == nullptr) throw invalid_argument(choice.reason);
  return choice;
}

/// Without a plan, which takes longer: this is asked at each call.
unsupported_reason unsupported(const attention_problem& problem) {
  validate(problem);
  const card on = current_card();
  unsupported_reason reason;
  for (const forward_rule& rule : forward_rules()) {
    if (!problem.variant.empty() && problem.variant != rule.name) continue;
    reason = rule.unsupported(problem, on);
    if (!reason) return std::nullopt;
  }
  return reason;
}

template <class T>
void run(const attention_args<T>& args, cuda_stream stream) {
  const forward_plan plan = choose_for(args.problem).best.plan;
  validate(args, workspace_bytes(plan));
  switch (plan.block_queries) {
    case 256:
      return launch_blocks_256(args, plan, stream);
    case 192:
      return launch_blocks_192(args, plan, stream);
    case 128:
      return launch_blocks_128(args, plan, stream);
    default:
      return launch_split_keys(args, plan, stream);
  }
}

std::span<const std::string_view> names() {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> found;
    for (const forward_rule& rule : forward_rules()) found.push_back(rule.name);
    return found;
  }();
  return all;
}

const registration<attention> registered{{
    .name = "forward_sm90",
    .summary = "wgmma with a speculative maximum, persistent CTAs (Hopper)",
    .role = implementation_role::ours,
    .tolerance = 4e-3,  // weights are rounded once; a short sequence averages over few
    .unsupported = unsupported,
    .workspace_bytes =
        [](const attention_problem& problem) {
          return workspace_bytes(choose_for(problem).best.plan);
        },
    .executed_flops =
        [](const attention_problem& problem) {
          return executed_flops(problem, choose_for(problem).best.plan);
        },
    .run = {run<bf16>, run<fp16>},
    .variant =
        [](const attention_problem& problem) {
          const auto choice = choose_for(problem);
          const std::string plan = choice.best.plan.label();
          return std::string(choice.rule->name) + (plan.empty() ? "" : " " + plan);
        },
    .variants = names(),
    .take_counts = attention_counts::take,
}};

}  // namespace

std::size_t workspace_bytes(const forward_plan& plan) {
  return plan.by_tickets ? 16 : 0;
}

}  // namespace based::attention_sm90
