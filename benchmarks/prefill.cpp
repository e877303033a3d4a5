// The prefill study of Based.
#include "kernels/based/prefill.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "baselines/reference/prefill.h"
#include "benchmarks/based_options.h"
#include "benchmarks/studies.h"
#include "benchmarks/study.h"

namespace based {
namespace {

// Inputs are drawn as the sources' test generators draw them: q and k of deviation 1/4, so that
// |s| = |q.k|/4 stays below 1, where a Taylor expansion of exp makes sense; v of deviation 1.
constexpr float qk_stddev = 0.25f;
constexpr float v_stddev = 1.0f;
// An initial state as 64 earlier tokens would leave it, roughly: their number in z[0], the rest
// random. What matters is that it is no special case and keeps the denominator positive.
constexpr float earlier_tokens = 64;
constexpr float state_stddev = 0.5f;

// What the quadratic form spends on one (query, key) pair.
constexpr double pair_flops = 2 * feature_dim + 2 * value_dim + 3;

struct prefill_study {
  using operation = based_prefill;

  static std::vector<row_parameter> parameters(const prefill_problem& problem) {
    const auto& [batch, heads, seqlen] = problem.shape;
    std::vector<row_parameter> parameters = {{"B", batch}, {"H", heads}, {"N", seqlen}};
    const std::string options = options_text(problem.options);
    if (!options.empty()) parameters.emplace_back("options", options);
    if (!problem.variant.empty()) {
      parameters.emplace_back("variant", std::string(problem.variant));
    }
    return parameters;
  }

  static std::vector<tensor_spec> tensors(const prefill_problem& problem, element_type io) {
    using enum tensor_role;
    const std::int64_t tokens = problem.shape.tokens();
    const std::int64_t state_rows = problem.shape.batch_heads() * compact_features;
    const prefill_options& options = problem.options;
    std::vector<tensor_spec> tensors = {{"q", input, io, tokens * feature_dim, qk_stddev},
                                        {"k", input, io, tokens * feature_dim, qk_stddev},
                                        {"v", input, io, tokens * value_dim, v_stddev},
                                        {"o", output, io, tokens * value_dim}};
    const auto add_state = [&](std::string_view kv, std::string_view z, tensor_role role) {
      tensors.push_back({kv, role, element_type::f32, state_rows * value_dim, state_stddev});
      if (options.normalize) {
        tensors.push_back({z, role, element_type::f32, state_rows, state_stddev});
      }
    };
    if (options.initial_state) add_state("initial_state.kv", "initial_state.z", input);
    if (options.final_state) add_state("final_state.kv", "final_state.z", output);
    return tensors;
  }

  static operation_work work(const prefill_problem& problem) {
    const prefill_shape& shape = problem.shape;
    const auto tokens = static_cast<double>(shape.tokens());
    const int state_columns = value_dim + (problem.options.normalize ? 1 : 0);
    // Per token, a recurrence reads and updates 153 x 64 state elements; a short sequence is
    // cheaper in the quadratic form.
    const double recurrent = 4.0 * compact_features * value_dim;
    const double quadratic = static_cast<double>(shape.seqlen + 1) / 2 * pair_flops;
    return {.nominal_flops = tokens * expanded_features * (2 + 4 * value_dim),
            .least_flops = tokens * std::min(recurrent, quadratic),
            .tokens = static_cast<double>(shape.batch * shape.seqlen),
            .state_bytes = static_cast<double>(shape.heads) * compact_features * state_columns *
                           sizeof(float)};
  }

  static void prepare(const prefill_problem& problem, backend& device, tensor_set& set) {
    float* z = set.data<float>("initial_state.z");
    if (z == nullptr) return;
    for (std::int64_t head = 0; head < problem.shape.batch_heads(); ++head) {
      device.upload(z + head * compact_features, &earlier_tokens, sizeof earlier_tokens);
    }
  }

  template <class T>
  static prefill_args<T> bind(const prefill_problem& problem, const tensor_set& set) {
    const auto view = [&]<class U>(U* data, int dim) {
      return sequence_view<U>::bhnd(data, problem.shape.heads, problem.shape.seqlen, dim);
    };
    return {.problem = problem,
            .q = view(set.data<const T>("q"), feature_dim),
            .k = view(set.data<const T>("k"), feature_dim),
            .v = view(set.data<const T>("v"), value_dim),
            .o = view(set.data<T>("o"), value_dim),
            .initial_state = {set.elements<const float>("initial_state.kv"),
                              set.elements<const float>("initial_state.z")},
            .final_state = {set.elements<float>("final_state.kv"),
                            set.elements<float>("final_state.z")}};
  }

  template <class T>
  static verification compare(const prefill_problem& problem, const tensor_reader<T>& tensors) {
    const prefill_options& options = problem.options;
    const std::int64_t seqlen = problem.shape.seqlen;
    const sampled_part part =
        sample_part(problem.shape.batch_heads(), seqlen, pair_flops, tensors.seed());
    worst_error worst;
    error_norm &o_error = worst["o"], &kv_error = worst["final_state.kv"],
               &z_error = worst["final_state.z"];
    std::vector<double> o(part.rows.size() * value_dim);
    std::vector<double> kv(compact_features * value_dim);
    std::vector<double> z(options.normalize ? compact_features : 0);
    for (const std::int64_t head : part.heads) {
      const auto of_head = [&](std::string_view name, std::int64_t per_head) {
        return tensors.get(name, head * per_head, per_head);
      };
      const auto of_state = [&](std::string_view name, std::int64_t per_head) {
        return tensors.template read<float>(name, head * per_head, per_head);
      };
      const auto q = of_head("q", seqlen * feature_dim), k = of_head("k", seqlen * feature_dim);
      const auto v = of_head("v", seqlen * value_dim), got = of_head("o", seqlen * value_dim);
      const auto initial_kv = of_state("initial_state.kv", compact_features * value_dim);
      const auto initial_z = of_state("initial_state.z", compact_features);
      const reference::prefill_head inputs = {.seqlen = seqlen,
                                              .q = q.data(),
                                              .k = k.data(),
                                              .v = v.data(),
                                              .initial_kv = initial_kv.data(),
                                              .initial_z = initial_z.data()};
      reference::prefill_rows(inputs, options, part.rows, o);
      o_error.add_rows(got, o, part.rows, value_dim);
      if (!options.final_state) continue;
      reference::final_state(inputs, options, kv, z);
      kv_error.add_all(of_state("final_state.kv", compact_features * value_dim), kv);
      z_error.add_all(of_state("final_state.z", options.normalize ? compact_features : 0), z);
    }
    return worst.found();
  }
};

/// The forced variant that `text` names, as the implementation spells it; empty: it has none such.
std::string_view find_variant(const implementation<based_prefill>& impl, const std::string& text) {
  const auto found = std::find(impl.variants.begin(), impl.variants.end(), text);
  return found == impl.variants.end() ? std::string_view() : *found;
}

/// A forced variant that no implementation has is a mistake in its name.
void require_known_variants(const std::vector<std::string>& variants,
                            const std::vector<implementation<based_prefill>>& all) {
  std::set<std::string_view> known;
  for (const auto& impl : all) known.insert(impl.variants.begin(), impl.variants.end());
  for (const std::string& variant : variants) {
    if (!variant.empty() && known.count(variant) == 0) {
      throw usage_error(
          fmt::format("--variant: '{}' is no variant of this device's implementations, "
                      "which have: {}",
                      variant, fmt::join(known, ", ")));
    }
  }
}

}  // namespace

std::vector<std::unique_ptr<row>> based_prefill_rows(device_kind device,
                                                     const suite_options& options) {
  std::vector<std::unique_ptr<row>> rows;
  const auto impls = implementations_of<based_prefill>(device, options.implementations);
  require_known_variants(options.variants, impls);
  for (const auto& impl : impls) {
    for (const std::string& variant_text : options.variants) {
      const std::string_view variant = find_variant(impl, variant_text);
      if (variant != variant_text) continue;
      for (const std::string& option_text : options.options) {
        for (const prefill_shape& shape : shapes_of(options.sweep_of(device, phase::prefill))) {
          const prefill_problem problem = {shape, parse_based_options(option_text), variant};
          rows.push_back(std::make_unique<study_row<prefill_study>>(impl, problem));
        }
      }
    }
  }
  return rows;
}

}  // namespace based
