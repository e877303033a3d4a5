#include "benchmarks/case_file.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <numbers>
#include <string>
#include <system_error>

#include "kernels/core/error.h"

namespace based {
namespace {

constexpr std::string_view header_mark = "#";
constexpr std::string_view header_name = "based-case";
constexpr std::string_view white_space = " \t\r\n\v\f";

// The factors that the generator divides its states by, with D = 16: D^(1/4) and sqrt(2 D).
constexpr float linear_divisor = 2;
constexpr float product_divisor = 4 * std::numbers::sqrt2_v<float>;

/// Takes the next word off the front of `text`; empty at its end.
std::string_view next_word(std::string_view& text) {
  const auto start = text.find_first_not_of(white_space);
  text.remove_prefix(start == std::string_view::npos ? text.size() : start);
  const std::string_view word = text.substr(0, text.find_first_of(white_space));
  text.remove_prefix(word.size());
  return word;
}

template <class T>
T parse_number(std::string_view text, std::string_view what) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw invalid_argument(fmt::format("{} is '{}', want a number", what, text));
  }
  return value;
}

case_layout parse_header(std::string_view line) {
  case_layout layout;
  std::string_view rest = line.substr(header_mark.size());
  if (next_word(rest) != header_name) {
    throw invalid_argument(
        fmt::format("the header is '{}', want '# based-case B=... H=... N=...'", line));
  }
  for (std::string_view word = next_word(rest); !word.empty(); word = next_word(rest)) {
    const auto equals = word.find('=');
    const std::string_view key = word.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
    if (key == "B") {
      layout.shape.batch = parse_number<std::int64_t>(value, "the header's B");
    } else if (key == "H") {
      layout.shape.heads = parse_number<std::int64_t>(value, "the header's H");
    } else if (key == "N") {
      layout.shape.seqlen = parse_number<std::int64_t>(value, "the header's N");
    } else if (key == "scale") {
      layout.scale = parse_number<float>(value, "the header's scale");
    } else if (key == "terms") {
      layout.terms = parse_terms(value);
    } else {
      throw invalid_argument(
          fmt::format("the header has '{}', want B=, H=, N=, scale= or terms=", word));
    }
  }
  return layout;
}

/// Reads floats, refusing what is no finite number.
std::vector<float> parse_floats(std::string_view text) {
  std::vector<float> numbers;
  for (std::string_view word = next_word(text); !word.empty(); word = next_word(text)) {
    const auto value = parse_number<float>(word, fmt::format("number {}", numbers.size() + 1));
    if (!std::isfinite(value)) {
      throw invalid_argument(
          fmt::format("number {} is {}, want finite numbers", numbers.size() + 1, word));
    }
    numbers.push_back(value);
  }
  return numbers;
}

/// From the generator's two states to rows of features.h.
std::vector<float> compact_state(const float* linear, const float* product, std::int64_t heads) {
  constexpr std::int64_t linear_size = value_dim * feature_dim;
  constexpr std::int64_t product_size = feature_dim * feature_dim * value_dim;
  std::vector<float> state(static_cast<std::size_t>(heads) * compact_features * value_dim,
                           std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t head = 0; head < heads; ++head) {
    float* rows = kv_state_view<float>{state}.kv_head(head);
    for (int i = 0; i < feature_dim; ++i) {
      for (int c = 0; c < value_dim; ++c) {
        rows[(first_linear_row + i) * value_dim + c] = linear_divisor * linear[c * feature_dim + i];
        for (int j = i; j < feature_dim; ++j) {
          rows[product_row(i, j) * value_dim + c] =
              product_divisor * product[(i * feature_dim + j) * value_dim + c];
        }
      }
    }
    linear += linear_size;
    product += product_size;
  }
  return state;
}

}  // namespace

std::array<bool, polynomial_terms> parse_terms(std::string_view text) {
  std::array<bool, polynomial_terms> terms{};
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t comma = std::min(text.find(',', start), text.size());
    const std::string_view word = text.substr(start, comma - start);
    if (word.size() != 1 || word[0] < '0' || word[0] >= '0' + polynomial_terms) {
      throw invalid_argument(fmt::format("terms is '{}', want some of 0,1,2", text));
    }
    terms[static_cast<std::size_t>(word[0] - '0')] = true;
    start = comma + 1;
  }
  return terms;
}

case_file parse_case(std::string_view text, const case_layout& headerless) {
  case_file parsed{.layout = headerless};
  if (text.substr(0, header_mark.size()) == header_mark) {
    const std::string_view line = text.substr(0, text.find('\n'));
    parsed.layout = parse_header(line);
    text.remove_prefix(line.size());
  }
  const prefill_shape& shape = parsed.layout.shape;
  validate(prefill_problem{.shape = shape});
  const std::vector<float> numbers = parse_floats(text);

  // In double: a header may claim any shape.
  const double expected = 2.0 * (feature_dim + value_dim) * static_cast<double>(shape.tokens());
  const double states =
      (1.0 + feature_dim) * feature_dim * value_dim * static_cast<double>(shape.batch_heads());
  const auto count = static_cast<double>(numbers.size());
  const bool has_states = count == expected + states;
  if (count != expected && !has_states) {
    throw invalid_argument(
        fmt::format("has {:.0f} numbers, want {:.0f} (q, k, v, o of B={} H={} N={}) or {:.0f} (and "
                    "the KV states)",
                    count, expected, shape.batch, shape.heads, shape.seqlen, expected + states));
  }

  auto from = numbers.begin();
  for (auto [tensor, dim] : {std::pair{&parsed.q, feature_dim}, std::pair{&parsed.k, feature_dim},
                             std::pair{&parsed.v, value_dim}, std::pair{&parsed.o, value_dim}}) {
    tensor->assign(from, from + shape.tokens() * dim);
    from += shape.tokens() * dim;
  }
  if (has_states) {
    const float* linear = &*from;
    const float* product = linear + shape.batch_heads() * value_dim * feature_dim;
    parsed.state = compact_state(linear, product, shape.batch_heads());
  }
  return parsed;
}

case_file read_case(const std::filesystem::path& path, const case_layout& headerless) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw invalid_argument(fmt::format("cannot read '{}'", path.string()));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  try {
    return parse_case(text, headerless);
  } catch (const invalid_argument& error) {
    throw invalid_argument(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace based
