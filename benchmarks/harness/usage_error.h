#pragma once

#include <stdexcept>

namespace based {

/// Bad usage, as opposed to a row that fails: the process exits with 2.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace based
