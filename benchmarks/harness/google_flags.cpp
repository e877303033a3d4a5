#include "benchmarks/harness/google_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <string_view>

#include "benchmarks/harness/sweep.h"
#include "benchmarks/harness/usage_error.h"

namespace based {
namespace {

bool parse_switch(std::string_view flag, const std::string& text) {
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* yes : {"1", "t", "true", "y", "yes", "on"}) {
    if (lower == yes) return true;
  }
  for (const char* no : {"0", "f", "false", "n", "no", "off"}) {
    if (lower == no) return false;
  }
  throw usage_error(fmt::format("--{}: '{}' is not true or false", flag, text));
}

int parse_whole(std::string_view flag, const std::string& text, int least) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least) {
    throw usage_error(
        fmt::format("--{}: '{}' is not a whole number of {} or more", flag, text, least));
  }
  return value;
}

output_format parse_format(std::string_view flag, const std::string& text) {
  if (text == "console") return output_format::console;
  if (text == "json") return output_format::json;
  if (text == "csv") return output_format::csv;
  throw usage_error(fmt::format("--{}: '{}' is not console, json or csv", flag, text));
}

double parse_min_time(std::string_view flag, const std::string& text) {
  if (!text.empty() && text.back() == 'x') {
    throw usage_error(fmt::format(
        "--{}: '{}' counts iterations, which the suite chooses: give seconds, or bound a row by "
        "--time-cap",
        flag, text));
  }
  return parse_seconds(fmt::format("--{}", flag), text);
}

void add_context(std::string_view flag, const std::string& text,
                 std::map<std::string, std::string>& context) {
  for (const std::string& pair : split(text)) {
    const std::size_t equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos) {
      throw usage_error(fmt::format("--{}: '{}' is not key=value", flag, pair));
    }
    context[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
}

struct known_flag {
  std::string_view name, value, help;
  std::function<void(google_flags&, const std::string& text)> take;
};

const std::vector<known_flag>& known_flags() {
  static const std::vector<known_flag> flags = {
      {"benchmark_list_tests", "BOOL", "print the rows' names and measure nothing",
       [](auto& f, auto& text) { f.list_only = parse_switch("benchmark_list_tests", text); }},
      {"benchmark_filter", "REGEX", "rows whose names match, or with a leading - do not match",
       [](auto& f, auto& text) { f.filter = text; }},
      {"benchmark_min_time", "SECONDS", "the least sum of a row's cold samples",
       [](auto& f, auto& text) { f.min_time_s = parse_min_time("benchmark_min_time", text); }},
      {"benchmark_repetitions", "INT", "measure each row so many times, and aggregate",
       [](auto& f, auto& text) { f.repetitions = parse_whole("benchmark_repetitions", text, 1); }},
      {"benchmark_enable_random_interleaving", "BOOL", "repetitions of all rows in random order",
       [](auto& f, auto& text) {
         f.interleave = parse_switch("benchmark_enable_random_interleaving", text);
       }},
      {"benchmark_report_aggregates_only", "BOOL",
       "show aggregates alone; a file keeps every repetition",
       [](auto& f, auto& text) {
         f.aggregates_only = parse_switch("benchmark_report_aggregates_only", text);
       }},
      {"benchmark_display_aggregates_only", "BOOL", "the same",
       [](auto& f, auto& text) {
         f.aggregates_only = parse_switch("benchmark_display_aggregates_only", text);
       }},
      {"benchmark_format", "FORMAT", "of standard output: console, json or csv",
       [](auto& f, auto& text) { f.format = parse_format("benchmark_format", text); }},
      {"benchmark_out", "FILE", "a results file, complete after each row",
       [](auto& f, auto& text) { f.out = text; }},
      {"benchmark_out_format", "FORMAT", "of the file: json (default), csv or console",
       [](auto& f, auto& text) { f.out_format = parse_format("benchmark_out_format", text); }},
      {"benchmark_context", "KEY=VALUE,...", "more of the results' context",
       [](auto& f, auto& text) { add_context("benchmark_context", text, f.context); }},
      {"v", "INT", "Google Benchmark's own verbosity",
       [](auto& f, auto& text) { f.verbosity = parse_whole("v", text, 0); }},
  };
  return flags;
}

struct refused_flag {
  std::string_view name;
  std::initializer_list<std::string_view> defaults;  ///< values that ask for nothing
  std::string_view counterpart;
};

const refused_flag refused_flags[] = {
    {"benchmark_min_warmup_time",
     {"0", "0.0"},
     "a row is warmed up until its calls agree; --time-cap bounds it"},
    {"benchmark_color", {"auto", "false", "no", "0"}, "the table has no colours"},
    {"benchmark_counters_tabular",
     {"false", "no", "0"},
     "the table has fixed columns; --benchmark_format=json and csv have every counter"},
    {"benchmark_time_unit",
     {"us"},
     "files are in microseconds, and the table says the unit of each time"},
    {"benchmark_perf_counters", {""}, "--profile makes one call a row for a profiler to count"},
    {"benchmark_dry_run",
     {"false", "no", "0"},
     "--benchmark_list_tests lists the rows, --profile verifies each and calls it once"},
};

void take(google_flags& flags, const std::string& name, const std::string& text) {
  const auto known = std::ranges::find(known_flags(), name, &known_flag::name);
  if (known != known_flags().end()) return known->take(flags, text);
  const auto refused = std::ranges::find(refused_flags, name, &refused_flag::name);
  if (refused == std::end(refused_flags)) {
    throw usage_error(fmt::format("unknown argument '--{}'; --help lists what there is", name));
  }
  if (std::ranges::find(refused->defaults, text) == refused->defaults.end()) {
    throw usage_error(fmt::format("--{} is not taken: {}", name, refused->counterpart));
  }
}

/// The value that the environment gives a flag, under its name in capitals.
std::optional<std::string> from_environment(std::string_view name) {
  std::string variable(name);
  std::ranges::transform(variable, variable.begin(),
                         [](unsigned char c) { return std::toupper(c); });
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace

google_flags parse_google_flags(const std::vector<std::string>& arguments) {
  google_flags flags;
  const auto take_from_environment = [&](std::string_view name) {
    if (!name.starts_with("benchmark_")) return;
    if (const auto value = from_environment(name)) take(flags, std::string(name), *value);
  };
  for (const known_flag& flag : known_flags()) take_from_environment(flag.name);
  for (const refused_flag& flag : refused_flags) take_from_environment(flag.name);
  for (const std::string& argument : arguments) {
    if (!argument.starts_with("--")) {
      throw usage_error(fmt::format("unknown argument '{}'; --help lists what there is", argument));
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals - 2);
    const auto known = std::ranges::find(known_flags(), name, &known_flag::name);
    if (equals == std::string::npos && known != known_flags().end() && known->value != "BOOL") {
      throw usage_error(fmt::format("{0} needs a value: {0}={1}", argument, known->value));
    }
    take(flags, name, equals == std::string::npos ? "true" : argument.substr(equals + 1));
  }
  if (flags.out && flags.out->empty()) flags.out.reset();
  return flags;
}

std::string google_flags_help() {
  std::string text;
  for (const known_flag& flag : known_flags()) {
    text += fmt::format("  {:<45} {}\n", fmt::format("--{}={}", flag.name, flag.value), flag.help);
  }
  return text;
}

std::vector<std::string> google_command_line(const std::string& program,
                                             const google_flags& flags) {
  constexpr const char* one_iteration = "--benchmark_min_time=" BASED_ONE_ITERATION;
  return {program,
          fmt::format("--benchmark_list_tests={}", flags.list_only),
          "--benchmark_filter=all",
          one_iteration,
          fmt::format("--benchmark_repetitions={}", flags.repetitions),
          fmt::format("--benchmark_enable_random_interleaving={}", flags.interleave),
          "--benchmark_report_aggregates_only=false",
          "--benchmark_display_aggregates_only=false",
          "--benchmark_format=console",
          "--benchmark_out=",
          "--benchmark_out_format=json",
          fmt::format("--v={}", flags.verbosity)};
}

}  // namespace based
