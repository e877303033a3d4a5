// The ways in which an operation of this binary can be called.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/core/operation.h"

namespace based {

/// An implementation in one of its variants ("": it chooses) and for one of its element types.
struct implementation_choice {
  const operation* op;
  std::size_t index;  ///< of the implementation
  implementation_info info;
  std::string_view variant;
  element_type type;

  std::unique_ptr<operation_case> solve(const axis_values& values) const {
    return op->make_case(index, values, variant, type);
  }
};

/// All of an operation.
inline std::vector<implementation_choice> choices_of(const operation& op) {
  std::vector<implementation_choice> all;
  const std::vector<implementation_info> implementations = op.implementations();
  for (std::size_t i = 0; i < implementations.size(); ++i) {
    const implementation_info& info = implementations[i];
    std::vector<std::string_view> variants = {""};
    variants.insert(variants.end(), info.variants.begin(), info.variants.end());
    for (const std::string_view variant : variants) {
      for (const element_type type : info.types) all.push_back({&op, i, info, variant, type});
    }
  }
  return all;
}

}  // namespace based
