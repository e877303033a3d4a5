// What CLI11 would get wrong without a message: it takes the argument that follows `--flag=` for
// the flag's value.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "benchmarks/harness/usage_error.h"

namespace based {

/// Throws usage_error for an argument `--flag=` of one of the app's flags, and for a last argument
/// `--flag` that needs a value, naming what is wanted.
inline void refuse_empty_values(const CLI::App& app, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string flag = argument.substr(0, argument.find('='));
    if (!flag.starts_with("--") || flag.size() == 2) continue;
    const CLI::Option* option = app.get_option_no_throw(flag);
    if (option == nullptr) continue;
    const bool takes_value = option->get_expected_min() > 0;
    const std::string want =
        takes_value ? fmt::format("{}={}", flag, option->get_type_name()) : flag + " alone";
    if (argument == flag + "=") {
      throw usage_error(fmt::format("{} is empty; want {}", argument, want));
    }
    if (argument == flag && takes_value && i + 1 == argc) {
      throw usage_error(fmt::format("{} needs a value; want {}", flag, want));
    }
  }
}

}  // namespace based
