// The sliding-window study: the next token's softmax attention over the last W tokens.
#include "kernels/sliding_window/sliding_window.h"

#include "baselines/reference/softmax_attention.h"
#include "benchmarks/studies.h"
#include "benchmarks/study.h"

namespace based {
namespace {

constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)
constexpr int usual_head_dim = 64;

struct window_study {
  using operation = window_decode;

  static std::vector<row_parameter> parameters(const window_problem& problem) {
    std::vector<row_parameter> parameters = {
        {"B", problem.batch}, {"H", problem.heads}, {"W", problem.window}};
    if (problem.head_dim != usual_head_dim) parameters.emplace_back("Dh", problem.head_dim);
    if (!problem.append) parameters.emplace_back("append", 0);
    return parameters;
  }

  static std::vector<tensor_spec> tensors(const window_problem& problem, element_type io) {
    using enum tensor_role;
    const std::int64_t token = problem.batch_heads() * problem.head_dim;
    std::vector<tensor_spec> tensors = {{"q", input, io, token, qkv_stddev},
                                        {"o", output, io, token},
                                        {"k_cache", input, io, token * problem.window, qkv_stddev},
                                        {"v_cache", input, io, token * problem.window, qkv_stddev}};
    if (problem.append) {
      tensors.push_back({"k", input, io, token, qkv_stddev});
      tensors.push_back({"v", input, io, token, qkv_stddev});
    }
    return tensors;
  }

  static operation_work work(const window_problem& problem) {
    const auto token = static_cast<double>(problem.batch_heads()) * problem.head_dim;
    const double flops = 4.0 * token * problem.window;
    return {.nominal_flops = flops,
            .least_flops = flops,
            .tokens = static_cast<double>(problem.batch),
            .state_bytes = 2.0 * static_cast<double>(problem.heads) * problem.head_dim *
                           problem.window * sizeof(bf16)};
  }

  static void prepare(const window_problem&, backend&, tensor_set&) {}

  template <class T>
  static window_args<T> bind(const window_problem& problem, const tensor_set& set) {
    const auto view = [&]<class U>(U* data) {
      return sequence_view<U>::bhnd(data, problem.heads, 1, problem.head_dim);
    };
    return {.problem = problem,
            .q = view(set.data<const T>("q")),
            .k = view(set.data<const T>("k")),
            .v = view(set.data<const T>("v")),
            .o = view(set.data<T>("o")),
            .k_cache = set.data<T>("k_cache"),
            .v_cache = set.data<T>("v_cache")};
  }

  /// Softmax takes the slots of the ring in any order: attention without a mask, over the cache as
  /// it must be after the call.
  template <class T>
  static verification compare(const window_problem& problem, const tensor_reader<T>& tensors) {
    const int dim = problem.head_dim;
    const std::int64_t ring = std::int64_t{problem.window} * dim;
    const sampled_part part =
        sample_part(problem.batch_heads(), 1, 4.0 * static_cast<double>(ring), tensors.seed());
    const std::int64_t only_row[] = {0};
    worst_error worst;
    std::vector<double> o(static_cast<std::size_t>(dim));
    for (const std::int64_t head : part.heads) {
      const auto of_token = [&](std::string_view name) {
        return tensors.get(name, head * dim, dim);
      };
      const auto cache = [&](std::string_view name, std::string_view appended) {
        std::vector<float> slots = tensors.before(name, head * ring, ring);
        if (problem.append) {
          const std::vector<float> token = of_token(appended);
          std::copy(token.begin(), token.end(), slots.begin() + problem.slot() * dim);
        }
        const std::vector<double> expected(slots.begin(), slots.end());
        worst[std::string(name)].add_all(tensors.get(name, head * ring, ring), expected);
        return slots;
      };
      const std::vector<float> k = cache("k_cache", "k"), v = cache("v_cache", "v");
      const std::vector<float> q = of_token("q");
      reference::attention_rows({problem.window, dim, false, q.data(), k.data(), v.data()},
                                only_row, o);
      worst["o"].add_all(of_token("o"), o);
    }
    return worst.found();
  }
};

}  // namespace

std::vector<std::unique_ptr<row>> sliding_window_rows(device_kind device,
                                                      const suite_options& options) {
  std::vector<std::unique_ptr<row>> rows;
  for (const auto& impl : implementations_of<window_decode>(device, options.implementations)) {
    for (const std::int64_t head_dim : options.head_dim) {
      for (const bool append : options.append) {
        for (const std::int64_t window : options.window) {
          for (const prefill_shape& shape : shapes_of(options.sweep_of(device, phase::decode))) {
            const window_problem problem = {.batch = shape.batch,
                                            .heads = shape.heads,
                                            .window = static_cast<int>(window),
                                            .head_dim = static_cast<int>(head_dim),
                                            // Full, and its next slot in the middle of the ring.
                                            .position = window + window / 2,
                                            .append = append};
            rows.push_back(std::make_unique<study_row<window_study>>(impl, problem));
          }
        }
      }
    }
  }
  return rows;
}

}  // namespace based
