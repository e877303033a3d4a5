#include "benchmarks/prefill.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "baselines/reference/prefill.h"
#include "benchmarks/study.h"
#include "kernels/common/prefill.h"

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

// The reference spends this on one (query, key) pair.
constexpr double based_pair_flops = 2 * feature_dim + 2 * value_dim + 3;

const std::map<std::string, bool prefill_options::*> option_names = {
    {"normalize", &prefill_options::normalize},
    {"initial_state", &prefill_options::initial_state},
    {"final_state", &prefill_options::final_state}};

prefill_options parse_prefill_options(const std::string& text) {
  prefill_options options;
  if (text == "none") return options;
  for (const std::string& part : split(text, '+')) {
    if (part == "all") {
      for (const auto& [name, member] : option_names) options.*member = true;
    } else if (const auto found = option_names.find(part); found != option_names.end()) {
      options.*(found->second) = true;
    } else {
      throw usage_error(
          fmt::format("--options: '{}' is not an option; want none, all, or some of "
                      "normalize, initial_state, final_state joined by +",
                      part));
    }
  }
  return options;
}

std::size_t state_bytes(const prefill_problem& problem) {
  const int columns = value_dim + (problem.options.normalize ? 1 : 0);
  return static_cast<std::size_t>(problem.shape.batch_heads()) * compact_features * columns *
         sizeof(float);
}

row_work based_prefill_work(const implementation<based_prefill>& impl,
                            const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  const prefill_options& options = problem.options;
  const auto tokens = static_cast<double>(shape.tokens());
  const std::size_t element = impl.device() == device_kind::cpu ? sizeof(float) : sizeof(bf16);
  const std::size_t tensors =
      static_cast<std::size_t>(shape.tokens()) * (2 * feature_dim + 2 * value_dim) * element +
      (options.initial_state ? state_bytes(problem) : 0) +
      (options.final_state ? state_bytes(problem) : 0);
  // Per token, a recurrence reads and updates 153 x 64 state elements; a short sequence is cheaper
  // in the quadratic form.
  const double recurrent = 4.0 * compact_features * value_dim;
  const double quadratic = static_cast<double>(shape.seqlen + 1) / 2 * based_pair_flops;
  return {
      .nominal_flops = tokens * expanded_features * (2 + 4 * value_dim),
      .executed_flops = impl.executed_flops(problem),
      .least_flops = tokens * std::min(recurrent, quadratic),
      .compulsory_bytes = static_cast<double>(tensors),
      .tokens = static_cast<double>(shape.batch * shape.seqlen),
      .tensor_bytes = tensors,
      .workspace_bytes = impl.workspace_bytes(problem),
      .state_bytes = static_cast<double>(state_bytes(problem)) / static_cast<double>(shape.batch)};
}

template <class T>
class based_prefill_instance final : public row_instance {
 public:
  based_prefill_instance(const implementation<based_prefill>& impl, const prefill_problem& problem,
                         backend& device, std::uint64_t seed)
      : impl_(impl), problem_(problem), device_(device), seed_(seed) {
    const std::int64_t tokens = problem.shape.tokens();
    data_set first;
    first.q = random_tensor<T>(device, tokens * feature_dim, seed, tensor_id::q, qk_stddev);
    first.k = random_tensor<T>(device, tokens * feature_dim, seed, tensor_id::k, qk_stddev);
    first.v = random_tensor<T>(device, tokens * value_dim, seed, tensor_id::v, v_stddev);
    if (problem.options.initial_state) make_initial_state(first);
    add_set(std::move(first));
  }

  void launch(int set) override {
    call<T>(impl_, sets_[static_cast<std::size_t>(set)].args, device_);
  }

  bool replicate(int sets) override {
    const std::size_t each = sets_.front().bytes();
    if (static_cast<double>(each) * (sets - 1) > static_cast<double>(device_.free_bytes())) {
      return false;
    }
    sets_.reserve(static_cast<std::size_t>(sets));
    while (static_cast<int>(sets_.size()) < sets) {
      const data_set& first = sets_.front();
      data_set next;
      next.q = duplicate(device_, first.q);
      next.k = duplicate(device_, first.k);
      next.v = duplicate(device_, first.v);
      next.initial_kv = duplicate(device_, first.initial_kv);
      next.initial_z = duplicate(device_, first.initial_z);
      add_set(std::move(next));
    }
    return true;
  }

  verification verify() override {
    data_set& set = sets_.front();
    for (const memory* output : {&set.o, &set.final_kv, &set.final_z, &set.workspace}) {
      if (output->bytes() > 0) device_.poison(output->data(), output->bytes());
    }
    launch(0);
    device_.synchronize();

    const std::int64_t outputs = problem_.shape.tokens() * value_dim;
    if (const auto bad = device_.count_nonfinite(set.o.data(), element_of<T>, outputs)) {
      return {.relative_error = NAN, .nonfinite = bad, .where = "o"};
    }
    for (const auto& [state, where] :
         {std::pair{&set.final_kv, "final_state.kv"}, std::pair{&set.final_z, "final_state.z"}}) {
      const auto count = static_cast<std::int64_t>(state->bytes() / sizeof(float));
      if (const auto bad = device_.count_nonfinite(state->data(), element_type::f32, count)) {
        return {.relative_error = NAN, .nonfinite = bad, .where = where};
      }
    }
    return compare(set);
  }

 private:
  struct data_set {
    memory q, k, v, o;             // [B,H,N,16] [B,H,N,16] [B,H,N,64] [B,H,N,64]
    memory initial_kv, initial_z;  // [B,H,153,64] [B,H,153], fp32
    memory final_kv, final_z;
    memory workspace;
    prefill_args<T> args;

    std::size_t bytes() const {
      std::size_t sum = 0;
      for (const memory* m :
           {&q, &k, &v, &o, &initial_kv, &initial_z, &final_kv, &final_z, &workspace}) {
        sum += m->bytes();
      }
      return sum;
    }
  };

  void make_initial_state(data_set& set) {
    const std::int64_t heads = problem_.shape.batch_heads();
    set.initial_kv = random_tensor<float>(device_, heads * compact_features * value_dim, seed_,
                                          tensor_id::initial_kv, state_stddev);
    if (!problem_.options.normalize) return;
    const random_stream values(seed_, static_cast<std::uint64_t>(tensor_id::initial_z),
                               state_stddev);
    std::vector<float> z(static_cast<std::size_t>(heads) * compact_features);
    for (std::size_t i = 0; i < z.size(); ++i) {
      z[i] = i % compact_features == 0 ? earlier_tokens : values(static_cast<std::int64_t>(i));
    }
    set.initial_z = device_.allocate(z.size() * sizeof(float));
    device_.upload(set.initial_z.data(), z.data(), set.initial_z.bytes());
  }

  /// Allocates the outputs and workspace of a set whose inputs are there, and takes it in.
  void add_set(data_set set) {
    const auto& [batch, heads, seqlen] = problem_.shape;
    const auto& options = problem_.options;
    const auto state_rows = static_cast<std::size_t>(batch * heads) * compact_features;
    set.o =
        device_.allocate(static_cast<std::size_t>(problem_.shape.tokens()) * value_dim * sizeof(T));
    if (options.final_state) {
      set.final_kv = device_.allocate(state_rows * value_dim * sizeof(float));
      if (options.normalize) set.final_z = device_.allocate(state_rows * sizeof(float));
    }
    const std::size_t workspace = impl_.workspace_bytes(problem_);
    set.workspace = device_.allocate(workspace);
    set.args = {
        .problem = problem_,
        .q = sequence_view<const T>::bhnd(set.q.template data<T>(), heads, seqlen, feature_dim),
        .k = sequence_view<const T>::bhnd(set.k.template data<T>(), heads, seqlen, feature_dim),
        .v = sequence_view<const T>::bhnd(set.v.template data<T>(), heads, seqlen, value_dim),
        .o = sequence_view<T>::bhnd(set.o.template data<T>(), heads, seqlen, value_dim),
        .initial_state = {set.initial_kv.template data<float>(),
                          set.initial_z.template data<float>()},
        .final_state = {set.final_kv.template data<float>(), set.final_z.template data<float>()},
        .workspace = set.workspace.data(),
        .workspace_bytes = workspace};
    sets_.push_back(std::move(set));
  }

  verification compare(const data_set& set) {
    const std::int64_t seqlen = problem_.shape.seqlen;
    const sampled_part part =
        sample_part(problem_.shape.batch_heads(), seqlen, based_pair_flops, seed_);
    const auto& options = problem_.options;
    error_norm o_error, kv_error, z_error;
    std::vector<double> o(part.rows.size() * value_dim);
    std::vector<double> kv(compact_features * value_dim);
    std::vector<double> z(options.normalize ? compact_features : 0);
    for (const std::int64_t head : part.heads) {
      const auto of_head = [&](const memory& tensor, std::int64_t per_head) {
        return fetch(device_, tensor.template data<T>(), head * per_head, per_head);
      };
      const auto of_state = [&](const memory& tensor, std::int64_t per_head) {
        return tensor.bytes() == 0
                   ? std::vector<float>()
                   : fetch(device_, tensor.template data<float>(), head * per_head, per_head);
      };
      const auto q = of_head(set.q, seqlen * feature_dim), k = of_head(set.k, seqlen * feature_dim);
      const auto v = of_head(set.v, seqlen * value_dim), got = of_head(set.o, seqlen * value_dim);
      const auto initial_kv = of_state(set.initial_kv, compact_features * value_dim);
      const auto initial_z = of_state(set.initial_z, compact_features);
      const reference::prefill_head tensors = {.seqlen = seqlen,
                                               .q = q.data(),
                                               .k = k.data(),
                                               .v = v.data(),
                                               .initial_kv = initial_kv.data(),
                                               .initial_z = initial_z.data()};
      reference::prefill_rows(tensors, options, part.rows, o);
      for (std::size_t r = 0; r < part.rows.size(); ++r) {
        for (std::size_t c = 0; c < value_dim; ++c) {
          const std::size_t at = static_cast<std::size_t>(part.rows[r]) * value_dim + c;
          o_error.add(got[at], o[r * value_dim + c]);
        }
      }
      if (!options.final_state) continue;
      const auto got_kv = of_state(set.final_kv, compact_features * value_dim);
      const auto got_z = of_state(set.final_z, compact_features);
      reference::final_state(tensors, options, kv, z);
      for (std::size_t i = 0; i < kv.size(); ++i) kv_error.add(got_kv[i], kv[i]);
      for (std::size_t i = 0; i < z.size(); ++i) z_error.add(got_z[i], z[i]);
    }
    verification worst = {.relative_error = o_error.relative(), .nonfinite = 0, .where = "o"};
    for (const auto& [error, where] : {std::pair{kv_error.relative(), "final_state.kv"},
                                       std::pair{z_error.relative(), "final_state.z"}}) {
      if (!(error <= worst.relative_error)) worst = {error, 0, where};
    }
    return worst;
  }

  const implementation<based_prefill>& impl_;
  prefill_problem problem_;
  backend& device_;
  std::uint64_t seed_;
  std::vector<data_set> sets_;
};

row_spec based_prefill_spec(const implementation<based_prefill>& impl,
                            const prefill_problem& problem, const std::string& options) {
  const auto& [batch, heads, seqlen] = problem.shape;
  row_spec spec = {.operation = std::string(based_prefill::name),
                   .implementation = std::string(impl.name),
                   .device = impl.device(),
                   .parameters = {{"B", batch}, {"H", heads}, {"N", seqlen}},
                   .work = {},
                   .tolerance = impl.tolerance,
                   .unsupported = impl.unsupported(problem),
                   .label = ""};
  if (options != "none") spec.parameters.emplace_back("options", options);
  if (!problem.variant.empty()) {
    spec.parameters.emplace_back("variant", std::string(problem.variant));
  }
  if (!spec.unsupported) {
    spec.work = based_prefill_work(impl, problem);
    if (impl.variant != nullptr) spec.label = impl.variant(problem);
  }
  return spec;
}

class based_prefill_row final : public row {
 public:
  based_prefill_row(const implementation<based_prefill>& impl, const prefill_shape& shape,
                    const std::string& options, const std::string& variant)
      : row(based_prefill_spec(impl, {shape, parse_prefill_options(options), variant}, options)),
        impl_(impl),
        variant_(variant),
        problem_{shape, parse_prefill_options(options), variant_} {}

  std::unique_ptr<row_instance> prepare(backend& device, std::uint64_t seed) const override {
    if (impl_.device() == device_kind::cpu) {
      return std::make_unique<based_prefill_instance<float>>(impl_, problem_, device, seed);
    }
    return std::make_unique<based_prefill_instance<bf16>>(impl_, problem_, device, seed);
  }

 private:
  implementation<based_prefill> impl_;
  std::string variant_;  // problem_.variant points into it
  prefill_problem problem_;
};

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
  const std::vector<prefill_shape> shapes = shapes_of(options.sweep_of(device));
  const auto impls = implementations_of<based_prefill>(device, options.implementations);
  require_known_variants(options.variants, impls);
  for (const auto& impl : impls) {
    for (const std::string& variant : options.variants) {
      const bool has_variant =
          std::find(impl.variants.begin(), impl.variants.end(), variant) != impl.variants.end();
      if (!variant.empty() && !has_variant) continue;
      for (const std::string& option_text : options.options) {
        for (const prefill_shape& shape : shapes) {
          rows.push_back(std::make_unique<based_prefill_row>(impl, shape, option_text, variant));
        }
      }
    }
  }
  return rows;
}

}  // namespace based
