#include "benchmarks/case_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>

#include "benchmarks/based_case.h"
#include "kernels/core/error.h"

namespace based {
namespace {

constexpr std::string_view header_mark = "#";
constexpr std::string_view header_name = "based-case";
constexpr std::string_view white_space = " \t\r\n\v\f";

/// Takes the next word off the front of `text`; empty at its end.
std::string_view next_word(std::string_view& text) {
  const auto start = text.find_first_not_of(white_space);
  text.remove_prefix(start == std::string_view::npos ? text.size() : start);
  const std::string_view word = text.substr(0, text.find_first_of(white_space));
  text.remove_prefix(word.size());
  return word;
}

struct header_entry {
  std::string_view key, value;
};

/// The entries of a header without the words that open it.
std::vector<header_entry> header_entries(std::string_view line) {
  std::string_view rest = line.substr(header_mark.size());
  if (next_word(rest) != header_name) {
    throw invalid_argument(
        fmt::format("the header is '{}', want '# based-case operation=... B=... H=... ...'", line));
  }
  std::vector<header_entry> entries;
  for (std::string_view word = next_word(rest); !word.empty(); word = next_word(rest)) {
    const auto equals = std::min(word.find('='), word.size());
    entries.push_back({word.substr(0, equals), word.substr(std::min(equals + 1, word.size()))});
  }
  return entries;
}

axis_value parse_value(const axis_info& axis, std::string_view text) {
  try {
    return axis.domain.parse(axis.flag, text);
  } catch (const invalid_argument& error) {
    throw invalid_argument(fmt::format("the header's {}: {}", axis.label, error.what()));
  }
}

case_header parse_header(std::string_view line) {
  const std::vector<header_entry> entries = header_entries(line);
  case_header header;
  const auto named = std::ranges::find(entries, "operation", &header_entry::key);
  if (named != entries.end()) header.operation = named->value;
  const bool is_based = header.operation.empty();
  const std::vector<axis_info> axes =
      operation_named(is_based ? based_case_operation : header.operation).axes();
  std::set<std::string_view> keys;
  for (const auto& [key, value] : entries) {
    if (!keys.insert(key).second) {
      throw invalid_argument(fmt::format("the header has '{}' twice", key));
    }
    if (key == "operation") continue;
    if (key == "layout") {
      header.order = parse_order(value);
    } else if (is_based && key == "terms") {
      header.terms = value;
      parse_terms(value);
    } else if (const auto axis = std::ranges::find(axes, key, &axis_info::label);
               axis != axes.end()) {
      header.values[std::string(axis->flag)] = parse_value(*axis, value);
    } else {
      std::string known = "operation, layout";
      if (is_based) known += ", terms";
      for (const axis_info& each : axes) known += fmt::format(", {}", each.label);
      throw invalid_argument(fmt::format("the header has '{}={}', want {}", key, value, known));
    }
  }
  return header;
}

/// Reads floats, refusing what is no finite number.
std::vector<float> parse_floats(std::string_view text) {
  std::vector<float> numbers;
  for (std::string_view word = next_word(text); !word.empty(); word = next_word(text)) {
    float value = 0;
    std::string_view digits = word;
    if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    // Zero, a subnormal number or infinity.
    const bool out_of_range = error == std::errc::result_out_of_range;
    if (out_of_range) value = std::strtof(std::string(digits).c_str(), nullptr);
    const std::size_t place = numbers.size() + 1;
    if ((error != std::errc{} && !out_of_range) || end != word.data() + word.size()) {
      throw invalid_argument(fmt::format("number {} is '{}', want a number", place, word));
    }
    if (!std::isfinite(value)) {
      throw invalid_argument(fmt::format("number {} is {}, want finite numbers", place, word));
    }
    numbers.push_back(value);
  }
  return numbers;
}

case_file generic_case(const case_header& header, std::span<const float> numbers) {
  const operation& of = operation_named(header.operation);
  // The element type changes no shape.
  const std::vector<tensor_spec> tensors = of.tensors(header.values, element_type::f32);
  const double wanted = count_numbers(tensors, is_read) + count_numbers(tensors, is_written);
  if (static_cast<double>(numbers.size()) != wanted) {
    std::string names;
    for (const auto in : {is_read, is_written}) {
      for (const tensor_spec& each : tensors) {
        if (!in(each.role)) continue;
        names += fmt::format("{}{} [{}]", names.empty() ? "" : ", ", each.name,
                             fmt::join(each.shape, ", "));
      }
    }
    throw invalid_argument(
        fmt::format("has {} numbers, want {:.0f}: {}", numbers.size(), wanted, names));
  }
  case_file parsed = {.operation = header.operation, .order = header.order};
  parsed.given = take_numbers(tensors, is_read, numbers);
  parsed.parts.push_back(
      {.runs = {{header.values}}, .expected = take_numbers(tensors, is_written, numbers)});
  return parsed;
}

}  // namespace

const operation& operation_named(std::string_view name) {
  const auto found = operations().find(name);
  if (found != operations().end()) return *found->second;
  std::vector<std::string_view> known;
  for (const auto& [each, op] : operations()) known.push_back(each);
  throw invalid_argument(
      fmt::format("'{}' is no operation; there is {}", name, fmt::join(known, ", ")));
}

sequence_order parse_order(std::string_view text) {
  if (text == "bhnd") return sequence_order::bhnd;
  if (text == "bnhd") return sequence_order::bnhd;
  throw invalid_argument(fmt::format("layout is '{}', want bhnd or bnhd", text));
}

double count_numbers(const std::vector<tensor_spec>& tensors, bool (*in)(tensor_role)) {
  double count = 0;
  for (const tensor_spec& each : tensors) {
    if (!in(each.role)) continue;
    double elements = 1;
    for (const std::int64_t extent : each.shape) elements *= static_cast<double>(extent);
    count += elements;
  }
  return count;
}

tensor_numbers take_numbers(const std::vector<tensor_spec>& tensors, bool (*in)(tensor_role),
                            std::span<const float>& numbers) {
  tensor_numbers taken;
  for (const tensor_spec& each : tensors) {
    if (!in(each.role)) continue;
    const auto part = numbers.first(static_cast<std::size_t>(each.count()));
    numbers = numbers.subspan(part.size());
    taken.emplace(each.name, std::vector<float>(part.begin(), part.end()));
  }
  return taken;
}

case_file parse_case(std::string_view text, const case_header& headerless) {
  case_header header = headerless;
  if (text.substr(0, header_mark.size()) == header_mark) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (!headerless.given_by.empty()) {
      throw invalid_argument(
          fmt::format("has a header, and {} is for files without one", headerless.given_by));
    }
    header = parse_header(line);
    text.remove_prefix(line.size());
  }
  const std::vector<float> numbers = parse_floats(text);
  return header.operation.empty() ? based_case(header, numbers) : generic_case(header, numbers);
}

case_file read_case(const std::filesystem::path& path, const case_header& headerless) {
  try {
    if (std::filesystem::is_directory(path)) throw invalid_argument("is a folder");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw invalid_argument("cannot be read");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (text.empty()) throw invalid_argument("is empty");
    return parse_case(text, headerless);
  } catch (const std::exception& error) {
    throw invalid_argument(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace based
