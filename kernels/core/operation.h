// The one description of an operation. From it follow the command line, the rows and their names,
// the parameters in results files, the tests of every implementation, case files, and whatever
// else has to know what an operation's tensors and options are.
//
// An operation is a struct with these members, in a header of its own:
//
//   struct my_operation {
//     static constexpr std::string_view name = "mine";     // the first part of a row's name
//     using problem = ...;                                 // shape and options, no pointers
//     template <class T> using args = ...;                 // the problem and its tensors
//     static std::vector<axis<problem>> axes();            // what a sweep may vary
//     static std::vector<tensor_spec> tensors(const problem&, element_type io);
//     static operation_work work(const problem&);
//     template <class T> static args<T> bind(const problem&, const placed_tensors&);
//     static void arrange(const problem&, tensor_access&); // inputs that are not plain random
//     static verification compare(const problem&, const tensor_access&, const sampling&);
//     static constexpr bool is_replayed = true;            // if calls are many launches: a graph
//   };
//
// `arrange` and `compare` are defined beside the float64 reference (baselines/reference), together
// with one object that makes the operation known:
//
//   const operation_registration<my_operation> registered;
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/core/element_type.h"
#include "kernels/core/implementation.h"
#include "kernels/core/random.h"
#include "kernels/core/tensor_view.h"

namespace based {

// Axes.

/// A value on an axis, as a row's name and its JSON parameters have it.
using axis_value = std::variant<std::int64_t, double, std::string>;
std::string to_string(const axis_value& value);

/// What values an axis has.
struct axis_domain {
  enum class kind {
    whole_number,  ///< `least` and more
    real_number,
    choice,  ///< one of `names`
    options  ///< "none", "all", or some of `names` joined by +
  };
  kind of = kind::whole_number;
  std::int64_t least = 1;
  std::vector<std::string> names = {};
  /// For a choice that has more values than are known beforehand: the name of the one that a text
  /// means; nothing where it means none. May throw invalid_argument.
  std::function<std::optional<std::string>(std::string_view text)> open = {};

  /// The axis's value from the text that the user types. Throws invalid_argument, naming `flag`,
  /// the text and what is allowed.
  axis_value parse(std::string_view flag, std::string_view text) const;
};

struct axis_info {
  std::string_view flag;   ///< on the command line, e.g. "seqlen": --seqlen
  std::string_view label;  ///< in a row's name and parameters, e.g. "N"
  std::string_view help;   ///< what it is, for --help
  /// The default sweep of a device, in the command line's syntax: lists and ranges. Empty: the
  /// problem's own default, one value.
  std::string_view cpu = {}, cuda = {};
  /// What the tests try beside that default, in the same syntax: where something may go wrong.
  std::string_view tested = {};
  /// The problem's own default, which operation::axes() fills in.
  std::optional<axis_value> own = {};
  /// The value that a row's name leaves out.
  std::optional<axis_value> usual = {};
  axis_domain domain = {};
};

template <class Problem>
struct axis : axis_info {
  std::function<void(Problem&, const axis_value&)> set;
  std::function<axis_value(const Problem&)> get;
};

/// An axis of whole numbers; access(problem) is the problem's member.
template <class Problem, class Access>
axis<Problem> number_axis(axis_info info, Access access) {
  return {info,
          [access](Problem& problem, const axis_value& value) {
            auto& member = access(problem);
            member = static_cast<std::remove_reference_t<decltype(member)>>(
                std::get<std::int64_t>(value));
          },
          [access](const Problem& problem) {
            return axis_value(static_cast<std::int64_t>(access(problem)));
          }};
}

/// An axis of real numbers.
template <class Problem, class Access>
axis<Problem> real_axis(axis_info info, Access access) {
  info.domain.of = axis_domain::kind::real_number;
  return {info,
          [access](Problem& problem, const axis_value& value) {
            access(problem) = static_cast<float>(std::get<double>(value));
          },
          [access](const Problem& problem) { return axis_value(double{access(problem)}); }};
}

/// An axis of named values. A name that is a whole number is one in a row's parameters.
template <class Problem, class Value, class Access>
axis<Problem> choice_axis(axis_info info, std::vector<std::pair<std::string, Value>> values,
                          Access access) {
  info.domain.of = axis_domain::kind::choice;
  for (const auto& [name, value] : values) info.domain.names.push_back(name);
  const axis_domain domain = info.domain;
  return {info,
          [access, values](Problem& problem, const axis_value& chosen) {
            for (const auto& [name, value] : values) {
              if (name == to_string(chosen)) access(problem) = value;
            }
          },
          [access, values, domain](const Problem& problem) {
            for (const auto& [name, value] : values) {
              if (value == access(problem)) return domain.parse("", name);
            }
            return axis_value(std::string("?"));
          }};
}

/// An axis of switches that can be on together: names and accessors of bools.
template <class Problem>
axis<Problem> options_axis(
    axis_info info, std::vector<std::pair<std::string, std::function<bool&(Problem&)>>> switches) {
  info.domain.of = axis_domain::kind::options;
  for (const auto& [name, access] : switches) info.domain.names.push_back(name);
  info.usual = std::string("none");
  return {info,
          [switches](Problem& problem, const axis_value& chosen) {
            const std::string on = "+" + std::get<std::string>(chosen) + "+";
            for (const auto& [name, access] : switches) {
              access(problem) = on.find("+" + name + "+") != std::string::npos;
            }
          },
          [switches](const Problem& problem) {
            Problem copy = problem;
            std::string text;
            for (const auto& [name, access] : switches) {
              if (access(copy)) text += (text.empty() ? "" : "+") + name;
            }
            return axis_value(text.empty() ? "none" : text);
          }};
}

// Tensors.

enum class tensor_role {
  input,
  output,
  updated,  ///< read and written whole
  appended  ///< read whole, and a small part of it written
};
constexpr std::string_view to_string(tensor_role role) {
  constexpr std::string_view names[] = {"input", "output", "updated", "appended"};
  return names[static_cast<int>(role)];
}

inline constexpr int most_dimensions = 4;
/// The most elements of a tensor: its bytes are still a number of 63 bits, whatever its type.
inline constexpr std::int64_t most_elements = std::int64_t{1} << 60;

/// The ends of a log-uniform distribution, of one sign, the lesser magnitude first: {1e-3, 0.1},
/// {-1, -16}.
struct log_uniform_range {
  float least = 0, largest = 0;
};

/// One tensor of a problem. Inputs and updated tensors are filled with random values, a function of
/// the seed and the tensor's name alone: near-normal with mean 0, log-uniform, or uniform indices.
struct tensor_spec {
  std::string_view name;  ///< a literal, e.g. "q"
  tensor_role role;
  element_type type;
  std::vector<std::int64_t> shape;  ///< at most most_dimensions
  float stddev = 0;
  /// [B, H, N, D], of which B, H and N may have any strides. All else is contiguous.
  bool is_sequence = false;
  bool may_be_infinite = false;  ///< of an output: infinities in it are no fault
  /// For a sequence: [B, C, N, 1] with N contiguous, as those who scan along it have it; B and C
  /// may have any strides, which need not be aligned.
  bool is_along_time = false;
  /// Where its ends are not 0: the values' distribution, in the place of the normal one.
  log_uniform_range log_uniform = {};
  /// For indices, which are 0 .. below - 1.
  std::int32_t below = 0;

  /// Elements; most_elements where there are more, as no memory holds.
  std::int64_t count() const;
  /// What count() would be without a limit, in bytes.
  double real_bytes() const;
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * bytes_of(type); }
  random_stream values(std::uint64_t seed) const;
};

/// The two orders in the wild of the dimensions of a sequence.
enum class sequence_order { bhnd, bnhd };

/// Where a tensor lies; strides count elements, one a dimension of its shape.
struct placed_tensor {
  void* data = nullptr;
  std::size_t bytes = 0;
  std::array<std::int64_t, most_dimensions> strides = {};
};

/// The strides of a tensor without gaps.
std::array<std::int64_t, most_dimensions> packed_strides(const tensor_spec& spec,
                                                         sequence_order order);

/// The tensors of one call, by name. A call has few, so that a list is searched fastest.
class placed_tensors {
 public:
  /// `name` must outlive the tensors; each is placed once.
  void place(std::string_view name, const placed_tensor& tensor) {
    tensors_.emplace_back(name, tensor);
  }

  /// Null data if there is no such tensor.
  template <class T>
  sequence_view<T> sequence(std::string_view name) const {
    const placed_tensor tensor = find(name);
    return {static_cast<T*>(tensor.data), tensor.strides[0], tensor.strides[1], tensor.strides[2]};
  }
  /// Empty if there is no such tensor.
  template <class T>
  std::span<T> elements(std::string_view name) const {
    const placed_tensor tensor = find(name);
    return {static_cast<T*>(tensor.data), tensor.bytes / sizeof(T)};
  }

  placed_tensor find(std::string_view name) const {
    for (const auto& [placed_name, tensor] : tensors_) {
      if (placed_name == name) return tensor;
    }
    return {};
  }

 private:
  std::vector<std::pair<std::string_view, placed_tensor>> tensors_;
};

/// Reads and writes parts of a call's tensors, as fp32, elements in the order of the shape.
class tensor_access {
 public:
  virtual ~tensor_access() = default;
  /// `count` elements from `offset`; empty if there is no such tensor.
  virtual std::vector<float> get(std::string_view name, std::int64_t offset,
                                 std::int64_t count) const = 0;
  /// What a tensor that is not an output held before the call.
  virtual std::vector<float> before(std::string_view name, std::int64_t offset,
                                    std::int64_t count) const = 0;
  virtual void put(std::string_view name, std::int64_t offset, std::span<const float> values) = 0;
};

// Work and verification.

/// What a problem costs whoever solves it.
struct operation_work {
  double nominal_flops;  ///< the sources' formula
  double least_flops;    ///< the fewest known to suffice
  double tokens;         ///< B * N
  double state_bytes;    ///< recurrent state per sequence; 0: none
};

/// The error of one run against the float64 reference.
struct verification {
  double relative_error;       ///< norm(o - reference) / norm(reference) over the compared part
  std::int64_t nonfinite = 0;  ///< elements of the whole output not written or not finite
  std::string where;           ///< what the largest error belongs to: "o", "final_state.kv"
  double worst_row_error = 0;  ///< relative error of the worst of the compared rows
  std::vector<named_count> counts = {};  ///< implementation::take_counts, of the call
};

/// How much of a large problem is compared, and which part.
struct sampling {
  std::uint64_t seed = 1;
  double flops_budget = 4e8;  ///< of the reference; well under a second on one core
  /// Not 0: all heads and every so many rows, the last one too, whatever that costs; all rows of
  /// short sequences.
  std::int64_t row_step = 0;
};

// The operation and its implementations without their types, as the harness and the tests use them.

/// The parameters of a row: labels and values, in the order of the axes.
using operation_parameters = std::vector<std::pair<std::string, axis_value>>;

/// Values of some axes, by flag.
using axis_values = std::map<std::string, axis_value, std::less<>>;

struct implementation_info {
  std::string_view name, summary;
  implementation_role role;
  std::vector<std::string_view> reimplements;
  device_kind device;
  std::vector<element_type> types;
  std::span<const std::string_view> variants;
  double tolerance;
  bool deterministic;
  std::string_view version;  ///< of an original; empty: none is known
  bool packed_only;
};

/// A call on tensors of its own, as it is timed.
struct bound_call {
  std::function<void(cuda_stream)> launch;
  /// For code that keeps its outputs to itself: copies those of the last launch into the case's
  /// tensors. Empty: a launch writes them.
  std::function<void(cuda_stream)> deliver = {};
  /// Device memory that it takes beyond the case's tensors and workspace.
  std::size_t own_bytes = 0;
  /// How the host's time for a launch is kept out of the call's time; empty: a launch is short.
  std::string queued = {};
  bool capturable = true;  ///< into a graph
};

/// One implementation on one problem, for elements of one type.
class operation_case {
 public:
  virtual ~operation_case() = default;
  virtual operation_parameters parameters() const = 0;
  virtual unsupported_reason unsupported() const = 0;
  virtual std::vector<tensor_spec> tensors() const = 0;
  // These only of a case that is supported.
  virtual operation_work work() const = 0;
  virtual double executed_flops() const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual std::string variant() const = 0;  ///< which one runs; empty: there is one
  virtual void arrange(tensor_access& tensors) const = 0;
  virtual verification compare(const tensor_access& tensors, const sampling& sampled) const = 0;
  /// Whether those who call it record its many launches once and replay them, as it is timed then.
  virtual bool is_replayed() const { return false; }
  /// The call on these tensors, to be made any number of times. Making it throws what the
  /// implementation throws.
  virtual std::function<void(cuda_stream)> bind(const placed_tensors& tensors, void* workspace,
                                                std::size_t workspace_bytes) const = 0;
  /// Whether there is an implementation::take_counts.
  virtual bool has_counts() const { return false; }
  /// implementation::take_counts; empty where there is none.
  virtual std::vector<named_count> take_counts() const { return {}; }
  /// bind() for timing, on tensors that are filled already and whose contents stay as they are.
  virtual bound_call bind_timed(const placed_tensors& tensors, void* workspace,
                                std::size_t workspace_bytes, cuda_stream /*stream*/) const {
    return {.launch = bind(tensors, workspace, workspace_bytes)};
  }
};

/// A problem as code in another language sees it.
struct foreign_problem {
  std::map<std::string, axis_value> values;  ///< of all axes, by flag
  std::vector<std::string> unusual;          ///< flags whose values a row's name does not leave out
};
struct foreign_tensor {
  tensor_spec spec;
  placed_tensor place;
};

/// An implementation that is added while the program runs, as an original that another language
/// calls: functions of a problem whose type they do not know.
struct foreign_implementation {
  std::string name, summary, version;
  implementation_role role = implementation_role::original;
  device_kind device = device_kind::cpu;
  element_type type = element_type::f32;
  double tolerance = 0;
  /// The implementation whose form of a problem it takes, where there are several; empty: it takes
  /// problems as they are described.
  std::string form;
  std::function<unsupported_reason(const foreign_problem&)> unsupported;
  /// bind_timed() of its cases; null stream on the CPU.
  std::function<bound_call(const foreign_problem&, const std::vector<foreign_tensor>&, cuda_stream)>
      bind;
};

class operation {
 public:
  virtual ~operation() = default;
  virtual std::string_view name() const = 0;
  virtual std::vector<axis_info> axes() const = 0;
  /// Those that this binary holds: ours first, then by name.
  virtual std::vector<implementation_info> implementations() const = 0;
  /// The tensors of the problem as it is described, before an implementation adapts it.
  virtual std::vector<tensor_spec> tensors(const axis_values& values, element_type io) const = 0;
  /// `implementation`: an index into implementations(). Axes without a value have the problem's
  /// default. `variant`: one of the implementation's; empty: it chooses.
  virtual std::unique_ptr<operation_case> make_case(std::size_t implementation,
                                                    const axis_values& values,
                                                    std::string_view variant,
                                                    element_type type) const = 0;
  /// Adds an implementation to implementations(), behind all others, or puts it in the place of one
  /// of its name that was added before. Throws invalid_argument where its device has an
  /// implementation of that name otherwise, or none of the name `form`.
  virtual void add(foreign_implementation added) = 0;
  /// Drops what was added, as it must be before the language that it calls into ends.
  virtual void forget_added() = 0;
};

/// All operations of this binary, by name.
std::map<std::string_view, std::unique_ptr<operation>>& operations();

namespace detail {

template <class Op>
class typed_case : public operation_case {
 public:
  /// `usual_type`: the element type that a row's name leaves out.
  typed_case(implementation<Op> called, typename Op::problem problem, element_type type,
             element_type usual_type)
      : called_(std::move(called)),
        problem_(std::move(problem)),
        type_(type),
        usual_type_(usual_type) {
    called_.adapt(problem_);
  }
  /// A row's name leaves out the implementation's first element type.
  typed_case(const implementation<Op>& called, typename Op::problem problem, element_type type)
      : typed_case(called, std::move(problem), type, called.run.types().front()) {}

  operation_parameters parameters() const override {
    operation_parameters all;
    for (const auto& each : Op::axes()) {
      const axis_value value = each.get(problem_);
      if (value != each.usual) all.emplace_back(each.label, value);
    }
    if constexpr (requires { problem_.variant; }) {
      if (!problem_.variant.empty()) all.emplace_back("variant", std::string(problem_.variant));
    }
    if (type_ != usual_type_) {
      all.emplace_back("type", std::string(to_string(type_)));
    }
    return all;
  }
  unsupported_reason unsupported() const override { return called_.unsupported(problem_); }
  std::vector<tensor_spec> tensors() const override { return Op::tensors(problem_, type_); }
  operation_work work() const override { return Op::work(problem_); }
  double executed_flops() const override { return called_.executed_flops(problem_); }
  std::size_t workspace_bytes() const override { return called_.workspace_bytes(problem_); }
  std::string variant() const override {
    return called_.variant == nullptr ? "" : called_.variant(problem_);
  }
  void arrange(tensor_access& tensors) const override { Op::arrange(problem_, tensors); }
  verification compare(const tensor_access& tensors, const sampling& sampled) const override {
    return Op::compare(problem_, tensors, sampled);
  }
  bool is_replayed() const override {
    if constexpr (requires { Op::is_replayed; }) return Op::is_replayed;
    return false;
  }
  bool has_counts() const override { return called_.take_counts != nullptr; }
  std::vector<named_count> take_counts() const override {
    return called_.take_counts == nullptr ? std::vector<named_count>{} : called_.take_counts();
  }
  std::function<void(cuda_stream)> bind(const placed_tensors& tensors, void* workspace,
                                        std::size_t workspace_bytes) const override {
    return with_real_type_of(type_, [&]<class T>(std::type_identity<T>) {
      auto args = Op::template bind<T>(problem_, tensors);
      args.workspace = workspace;
      args.workspace_bytes = workspace_bytes;
      return std::function<void(cuda_stream)>(
          [called = called_, args](cuda_stream stream) { called(args, stream); });
    });
  }

 protected:
  const typename Op::problem& problem() const { return problem_; }

 private:
  implementation<Op> called_;
  typename Op::problem problem_;
  element_type type_;
  element_type usual_type_;
};

/// The case of an implementation that was added while the program runs.
template <class Op>
class foreign_case final : public typed_case<Op> {
 public:
  foreign_case(const foreign_implementation& called, void (*adapt)(typename Op::problem&),
               typename Op::problem problem)
      : typed_case<Op>({.name = called.name,
                        .summary = called.summary,
                        .role = called.role,
                        .tolerance = called.tolerance,
                        .adapt = adapt,
                        .executed_flops = [](const typename Op::problem&) { return 0.0; },
                        .run = {}},
                       std::move(problem), called.type, called.type),
        foreign_(called) {}

  unsupported_reason unsupported() const override { return foreign_.unsupported(described()); }
  std::function<void(cuda_stream)> bind(const placed_tensors& tensors, void* workspace,
                                        std::size_t workspace_bytes) const override {
    const bound_call call = bind_timed(tensors, workspace, workspace_bytes, nullptr);
    return [call](cuda_stream stream) {
      call.launch(stream);
      if (call.deliver) call.deliver(stream);
    };
  }
  bound_call bind_timed(const placed_tensors& tensors, void* /*workspace*/,
                        std::size_t /*workspace_bytes*/, cuda_stream stream) const override {
    std::vector<foreign_tensor> placed;
    for (const tensor_spec& spec : this->tensors()) {
      placed.push_back({spec, tensors.find(spec.name)});
    }
    return foreign_.bind(described(), placed, stream);
  }

 private:
  foreign_problem described() const {
    foreign_problem all;
    for (const auto& each : Op::axes()) {
      const axis_value value = each.get(this->problem());
      all.values[std::string(each.flag)] = value;
      if (each.usual && value != each.usual) all.unusual.emplace_back(each.flag);
    }
    return all;
  }

  const foreign_implementation& foreign_;
};

template <class Op>
class typed_operation final : public operation {
 public:
  std::string_view name() const override { return Op::name; }
  std::vector<axis_info> axes() const override {
    std::vector<axis_info> all;
    for (const auto& each : Op::axes()) {
      all.push_back(each);
      all.back().own = each.get({});
    }
    return all;
  }
  std::vector<implementation_info> implementations() const override {
    std::vector<implementation_info> all;
    for (const implementation<Op>& each : sorted()) {
      all.push_back({each.name, each.summary, each.role, each.reimplements, each.device(),
                     each.run.types(), each.variants, each.tolerance, each.deterministic,
                     each.version, each.packed_only});
    }
    for (const auto& each : foreign_) {
      all.push_back({.name = each->name,
                     .summary = each->summary,
                     .role = each->role,
                     .reimplements = {},
                     .device = each->device,
                     .types = {each->type},
                     .variants = {},
                     .tolerance = each->tolerance,
                     .deterministic = false,
                     .version = each->version,
                     .packed_only = true});
    }
    return all;
  }
  std::vector<tensor_spec> tensors(const axis_values& values, element_type io) const override {
    return Op::tensors(problem_of(values), io);
  }
  std::unique_ptr<operation_case> make_case(std::size_t implementation, const axis_values& values,
                                            std::string_view variant,
                                            element_type type) const override {
    typename Op::problem problem = problem_of(values);
    if constexpr (requires { problem.variant; }) problem.variant = variant;
    const std::vector<based::implementation<Op>> all = sorted();
    if (implementation >= all.size()) {
      const foreign_implementation& called = *foreign_.at(implementation - all.size());
      return std::make_unique<foreign_case<Op>>(called, form_of(called), problem);
    }
    return std::make_unique<typed_case<Op>>(all[implementation], problem, type);
  }
  void add(foreign_implementation added) override {
    for (const implementation<Op>& each : registry<Op>()) {
      BASED_REQUIRE(each.name != added.name || each.device() != added.device,
                    std::string(name()) + " has an implementation '" + added.name + "' of its own");
    }
    static_cast<void>(form_of(added));
    auto kept = std::make_unique<const foreign_implementation>(std::move(added));
    for (auto& each : foreign_) {
      if (each->name == kept->name && each->device == kept->device) {
        each = std::move(kept);
        return;
      }
    }
    foreign_.push_back(std::move(kept));
  }
  void forget_added() override { foreign_.clear(); }

 private:
  /// How a problem gets the form that a foreign implementation takes.
  static void (*form_of(const foreign_implementation& called))(typename Op::problem&) {
    if (called.form.empty()) return [](typename Op::problem&) {};
    for (const implementation<Op>& each : registry<Op>()) {
      if (each.name == called.form && each.device() == called.device) return each.adapt;
    }
    throw invalid_argument(std::string(Op::name) + " has no implementation '" + called.form +
                           "' on " + std::string(to_string(called.device)));
  }
  static typename Op::problem problem_of(const axis_values& values) {
    typename Op::problem problem = {};
    for (const auto& each : Op::axes()) {
      if (const auto found = values.find(each.flag); found != values.end()) {
        each.set(problem, found->second);
      }
    }
    return problem;
  }
  static std::vector<implementation<Op>> sorted() {
    std::vector<implementation<Op>> all = registry<Op>();
    std::ranges::sort(
        all, {}, [](const implementation<Op>& each) { return std::pair(each.role, each.name); });
    return all;
  }

  std::vector<std::unique_ptr<const foreign_implementation>> foreign_;
};

}  // namespace detail

template <class Op>
struct operation_registration {
  operation_registration() {
    operations()[Op::name] = std::make_unique<detail::typed_operation<Op>>();
  }
};

}  // namespace based
