// The suite's exceptions: every message names the bad value and what is allowed.
#pragma once

#include <stdexcept>
#include <string>

namespace based {

/// A caller's mistake: a shape, pointer, option or workspace that an operation does not take.
class invalid_argument : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

[[noreturn]] void throw_requirement(const char* file, int line, const char* expression,
                                    const std::string& message);

}  // namespace based

/// Throws based::invalid_argument with `message` (and the place and expression) unless
/// `expression`.
#define BASED_REQUIRE(expression, message)                                    \
  do {                                                                        \
    if (!(expression)) {                                                      \
      ::based::throw_requirement(__FILE__, __LINE__, #expression, (message)); \
    }                                                                         \
  } while (false)
