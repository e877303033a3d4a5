#include "kernels/based/prefill_variants.h"

#include <array>
#include <cstdlib>
#include <limits>

#include "kernels/based/dispatch_constants.h"
#include "kernels/based/prefill_sm80.h"
#include "kernels/based/prefill_sm90/segments.h"
#include "kernels/based/quad_map.h"

namespace based {
namespace {

using sm90::chunks_of;

constexpr std::int64_t max_seqlen = std::numeric_limits<std::int32_t>::max() - sm90::chunk_tokens;
constexpr std::int64_t max_ctas = std::numeric_limits<std::int32_t>::max();

prefill_cost cost_of(const prefill_problem& problem, const prefill_device& device) {
  return {device.constants, problem, device.multiprocessors};
}

/// Why no kernel for Hopper takes a problem, with so many CTAs a head.
unsupported_reason unsupported_on_hopper(std::string_view variant, const prefill_problem& problem,
                                         const prefill_device& device, std::int64_t ctas = 1) {
  const prefill_shape& shape = problem.shape;
  const std::string named = "variant " + std::string(variant);
  if (!device.is_hopper()) return named + " runs on compute capability 9.0 (Hopper) only";
  if (problem.options.final_state && std::abs(problem.options.scale) < quad::least_scale_of_state) {
    return named + " gives out no state at scale " + std::to_string(problem.options.scale) +
           ": its size is to be 2^-32 or more";
  }
  if (shape.seqlen > max_seqlen) {
    return "seqlen " + std::to_string(shape.seqlen) + " is more than " + std::to_string(max_seqlen);
  }
  if (shape.batch_heads() > max_ctas / ctas) {
    return "batch x heads (x segments) is more than " + std::to_string(max_ctas);
  }
  return std::nullopt;
}

unsupported_reason one_chunk() {
  return "a sequence of one chunk cannot be split";
}

// whole

unsupported_reason unsupported_by_whole(const prefill_problem& problem,
                                        const prefill_device& device) {
  return unsupported_on_hopper(whole_rule.name, problem, device);
}

prefill_rule::planned plan_whole(const prefill_problem& problem, const prefill_device& device) {
  return {{}, cost_of(problem, device).whole()};
}

// split

/// Segments that fill the card with so many CTAs a multiprocessor.
int segments_that_fit(const prefill_problem& problem, const prefill_device& device,
                      int ctas_a_multiprocessor) {
  const std::int64_t fitting =
      std::int64_t{ctas_a_multiprocessor} * device.multiprocessors / problem.shape.batch_heads();
  constexpr int least_chunks = 2;  // of a segment
  const std::int64_t most = chunks_of(problem.shape) / least_chunks;
  return static_cast<int>(std::max<std::int64_t>(std::min(fitting, most), 2));
}

unsupported_reason unsupported_by_split(const prefill_problem& problem,
                                        const prefill_device& device) {
  if (chunks_of(problem.shape) < 2) return one_chunk();
  return unsupported_on_hopper(split_rule.name, problem, device,
                               segments_that_fit(problem, device, 2));
}

prefill_rule::planned plan_split(const prefill_problem& problem, const prefill_device& device) {
  constexpr int least_chunks_shared = 16;  // of a segment that shares a multiprocessor
  const prefill_cost cost = cost_of(problem, device);
  const int alone = segments_that_fit(problem, device, 1);
  const int shared = segments_that_fit(problem, device, 2);
  const prefill_rule::planned best = {{alone}, cost.split(alone)};
  if (chunks_of(problem.shape) < least_chunks_shared * shared) return best;
  const double ns = cost.split(shared);
  return ns < best.ns ? prefill_rule::planned{{shared}, ns} : best;
}

// recompute

unsupported_reason unsupported_by_recompute(const prefill_problem& problem,
                                            const prefill_device& device) {
  if (chunks_of(problem.shape) < 2) return one_chunk();
  return unsupported_on_hopper(recompute_rule.name, problem, device, sm90::max_recompute_segments);
}

prefill_rule::planned plan_recompute(const prefill_problem& problem, const prefill_device& device) {
  const int segments =
      std::min(segments_that_fit(problem, device, 1), sm90::max_recompute_segments);
  return {{segments}, cost_of(problem, device).recompute(segments)};
}

// balanced

/// Places for CTAs, two a multiprocessor, or one where there are fewer heads than that.
int places_of(const prefill_problem& problem, const prefill_device& device) {
  return problem.shape.batch_heads() < 2 * device.multiprocessors ? device.multiprocessors
                                                                  : 2 * device.multiprocessors;
}

unsupported_reason unsupported_by_balanced(const prefill_problem& problem,
                                           const prefill_device& device) {
  if (auto reason = unsupported_on_hopper(balanced_rule.name, problem, device)) return reason;
  const std::int64_t heads = problem.shape.batch_heads();
  if (heads < device.multiprocessors || chunks_of(problem.shape) < 2) {
    return "variant balanced takes no fewer heads than multiprocessors, " +
           std::to_string(device.multiprocessors) + ", and no sequences of a single chunk";
  }
  if (heads > max_ctas - places_of(problem, device)) {
    return "batch x heads is more than " + std::to_string(max_ctas - places_of(problem, device));
  }
  return std::nullopt;
}

prefill_rule::planned plan_balanced(const prefill_problem& problem, const prefill_device& device) {
  const int places = places_of(problem, device);
  return {{places}, cost_of(problem, device).balanced(places)};
}

// quadratic

unsupported_reason unsupported_by_quadratic(const prefill_problem& problem,
                                            const prefill_device& device) {
  if (auto reason = unsupported_on_hopper(quadratic_rule.name, problem, device)) return reason;
  if (chunks_of(problem.shape) > sm90::max_quadratic_chunks) {
    return "variant quadratic takes a seqlen of at most " +
           std::to_string(sm90::max_quadratic_chunks * sm90::chunk_tokens) + ", not " +
           std::to_string(problem.shape.seqlen);
  }
  return std::nullopt;
}

prefill_rule::planned plan_quadratic(const prefill_problem& problem, const prefill_device& device) {
  return {{}, cost_of(problem, device).quadratic()};
}

// mma_sync

unsupported_reason unsupported_by_mma_sync(const prefill_problem& problem,
                                           const prefill_device& device) {
  return sm80::unsupported_on(problem, device.major);
}

prefill_rule::planned plan_mma_sync(const prefill_problem& problem, const prefill_device& device) {
  return {{}, cost_of(problem, device).mma_sync()};
}

}  // namespace

constinit const prefill_rule whole_rule = {"whole", unsupported_by_whole, plan_whole};
constinit const prefill_rule split_rule = {"split", unsupported_by_split, plan_split};
constinit const prefill_rule recompute_rule = {"recompute", unsupported_by_recompute,
                                               plan_recompute};
constinit const prefill_rule balanced_rule = {"balanced", unsupported_by_balanced, plan_balanced};
constinit const prefill_rule quadratic_rule = {"quadratic", unsupported_by_quadratic,
                                               plan_quadratic};
constinit const prefill_rule mma_sync_rule = {"mma_sync", unsupported_by_mma_sync, plan_mma_sync};

std::span<const prefill_rule> prefill_rules() {
  static const std::array rules = {whole_rule,    split_rule,     recompute_rule,
                                   balanced_rule, quadratic_rule, mma_sync_rule};
  return rules;
}

const prefill_constants& constants_of(std::string_view card, int multiprocessors) {
  const known_card* nearest = &known_cards[0];
  const auto distance = [&](const known_card& known) {
    return std::abs(known.multiprocessors - multiprocessors);
  };
  for (const known_card& known : known_cards) {
    if (known.name == card) return known.constants;
    if (distance(known) < distance(*nearest)) nearest = &known;
  }
  return nearest->constants;
}

}  // namespace based
