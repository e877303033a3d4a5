// A row made of an operation's description: allocation, inputs, poisoned outputs, data sets.
#pragma once

#include <memory>

#include "benchmarks/harness/row.h"
#include "kernels/core/operation.h"

namespace based {

class operation_row final : public row {
 public:
  operation_row(std::string_view operation, const implementation_info& implementation,
                std::shared_ptr<const operation_case> solved);

  std::unique_ptr<row_instance> prepare(backend& device, std::uint64_t seed) const override;

 private:
  std::shared_ptr<const operation_case> case_;
};

}  // namespace based
