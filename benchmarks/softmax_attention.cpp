// The prefill study of softmax attention, whose rows stand beside Based's.
#include "kernels/attention/attention.h"

#include "baselines/reference/softmax_attention.h"
#include "benchmarks/studies.h"
#include "benchmarks/study.h"

namespace based {
namespace {

constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)

struct attention_study {
  using operation = softmax_attention;

  static std::vector<row_parameter> parameters(const attention_problem& problem) {
    return {{"B", problem.batch},
            {"H", problem.heads},
            {"N", problem.seqlen},
            {"Dh", problem.head_dim},
            {"causal", problem.causal ? 1 : 0}};
  }

  static std::vector<tensor_spec> tensors(const attention_problem& problem, element_type io) {
    using enum tensor_role;
    const std::int64_t count = problem.batch * problem.heads * problem.seqlen * problem.head_dim;
    return {{"q", input, io, count, qkv_stddev},
            {"k", input, io, count, qkv_stddev},
            {"v", input, io, count, qkv_stddev},
            {"o", output, io, count}};
  }

  static operation_work work(const attention_problem& problem) {
    const auto per_token = static_cast<double>(problem.heads) * problem.head_dim;
    const auto tokens = static_cast<double>(problem.batch * problem.seqlen);
    const double all_pairs = 4.0 * tokens * static_cast<double>(problem.seqlen) * per_token;
    const double flops = problem.causal ? all_pairs / 2 : all_pairs;
    return {.nominal_flops = flops,
            .least_flops = flops,
            .tokens = tokens,
            // The KV cache, in bf16, that a decoder would keep.
            .state_bytes = 2.0 * static_cast<double>(problem.seqlen) * per_token * sizeof(bf16)};
  }

  static void prepare(const attention_problem&, backend&, tensor_set&) {}

  template <class T>
  static attention_args<T> bind(const attention_problem& problem, const tensor_set& set) {
    const auto view = [&]<class U>(U* data) {
      return sequence_view<U>::bhnd(data, problem.heads, problem.seqlen, problem.head_dim);
    };
    return {.problem = problem,
            .q = view(set.data<const T>("q")),
            .k = view(set.data<const T>("k")),
            .v = view(set.data<const T>("v")),
            .o = view(set.data<T>("o"))};
  }

  template <class T>
  static verification compare(const attention_problem& problem, const tensor_reader<T>& tensors) {
    const int dim = problem.head_dim;
    const std::int64_t per_head = problem.seqlen * dim;
    const sampled_part part =
        sample_part(problem.batch * problem.heads, problem.seqlen, 4.0 * dim, tensors.seed());
    worst_error worst;
    std::vector<double> o(part.rows.size() * static_cast<std::size_t>(dim));
    for (const std::int64_t head : part.heads) {
      const auto of_head = [&](std::string_view name) {
        return tensors.get(name, head * per_head, per_head);
      };
      const auto q = of_head("q"), k = of_head("k"), v = of_head("v");
      reference::attention_rows({problem, q.data(), k.data(), v.data()}, part.rows, o);
      worst["o"].add_rows(of_head("o"), o, part.rows, dim);
    }
    return worst.found();
  }
};

}  // namespace

std::vector<std::unique_ptr<row>> softmax_attention_rows(device_kind device,
                                                         const suite_options& options) {
  std::vector<std::unique_ptr<row>> rows;
  for (const auto& impl : implementations_of<softmax_attention>(device, options.implementations)) {
    for (std::int64_t head_dim : options.head_dim) {
      for (bool causal : options.causal) {
        for (const prefill_shape& shape : shapes_of(options.sweep_of(device, phase::prefill))) {
          const attention_problem problem = {shape.batch, shape.heads, shape.seqlen,
                                             static_cast<int>(head_dim), causal};
          rows.push_back(std::make_unique<study_row<attention_study>>(impl, problem));
        }
      }
    }
  }
  return rows;
}

}  // namespace based
