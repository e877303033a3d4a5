// One row: one implementation of one operation at one shape on one device, as the harness verifies
// and times it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "kernels/core/operation.h"

namespace based {

/// The work of a row, functions of its problem alone unless said otherwise.
struct row_work {
  double nominal_flops;     ///< the sources' formula
  double executed_flops;    ///< what this implementation executes; 0: nobody knows
  double least_flops;       ///< the fewest known to suffice
  double compulsory_bytes;  ///< every input read once, every output written once
  double tokens;            ///< B * N, the tokens that a model would count
  double tensor_bytes;      ///< inputs and outputs as allocated, or as no memory could hold them
  std::size_t workspace_bytes;
  double state_bytes;  ///< recurrent state per sequence; 0: the operation has none
};

struct row_spec {
  std::string operation;       ///< "prefill"
  std::string implementation;  ///< "based"
  device_kind device;
  operation_parameters parameters;  ///< {"B", 16}, {"H", 16}, {"N", 8192}
  row_work work;
  double tolerance;
  unsupported_reason unsupported;
  std::string label;  ///< which variant runs; empty: there is one
  implementation_role role = implementation_role::ours;
  std::vector<std::string_view> reimplements = {};  ///< originals, by the names of their own rows
  std::string version = {};                         ///< of an original; empty: none is known

  /// operation/implementation/device/B:16/H:16/N:8192
  std::string name() const;
};

/// A row with its tensors allocated and filled, on its device.
class row_instance {
 public:
  virtual ~row_instance() = default;
  virtual void launch(int set) = 0;
  /// One call on poisoned outputs, compared with the reference.
  virtual verification verify() = 0;
  /// Makes data sets 1 .. sets-1, equal to set 0 (uncounted memory); false: they do not fit.
  virtual bool replicate(int sets) = 0;
  // As bound_call has them.
  virtual std::size_t own_bytes() const { return 0; }
  virtual std::string queued() const { return {}; }
  virtual bool capturable() const { return true; }
};

class row {
 public:
  explicit row(row_spec spec) : spec_(std::move(spec)) {}
  virtual ~row() = default;
  const row_spec& spec() const { return spec_; }
  virtual std::unique_ptr<row_instance> prepare(backend& device, std::uint64_t seed) const = 0;

 private:
  row_spec spec_;
};

}  // namespace based
