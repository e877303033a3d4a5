#include "benchmarks/harness/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "kernels/core/error.h"

namespace based {
namespace {

constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max();
constexpr std::string_view syntax =
    "a list such as 1,4,16 or a range first:last:*factor or first:last:+step, such as "
    "1024:32768:*2";

[[noreturn]] void refuse(std::string_view flag, std::string_view part, std::string_view why) {
  throw invalid_argument(fmt::format("{}: '{}' {}; want {}", flag, part, why, syntax));
}

std::int64_t parse_value(std::string_view flag, std::string_view part, std::string_view digits) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool too_large = error == std::errc::result_out_of_range;
  if ((error != std::errc{} && !too_large) || end != digits.data() + digits.size()) {
    refuse(flag, part, "is not a whole number");
  }
  if (too_large || value < 1 || value > largest) {
    refuse(flag, part, fmt::format("is outside 1 to {}", largest));
  }
  return value;
}

}  // namespace

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (;;) {
    const std::size_t end = text.find(separator, start);
    parts.emplace_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

void refuse_too_many(std::string_view flag, std::size_t values) {
  if (values <= most_values) return;
  throw invalid_argument(fmt::format("{}: lists more than {} values", flag, most_values));
}

std::vector<std::int64_t> parse_axis(std::string_view flag, std::string_view text) {
  std::vector<std::int64_t> values;
  std::unordered_set<std::int64_t> added;
  const auto add = [&](std::int64_t value) {
    if (added.insert(value).second) values.push_back(value);
    refuse_too_many(flag, values.size());
  };
  for (const std::string& part : split(text)) {
    const std::vector<std::string> range = split(part, ':');
    if (range.size() == 1) {
      add(parse_value(flag, part, part));
      continue;
    }
    if (range.size() != 3 || range[2].size() < 2 || (range[2][0] != '*' && range[2][0] != '+')) {
      refuse(flag, part, "is not a range");
    }
    const std::int64_t first = parse_value(flag, part, range[0]);
    const std::int64_t last = parse_value(flag, part, range[1]);
    const std::int64_t step = parse_value(flag, part, std::string_view(range[2]).substr(1));
    const bool multiply = range[2][0] == '*';
    if (last < first) refuse(flag, part, "ends before it starts");
    if (multiply && step < 2) refuse(flag, part, "never grows");
    for (std::int64_t value = first; value <= last;
         value = multiply ? value * step : value + step) {
      add(value);
    }
  }
  return values;
}

double parse_seconds(std::string_view flag, std::string text) {
  if (!text.empty() && text.back() == 's') text.pop_back();
  std::size_t used = 0;
  double seconds = -1;
  try {
    seconds = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  if (used != text.size() || !(seconds >= 0) || !std::isfinite(seconds)) {
    throw invalid_argument(fmt::format("{}: '{}' is not a number of seconds", flag, text));
  }
  return seconds;
}

}  // namespace based
