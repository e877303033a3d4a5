#include "benchmarks/based_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <vector>

#include "benchmarks/harness/suite_options.h"

namespace based {
namespace {

const std::map<std::string, bool prefill_options::*> option_names = {
    {"normalize", &prefill_options::normalize},
    {"initial_state", &prefill_options::initial_state},
    {"final_state", &prefill_options::final_state}};

}  // namespace

prefill_options parse_based_options(const std::string& text) {
  prefill_options options;
  if (text == "none") return options;
  for (const std::string& part : split(text, '+')) {
    if (part == "all") {
      for (const auto& [name, member] : option_names) options.*member = true;
    } else if (const auto found = option_names.find(part); found != option_names.end()) {
      options.*(found->second) = true;
    } else {
      throw usage_error(
          fmt::format("--options: '{}' is not an option; want none, all, or some of "
                      "normalize, initial_state, final_state joined by +",
                      part));
    }
  }
  return options;
}

std::string options_text(const prefill_options& options) {
  std::vector<std::string> on;
  for (const auto& [name, member] : option_names) {
    if (options.*member) on.push_back(name);
  }
  return fmt::format("{}", fmt::join(on, "+"));
}

}  // namespace based
