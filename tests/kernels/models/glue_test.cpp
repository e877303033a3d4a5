// What stands between a model's products and its mixers, on both devices, against float64 loops.
// Every tensor lies between guards, and an output is poisoned before the call.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/element_type.h"
#include "kernels/core/error.h"
#include "kernels/models/glue.h"
#include "kernels/models/glue/decode.h"
#include "kernels/models/glue/step_product.h"
#include "tests/support/compare.h"
#include "tests/support/device_bytes.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

#ifdef BASED_HAS_CUDA
#include <cuda_runtime_api.h>

#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
#endif

namespace based::models {
namespace {

using support::normal_values;

/// Elements of E on a device, between guards.
template <class E>
class array {
 public:
  array(device_kind device, std::int64_t size)
      : memory_(device, size * std::int64_t{sizeof(E)}) {}  // poisoned: NaN, or -1
  array(device_kind device, const std::vector<E>& values)
      : array(device, static_cast<std::int64_t>(values.size())) {
    const auto bytes = std::as_bytes(std::span(values));
    memory_.write(bytes);
  }
  ~array() { EXPECT_EQ(memory_.guard_damage(), std::nullopt); }
  array(const array&) = delete;
  array& operator=(const array&) = delete;

  void write(const std::vector<float>& values) {
    const std::vector<E> elements = rounded(values);
    memory_.write(std::as_bytes(std::span(elements)));
  }
  E* data() { return reinterpret_cast<E*>(memory_.data()); }
  std::vector<E> read() const {
    support::synchronize(memory_.device());
    const std::vector<std::byte> bytes = memory_.read();
    std::vector<E> values(bytes.size() / sizeof(E));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  /// Rounded from, and widened to, fp32.
  array(device_kind device, const std::vector<float>& values, int)
      : array(device, rounded(values)) {}
  std::vector<float> floats() const {
    std::vector<float> values;
    for (const E& each : read()) values.push_back(to_float(each));
    return values;
  }

 private:
  static std::vector<E> rounded(const std::vector<float>& values) {
    std::vector<E> elements;
    for (const float value : values) elements.push_back(from_float<E>(value));
    return elements;
  }

  support::guarded_buffer<std::byte> memory_;
};

double silu(double x) {
  return x / (1 + std::exp(-x));
}
std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}
/// Scaled copies keep what bf16 holds exactly only by powers of two.
std::vector<float> scaled(std::vector<float> values, float power_of_two) {
  for (float& value : values) value *= power_of_two;
  return values;
}

template <class T>
class glue_test : public ::testing::Test {
 protected:
  static constexpr device_kind device =
      std::is_same_v<T, float> ? device_kind::cpu : device_kind::cuda;
  static constexpr double tolerance = std::is_same_v<T, float> ? 1e-5 : 4e-3;

  void SetUp() override {
    if (device == device_kind::cpu) return;
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }

  static array<T> elements(const std::vector<float>& values) { return {device, values, 0}; }
  static array<T> elements(std::int64_t count) { return {device, count}; }
  static array<float> floats(const std::vector<float>& values) { return {device, values}; }
  static array<float> floats(std::int64_t count) { return {device, count}; }
  static array<std::int32_t> integers(const std::vector<std::int32_t>& values) {
    return {device, values};
  }
  static array<std::int32_t> integers(std::int64_t count) { return {device, count}; }

  static void expect_near(const std::vector<float>& actual, const std::vector<double>& expected,
                          std::int64_t row) {
    const support::comparison found = support::compare(actual, expected, row);
    EXPECT_TRUE(found.within(tolerance)) << found.message();
  }
};

template <class T>
class glue_between_products : public glue_test<T> {};
template <class T>
class glue_of_a_step : public glue_test<T> {};

#ifdef BASED_HAS_CUDA
using both_devices = ::testing::Types<float, bf16>;
#else
using both_devices = ::testing::Types<float>;
#endif
TYPED_TEST_SUITE(glue_between_products, both_devices);
TYPED_TEST_SUITE(glue_of_a_step, both_devices);

const std::vector<std::int64_t> ragged_rows = {1, 63, 65, 1000};

TYPED_TEST(glue_between_products, embeds_rows_and_marks_foreign_ids) {
  constexpr std::int64_t vocabulary = 37;
  for (const std::int64_t width : {8, 264, 1024}) {
    const std::vector<float> table = normal_values(vocabulary * width, 1);
    for (const std::int64_t tokens : ragged_rows) {
      SCOPED_TRACE(fmt::format("{} tokens of {}", tokens, width));
      std::vector<std::int32_t> ids;
      for (std::int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<int>(t * 5 % vocabulary));
      if (tokens > 4) {
        ids[1] = -1, ids[2] = vocabulary, ids[4] = std::numeric_limits<std::int32_t>::min();
      }
      auto device_table = this->elements(table);
      auto device_ids = this->integers(ids);
      auto residual = this->floats(tokens * width);
      embed<TypeParam>({.ids = device_ids.data(),
                        .table = device_table.data(),
                        .vocabulary = vocabulary,
                        .tokens = tokens,
                        .width = width,
                        .residual = residual.data()},
                       nullptr);
      const std::vector<float> actual = residual.read();
      for (std::int64_t i = 0; i < tokens * width; ++i) {
        const std::int32_t id = ids[index(i / width)];
        if (id < 0 || id >= vocabulary) {
          ASSERT_TRUE(std::isnan(actual[index(i)])) << "element " << i;
        } else {
          ASSERT_EQ(actual[index(i)], table[index(id * width + i % width)]) << "element " << i;
        }
      }
    }
  }
}

/// The norm of the first `width` of every `stride` values, gated where there are gates.
std::vector<double> normalized(const std::vector<float>& x, std::int64_t rows, std::int64_t width,
                               std::int64_t stride, const std::vector<float>& weight, double eps,
                               const std::vector<float>& gate = {}, std::int64_t gate_stride = 0) {
  std::vector<double> all;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<double> v;
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      v.push_back(x[index(row * stride + i)]);
      if (!gate.empty()) v.back() *= silu(gate[index(row * gate_stride + i)]);
      squares += v.back() * v.back();
    }
    const double root = std::sqrt(squares / static_cast<double>(width) + eps);
    for (std::int64_t i = 0; i < width; ++i) all.push_back(v[index(i)] / root * weight[index(i)]);
  }
  return all;
}

TYPED_TEST(glue_between_products, normalizes_rows_of_the_residual_stream) {
  constexpr float eps = 1e-5f;
  const auto check = [&](std::int64_t rows, std::int64_t width, std::int64_t stride, float factor) {
    SCOPED_TRACE(fmt::format("{} rows of {}, {} apart, times {}", rows, width, stride, factor));
    const std::vector<float> x = scaled(normal_values(rows * stride, 2), factor);
    const std::vector<float> weight = normal_values(width, 3);
    auto device_x = this->floats(x);
    auto device_weight = this->floats(weight);
    auto out = this->elements(rows * width);
    normalize<TypeParam>({.x = device_x.data(),
                          .row_stride = stride,
                          .rows = rows,
                          .width = width,
                          .weight = device_weight.data(),
                          .eps = eps,
                          .out = out.data()},
                         nullptr);
    this->expect_near(out.floats(), normalized(x, rows, width, stride, weight, eps), width);
    EXPECT_EQ(device_x.read(), x);
  };
  for (const std::int64_t width : {8, 24, 64, 1000, 1024, 2048, 8192}) {
    for (const std::int64_t rows : {1, 65}) check(rows, width, width, 1);
  }
  for (const std::int64_t rows : ragged_rows) check(rows, 1024, 1024, 1);
  check(65, 1024, 5 * 1024, 1);  // the last tokens of sequences
  // More rows than which threads have four words each.
  for (const std::int64_t width : {64, 1024, 1032, 2816}) check(4099, width, width, 1);
  for (const float factor : {0x1p-60f, 0x1p-20f, 0x1p+50f}) check(65, 1024, 1024, factor);
}

TYPED_TEST(glue_between_products, normalizes_rows_of_an_activation_in_place) {
  constexpr float eps = 1e-5f;
  const auto check = [&](std::int64_t rows, std::int64_t width, bool is_gated, float factor,
                         float gate_factor) {
    SCOPED_TRACE(fmt::format("{} rows of {}, gated {}, times {}, gate times {}", rows, width,
                             is_gated, factor, gate_factor));
    const std::int64_t gate_stride = width + 48;
    const std::vector<float> x = scaled(normal_values(rows * width, 4), factor);
    const std::vector<float> gate = scaled(normal_values(rows * gate_stride, 5), gate_factor);
    const std::vector<float> weight = normal_values(width, 6);
    auto device_x = this->elements(x), device_gate = this->elements(gate);
    auto device_weight = this->floats(weight);
    normalize_gated<TypeParam>({.x = device_x.data(),
                                .gate = is_gated ? device_gate.data() : nullptr,
                                .gate_stride = gate_stride,
                                .rows = rows,
                                .width = width,
                                .weight = device_weight.data(),
                                .eps = eps},
                               nullptr);
    this->expect_near(device_x.floats(),
                      is_gated ? normalized(x, rows, width, width, weight, eps, gate, gate_stride)
                               : normalized(x, rows, width, width, weight, eps),
                      width);
    EXPECT_EQ(device_gate.floats(), gate);
  };
  for (const bool is_gated : {false, true}) {
    for (const std::int64_t width : {8, 64, 128, 2048, 4096}) {
      for (const std::int64_t rows : {1, 65}) check(rows, width, is_gated, 1, 1);
    }
    for (const std::int64_t rows : ragged_rows) check(rows, 2048, is_gated, 1, 1);
    check(5000, 64, is_gated, 1, 1);
    check(4099, 2048, is_gated, 1, 1);
    check(65, 2048, is_gated, 0x1p-40f, 1);
    check(65, 2048, is_gated, 0x1p+40f, 1);
  }
  check(65, 2048, true, 1, 64);  // gates that are all but closed or open
}

TYPED_TEST(glue_between_products, multiplies_by_silu) {
  for (const std::int64_t inner : {8, 2048, 2816}) {
    for (const std::int64_t tokens : {1, 2, 3, 63, 65, 258}) {
      for (const float factor : {0x1p-30f, 1.0f, 0x1p+10f, 0x1p+60f}) {
        SCOPED_TRACE(fmt::format("{} tokens of {}, times {}", tokens, inner, factor));
        const std::vector<float> x = scaled(normal_values(tokens * 2 * inner, 7), factor);
        auto device_x = this->elements(x);
        auto out = this->elements(tokens * inner);
        swiglu<TypeParam>(
            {.x = device_x.data(), .tokens = tokens, .inner = inner, .out = out.data()}, nullptr);
        std::vector<double> expected;
        for (std::int64_t t = 0; t < tokens; ++t) {
          for (std::int64_t i = 0; i < inner; ++i) {
            const auto at = index(t * 2 * inner + i);
            expected.push_back(x[at] * silu(x[at + index(inner)]));
          }
        }
        // Of gates that are far from 0 a short row may have closed ones only: nothing but what is
        // too small for fp32.
        this->expect_near(out.floats(), expected, factor > 1 ? tokens * inner : inner);
      }
    }
  }
}

struct conv_sizes {
  std::int64_t batch, seqlen, channels;
};

TYPED_TEST(glue_between_products, convolves_and_gates) {
  constexpr std::int64_t taps = 3, kept = taps - 1;
  const auto check = [&](const conv_sizes& size, bool has_states) {
    const auto [batch, seqlen, channels] = size;
    SCOPED_TRACE(fmt::format("B {}, N {}, C {}, states {}", batch, seqlen, channels, has_states));
    const std::vector<float> u = normal_values(batch * seqlen * 2 * channels, 8);
    const std::vector<float> bias = normal_values(2 * channels, 9);
    const std::vector<float> weight = normal_values(taps * channels, 10);
    const std::vector<float> initial = normal_values(batch * kept * channels, 11);
    auto device_u = this->elements(u), state = this->elements(initial);
    auto device_bias = this->floats(bias), device_weight = this->floats(weight);
    auto out = this->elements(batch * seqlen * channels);
    gated_conv<TypeParam>({.u = device_u.data(),
                           .bias = device_bias.data(),
                           .weight = device_weight.data(),
                           .batch = batch,
                           .seqlen = seqlen,
                           .channels = channels,
                           .taps = taps,
                           .out = out.data(),
                           .initial_state = has_states ? state.data() : nullptr,
                           .final_state = has_states ? state.data() : nullptr},
                          nullptr);
    const auto v = [&, n_tokens = seqlen, width = channels](std::int64_t b, std::int64_t n,
                                                            std::int64_t c) -> double {
      if (n >= 0) return double{u[index((b * n_tokens + n) * 2 * width + c)]} + bias[index(c)];
      return has_states ? initial[index((b * kept + n + kept) * width + c % width)] : 0.0f;
    };
    std::vector<double> expected, last;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t n = 0; n < seqlen; ++n) {
        for (std::int64_t c = 0; c < channels; ++c) {
          double sum = 0;
          for (std::int64_t k = 0; k < taps; ++k) {
            sum += weight[index(k * channels + c)] * v(b, n - kept + k, c);
          }
          expected.push_back(silu(sum) * v(b, n, channels + c));
        }
      }
      for (std::int64_t k = 0; k < kept; ++k) {
        for (std::int64_t c = 0; c < channels; ++c) last.push_back(v(b, seqlen - kept + k, c));
      }
    }
    this->expect_near(out.floats(), expected, channels);
    if (has_states) this->expect_near(state.floats(), last, channels);
  };
  for (const bool has_states : {false, true}) {
    for (const std::int64_t seqlen : {1, 2, 3, 63, 65, 1000}) check({3, seqlen, 40}, has_states);
    check({2, 333, 2048}, has_states);
    check({1, 4097, 8}, has_states);
    check({1, 4300, 2048}, has_states);  // enough for threads that have longer runs
  }
}

TYPED_TEST(glue_between_products, convolves_along_time) {
  constexpr std::int64_t taps = 4, kept = taps - 1;
  const auto check = [&](const conv_sizes& size) {
    const auto [batch, seqlen, channels] = size;
    SCOPED_TRACE(fmt::format("B {}, N {}, C {}", batch, seqlen, channels));
    const std::int64_t tokens = batch * seqlen, stride = (tokens + 15) / 8 * 8;
    std::vector<float> x = normal_values(channels * stride, 12);
    for (std::int64_t c = 0; c < channels; ++c) {  // nothing is read from behind a channel's tokens
      std::fill(x.begin() + c * stride + tokens, x.begin() + (c + 1) * stride, std::nanf(""));
    }
    const std::vector<float> bias = normal_values(channels, 13);
    const std::vector<float> weight = normal_values(taps * channels, 14);
    auto device_x = this->elements(x), out = this->elements(channels * stride);
    auto state = this->elements(batch * kept * channels);
    auto device_bias = this->floats(bias), device_weight = this->floats(weight);
    conv_along_time<TypeParam>({.x = device_x.data(),
                                .channel_stride = stride,
                                .weight = device_weight.data(),
                                .bias = device_bias.data(),
                                .batch = batch,
                                .seqlen = seqlen,
                                .channels = channels,
                                .taps = taps,
                                .out = out.data(),
                                .final_state = state.data()},
                               nullptr);
    const auto input = [&, n_tokens = seqlen](std::int64_t c, std::int64_t b,
                                              std::int64_t n) -> double {
      return n < 0 ? 0.0f : x[index(c * stride + b * n_tokens + n)];
    };
    std::vector<double> expected, last;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t n = 0; n < seqlen; ++n) {
          double sum = bias[index(c)];
          for (std::int64_t k = 0; k < taps; ++k) {
            sum += weight[index(k * channels + c)] * input(c, b, n - kept + k);
          }
          expected.push_back(silu(sum));
        }
      }
      expected.insert(expected.end(), index(stride - tokens), std::nan(""));  // left alone
    }
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t k = 0; k < kept; ++k) {
        for (std::int64_t c = 0; c < channels; ++c) last.push_back(input(c, b, seqlen - kept + k));
      }
    }
    this->expect_near(out.floats(), expected, stride);
    this->expect_near(state.floats(), last, channels);
  };
  for (const std::int64_t seqlen : {1, 2, 3, 5, 8, 12, 63, 65, 1000}) check({3, seqlen, 5});
  check({1, 8, 1});
  check({1, 1, 1});
  check({2, 5003, 9});  // several blocks a channel
}

std::vector<double> turned(std::vector<double> head, int rotated, double base, double position) {
  for (int i = 0, half = rotated / 2; i < half; ++i) {
    const double angle = position * std::pow(base, -2.0 * i / rotated);
    const double x = head[index(i)], y = head[index(i + half)];
    head[index(i)] = x * std::cos(angle) - y * std::sin(angle);
    head[index(i + half)] = x * std::sin(angle) + y * std::cos(angle);
  }
  return head;
}

TYPED_TEST(glue_between_products, rotates_pairs_by_their_position) {
  const auto check = [&](std::int64_t tokens, std::int64_t heads, int rotated) {
    constexpr int dim = 64;
    constexpr float base = 10000;
    SCOPED_TRACE(fmt::format("{} tokens, {} heads, {} turn", tokens, heads, rotated));
    const std::int64_t seqlen = (tokens + 2) / 3, stride = (heads + 2) * dim;
    const std::vector<float> x = normal_values(tokens * stride, 15);
    auto device_x = this->elements(x);
    rotate<TypeParam>({.x = device_x.data(),
                       .token_stride = stride,
                       .tokens = tokens,
                       .seqlen = seqlen,
                       .heads = heads,
                       .head_dim = dim,
                       .rotated = rotated,
                       .base = base},
                      nullptr);
    std::vector<double> expected;
    for (std::int64_t at = 0; at < tokens * stride; at += dim) {
      const auto from = x.begin() + at;
      const bool turns = at % stride / dim < heads;
      const auto position = static_cast<double>(at / stride % seqlen);
      const auto head = turned({from, from + dim}, turns ? rotated : 0, base, position);
      expected.insert(expected.end(), head.begin(), head.end());
    }
    this->expect_near(device_x.floats(), expected, dim);
  };
  for (const int rotated : {16, 32, 64}) {
    for (const std::int64_t tokens : ragged_rows) check(tokens, 32, rotated);
    check(65, 1, rotated);
    check(65, 5, rotated);
  }
}

/// Whichever there is of both devices.
template <class T>
void choose_on(const choose_args& args) {
  if constexpr (std::is_same_v<T, float>) {
    choose_on_cpu(args);
  } else {
    choose(args, nullptr);
  }
}

TYPED_TEST(glue_of_a_step, chooses_the_first_of_the_largest) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float nan = std::nanf("");
  for (const std::int64_t vocabulary : {1, 7, 8, 9, 1000, 8193, 50257}) {
    SCOPED_TRACE(fmt::format("{} ids", vocabulary));
    const std::int64_t stride = (vocabulary + 8) / 8 * 8 + 8;
    std::vector<std::vector<float>> rows;
    std::vector<std::int32_t> expected;
    const auto add = [&](std::vector<float> row, std::int64_t id) {
      row.resize(index(stride), inf);  // behind the vocabulary
      rows.push_back(std::move(row));
      expected.push_back(static_cast<std::int32_t>(id));
    };
    const std::vector<float> values = normal_values(vocabulary, 16);
    add(values, std::ranges::max_element(values) - values.begin());
    for (const std::int64_t at : {std::int64_t{0}, vocabulary / 2, vocabulary - 1}) {
      std::vector<float> row = values;
      row[index(at)] = 100;
      row.back() = 100;  // equal, and not before
      add(row, at);
      std::ranges::transform(row, row.begin(), [](float v) { return v - 1000; });
      add(row, at);
      std::ranges::fill(row, nan);
      row[index(at)] = -inf;
      add(row, at);
      std::ranges::fill(row, -0.0f);
      row[index(at)] = 0.0f;  // equal to the others
      add(row, 0);
    }
    add(std::vector<float>(index(vocabulary), nan), 0);
    add(std::vector<float>(index(vocabulary), -inf), 0);

    std::vector<float> logits;
    for (const auto& row : rows) logits.insert(logits.end(), row.begin(), row.end());
    const auto batch = static_cast<std::int64_t>(rows.size());
    auto device_logits = this->floats(logits);
    auto ids = this->integers(batch);
    auto position = this->integers(std::vector<std::int32_t>(rows.size(), 41));
    choose_on<TypeParam>({.logits = device_logits.data(),
                          .row_stride = stride,
                          .batch = batch,
                          .vocabulary = vocabulary,
                          .position = position.data(),
                          .ids = ids.data()});
    EXPECT_EQ(ids.read(), expected);
    EXPECT_THAT(position.read(), ::testing::Each(42));
  }
}

TYPED_TEST(glue_of_a_step, draws_what_the_noise_makes_the_largest) {
  constexpr std::int64_t vocabulary = 1003, stride = 1008, batch = 40;
  constexpr float temperature = 0.7f;
  constexpr std::uint64_t seed = 5;
  const std::vector<float> logits = normal_values(batch * stride, 17);
  auto device_logits = this->floats(logits);
  std::vector<std::int32_t> positions(batch);
  std::iota(positions.begin(), positions.end(), 100);
  for (const int top_k : {0, 1, 2, 50, 1003}) {
    SCOPED_TRACE(fmt::format("top {}", top_k));
    auto ids = this->integers(batch);
    auto position = this->integers(positions);
    choose_on<TypeParam>({.logits = device_logits.data(),
                          .row_stride = stride,
                          .batch = batch,
                          .vocabulary = vocabulary,
                          .temperature = temperature,
                          .top_k = top_k,
                          .seed = seed,
                          .position = position.data(),
                          .ids = ids.data()});
    const std::vector<std::int32_t> chosen = ids.read();
    for (std::int64_t row = 0; row < batch; ++row) {
      const std::span own(logits.data() + row * stride, vocabulary);
      std::vector<float> sorted(own.begin(), own.end());
      std::ranges::sort(sorted, std::greater());
      const float least = sorted[top_k == 0 ? vocabulary - 1 : index(top_k - 1)];
      const std::uint64_t key = draw_key(seed, row, positions[index(row)]);
      const auto score = [&](std::int64_t id) {
        return double{own[index(id)]} / temperature -
               std::log(-std::log(double{draw_uniform(key, id)}));
      };
      ASSERT_TRUE(chosen[index(row)] >= 0 && chosen[index(row)] < vocabulary);
      EXPECT_GE(own[index(chosen[index(row)])], least) << "row " << row;
      for (std::int64_t id = 0; id < vocabulary; ++id) {
        if (own[index(id)] < least) continue;
        EXPECT_LE(score(id), score(chosen[index(row)]) + 1e-5) << "row " << row << ", id " << id;
      }
    }
  }
}

TYPED_TEST(glue_of_a_step, draws_with_the_softmax_as_probability) {
  constexpr std::int64_t vocabulary = 5, stride = 8, batch = 20000;
  constexpr float temperature = 2;
  const std::vector<float> row = {1, -1, 3, 0, 2.5, 0, 0, 0};
  std::vector<float> logits;
  for (std::int64_t b = 0; b < batch; ++b) logits.insert(logits.end(), row.begin(), row.end());
  auto device_logits = this->floats(logits);
  auto ids = this->integers(batch);
  choose_on<TypeParam>({.logits = device_logits.data(),
                        .row_stride = stride,
                        .batch = batch,
                        .vocabulary = vocabulary,
                        .temperature = temperature,
                        .seed = 6,
                        .ids = ids.data()});
  const std::vector<std::int32_t> chosen = ids.read();
  double sum = 0;
  for (std::int64_t id = 0; id < vocabulary; ++id) sum += std::exp(row[index(id)] / temperature);
  for (std::int64_t id = 0; id < vocabulary; ++id) {
    const double p = std::exp(row[index(id)] / temperature) / sum;
    const double deviation = std::sqrt(p * (1 - p) * static_cast<double>(batch));
    EXPECT_NEAR(static_cast<double>(std::ranges::count(chosen, id)), p * batch, 4 * deviation);
  }
}

TYPED_TEST(glue_of_a_step, fills_a_cache_with_the_last_tokens) {
  constexpr std::int64_t batch = 2, heads = 3;
  constexpr int dim = 64;
  for (const std::int64_t slots : {1, 7, 129}) {
    for (const std::int64_t seqlen : {1, 6, 7, 8, 129, 300}) {
      SCOPED_TRACE(fmt::format("{} slots, {} tokens", slots, seqlen));
      const std::int64_t width = heads * dim;
      const std::vector<float> kv = normal_values(batch * seqlen * 2 * width, 18);
      auto device_kv = this->elements(kv);
      auto k_cache = this->elements(batch * heads * slots * dim);
      auto v_cache = this->elements(batch * heads * slots * dim);
      const auto view = [&](TypeParam* data) -> sequence_view<const TypeParam> {
        return {data, seqlen * 2 * width, dim, 2 * width};
      };
      fill_cache<TypeParam>({.k = view(device_kv.data()),
                             .v = view(device_kv.data() + width),
                             .batch = batch,
                             .heads = heads,
                             .seqlen = seqlen,
                             .head_dim = dim,
                             .slots = slots,
                             .k_cache = k_cache.data(),
                             .v_cache = v_cache.data()},
                            nullptr);
      for (const bool is_v : {false, true}) {
        const std::vector<float> cache = (is_v ? v_cache : k_cache).floats();
        for (std::int64_t at = 0; at < batch * heads * slots * dim; ++at) {
          const std::int64_t slot = at / dim % slots, bh = at / dim / slots;
          std::int64_t n = -1;  // the last token of this slot
          for (std::int64_t m = slot; m < seqlen; m += slots) n = m;
          if (n < 0) {
            ASSERT_TRUE(std::isnan(cache[index(at)])) << "slot " << slot;
            continue;
          }
          const std::int64_t token = (bh / heads * seqlen + n) * 2 * width;
          const std::int64_t from = token + bh % heads * dim + at % dim + (is_v ? width : 0);
          ASSERT_EQ(cache[index(at)], kv[index(from)]) << "slot " << slot;
        }
      }
    }
  }
}

/// Tokens of sequences that attend one after the other, each over a cache that the ones before it
/// have filled. What of a cache was never filled is NaN.
template <class T>
class cached_sequences {
 public:
  cached_sequences(device_kind device, std::int64_t batch, std::int64_t heads, int dim, int rotated,
                   std::int64_t slots)
      : device_(device),
        batch_(batch),
        heads_(heads),
        slots_(slots),
        dim_(dim),
        rotated_(rotated),
        k_cache_(device, batch * heads * slots * dim),
        v_cache_(device, batch * heads * slots * dim),
        workspace_(device, zeros(batch, heads, dim, slots)),
        keys_(index(batch * heads)),
        values_(index(batch * heads)) {}

  /// Puts tokens of sequence b before its first step.
  void fill(const std::vector<std::int64_t>& tokens, std::uint64_t seed) {
    std::vector<float> k(index(batch_ * heads_ * slots_ * dim_), std::nanf("")), v = k;
    for (std::int64_t bh = 0; bh < batch_ * heads_; ++bh) {
      const std::int64_t count = tokens[index(bh / heads_)];
      const auto own_k = normal_values(count * dim_, seed + 2 * index(bh));
      const auto own_v = normal_values(count * dim_, seed + 2 * index(bh) + 1);
      for (std::int64_t n = 0; n < count; ++n) {
        const auto from = static_cast<std::ptrdiff_t>(n * dim_);
        keys_[index(bh)].emplace_back(own_k.begin() + from, own_k.begin() + from + dim_);
        values_[index(bh)].emplace_back(own_v.begin() + from, own_v.begin() + from + dim_);
        const auto to = static_cast<std::ptrdiff_t>((bh * slots_ + n % slots_) * dim_);
        std::copy_n(own_k.begin() + from, dim_, k.begin() + to);
        std::copy_n(own_v.begin() + from, dim_, v.begin() + to);
      }
    }
    k_cache_.write(k);
    v_cache_.write(v);
  }

  struct result {
    std::vector<float> actual;
    std::vector<double> expected;
  };
  result step(const std::vector<float>& qkv) {
    const std::int64_t width = heads_ * dim_;
    array<T> device_qkv(device_, qkv, 0), out(device_, batch_ * width);
    std::vector<std::int32_t> positions;
    for (std::int64_t b = 0; b < batch_; ++b) {
      positions.push_back(static_cast<std::int32_t>(keys_[index(b * heads_)].size()));
    }
    array<std::int32_t> position(device_, positions);
    cached_attention<T>({.qkv = device_qkv.data(),
                         .batch = batch_,
                         .heads = heads_,
                         .head_dim = dim_,
                         .rotated = rotated_,
                         .base = base,
                         .position = position.data(),
                         .slots = slots_,
                         .k_cache = k_cache_.data(),
                         .v_cache = v_cache_.data(),
                         .out = out.data(),
                         .workspace = workspace_.data()},
                        nullptr);
    result found = {out.floats(), {}};
    for (std::int64_t bh = 0; bh < batch_ * heads_; ++bh) {
      const std::int64_t b = bh / heads_;
      const auto head = [&](int part) {
        const auto from = qkv.begin() + (b * 3 + part) * width + bh % heads_ * dim_;
        return std::vector<double>(from, from + dim_);
      };
      const double at = positions[index(b)];
      const std::vector<double> q = turned(head(0), rotated_, base, at);
      std::vector<double> k = turned(head(1), rotated_, base, at);
      for (double& each : k) each = to_float(from_float<T>(static_cast<float>(each)));
      keys_[index(bh)].push_back(k);
      values_[index(bh)].push_back(head(2));
      attend(q, keys_[index(bh)], values_[index(bh)], found.expected);
    }
    return found;
  }

 private:
  static constexpr float base = 10000;

  static std::vector<std::byte> zeros(std::int64_t batch, std::int64_t heads, int dim,
                                      std::int64_t slots) {
    return std::vector<std::byte>(cached_attention_workspace(batch, heads, dim, slots));
  }
  void attend(const std::vector<double>& q, const std::vector<std::vector<double>>& keys,
              const std::vector<std::vector<double>>& values, std::vector<double>& out) const {
    const std::size_t first = keys.size() - std::min(keys.size(), index(slots_));
    std::vector<double> scores;
    for (std::size_t j = first; j < keys.size(); ++j) {
      scores.push_back(std::inner_product(q.begin(), q.end(), keys[j].begin(), 0.0) /
                       std::sqrt(dim_));
    }
    const double maximum = *std::ranges::max_element(scores);
    std::vector<double> sums(index(dim_));
    double weights = 0;
    for (std::size_t j = first; j < keys.size(); ++j) {
      const double weight = std::exp(scores[j - first] - maximum);
      weights += weight;
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += weight * values[j][i];
    }
    for (const double sum : sums) out.push_back(sum / weights);
  }

  device_kind device_;
  std::int64_t batch_, heads_, slots_;
  int dim_, rotated_;
  array<T> k_cache_, v_cache_;
  array<std::byte> workspace_;
  std::vector<std::vector<std::vector<double>>> keys_, values_;  // of each head
};

TYPED_TEST(glue_of_a_step, attends_over_a_cache_that_it_fills) {
  struct sizes {
    std::int64_t batch, heads;
    int dim, rotated;
    std::int64_t slots;
    std::vector<std::int64_t> filled;  ///< of each sequence
    int steps;
    float factor = 1;  ///< of queries: how far scores are apart
  };
  const std::vector<sizes> all = {
      {2, 3, 64, 64, 129, {0, 0}, 6},          // from the first token on
      {2, 3, 64, 64, 129, {127, 300}, 5},      // about to fill its ring, and beyond it
      {1, 16, 64, 32, 1000, {70}, 2},          // most pieces are empty
      {1, 2, 64, 32, 9000, {8190}, 3},         // many pieces
      {3, 2, 128, 128, 700, {0, 63, 500}, 3},  //
      {2, 2, 128, 0, 64, {64, 64}, 3},         // nothing turns
      {1, 1, 64, 64, 1, {3}, 3},               // one slot
      {40, 32, 64, 64, 129, std::vector<std::int64_t>(40, 200), 2},  // one piece a head
      {1, 4, 64, 64, 2000, {1999}, 2, 64},                           // one key has all the weight
  };
  for (const sizes& size : all) {
    SCOPED_TRACE(fmt::format("B {}, H {}, Dh {}, R {}, S {}, times {}", size.batch, size.heads,
                             size.dim, size.rotated, size.slots, size.factor));
    cached_sequences<TypeParam> sequences(this->device, size.batch, size.heads, size.dim,
                                          size.rotated, size.slots);
    sequences.fill(size.filled, 100);
    const std::int64_t width = size.heads * size.dim;
    for (int i = 0; i < size.steps; ++i) {
      std::vector<float> qkv = normal_values(size.batch * 3 * width, 200 + index(i));
      for (std::int64_t at = 0; at < size.batch * 3 * width; ++at) {
        if (at / width % 3 == 0) qkv[index(at)] *= size.factor;
      }
      const auto found = sequences.step(qkv);
      SCOPED_TRACE(fmt::format("step {}", i));
      this->expect_near(found.actual, found.expected, size.dim);
    }
  }
}

TYPED_TEST(glue_of_a_step, leaves_a_cache_alone_at_no_position) {
  constexpr std::int64_t heads = 2, dim = 64, slots = 300;
  const std::vector<std::int32_t> positions = {-1, -static_cast<std::int32_t>(slots),
                                               std::numeric_limits<std::int32_t>::min()};
  const auto batch = static_cast<std::int64_t>(positions.size());
  const std::vector<float> cache = normal_values(batch * heads * slots * dim, 400);
  auto k_cache = this->elements(cache), v_cache = this->elements(cache);
  auto qkv = this->elements(normal_values(batch * 3 * heads * dim, 401));
  auto out = this->elements(batch * heads * dim);
  auto position = this->integers(positions);
  array<std::byte> workspace(
      this->device, std::vector<std::byte>(cached_attention_workspace(batch, heads, dim, slots)));
  cached_attention<TypeParam>({.qkv = qkv.data(),
                               .batch = batch,
                               .heads = heads,
                               .head_dim = dim,
                               .rotated = 64,
                               .base = 10000,
                               .position = position.data(),
                               .slots = slots,
                               .k_cache = k_cache.data(),
                               .v_cache = v_cache.data(),
                               .out = out.data(),
                               .workspace = workspace.data()},
                              nullptr);
  for (const float value : out.floats()) EXPECT_TRUE(std::isnan(value));
  EXPECT_EQ(k_cache.floats(), cache);
  EXPECT_EQ(v_cache.floats(), cache);
}

TYPED_TEST(glue_of_a_step, refuses_what_it_cannot_take) {
  alignas(16) TypeParam memory[64] = {};
  std::int32_t integers[4] = {};
  float logits[8] = {};
  const cached_attention_args<TypeParam> good = {.qkv = memory,
                                                 .batch = 1,
                                                 .heads = 1,
                                                 .head_dim = 64,
                                                 .rotated = 32,
                                                 .base = 10000,
                                                 .position = integers,
                                                 .slots = 1,
                                                 .k_cache = memory,
                                                 .v_cache = memory,
                                                 .out = memory,
                                                 .workspace = nullptr};
  const auto refuses = [](auto args, auto spoil) {
    spoil(args);
    EXPECT_THROW(cached_attention(args, nullptr), invalid_argument);
  };
  refuses(good, [](auto& args) { args.head_dim = 96; });
  refuses(good, [](auto& args) { args.slots = 0; });
  refuses(good, [](auto& args) { args.slots = std::int64_t{1} << 31; });
  refuses(good, [](auto& args) { args.rotated = 24; });
  refuses(good, [](auto& args) { args.rotated = 80; });
  refuses(good, [](auto& args) { args.position = nullptr; });
  const choose_args choice = {
      .logits = logits, .row_stride = 8, .batch = 1, .vocabulary = 5, .ids = integers};
  const auto refuses_choice = [](auto args, auto spoil) {
    spoil(args);
    EXPECT_THROW(choose_on<TypeParam>(args), invalid_argument);
  };
  refuses_choice(choice, [](auto& args) { args.top_k = 6; });
  refuses_choice(choice, [](auto& args) { args.top_k = -1; });
  refuses_choice(choice, [](auto& args) { args.temperature = -1; });
  refuses_choice(choice, [](auto& args) { args.temperature = std::nanf(""); });
  refuses_choice(choice, [](auto& args) { args.vocabulary = std::int64_t{1} << 31; });
}

#ifdef BASED_HAS_CUDA
class step_products : public glue_test<bf16> {
 protected:
  struct sizes {
    std::int64_t batch, inner, outer;
  };

  void SetUp() override {
    glue_test<bf16>::SetUp();
    if (!IsSkipped() && device_attribute(cudaDevAttrComputeCapabilityMajor) < 9) {
      GTEST_SKIP() << "for devices from sm_90 on";
    }
  }

  /// One call with everything that an output may want, against a plain sum.
  static void check(const sizes& size, product_output output, bool is_normed, bool has_bias) {
    constexpr float eps = 1e-5f;
    const auto [batch, inner, outer] = size;
    SCOPED_TRACE(fmt::format("B {}, K {}, M {}, output {}, normed {}, bias {}", batch, inner, outer,
                             static_cast<int>(output), is_normed, has_bias));
    const bool is_paired = output == product_output::swiglu || output == product_output::gated_conv;
    const bool is_wide = output == product_output::residual || output == product_output::logits;
    const std::int64_t width = is_paired ? outer / 2 : outer;
    const std::vector<float> x = normal_values(batch * inner, 300);
    const std::vector<float> norm_weight = normal_values(inner, 301);
    const std::vector<float> weight = scaled(normal_values(outer * inner, 302), 0x1p-5f);
    const std::vector<float> bias = normal_values(outer, 303);
    const std::vector<float> before = normal_values(batch * outer, 304);
    const std::vector<float> conv_weight = normal_values(3 * outer, 305);
    const std::vector<float> kept = normal_values(batch * outer, 306);  // [batch, 2, outer / 2]

    auto device_x = elements(x), device_weight = elements(weight), state = elements(kept);
    auto residual = floats(x), device_norm = floats(norm_weight), device_bias = floats(bias);
    auto device_conv = floats(conv_weight);
    auto sums = output == product_output::logits ? floats(batch * outer) : floats(before);
    auto out = elements(batch * width);
    step_product({.batch = batch,
                  .inner = inner,
                  .outer = outer,
                  .x = is_normed ? nullptr : device_x.data(),
                  .residual = residual.data(),
                  .norm_weight = device_norm.data(),
                  .eps = eps,
                  .weight = device_weight.data(),
                  .bias = has_bias ? device_bias.data() : nullptr,
                  .output = output,
                  .out = out.data(),
                  .sums = sums.data(),
                  .conv_weight = device_conv.data(),
                  .state = state.data()},
                 nullptr);

    std::vector<double> input(x.begin(), x.end());
    if (is_normed) input = normalized(x, batch, inner, inner, norm_weight, eps);
    std::vector<double> y, expected;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t m = 0; m < outer; ++m) {
        const auto row = weight.begin() + m * inner;
        const auto own = input.begin() + b * inner;
        y.push_back(std::inner_product(row, row + inner, own, 0.0) +
                    (has_bias ? bias[index(m)] : 0.0f));
      }
    }
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t m = 0; m < width; ++m) {
        const double left = y[index(b * outer + m)];
        if (!is_paired) {
          const bool adds = output == product_output::residual;
          expected.push_back(left + (adds ? before[index(b * outer + m)] : 0.0f));
          continue;
        }
        const double right = y[index(b * outer + width + m)];
        if (output == product_output::swiglu) {
          expected.push_back(left * silu(right));
          continue;
        }
        const auto slot = [&](std::int64_t k) { return index((b * 2 + k) * width + m); };
        const auto factor = [&](std::int64_t k) { return conv_weight[index(k * width + m)]; };
        expected.push_back(
            silu(factor(0) * kept[slot(0)] + factor(1) * kept[slot(1)] + factor(2) * left) * right);
      }
    }
    expect_near(is_wide ? sums.read() : out.floats(), expected, width);
    std::vector<double> after(kept.begin(), kept.end());
    for (std::int64_t b = 0; output == product_output::gated_conv && b < batch; ++b) {
      for (std::int64_t m = 0; m < width; ++m) {
        after[index(b * 2 * width + m)] = kept[index((b * 2 + 1) * width + m)];
        after[index((b * 2 + 1) * width + m)] = y[index(b * outer + m)];
      }
    }
    expect_near(state.floats(), after, width);
    EXPECT_EQ(residual.read(), x);
  }
};

TEST_F(step_products, are_sums_over_all_columns) {
  using enum product_output;
  const std::pair<product_output, bool> all[] = {{activation, false}, {activation, true},
                                                 {residual, false},   {logits, true},
                                                 {swiglu, true},      {gated_conv, true}};
  for (const auto& [output, is_normed] : all) {
    for (const std::int64_t batch : {1, 3, 8, 9, 16}) {
      check({batch, 1024, 4096}, output, is_normed, true);
      check({batch, 2816, 1040}, output, is_normed, false);
      check({batch, 96, 16}, output, is_normed, batch % 2 == 0);
    }
    check({2, 32, 16}, output, is_normed, true);
    check({5, 2048, 1024}, output, is_normed, true);
    check({1, 2080, 2064}, output, is_normed, false);
    check({16, 4096, 2096}, output, is_normed, true);
  }
  check({2, 1024, 50264}, logits, true, false);
}

/// A chain in which each product waits for the one before, captured and replayed.
TEST_F(step_products, wait_for_what_is_before_them) {
  constexpr std::int64_t batch = 4, width = 256, steps = 60;
  const std::vector<float> start = normal_values(batch * width, 310);
  const std::vector<float> norm_weight = normal_values(width, 311);
  const std::vector<float> up = scaled(normal_values(2 * width * width, 312), 0x1p-4f);
  const std::vector<float> down = scaled(normal_values(width * width, 313), 0x1p-4f);
  auto device_up = elements(up), device_down = elements(down), hidden = elements(batch * width);
  auto device_norm = floats(norm_weight);
  const auto enqueue = [&](float* residual, cuda_stream stream) {
    step_product({.batch = batch,
                  .inner = width,
                  .outer = 2 * width,
                  .residual = residual,
                  .norm_weight = device_norm.data(),
                  .eps = 1e-5f,
                  .weight = device_up.data(),
                  .output = product_output::swiglu,
                  .out = hidden.data()},
                 stream);
    step_product({.batch = batch,
                  .inner = width,
                  .outer = width,
                  .x = hidden.data(),
                  .weight = device_down.data(),
                  .output = product_output::residual,
                  .sums = residual},
                 stream);
  };
  auto one_by_one = floats(start), in_a_graph = floats(start);
  for (std::int64_t i = 0; i < steps; ++i) {
    enqueue(one_by_one.data(), nullptr);
    support::synchronize(device);
  }
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  BASED_CUDA(cudaStreamCreate(&stream));
  BASED_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (std::int64_t i = 0; i < steps / 2; ++i) enqueue(in_a_graph.data(), stream);
  BASED_CUDA(cudaStreamEndCapture(stream, &graph));
  BASED_CUDA(cudaGraphInstantiate(&instance, graph, 0));
  for (int i = 0; i < 2; ++i) BASED_CUDA(cudaGraphLaunch(instance, stream));
  BASED_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(in_a_graph.read(), one_by_one.read());
  BASED_CUDA(cudaGraphExecDestroy(instance));
  BASED_CUDA(cudaGraphDestroy(graph));
  BASED_CUDA(cudaStreamDestroy(stream));
}
#endif

}  // namespace
}  // namespace based::models
