// The variants of an implementation as data: one table entry each, from which everything follows
// that an implementation<Op> tells and does. For any operation whose problem has a `variant`.
//
// What decides is apart from what runs, so that a build without CUDA can ask and test it: a
// variant_rule knows what its variant cannot do, how it would go about a problem (its plan: how
// many segments, say) and what that is expected to take; a variant adds the launch. A dispatcher's
// operation, device and table come in one struct:
//
//   struct my_dispatch {
//     using operation = my_operation;
//     static const my_device& current_device();  // what the rules ask about a card
//     static std::span<const variant<my_operation, my_device, my_plan, bf16, fp16>> table();
//   };
//
// A plan has label(): what a row says about it, such as "in 8", or nothing.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/implementation.h"

namespace based {

/// A plan and the time that it is expected to take.
template <class Plan>
struct predicted_plan {
  Plan plan;
  double ns;
};

template <class Op, class Device, class Plan>
struct variant_rule {
  using problem = typename Op::problem;
  using device = Device;
  using planned = predicted_plan<Plan>;

  std::string_view name;  ///< as problem::variant forces it
  /// Why the variant cannot run a valid problem on a device; nullopt: it can.
  unsupported_reason (*unsupported)(const problem&, const Device&);
  /// The best plan for a problem that it can run.
  planned (*plan)(const problem&, const Device&);
};

/// `Types`: the element types that the variant runs.
template <class Op, class Device, class Plan, class... Types>
struct variant : variant_rule<Op, Device, Plan> {
  using problem = typename Op::problem;
  template <class T>
  using launcher = void (*)(const typename Op::template args<T>&, const Plan&, cuda_stream);

  std::size_t (*workspace_bytes)(const problem&, const Plan&);
  double (*executed_flops)(const problem&, const Plan&);
  /// One function an element type. Its `args` are valid and their workspace is large enough.
  std::tuple<launcher<Types>...> launch;
};

/// What runs a problem, or why nothing does.
template <class Rule>
struct variant_choice {
  const Rule* rule = nullptr;  ///< null: `reason` holds
  typename Rule::planned best = {};
  std::string reason = {};
};

/// The rule that problem.variant names, or all of them where it names none. Throws
/// invalid_argument for a name that is none of theirs.
template <class Rule>
std::span<const Rule> candidates(std::span<const Rule> rules,
                                 const typename Rule::problem& problem) {
  if (problem.variant.empty()) return rules;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (problem.variant == rules[i].name) return rules.subspan(i, 1);
  }
  throw invalid_argument("no variant '" + std::string(problem.variant) + "'");
}

/// Why none of the candidates can run the problem; nullopt: one can. Makes no plan.
template <class Rule>
unsupported_reason refusal(std::span<const Rule> rules, const typename Rule::problem& problem,
                           const typename Rule::device& device) {
  unsupported_reason last;
  for (const Rule& rule : candidates(rules, problem)) {
    last = rule.unsupported(problem, device);
    if (!last) break;
  }
  return last;
}

/// The candidate with the least expected time that can run the problem.
template <class Rule>
variant_choice<Rule> choose(std::span<const Rule> rules, const typename Rule::problem& problem,
                            const typename Rule::device& device) {
  variant_choice<Rule> choice;
  for (const Rule& rule : candidates(rules, problem)) {
    if (unsupported_reason reason = rule.unsupported(problem, device)) {
      choice.reason = std::move(*reason);
      continue;
    }
    const auto planned = rule.plan(problem, device);
    if (choice.rule == nullptr || planned.ns < choice.best.ns) {
      choice.rule = &rule;
      choice.best = planned;
    }
  }
  return choice;
}

/// The functions of an implementation<operation> whose variants are a table.
template <class Dispatch>
struct dispatcher {
  using operation = typename Dispatch::operation;
  using problem = typename operation::problem;
  template <class T>
  using args = typename operation::template args<T>;

  /// Is asked at each call, and so makes no plan.
  static unsupported_reason unsupported(const problem& asked) {
    if (is_known(asked)) return std::nullopt;
    validate(asked);
    return refusal(Dispatch::table(), asked, Dispatch::current_device());
  }
  static std::size_t workspace_bytes(const problem& asked) {
    const auto& chosen = supported(asked);
    return chosen.rule->workspace_bytes(asked, chosen.best.plan);
  }
  static double executed_flops(const problem& asked) {
    const auto& chosen = supported(asked);
    return chosen.rule->executed_flops(asked, chosen.best.plan);
  }
  template <class T>
  static void run(const args<T>& call, cuda_stream stream) {
    const auto& chosen = supported(call.problem);
    const auto plan = chosen.best.plan;  // a launch may ask for another
    validate(call, chosen.rule->workspace_bytes(call.problem, plan));
    std::get<launcher<T>>(chosen.rule->launch)(call, plan, stream);
  }
  static std::string label(const problem& asked) {
    const auto& chosen = supported(asked);
    const std::string plan = chosen.best.plan.label();
    return std::string(chosen.rule->name) + (plan.empty() ? "" : " " + plan);
  }
  static std::span<const std::string_view> names() {
    static const std::vector<std::string_view> all = [] {
      std::vector<std::string_view> found;
      for (const auto& each : Dispatch::table()) found.push_back(each.name);
      return found;
    }();
    return all;
  }

 private:
  template <class T>
  using launcher = typename decltype(Dispatch::table())::value_type::template launcher<T>;

  using choice = variant_choice<typename decltype(Dispatch::table())::value_type>;
  struct answer {
    problem asked;
    std::remove_cvref_t<decltype(Dispatch::current_device())> on;
    choice chosen;
  };

  /// The last answer of this thread. A choice can take longer than a launch, and a caller asks the
  /// same again for each of a model's layers.
  static std::optional<answer>& last() {
    thread_local std::optional<answer> kept;
    return kept;
  }
  static bool is_known(const problem& asked) {
    return last() && last()->asked == asked && last()->on == Dispatch::current_device();
  }
  /// Holds until this thread asks for another.
  static const choice& supported(const problem& asked) {
    if (!is_known(asked)) {
      validate(asked);
      const auto& on = Dispatch::current_device();
      choice chosen = choose(Dispatch::table(), asked, on);
      if (chosen.rule == nullptr) throw invalid_argument(chosen.reason);
      last().emplace(answer{asked, on, std::move(chosen)});
      // The name that the caller gave may not live as long.
      if (!asked.variant.empty()) last()->asked.variant = last()->chosen.rule->name;
    }
    return last()->chosen;
  }
};

}  // namespace based
