#include "kernels/core/operation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <limits>
#include <numeric>

namespace based {
namespace {

constexpr std::int64_t largest_number = std::numeric_limits<std::int32_t>::max();

void refuse_unless(bool good, const std::string& message) {
  if (!good) throw invalid_argument(message);
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {  // outside any domain, on the side of its sign
    using limits = std::numeric_limits<Number>;
    value = text.starts_with('-') ? limits::lowest() : limits::max();
  } else if (error != std::errc{}) {
    return std::nullopt;
  }
  if (end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The switches of `text` that are on, in the order of `names`, joined by +, or "none".
std::string canonical_options(std::string_view flag, std::string_view text,
                              const std::vector<std::string>& names) {
  std::vector<bool> on(names.size(), text == "all");
  for (std::size_t start = 0; text != "all" && text != "none" && start <= text.size();) {
    const std::size_t end = std::min(text.find('+', start), text.size());
    const std::string_view part = text.substr(start, end - start);
    const auto found = std::ranges::find(names, part);
    refuse_unless(found != names.end(),
                  fmt::format("--{}: '{}' is not an option; want none, all, or some of {} "
                              "joined by +",
                              flag, part, fmt::join(names, ", ")));
    on[static_cast<std::size_t>(found - names.begin())] = true;
    start = end + 1;
  }
  std::string canonical;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (on[i]) canonical += (canonical.empty() ? "" : "+") + names[i];
  }
  return canonical.empty() ? "none" : canonical;
}

}  // namespace

std::string to_string(const axis_value& value) {
  // Problems hold real numbers as floats: their shortest form has no digits that nobody typed.
  if (const double* real = std::get_if<double>(&value)) {
    return fmt::format("{}", static_cast<float>(*real));
  }
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  return std::get<std::string>(value);
}

axis_value axis_domain::parse(std::string_view flag, std::string_view text) const {
  switch (of) {
    case kind::whole_number: {
      const auto number = parse_number<std::int64_t>(text);
      refuse_unless(number.has_value(),
                    fmt::format("--{}: '{}' is not a whole number", flag, text));
      refuse_unless(
          *number >= least && *number <= largest_number,
          fmt::format("--{}: '{}' is outside {} to {}", flag, text, least, largest_number));
      return *number;
    }
    case kind::real_number: {
      const auto number = parse_number<double>(text);
      refuse_unless(number.has_value() && std::isfinite(*number),
                    fmt::format("--{}: '{}' is not a number", flag, text));
      // Problems hold it as a float: what rounds to one float is one value.
      const auto rounded = static_cast<float>(*number);
      refuse_unless(std::isfinite(rounded) && (rounded != 0 || *number == 0),
                    fmt::format("--{}: '{}' is outside fp32's range", flag, text));
      return static_cast<double>(rounded);
    }
    case kind::choice: {
      const bool is_known = std::ranges::find(names, text) != names.end();
      if (open && !is_known) {
        if (const auto name = open(text)) return *name;
      }
      refuse_unless(is_known,
                    fmt::format("--{}: '{}' is not {}", flag, text, fmt::join(names, " or ")));
      if (const auto number = parse_number<std::int64_t>(text)) return *number;
      return std::string(text);
    }
    case kind::options:
      break;
  }
  return canonical_options(flag, text, names);
}

std::int64_t tensor_spec::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(product, extent, &product)) return most_elements;
  }
  return std::min(product, most_elements);
}

double tensor_spec::real_bytes() const {
  return std::accumulate(
      shape.begin(), shape.end(), static_cast<double>(bytes_of(type)),
      [](double product, std::int64_t extent) { return product * static_cast<double>(extent); });
}

random_stream tensor_spec::values(std::uint64_t seed) const {
  std::uint64_t id = 0;
  for (const char letter : name) id = mix64(id ^ static_cast<unsigned char>(letter));
  if (log_uniform.largest != 0) {
    return random_stream::log_uniform(seed, id, log_uniform.least, log_uniform.largest);
  }
  if (below > 0) return random_stream::indices(seed, id, static_cast<std::uint32_t>(below));
  return {seed, id, stddev};
}

std::array<std::int64_t, most_dimensions> packed_strides(const tensor_spec& spec,
                                                         sequence_order order) {
  std::array<std::int64_t, most_dimensions> strides = {};
  std::int64_t step = 1;
  const auto pack = [&](std::size_t dimension) {
    strides[dimension] = step;
    step *= spec.shape[dimension];
  };
  if (spec.is_sequence && order == sequence_order::bnhd) {
    const auto outwards = spec.is_along_time ? std::array{3, 2, 0, 1} : std::array{3, 1, 2, 0};
    for (const std::size_t dimension : outwards) pack(dimension);
  } else {
    for (std::size_t dimension = spec.shape.size(); dimension-- > 0;) pack(dimension);
  }
  return strides;
}

std::map<std::string_view, std::unique_ptr<operation>>& operations() {
  static std::map<std::string_view, std::unique_ptr<operation>> all;
  return all;
}

}  // namespace based
