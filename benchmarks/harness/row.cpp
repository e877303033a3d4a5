#include "benchmarks/harness/row.h"

#include <fmt/format.h>

namespace based {

std::string row_spec::name() const {
  std::string text = fmt::format("{}/{}/{}", operation, implementation, to_string(device));
  for (const auto& [key, value] : parameters) text += fmt::format("/{}:{}", key, to_string(value));
  return text;
}

}  // namespace based
