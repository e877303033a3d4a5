#include "kernels/core/error.h"

#include <string_view>

namespace based {

void throw_requirement(const char* file, int line, const char* expression,
                       const std::string& message) {
  const std::string_view path{file};
  const std::string_view base = path.substr(path.find_last_of('/') + 1);
  throw invalid_argument(message + " [" + std::string(base) + ":" + std::to_string(line) + ": " +
                         expression + "]");
}

}  // namespace based
