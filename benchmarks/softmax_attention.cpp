#include <fmt/format.h>

#include <algorithm>

#include "baselines/reference/softmax_attention.h"
#include "benchmarks/prefill.h"
#include "benchmarks/study.h"
#include "kernels/common/softmax_attention.h"

namespace based {
namespace {

constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)

row_work attention_work(const implementation<softmax_attention>& impl,
                        const attention_problem& problem) {
  const std::int64_t tokens = problem.batch * problem.heads * problem.seqlen;
  const std::size_t element = impl.device() == device_kind::cpu ? sizeof(float) : sizeof(bf16);
  const std::size_t tensor = static_cast<std::size_t>(tokens * problem.head_dim) * element;
  const double all_pairs =
      4.0 * static_cast<double>(tokens) * static_cast<double>(problem.seqlen) * problem.head_dim;
  const double flops = problem.causal ? all_pairs / 2 : all_pairs;
  return {.nominal_flops = flops,
          .executed_flops = impl.executed_flops(problem),
          .least_flops = flops,
          .compulsory_bytes = 4.0 * static_cast<double>(tensor),
          .tokens = static_cast<double>(problem.batch * problem.seqlen),
          .tensor_bytes = 4 * tensor,
          .workspace_bytes = impl.workspace_bytes(problem),
          // The KV cache that a decoder would keep.
          .state_bytes = 2.0 * static_cast<double>(tensor) / static_cast<double>(problem.batch)};
}

template <class T>
class attention_instance final : public row_instance {
 public:
  attention_instance(const implementation<softmax_attention>& impl,
                     const attention_problem& problem, backend& device, std::uint64_t seed)
      : impl_(impl), problem_(problem), device_(device), seed_(seed) {
    const std::int64_t count = problem.batch * problem.heads * problem.seqlen * problem.head_dim;
    data_set first;
    first.q = random_tensor<T>(device, count, seed, tensor_id::q, qkv_stddev);
    first.k = random_tensor<T>(device, count, seed, tensor_id::k, qkv_stddev);
    first.v = random_tensor<T>(device, count, seed, tensor_id::v, qkv_stddev);
    add_set(std::move(first));
  }

  void launch(int set) override {
    call<T>(impl_, sets_[static_cast<std::size_t>(set)].args, device_);
  }

  bool replicate(int sets) override {
    const data_set& made = sets_.front();
    const double each =
        4.0 * static_cast<double>(made.q.bytes()) + static_cast<double>(made.workspace.bytes());
    if (each * (sets - 1) > static_cast<double>(device_.free_bytes())) return false;
    sets_.reserve(static_cast<std::size_t>(sets));
    while (static_cast<int>(sets_.size()) < sets) {
      data_set next;
      next.q = duplicate(device_, sets_.front().q);
      next.k = duplicate(device_, sets_.front().k);
      next.v = duplicate(device_, sets_.front().v);
      add_set(std::move(next));
    }
    return true;
  }

  verification verify() override {
    data_set& set = sets_.front();
    device_.poison(set.o.data(), set.o.bytes());
    if (set.workspace.bytes() > 0) device_.poison(set.workspace.data(), set.workspace.bytes());
    launch(0);
    device_.synchronize();
    const auto outputs = static_cast<std::int64_t>(set.o.bytes() / sizeof(T));
    if (const auto bad = device_.count_nonfinite(set.o.data(), element_of<T>, outputs)) {
      return {.relative_error = NAN, .nonfinite = bad, .where = "o"};
    }
    const int dim = problem_.head_dim;
    const std::int64_t per_head = problem_.seqlen * dim;
    const sampled_part part =
        sample_part(problem_.batch * problem_.heads, problem_.seqlen, 4.0 * dim, seed_);
    error_norm error;
    std::vector<double> o(part.rows.size() * static_cast<std::size_t>(dim));
    for (const std::int64_t head : part.heads) {
      const auto of_head = [&](const memory& tensor) {
        return fetch(device_, tensor.template data<T>(), head * per_head, per_head);
      };
      const auto q = of_head(set.q), k = of_head(set.k), v = of_head(set.v), got = of_head(set.o);
      reference::attention_rows(
          {problem_.seqlen, dim, problem_.causal, q.data(), k.data(), v.data()}, part.rows, o);
      for (std::size_t i = 0; i < o.size(); ++i) {
        const std::size_t row = i / static_cast<std::size_t>(dim);
        const auto at = static_cast<std::size_t>(part.rows[row] * dim) + i % dim;
        error.add(got[at], o[i]);
      }
    }
    return {.relative_error = error.relative(), .nonfinite = 0, .where = "o"};
  }

 private:
  struct data_set {
    memory q, k, v, o;  // [B,H,N,Dh]
    memory workspace;
    attention_args<T> args;
  };

  /// Allocates the output and workspace of a set whose inputs are there, and takes it in.
  void add_set(data_set set) {
    set.o = device_.allocate(set.q.bytes());
    const std::size_t workspace = impl_.workspace_bytes(problem_);
    set.workspace = device_.allocate(workspace);
    const auto view = [&]<class U>(U* data) {
      return sequence_view<U>::bhnd(data, problem_.heads, problem_.seqlen, problem_.head_dim);
    };
    set.args = {.problem = problem_,
                .q = view(set.q.template data<const T>()),
                .k = view(set.k.template data<const T>()),
                .v = view(set.v.template data<const T>()),
                .o = view(set.o.template data<T>()),
                .workspace = set.workspace.data(),
                .workspace_bytes = workspace};
    sets_.push_back(std::move(set));
  }

  const implementation<softmax_attention>& impl_;
  attention_problem problem_;
  backend& device_;
  std::uint64_t seed_;
  std::vector<data_set> sets_;
};

row_spec attention_spec(const implementation<softmax_attention>& impl,
                        const attention_problem& problem) {
  row_spec spec = {.operation = std::string(softmax_attention::name),
                   .implementation = std::string(impl.name),
                   .device = impl.device(),
                   .parameters = {{"B", problem.batch},
                                  {"H", problem.heads},
                                  {"N", problem.seqlen},
                                  {"Dh", problem.head_dim},
                                  {"causal", problem.causal ? 1 : 0}},
                   .work = {},
                   .tolerance = impl.tolerance,
                   .unsupported = impl.unsupported(problem),
                   .label = ""};
  if (!spec.unsupported) spec.work = attention_work(impl, problem);
  return spec;
}

class attention_row final : public row {
 public:
  attention_row(const implementation<softmax_attention>& impl, const attention_problem& problem)
      : row(attention_spec(impl, problem)), impl_(impl), problem_(problem) {}

  std::unique_ptr<row_instance> prepare(backend& device, std::uint64_t seed) const override {
    if (impl_.device() == device_kind::cpu) {
      return std::make_unique<attention_instance<float>>(impl_, problem_, device, seed);
    }
    return std::make_unique<attention_instance<bf16>>(impl_, problem_, device, seed);
  }

 private:
  implementation<softmax_attention> impl_;
  attention_problem problem_;
};

}  // namespace

std::vector<std::unique_ptr<row>> softmax_attention_rows(device_kind device,
                                                         const suite_options& options) {
  std::vector<std::unique_ptr<row>> rows;
  for (const auto& impl : implementations_of<softmax_attention>(device, options.implementations)) {
    for (std::int64_t head_dim : options.head_dim) {
      for (bool causal : options.causal) {
        for (const prefill_shape& shape : shapes_of(options.sweep_of(device))) {
          const attention_problem problem = {shape.batch, shape.heads, shape.seqlen,
                                             static_cast<int>(head_dim), causal};
          rows.push_back(std::make_unique<attention_row>(impl, problem));
        }
      }
    }
  }
  return rows;
}

}  // namespace based
