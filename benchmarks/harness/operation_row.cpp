#include "benchmarks/harness/operation_row.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace based {
namespace {

/// One data set of a row: its tensors, in the order of their specs, and the workspace.
struct data_set {
  std::vector<memory> tensors;
  memory workspace;
  bound_call call;
  std::function<void()> replayed = {};  ///< the call as it is timed, where it is replayed
};

/// The tensors of a data set, and what they held before the first call.
class data_set_access final : public tensor_access {
 public:
  data_set_access(backend& device, const std::vector<tensor_spec>& specs,
                  const std::vector<memory>& tensors, std::uint64_t seed)
      : device_(device), specs_(specs), tensors_(tensors), seed_(seed) {}

  std::vector<float> get(std::string_view name, std::int64_t offset,
                         std::int64_t count) const override {
    const std::size_t i = index(name);
    if (i == specs_.size()) return {};
    std::vector<float> values(static_cast<std::size_t>(count));
    with_type_of(specs_[i].type, [&]<class T>(std::type_identity<T>) {
      std::vector<T> raw(values.size());
      device_.download(raw.data(), tensors_[i].template data<T>() + offset, raw.size() * sizeof(T));
      std::transform(raw.begin(), raw.end(), values.begin(), [](T each) { return to_float(each); });
    });
    return values;
  }

  std::vector<float> before(std::string_view name, std::int64_t offset,
                            std::int64_t count) const override {
    const std::size_t i = index(name);
    if (i == specs_.size()) return {};
    const random_stream stream = specs_[i].values(seed_);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::int64_t e = 0; e < count; ++e) {
      values[static_cast<std::size_t>(e)] = stream(offset + e);
    }
    const auto of_tensor = arranged_.find(name);
    if (of_tensor == arranged_.end()) return values;
    for (const auto& [begin, put] : of_tensor->second) {
      for (std::size_t p = 0; p < put.size(); ++p) {
        const std::int64_t at = begin + static_cast<std::int64_t>(p) - offset;
        if (at >= 0 && at < count) values[static_cast<std::size_t>(at)] = put[p];
      }
    }
    return values;
  }

  void put(std::string_view name, std::int64_t offset, std::span<const float> values) override {
    const std::size_t i = index(name);
    if (i == specs_.size()) return;
    with_type_of(specs_[i].type, [&]<class T>(std::type_identity<T>) {
      std::vector<T> raw(values.size());
      std::transform(values.begin(), values.end(), raw.begin(), from_float<T>);
      device_.upload(tensors_[i].template data<T>() + offset, raw.data(), raw.size() * sizeof(T));
    });
    if (specs_[i].role != tensor_role::input) {
      arranged_[specs_[i].name].emplace_back(offset,
                                             std::vector<float>(values.begin(), values.end()));
    }
  }

 private:
  std::size_t index(std::string_view name) const {
    const auto found = std::ranges::find(specs_, name, &tensor_spec::name);
    return static_cast<std::size_t>(found - specs_.begin());
  }

  backend& device_;
  const std::vector<tensor_spec>& specs_;
  const std::vector<memory>& tensors_;
  std::uint64_t seed_;
  /// What put() wrote to tensors that a call changes: offsets and values.
  std::map<std::string_view, std::vector<std::pair<std::int64_t, std::vector<float>>>> arranged_;
};

class operation_instance final : public row_instance {
 public:
  operation_instance(const operation_case& solved, backend& device, std::uint64_t seed)
      : case_(solved), device_(device), specs_(solved.tensors()), seed_(seed) {
    data_set& first = add_set();
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].role == tensor_role::output) continue;
      device.fill(first.tensors[i].data(), specs_[i].type, specs_[i].count(),
                  specs_[i].values(seed));
    }
    access_ = std::make_unique<data_set_access>(device, specs_, first_tensors(), seed);
    case_.arrange(*access_);
    bind(first);
  }

  void launch(int set) override {
    const data_set& called = *sets_[static_cast<std::size_t>(set)];
    called.replayed ? called.replayed() : called.call.launch(device_.stream());
  }
  std::size_t own_bytes() const override { return sets_.front()->call.own_bytes; }
  std::string queued() const override { return sets_.front()->call.queued; }
  bool capturable() const override {
    return sets_.front()->call.capturable && !case_.is_replayed();  // no graph is part of another
  }

  bool replicate(int sets) override {
    auto each = static_cast<double>(sets_.front()->workspace.bytes());
    for (const tensor_spec& spec : specs_) each += spec.real_bytes();
    each += static_cast<double>(own_bytes());
    if (each * (sets - 1) > static_cast<double>(device_.free_bytes())) {
      return false;
    }
    while (static_cast<int>(sets_.size()) < sets) {
      data_set& next = add_set();
      for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (specs_[i].role == tensor_role::output) continue;
        device_.copy(next.tensors[i].data(), first_tensors()[i].data(), specs_[i].bytes());
      }
      bind(next);
    }
    return true;
  }

  verification verify() override {
    const auto is_updated = [](const tensor_spec& spec) {
      return spec.role != tensor_role::input && spec.role != tensor_role::output;
    };
    // What is counted may be time, of which a first call spends some on loading code.
    if (case_.has_counts() && std::ranges::none_of(specs_, is_updated)) launch(0);
    const auto poison = [&](const memory& tensor) {
      if (tensor.bytes() > 0) device_.poison(tensor.data(), tensor.bytes());
    };
    poison(sets_.front()->workspace);
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].role == tensor_role::output) poison(first_tensors()[i]);
    }
    case_.take_counts();
    launch(0);
    if (const auto& deliver = sets_.front()->call.deliver) deliver(device_.stream());
    device_.synchronize();
    const std::vector<named_count> counts = case_.take_counts();
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].role == tensor_role::input || specs_[i].may_be_infinite) continue;
      if (const auto bad = device_.count_nonfinite(first_tensors()[i].data(), specs_[i].type,
                                                   specs_[i].count())) {
        return {.relative_error = NAN, .nonfinite = bad, .where = std::string(specs_[i].name)};
      }
    }
    if (case_.is_replayed()) record_first();
    verification verified = case_.compare(*access_, {.seed = seed_});
    verified.counts = counts;
    return verified;
  }

 private:
  /// After a call, for the first one of all may set up what no recording can.
  void record_first() {
    data_set& first = *sets_.front();
    first.replayed = device_.recorded([this, &first] { first.call.launch(device_.stream()); });
  }

  const std::vector<memory>& first_tensors() const { return sets_.front()->tensors; }

  data_set& add_set() {
    auto set = std::make_unique<data_set>();
    set->workspace = device_.allocate(case_.workspace_bytes());
    for (const tensor_spec& spec : specs_) set->tensors.push_back(device_.allocate(spec.bytes()));
    sets_.push_back(std::move(set));
    return *sets_.back();
  }

  /// Once the set's tensors are filled.
  void bind(data_set& set) {
    placed_tensors placed;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      placed.place(specs_[i].name, {set.tensors[i].data(), specs_[i].bytes(),
                                    packed_strides(specs_[i], sequence_order::bhnd)});
    }
    device_.synchronize();
    set.call =
        case_.bind_timed(placed, set.workspace.data(), case_.workspace_bytes(), device_.stream());
  }

  const operation_case& case_;
  backend& device_;
  std::vector<tensor_spec> specs_;
  std::uint64_t seed_;
  std::vector<std::unique_ptr<data_set>> sets_;
  std::unique_ptr<data_set_access> access_;
};

row_spec spec_of(std::string_view operation, const implementation_info& implementation,
                 const operation_case& solved) {
  row_spec spec = {.operation = std::string(operation),
                   .implementation = std::string(implementation.name),
                   .device = implementation.device,
                   .parameters = solved.parameters(),
                   .work = {},
                   .tolerance = implementation.tolerance,
                   .unsupported = solved.unsupported(),
                   .label = "",
                   .role = implementation.role,
                   .reimplements = implementation.reimplements,
                   .version = std::string(implementation.version)};
  if (spec.unsupported) return spec;
  const operation_work work = solved.work();
  spec.work = {.nominal_flops = work.nominal_flops,
               .executed_flops = solved.executed_flops(),
               .least_flops = work.least_flops,
               .compulsory_bytes = 0,
               .tokens = work.tokens,
               .tensor_bytes = 0,
               .workspace_bytes = solved.workspace_bytes(),
               .state_bytes = work.state_bytes};
  for (const tensor_spec& tensor : solved.tensors()) {
    spec.work.tensor_bytes += tensor.real_bytes();
    const int passes = tensor.role == tensor_role::updated ? 2 : 1;  // read and written
    spec.work.compulsory_bytes += tensor.real_bytes() * passes;
  }
  spec.label = solved.variant();
  return spec;
}

}  // namespace

operation_row::operation_row(std::string_view operation, const implementation_info& implementation,
                             std::shared_ptr<const operation_case> solved)
    : row(spec_of(operation, implementation, *solved)), case_(std::move(solved)) {}

std::unique_ptr<row_instance> operation_row::prepare(backend& device, std::uint64_t seed) const {
  return std::make_unique<operation_instance>(*case_, device, seed);
}

}  // namespace based
