// One implementation of an operation, and the registry of all of them.
//
// An implementation is added in its own source file by one namespace-scope object:
//
//   const registration<based_prefill> registered{{.name = "naive", ...}};
//
// From then on the studies benchmark it and the tests verify it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "kernels/core/element_type.h"
#include "kernels/core/error.h"

struct CUstream_st;  // the CUDA driver's stream, opaque where there is no CUDA

namespace based {

using cuda_stream = CUstream_st*;

enum class device_kind { cpu, cuda };
constexpr std::string_view to_string(device_kind device) {
  return device == device_kind::cpu ? "cpu" : "cuda";
}

/// Whose an implementation is.
enum class implementation_role {
  ours,      ///< the best that this project can write
  baseline,  ///< an algorithm of others, written here to run as fast as its original
  original   ///< the code of others, as it is
};
constexpr std::string_view to_string(implementation_role role) {
  constexpr std::string_view names[] = {"ours", "baseline", "original"};
  return names[static_cast<int>(role)];
}

/// Why an implementation cannot run a problem; empty: it can.
using unsupported_reason = std::optional<std::string>;

/// Something that calls count beside what they compute, e.g. how often a guess was wrong.
struct named_count {
  std::string_view name;  ///< a literal; a row's counter of that name
  double value;
};

/// The functions of an implementation, one an element type, all for one device. A function without
/// a stream runs on the CPU and returns when the output is written. One with a stream only enqueues
/// on it: no allocation, no synchronisation, every launch checked, capturable into a graph. (A
/// model's first call of a shape may set up the library of its products.)
template <class Op>
class entry_points {
 public:
  template <class T>
  using args = typename Op::template args<T>;
  template <class T>
  using cpu_function = void (*)(const args<T>&);
  template <class T>
  using cuda_function = void (*)(const args<T>&, cuda_stream);

  /// The first one's element type is the usual one.
  template <class... Functions>
  entry_points(Functions*... functions) {
    (add(functions), ...);
  }

  device_kind device() const { return device_; }
  const std::vector<element_type>& types() const { return types_; }

  /// Throws invalid_argument where there is no function for T.
  template <class T>
  void call(const args<T>& given, cuda_stream stream) const {
    if (const auto on_cuda = std::get<cuda_function<T>>(cuda_)) return on_cuda(given, stream);
    const auto on_cpu = std::get<cpu_function<T>>(cpu_);
    BASED_REQUIRE(on_cpu != nullptr,
                  "has no function for elements of " + std::string(to_string(element_of<T>)));
    on_cpu(given);
  }

 private:
  void add(cpu_function<float> function) { add<float>(device_kind::cpu, cpu_, function); }
  void add(cpu_function<bf16> function) { add<bf16>(device_kind::cpu, cpu_, function); }
  void add(cpu_function<fp16> function) { add<fp16>(device_kind::cpu, cpu_, function); }
  void add(cuda_function<float> function) { add<float>(device_kind::cuda, cuda_, function); }
  void add(cuda_function<bf16> function) { add<bf16>(device_kind::cuda, cuda_, function); }
  void add(cuda_function<fp16> function) { add<fp16>(device_kind::cuda, cuda_, function); }

  template <class T, class Functions, class Function>
  void add(device_kind device, Functions& functions, Function function) {
    std::get<Function>(functions) = function;
    device_ = device;
    types_.push_back(element_of<T>);
  }

  std::tuple<cpu_function<float>, cpu_function<bf16>, cpu_function<fp16>> cpu_ = {};
  std::tuple<cuda_function<float>, cuda_function<bf16>, cuda_function<fp16>> cuda_ = {};
  std::vector<element_type> types_;
  device_kind device_ = device_kind::cpu;
};

/// `Op` describes an operation (operation.h): it has a `problem` (shape and options, no pointers)
/// and an `args<T>` (the problem and its tensors, T the element type of inputs and output).
template <class Op>
struct implementation {
  using problem = typename Op::problem;
  template <class T>
  using args = typename Op::template args<T>;

  std::string_view name;     ///< as in a row's name, e.g. "chunked_recurrent"
  std::string_view summary;  ///< one line: what it is, or which algorithm it follows
  implementation_role role;
  /// The originals that it stands for, by the names of their own rows.
  std::vector<std::string_view> reimplements = {};
  /// For an original: which one it is, as its commit or its package's version.
  std::string_view version = {};
  /// It takes sequences [B, H, N, D] without gaps alone, and throws where the strides are others.
  bool packed_only = false;
  double tolerance;  ///< largest relative error accepted against the float64 reference
  /// Whether two calls on the same inputs give the same bits: it does not add atomically.
  bool deterministic = true;
  /// Changes a problem to the form that it takes, where an operation has several.
  void (*adapt)(problem&) = [](problem&) {};
  unsupported_reason (*unsupported)(const problem&) = [](const problem&) {
    return unsupported_reason{};
  };
  /// Device memory beyond inputs and outputs.
  std::size_t (*workspace_bytes)(const problem&) = [](const problem&) { return std::size_t{0}; };
  double (*executed_flops)(const problem&);  ///< what it really executes, padding included
  entry_points<Op> run;
  /// Which variant a dispatching implementation picks (the row's label); null: it has one.
  std::string (*variant)(const problem&) = nullptr;
  /// The names that problem::variant accepts, to force one of them; empty: it has one.
  std::span<const std::string_view> variants = {};
  /// What the calls since the last time have counted on the current device, after they have ended;
  /// null: nothing. Counting starts anew.
  std::vector<named_count> (*take_counts)() = nullptr;

  device_kind device() const { return run.device(); }

  /// Runs it. Throws invalid_argument, before anything is launched, for a problem that it does not
  /// support and for arguments that no implementation takes. The CPU needs no stream.
  void operator()(const args<float>& given, cuda_stream stream = nullptr) const {
    call<float>(given, stream);
  }
  void operator()(const args<bf16>& given, cuda_stream stream = nullptr) const {
    call<bf16>(given, stream);
  }
  void operator()(const args<fp16>& given, cuda_stream stream = nullptr) const {
    call<fp16>(given, stream);
  }

 private:
  template <class T>
  void call(const args<T>& given, cuda_stream stream) const {
    require_supported(given.problem);
    run.template call<T>(given, stream);
  }
  void require_supported(const problem& asked) const {
    if constexpr (requires { asked.variant; }) {
      if (!asked.variant.empty() && std::ranges::find(variants, asked.variant) == variants.end()) {
        throw invalid_argument(std::string(name) + ": has no variant '" +
                               std::string(asked.variant) + "'");
      }
    }
    if (const unsupported_reason reason = unsupported(asked)) {
      throw invalid_argument(std::string(name) + ": " + *reason);
    }
  }
};

/// All implementations of an operation that this binary holds; order unspecified.
template <class Op>
std::vector<implementation<Op>>& registry() {
  static std::vector<implementation<Op>> implementations;
  return implementations;
}

template <class Op>
struct registration {
  explicit registration(implementation<Op> added) { registry<Op>().push_back(std::move(added)); }
};

}  // namespace based
