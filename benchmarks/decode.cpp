// The decode study of Based: one step of the recurrent state.
#include "kernels/based/decode.h"

#include <set>

#include "baselines/reference/decode.h"
#include "benchmarks/based_options.h"
#include "benchmarks/studies.h"
#include "benchmarks/study.h"

namespace based {
namespace {

constexpr float qk_stddev = 0.25f;  // as in the prefill study
constexpr float v_stddev = 1.0f;
constexpr float state_stddev = 0.5f;
constexpr float earlier_tokens = 64;  // z[0]: keeps the denominator positive

struct decode_study {
  using operation = based_decode;

  static std::vector<row_parameter> parameters(const decode_problem& problem) {
    std::vector<row_parameter> parameters = {
        {"B", problem.batch},
        {"H", problem.heads},
        {"state", std::string(problem.state == state_type::bf16 ? "bf16" : "f32")}};
    if (problem.normalize) parameters.emplace_back("options", "normalize");
    return parameters;
  }

  static std::vector<tensor_spec> tensors(const decode_problem& problem, element_type io) {
    using enum tensor_role;
    const std::int64_t heads = problem.batch_heads();
    const std::int64_t rows = heads * state_rows(problem.layout);
    const element_type state =
        problem.state == state_type::bf16 ? element_type::bf16 : element_type::f32;
    std::vector<tensor_spec> tensors = {
        {"q", input, io, heads * query_dim(problem.layout), qk_stddev},
        {"k", input, io, heads * query_dim(problem.layout), qk_stddev},
        {"v", input, io, heads * value_dim, v_stddev},
        {"o", output, io, heads * value_dim},
        {"kv", updated, state, rows * value_dim, state_stddev}};
    if (problem.normalize) {
      tensors.push_back({"z", updated, element_type::f32, rows, state_stddev});
    }
    return tensors;
  }

  static operation_work work(const decode_problem& problem) {
    const auto heads = static_cast<double>(problem.batch_heads());
    return {.nominal_flops = heads * expanded_features * (2 + 4 * value_dim),
            .least_flops = heads * compact_features * 4.0 * value_dim,
            .tokens = static_cast<double>(problem.batch),
            .state_bytes = static_cast<double>(problem.kv_bytes() + problem.z_bytes()) /
                           static_cast<double>(problem.batch)};
  }

  /// A padded row's q and k are features, not random numbers; z counts tokens.
  static void prepare(const decode_problem& problem, backend& device, tensor_set& set) {
    if (float* z = set.data<float>("z")) {
      const std::int64_t rows = state_rows(problem.layout);
      for (std::int64_t head = 0; head < problem.batch_heads(); ++head) {
        device.upload(z + head * rows, &earlier_tokens, sizeof earlier_tokens);
      }
    }
    if (problem.layout == decode_layout::compact) return;
    for (const tensor_spec& spec : set.specs()) {
      const bool query = spec.name == "q";
      if (!query && spec.name != "k") continue;
      if (spec.type == element_type::f32) {
        upload_features<float>(problem, device, set.data<float>(spec.name), query);
      } else {
        upload_features<bf16>(problem, device, set.data<bf16>(spec.name), query);
      }
    }
  }

  template <class T>
  static decode_args<T> bind(const decode_problem& problem, const tensor_set& set) {
    const auto view = [&]<class U>(U* data, int dim) {
      return sequence_view<U>::bhnd(data, problem.heads, 1, dim);
    };
    const int dim = query_dim(problem.layout);
    return {.problem = problem,
            .q = view(set.data<const T>("q"), dim),
            .k = view(set.data<const T>("k"), dim),
            .v = view(set.data<const T>("v"), value_dim),
            .o = view(set.data<T>("o"), value_dim),
            .kv = set.data<std::byte>("kv"),
            .kv_bytes = set.elements<std::byte>("kv").size(),
            .z = set.data<float>("z"),
            .z_bytes = set.elements<std::byte>("z").size()};
  }

  template <class T>
  static verification compare(const decode_problem& problem, const tensor_reader<T>& tensors) {
    const int rows = state_rows(problem.layout), dim = query_dim(problem.layout);
    const std::int64_t per_state = std::int64_t{rows} * value_dim;
    const sampled_part part =
        sample_part(problem.batch_heads(), 1, 4.0 * static_cast<double>(per_state), tensors.seed());
    worst_error worst;
    for (const std::int64_t head : part.heads) {
      const auto q = tensors.get("q", head * dim, dim), k = tensors.get("k", head * dim, dim);
      const auto v = tensors.get("v", head * value_dim, value_dim);
      const auto kv = tensors.before("kv", head * per_state, per_state);
      auto z = tensors.before("z", head * rows, rows);
      z[0] = earlier_tokens;
      const reference::decode_result step = reference::decode_step(
          problem,
          {q.data(), k.data(), v.data(), kv.data(), problem.normalize ? z.data() : nullptr});
      worst["o"].add_all(tensors.get("o", head * value_dim, value_dim), step.o);
      worst["kv"].add_all(problem.state == state_type::bf16
                              ? tensors.template read<bf16>("kv", head * per_state, per_state)
                              : tensors.template read<float>("kv", head * per_state, per_state),
                          step.kv);
      if (problem.normalize) {
        worst["z"].add_all(tensors.template read<float>("z", head * rows, rows), step.z);
      }
    }
    return worst.found();
  }

 private:
  /// Replaces the first 16 random values of each head by the features of these values.
  template <class T>
  static void upload_features(const decode_problem& problem, backend& device, T* tensor,
                              bool query) {
    std::vector<T> values(static_cast<std::size_t>(problem.batch_heads()) * padded_features);
    device.download(values.data(), tensor, values.size() * sizeof(T));
    for (auto at = values.begin(); at != values.end(); at += padded_features) {
      float x[feature_dim];
      std::transform(at, at + feature_dim, x, [](T value) { return to_float(value); });
      const std::vector<float> features = query ? reference::padded_query_features(x, problem.scale)
                                                : reference::padded_key_features(x);
      std::transform(features.begin(), features.end(), at, from_float<T>);
    }
    device.upload(tensor, values.data(), values.size() * sizeof(T));
  }
};

/// The problem on the layout that the implementation takes.
decode_problem on_its_layout(const implementation<based_decode>& impl, decode_problem problem) {
  problem.layout = decode_layout::compact;
  if (impl.unsupported(problem)) problem.layout = decode_layout::padded;
  return problem;
}

}  // namespace

std::vector<std::unique_ptr<row>> based_decode_rows(device_kind device,
                                                    const suite_options& options) {
  std::set<bool> normalize;
  for (const std::string& text : options.options) {
    normalize.insert(parse_based_options(text).normalize);
  }
  std::vector<std::unique_ptr<row>> rows;
  for (const auto& impl : implementations_of<based_decode>(device, options.implementations)) {
    for (const bool normalized : normalize) {
      for (const std::string& state : options.state) {
        for (const prefill_shape& shape : shapes_of(options.sweep_of(device, phase::decode))) {
          const decode_problem problem =
              on_its_layout(impl, {.batch = shape.batch,
                                   .heads = shape.heads,
                                   .state = state == "bf16" ? state_type::bf16 : state_type::f32,
                                   .normalize = normalized});
          rows.push_back(std::make_unique<study_row<decode_study>>(impl, problem));
        }
      }
    }
  }
  return rows;
}

}  // namespace based
