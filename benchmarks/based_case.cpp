#include "benchmarks/based_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/core/error.h"

namespace based {
namespace {

// The factors that the generator divides its states by, with D = 16: D^(1/4) and sqrt(2 D).
constexpr float linear_divisor = 2;
constexpr float product_divisor = 4 * std::numbers::sqrt2_v<float>;
constexpr std::int64_t linear_size = value_dim * feature_dim;
constexpr std::int64_t product_size = feature_dim * feature_dim * value_dim;

/// From the generator's two states to rows of features.h.
std::vector<float> compact_state(std::span<const float> states, std::int64_t heads) {
  const float* linear = states.data();
  const float* product = linear + heads * linear_size;
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

/// Copies a sequence to [B, H, N, dim].
std::vector<float> as_bhnd(const std::vector<float>& values, const prefill_shape& shape, int dim,
                           sequence_order order) {
  if (order == sequence_order::bhnd) return values;
  std::vector<float> copy;
  copy.reserve(values.size());
  for (std::int64_t head = 0; head < shape.batch_heads(); ++head) {
    const std::int64_t b = head / shape.heads, h = head % shape.heads;
    for (std::int64_t n = 0; n < shape.seqlen; ++n) {
      const auto row = values.begin() + ((b * shape.seqlen + n) * shape.heads + h) * dim;
      copy.insert(copy.end(), row, row + dim);
    }
  }
  return copy;
}

/// The norm of o in float64 at this scale.
double norm_at(float scale, const case_file& of, const prefill_shape& shape) {
  const auto q = as_bhnd(of.given.at("q"), shape, feature_dim, of.order);
  const auto k = as_bhnd(of.given.at("k"), shape, feature_dim, of.order);
  const auto v = as_bhnd(of.given.at("v"), shape, value_dim, of.order);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(shape.seqlen));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<double> o(rows.size() * value_dim);
  double square = 0;
  for (std::int64_t head = 0; head < shape.batch_heads(); ++head) {
    const std::int64_t token = head * shape.seqlen;
    reference::prefill_rows({.seqlen = shape.seqlen,
                             .q = q.data() + token * feature_dim,
                             .k = k.data() + token * feature_dim,
                             .v = v.data() + token * value_dim},
                            {.scale = scale}, rows, o);
    square += std::inner_product(o.begin(), o.end(), o.begin(), 0.0);
  }
  return std::sqrt(square);
}

template <class T>
T value_or(const axis_values& values, std::string_view flag, T fallback) {
  const auto found = values.find(flag);
  return found == values.end() ? fallback : std::get<T>(found->second);
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

case_file based_case(const case_header& header, std::span<const float> numbers) {
  axis_values values = header.values;
  values.try_emplace("seqlen", std::int64_t{1024});
  const prefill_shape shape = {.batch = value_or(values, "batch", std::int64_t{1}),
                               .heads = value_or(values, "heads", std::int64_t{1}),
                               .seqlen = value_or(values, "seqlen", std::int64_t{1})};
  if (value_or(values, "options", std::string("none")) != "none") {
    throw invalid_argument("options need a header with operation=prefill");
  }

  const operation& prefill = operation_named(based_case_operation);
  const std::vector<tensor_spec> tensors = prefill.tensors(values, element_type::f32);
  const double outputs = count_numbers(tensors, is_read) + count_numbers(tensors, is_written);
  const double states = static_cast<double>(linear_size + product_size) *
                        static_cast<double>(shape.batch) * static_cast<double>(shape.heads);
  const auto count = static_cast<double>(numbers.size());
  if (count != outputs && count != outputs + states) {
    throw invalid_argument(
        fmt::format("has {:.0f} numbers, want {:.0f} (q, k, v, o of B={} H={} N={}) or {:.0f} (and "
                    "the KV states)",
                    count, outputs, shape.batch, shape.heads, shape.seqlen, outputs + states));
  }

  case_file parsed = {.operation = std::string(based_case_operation), .order = header.order};
  parsed.given = take_numbers(tensors, is_read, numbers);
  case_part output = {.runs = {{values}}, .expected = take_numbers(tensors, is_written, numbers)};
  const auto terms = parse_terms(header.terms.empty() ? "0,1,2" : header.terms);
  if (std::ranges::find(terms, false) != terms.end()) {
    const double scale = value_or(values, "scale", double{prefill_options{}.scale});
    axis_values at_minus = values, at_zero = values;
    at_minus["scale"] = -scale;
    at_zero["scale"] = 0.0;
    const double odd = terms[1] ? 0.5 : 0, even = terms[2] ? 0.5 : 0;
    output.runs = {{values, even + odd},
                   {at_minus, even - odd},
                   {at_zero, (terms[0] ? 1.0 : 0.0) - (terms[2] ? 1.0 : 0.0)}};
    for (const double each : {scale, -scale, 0.0}) {
      output.least_norm =
          std::max(output.least_norm, norm_at(static_cast<float>(each), parsed, shape));
    }
  }
  parsed.parts.push_back(output);
  if (count > outputs) {
    values["options"] = std::string("final_state");
    parsed.parts.push_back(
        {.runs = {{values}},
         .expected = {{"final_state.kv", compact_state(numbers, shape.batch_heads())}}});
  }
  return parsed;
}

}  // namespace based
