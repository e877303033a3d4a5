// What the studies share. A study describes its operation by one struct:
//
//   struct my_study {
//     using operation = based_prefill;                      // has problem, args<T>, registry
//     static std::vector<row_parameter> parameters(const problem&);  // of the row's name
//     static std::vector<tensor_spec> tensors(const problem&, element_type io);
//     static operation_work work(const problem&);
//     static void prepare(const problem&, backend&, tensor_set&);    // beyond random inputs
//     template <class T> static args<T> bind(const problem&, const tensor_set&);
//     template <class T> static verification compare(const problem&, const tensor_reader<T>&);
//   };
//
// and study_row<my_study> makes a row of it: allocation, inputs, poisoned outputs, data sets.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite.h"
#include "benchmarks/harness/verify.h"
#include "kernels/based/prefill.h"

namespace based {

enum class tensor_role { input, output, updated };

/// One tensor of a row. Inputs and updated tensors are filled with near-normal random values, a
/// function of the seed and the tensor's name alone.
struct tensor_spec {
  std::string_view name;  ///< a literal, e.g. "q"
  tensor_role role;
  element_type type;
  std::int64_t count;
  float stddev = 0;

  std::size_t bytes() const {
    return static_cast<std::size_t>(count) * (type == element_type::f32 ? 4 : 2);
  }
  random_stream values(std::uint64_t seed) const {
    std::uint64_t id = 0;
    for (const char letter : name) id = mix64(id ^ static_cast<unsigned char>(letter));
    return {seed, id, stddev};
  }
};

/// What a problem costs whoever solves it.
struct operation_work {
  double nominal_flops;  ///< the sources' formula
  double least_flops;    ///< the fewest known to suffice
  double tokens;         ///< B * N
  double state_bytes;    ///< recurrent state per sequence; 0: none
};

/// One data set of a row: its tensors by name, and the workspace.
class tensor_set {
 public:
  tensor_set(backend& device, const std::vector<tensor_spec>& specs, std::size_t workspace_bytes)
      : specs_(specs), workspace_(device.allocate(workspace_bytes)) {
    for (const tensor_spec& spec : specs_) memories_.push_back(device.allocate(spec.bytes()));
  }

  const std::vector<tensor_spec>& specs() const { return specs_; }
  const memory& operator[](std::size_t i) const { return memories_[i]; }
  const memory& workspace() const { return workspace_; }

  /// Empty if the row has no such tensor.
  template <class T>
  std::span<T> elements(std::string_view name) const {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].name == name) return memories_[i].elements<T>();
    }
    return {};
  }
  /// Null if the row has no such tensor.
  template <class T>
  T* data(std::string_view name) const {
    return elements<T>(name).data();
  }

 private:
  std::vector<tensor_spec> specs_;
  std::vector<memory> memories_;
  memory workspace_;
};

/// Reads parts of a data set back as fp32, for the comparison with the reference.
template <class T>
class tensor_reader {
 public:
  tensor_reader(backend& device, const tensor_set& set, std::uint64_t seed)
      : device_(device), set_(set), seed_(seed) {}

  std::uint64_t seed() const { return seed_; }

  /// `count` elements of a T tensor from `offset`; empty if the row has no such tensor.
  std::vector<float> get(std::string_view name, std::int64_t offset, std::int64_t count) const {
    return read<T>(name, offset, count);
  }
  /// The same of a tensor of another element type, such as an fp32 state.
  template <class U>
  std::vector<float> read(std::string_view name, std::int64_t offset, std::int64_t count) const {
    const U* tensor = set_.data<const U>(name);
    if (tensor == nullptr) return {};
    std::vector<U> raw(static_cast<std::size_t>(count));
    device_.download(raw.data(), tensor + offset, raw.size() * sizeof(U));
    std::vector<float> values(raw.size());
    std::transform(raw.begin(), raw.end(), values.begin(), [](U value) { return to_float(value); });
    return values;
  }
  /// What an updated tensor held before the call.
  std::vector<float> before(std::string_view name, std::int64_t offset, std::int64_t count) const {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (const tensor_spec& spec : set_.specs()) {
      if (spec.name != name) continue;
      const random_stream stream = spec.values(seed_);
      for (std::int64_t i = 0; i < count; ++i) {
        values[static_cast<std::size_t>(i)] = stream(offset + i);
      }
    }
    return values;
  }

 private:
  backend& device_;
  const tensor_set& set_;
  std::uint64_t seed_;
};

/// Calls an implementation for element type T, on the backend's stream where that is a GPU.
template <class T, class Op>
void call(const implementation<Op>& called, const typename Op::template args<T>& args,
          const backend& device) {
  if constexpr (std::is_same_v<T, float>) {
    called(args);
  } else {
    called(args, device.stream());
  }
}

template <class Study, class T>
class study_instance final : public row_instance {
 public:
  using operation = typename Study::operation;
  using problem = typename operation::problem;

  study_instance(const implementation<operation>& impl, const problem& solved, backend& device,
                 std::uint64_t seed)
      : impl_(impl), problem_(solved), device_(device), seed_(seed) {
    tensor_set& first = add_set();
    for (std::size_t i = 0; i < first.specs().size(); ++i) {
      const tensor_spec& spec = first.specs()[i];
      if (spec.role == tensor_role::output) continue;
      device.fill(first[i].data(), spec.type, spec.count, spec.values(seed));
    }
    Study::prepare(problem_, device, first);
  }

  void launch(int set) override { call<T>(impl_, args_[static_cast<std::size_t>(set)], device_); }

  bool replicate(int sets) override {
    std::size_t each = sets_.front().workspace().bytes();
    for (const tensor_spec& spec : sets_.front().specs()) each += spec.bytes();
    if (static_cast<double>(each) * (sets - 1) > static_cast<double>(device_.free_bytes())) {
      return false;
    }
    while (static_cast<int>(sets_.size()) < sets) {
      add_set();
      const tensor_set &first = sets_.front(), &next = sets_.back();
      for (std::size_t i = 0; i < first.specs().size(); ++i) {
        if (first.specs()[i].role == tensor_role::output) continue;
        device_.copy(next[i].data(), first[i].data(), first[i].bytes());
      }
    }
    return true;
  }

  verification verify() override {
    const tensor_set& set = sets_.front();
    const auto poison = [&](const memory& tensor) {
      if (tensor.bytes() > 0) device_.poison(tensor.data(), tensor.bytes());
    };
    poison(set.workspace());
    for (std::size_t i = 0; i < set.specs().size(); ++i) {
      if (set.specs()[i].role == tensor_role::output) poison(set[i]);
    }
    launch(0);
    device_.synchronize();
    for (std::size_t i = 0; i < set.specs().size(); ++i) {
      const tensor_spec& spec = set.specs()[i];
      if (spec.role == tensor_role::input) continue;
      if (const auto bad = device_.count_nonfinite(set[i].data(), spec.type, spec.count)) {
        return {.relative_error = NAN, .nonfinite = bad, .where = std::string(spec.name)};
      }
    }
    return Study::template compare<T>(problem_, tensor_reader<T>(device_, set, seed_));
  }

 private:
  tensor_set& add_set() {
    const std::size_t workspace = impl_.workspace_bytes(problem_);
    sets_.emplace_back(device_, Study::tensors(problem_, element_of<T>), workspace);
    auto args = Study::template bind<T>(problem_, sets_.back());
    args.workspace = sets_.back().workspace().data();
    args.workspace_bytes = workspace;
    args_.push_back(args);
    return sets_.back();
  }

  const implementation<operation>& impl_;
  problem problem_;
  backend& device_;
  std::uint64_t seed_;
  std::vector<tensor_set> sets_;
  std::vector<typename operation::template args<T>> args_;
};

template <class Study>
class study_row final : public row {
 public:
  using operation = typename Study::operation;
  using problem = typename operation::problem;

  study_row(const implementation<operation>& impl, const problem& solved)
      : row(make_spec(impl, solved)), impl_(impl), problem_(solved) {}

  std::unique_ptr<row_instance> prepare(backend& device, std::uint64_t seed) const override {
    if (impl_.device() == device_kind::cpu) {
      return std::make_unique<study_instance<Study, float>>(impl_, problem_, device, seed);
    }
    return std::make_unique<study_instance<Study, bf16>>(impl_, problem_, device, seed);
  }

 private:
  static row_spec make_spec(const implementation<operation>& impl, const problem& solved) {
    row_spec spec = {.operation = std::string(operation::name),
                     .implementation = std::string(impl.name),
                     .device = impl.device(),
                     .parameters = Study::parameters(solved),
                     .work = {},
                     .tolerance = impl.tolerance,
                     .unsupported = impl.unsupported(solved),
                     .label = ""};
    if (spec.unsupported) return spec;
    const element_type io =
        impl.device() == device_kind::cpu ? element_type::f32 : element_type::bf16;
    const operation_work work = Study::work(solved);
    spec.work = {.nominal_flops = work.nominal_flops,
                 .executed_flops = impl.executed_flops(solved),
                 .least_flops = work.least_flops,
                 .compulsory_bytes = 0,
                 .tokens = work.tokens,
                 .tensor_bytes = 0,
                 .workspace_bytes = impl.workspace_bytes(solved),
                 .state_bytes = work.state_bytes};
    for (const tensor_spec& tensor : Study::tensors(solved, io)) {
      spec.work.tensor_bytes += tensor.bytes();
      const int passes = tensor.role == tensor_role::updated ? 2 : 1;  // read and written
      spec.work.compulsory_bytes += static_cast<double>(tensor.bytes()) * passes;
    }
    if (impl.variant != nullptr) spec.label = impl.variant(solved);
    return spec;
  }

  implementation<operation> impl_;
  problem problem_;
};

/// The registered implementations of Op on a device that the command line selects, `based` first
/// and the others by name.
template <class Op>
std::vector<implementation<Op>> implementations_of(device_kind device,
                                                   const std::vector<std::string>& names) {
  std::vector<implementation<Op>> chosen;
  for (const implementation<Op>& each : registry<Op>()) {
    if (each.device() == device && selected(each.name, names)) chosen.push_back(each);
  }
  std::sort(chosen.begin(), chosen.end(), [](const auto& a, const auto& b) {
    return std::pair(a.name != "based", a.name) < std::pair(b.name != "based", b.name);
  });
  return chosen;
}

/// The product of a sweep's axes, the sequence length running fastest.
inline std::vector<prefill_shape> shapes_of(const sweep& axes) {
  std::vector<prefill_shape> shapes;
  for (std::int64_t batch : axes.batch) {
    for (std::int64_t heads : axes.heads) {
      for (std::int64_t seqlen : axes.seqlen) shapes.push_back({batch, heads, seqlen});
    }
  }
  return shapes;
}

}  // namespace based
