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
#include <variant>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/error.h"

struct CUstream_st;  // the CUDA driver's stream, opaque where there is no CUDA

namespace based {

using cuda_stream = CUstream_st*;

enum class device_kind { cpu, cuda };
constexpr std::string_view to_string(device_kind device) {
  return device == device_kind::cpu ? "cpu" : "cuda";
}

/// Why an implementation cannot run a problem; empty: it can.
using unsupported_reason = std::optional<std::string>;

/// `Op` names an operation: it has a `problem` (shape and options, no pointers) and an
/// `args<T>` (the problem and its tensors, T the element type of inputs and output).
template <class Op>
struct implementation {
  using problem = typename Op::problem;
  /// On the CPU tensors are fp32 and the call returns when the output is written.
  using cpu_function = void (*)(const typename Op::template args<float>&);
  /// On CUDA tensors are bf16; the call only enqueues on the stream: no allocation, no
  /// synchronisation, every launch checked, capturable into a graph.
  using cuda_function = void (*)(const typename Op::template args<bf16>&, cuda_stream);

  std::string_view name;     ///< as in a row's name, e.g. "chunked_recurrent"
  std::string_view summary;  ///< one line: what it is, or which original it reimplements
  double tolerance;          ///< largest relative error accepted against the float64 reference
  unsupported_reason (*unsupported)(const problem&) = [](const problem&) {
    return unsupported_reason{};
  };
  /// Device memory beyond inputs and outputs.
  std::size_t (*workspace_bytes)(const problem&) = [](const problem&) { return std::size_t{0}; };
  double (*executed_flops)(const problem&);  ///< what it really executes, padding included
  std::variant<cpu_function, cuda_function> run;
  /// Which variant a dispatching implementation picks (the row's label); null: it has one.
  std::string (*variant)(const problem&) = nullptr;
  /// The names that problem::variant accepts, to force one of them; empty: it has one.
  std::span<const std::string_view> variants = {};

  device_kind device() const { return run.index() == 0 ? device_kind::cpu : device_kind::cuda; }

  /// Runs it. Throws invalid_argument, before anything is launched, for a problem that it does not
  /// support and for arguments that no implementation takes.
  void operator()(const typename Op::template args<float>& args) const {
    require_supported(args.problem);
    std::get<cpu_function>(run)(args);
  }
  void operator()(const typename Op::template args<bf16>& args, cuda_stream stream) const {
    require_supported(args.problem);
    std::get<cuda_function>(run)(args, stream);
  }

 private:
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
  explicit registration(implementation<Op> added) { registry<Op>().push_back(added); }
};

}  // namespace based
