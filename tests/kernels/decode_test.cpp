// Every registered implementation of Based decode, on every device, against the float64 reference;
// and the states of prefill and decode, which are to be one and the same.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "baselines/reference/decode.h"
#include "baselines/reference/prefill.h"
#include "kernels/based/decode.h"
#include "kernels/core/error.h"
#include "tests/baselines/sampling.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

using support::guarded_buffer;
using support::sequence_buffer;
using ::testing::IsEmpty;

struct decode_case {
  decode_problem problem;
  support::layout order = support::layout::bhnd;

  std::string name() const {
    return fmt::format("B{}H{}{}{}{}{}", problem.batch, problem.heads,
                       problem.state == state_type::f32 ? "_f32" : "_bf16",
                       problem.layout == decode_layout::compact ? "_compact" : "_padded",
                       problem.normalize ? "_normalized" : "",
                       order == support::layout::bhnd ? "" : "_bnhd");
  }
};
void PrintTo(const decode_case& test, std::ostream* out) {
  *out << test.name();
}

std::vector<decode_case> cases() {
  std::vector<decode_case> all;
  for (const state_type state : {state_type::f32, state_type::bf16}) {
    for (const decode_layout layout : {decode_layout::compact, decode_layout::padded}) {
      for (const bool normalize : {false, true}) {
        all.push_back({{1, 1, state, layout, 0.25f, normalize, 1e-6f}});
        all.push_back({{2, 3, state, layout, 0.4f, normalize, 1e-3f}, support::layout::bnhd});
      }
      // The host's references of more fp32 states would take seconds each.
      const std::int64_t batch = state == state_type::bf16 ? 256 : 16;
      all.push_back({{batch, 16, state, layout, 0.25f, true, 1e-6f}});
    }
  }
  return all;
}

constexpr float state_deviation = 8;     // of a state after some sixty tokens
constexpr float tokens_in_state = 1000;  // what the constant feature of z has counted

/// The tensors of one step, fp32 on the host, every value one that bf16 holds.
struct decode_inputs {
  std::vector<float> q, k;  // [B, H, 16 or 320]
  std::vector<float> v;     // [B, H, 64]
  std::vector<float> kv;    // [B, H, rows, 64]
  std::vector<float> z;     // [B, H, rows]

  decode_inputs(const decode_problem& problem, std::uint64_t seed)
      : q(support::normal_values(problem.batch_heads() * feature_dim, seed)),
        k(support::normal_values(problem.batch_heads() * feature_dim, seed + 1)),
        v(support::normal_values(problem.batch_heads() * value_dim, seed + 2)),
        kv(support::normal_values(problem.batch_heads() * state_rows(problem.layout) * value_dim,
                                  seed + 3, state_deviation)),
        z(support::normal_values(problem.batch_heads() * state_rows(problem.layout), seed + 4,
                                 state_deviation)) {
    for (std::size_t i = 0; i < z.size(); i += state_rows(problem.layout)) z[i] = tokens_in_state;
    if (problem.layout == decode_layout::compact) return;
    const auto padded = [](const std::vector<float>& raw, auto map) {
      std::vector<float> mapped;
      for (std::size_t i = 0; i < raw.size(); i += feature_dim) {
        for (const float x : map(raw.data() + i)) mapped.push_back(to_float(to_bf16(x)));
      }
      return mapped;
    };
    q = padded(q,
               [&](const float* x) { return reference::padded_query_features(x, problem.scale); });
    k = padded(k, [](const float* x) { return reference::padded_key_features(x); });
  }

  reference::decode_head head(const decode_problem& problem, std::int64_t index) const {
    const int rows = state_rows(problem.layout);
    const int dim = query_dim(problem.layout);
    return {.q = q.data() + index * dim,
            .k = k.data() + index * dim,
            .v = v.data() + index * value_dim,
            .kv = kv.data() + index * rows * value_dim,
            .z = z.data() + index * rows};
  }
};

/// The state of S on a device, in the problem's element type; outside it is fp32.
class state_buffer {
 public:
  state_buffer(device_kind device, const decode_problem& problem)
      : type_(problem.state), bytes_(device, static_cast<std::int64_t>(problem.kv_bytes())) {}

  void* data() { return bytes_.data(); }
  std::size_t size() const { return static_cast<std::size_t>(bytes_.size()); }
  void write(const std::vector<float>& values) {
    type_ == state_type::f32 ? write_as<float>(values) : write_as<bf16>(values);
  }
  std::vector<float> read() const {
    return type_ == state_type::f32 ? read_as<float>() : read_as<bf16>();
  }
  auto guard_damage() const { return bytes_.guard_damage(); }

 private:
  template <class T>
  void write_as(const std::vector<float>& values) {
    std::vector<T> converted(values.size());
    std::ranges::transform(values, converted.begin(), from_float<T>);
    bytes_.write(std::as_bytes(std::span(converted)));
  }
  template <class T>
  std::vector<float> read_as() const {
    const std::vector<std::byte> bytes = bytes_.read();
    const auto* elements = reinterpret_cast<const T*>(bytes.data());
    std::vector<float> values(bytes.size() / sizeof(T));
    std::transform(elements, elements + values.size(), values.begin(),
                   [](T value) { return to_float(value); });
    return values;
  }

  state_type type_;
  guarded_buffer<std::byte> bytes_;
};

/// The device's side of a case.
template <class T>
class decode_run {
 public:
  decode_run(const implementation<based_decode>& candidate, const decode_case& test)
      : candidate_(candidate),
        problem_(test.problem),
        q_(token(test, query_dim(test.problem.layout))),
        k_(token(test, query_dim(test.problem.layout))),
        v_(token(test, value_dim)),
        o_(token(test, value_dim)),
        kv_(candidate.device(), test.problem),
        z_(candidate.device(), test.problem.batch_heads() * state_rows(test.problem.layout)) {}

  void write_state(const std::vector<float>& kv, const std::vector<float>& z) {
    kv_.write(kv);
    z_.write(z);
  }
  void write_token(const decode_inputs& inputs) {
    q_.write(inputs.q);
    k_.write(inputs.k);
    v_.write(inputs.v);
    o_.buffer().poison();
  }

  decode_args<T> arguments() {
    return {.problem = problem_,
            .q = q_.view(),
            .k = k_.view(),
            .v = v_.view(),
            .o = o_.view(),
            .kv = kv_.data(),
            .kv_bytes = kv_.size(),
            .z = problem_.normalize ? z_.data() : nullptr,
            .z_bytes = problem_.z_bytes()};
  }

  void call(const decode_args<T>& args) {
    if constexpr (std::is_same_v<T, float>) {
      candidate_(args);
    } else {
      candidate_(args, nullptr);
    }
    support::synchronize(candidate_.device());
  }

  std::vector<float> output() const { return o_.read(); }
  std::vector<float> kv() const { return kv_.read(); }
  std::vector<float> z() const { return z_.read(); }

  std::vector<std::string> damage() {
    std::vector<std::string> lines;
    for (const auto& found : {o_.buffer().guard_damage(), kv_.guard_damage(), z_.guard_damage()}) {
      if (found) lines.push_back(*found);
    }
    return lines;
  }

 private:
  sequence_buffer<T> token(const decode_case& test, int dim) const {
    return {candidate_.device(), test.order, test.problem.batch, test.problem.heads, 1, dim};
  }

  const implementation<based_decode>& candidate_;
  decode_problem problem_;
  sequence_buffer<T> q_, k_, v_, o_;
  state_buffer kv_;
  guarded_buffer<float> z_;
};

template <class Check>
auto on_device_type(const implementation<based_decode>& candidate, Check check) {
  return candidate.device() == device_kind::cpu ? check(float{}) : check(bf16{});
}

std::string name_of(const implementation<based_decode>& candidate) {
  return fmt::format("{}_{}", candidate.name, to_string(candidate.device()));
}

void judge(std::vector<std::string>& lines, const char* what, std::span<const float> actual,
           std::span<const double> expected, std::int64_t row_size, double tolerance) {
  const auto result = support::compare(actual, expected, row_size);
  if (!result.within(tolerance)) lines.push_back(fmt::format("{}: {}", what, result.message()));
}

class decode
    : public ::testing::TestWithParam<std::tuple<implementation<based_decode>, decode_case>> {};

TEST_P(decode, matches_reference) {
  const auto& [candidate, test] = GetParam();
  const decode_problem& problem = test.problem;
  if (const auto reason = cannot_run_problem(candidate, problem)) GTEST_SKIP() << *reason;
  const decode_inputs inputs(problem, 1);
  std::vector<double> o, kv, z;
  for (std::int64_t head = 0; head < problem.batch_heads(); ++head) {
    const auto step = reference::decode_step(problem, inputs.head(problem, head));
    o.insert(o.end(), step.o.begin(), step.o.end());
    kv.insert(kv.end(), step.kv.begin(), step.kv.end());
    z.insert(z.end(), step.z.begin(), step.z.end());
  }
  const auto wrong = on_device_type(candidate, [&]<class T>(T) {
    decode_run<T> run(candidate, test);
    run.write_state(inputs.kv, inputs.z);
    run.write_token(inputs);
    run.call(run.arguments());
    std::vector<std::string> lines = run.damage();
    judge(lines, "o", run.output(), o, value_dim, candidate.tolerance);
    judge(lines, "kv", run.kv(), kv, value_dim, candidate.tolerance);
    if (problem.normalize) {
      judge(lines, "z", run.z(), z, state_rows(problem.layout), candidate.tolerance);
    }
    return lines;
  });
  EXPECT_THAT(wrong, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(registry, decode,
                         ::testing::Combine(::testing::ValuesIn(registry<based_decode>()),
                                            ::testing::ValuesIn(cases())),
                         [](const auto& test) {
                           return name_of(std::get<0>(test.param)) + "_" +
                                  std::get<1>(test.param).name();
                         });

class decode_implementation : public ::testing::TestWithParam<implementation<based_decode>> {};

/// Prefill of N tokens, then decode of M, is prefill of N + M: the state is prefill's own. With it
/// goes the drift of a state that is rounded at every step: its bound here is what a bf16 state of
/// these inputs costs after 1,000 steps.
TEST_P(decode_implementation, continues_a_prefill_for_a_thousand_steps) {
  const implementation<based_decode>& candidate = GetParam();
  constexpr std::int64_t prefilled = 77, decoded = 1000, tokens = prefilled + decoded;
  constexpr double bf16_drift = 5e-2;
  for (const state_type state : {state_type::f32, state_type::bf16}) {
    const decode_case test{{1, 1, state, decode_layout::compact, 0.25f, true, 1e-6f}};
    if (cannot_run_problem(candidate, test.problem)) continue;
    const auto q = support::normal_values(tokens * feature_dim, 11);
    const auto k = support::normal_values(tokens * feature_dim, 12);
    const auto v = support::normal_values(tokens * value_dim, 13);
    const prefill_options options{.normalize = true};
    std::vector<double> kv(compact_features * value_dim), z(compact_features);
    reference::final_state({.seqlen = prefilled,
                            .q = q.data(),
                            .k = k.data(),
                            .v = v.data(),
                            .initial_kv = nullptr,
                            .initial_z = nullptr},
                           options, kv, z);

    std::vector<std::int64_t> rows;
    for (std::int64_t n = prefilled; n < tokens; ++n) rows.push_back(n);
    std::vector<double> expected(rows.size() * value_dim);
    reference::prefill_rows({.seqlen = tokens,
                             .q = q.data(),
                             .k = k.data(),
                             .v = v.data(),
                             .initial_kv = nullptr,
                             .initial_z = nullptr},
                            options, rows, expected);

    std::vector<float> actual;
    on_device_type(candidate, [&]<class T>(T) {
      decode_run<T> run(candidate, test);
      run.write_state({kv.begin(), kv.end()}, {z.begin(), z.end()});
      decode_inputs inputs(test.problem, 1);
      for (std::int64_t n = prefilled; n < tokens; ++n) {
        inputs.q.assign(q.begin() + n * feature_dim, q.begin() + (n + 1) * feature_dim);
        inputs.k.assign(k.begin() + n * feature_dim, k.begin() + (n + 1) * feature_dim);
        inputs.v.assign(v.begin() + n * value_dim, v.begin() + (n + 1) * value_dim);
        run.write_token(inputs);
        run.call(run.arguments());
        const std::vector<float> o = run.output();
        actual.insert(actual.end(), o.begin(), o.end());
      }
      return 0;
    });
    const auto result = support::compare(actual, expected, value_dim);
    const double bound = state == state_type::f32 ? candidate.tolerance : bf16_drift;
    RecordProperty(state == state_type::f32 ? "f32_drift" : "bf16_drift",
                   fmt::format("{:.3g}", result.relative_error));
    EXPECT_LT(result.relative_error, bound) << result.message();
    EXPECT_EQ(result.misplaced, 0);
  }
}

TEST_P(decode_implementation, refuses_bad_arguments) {
  const implementation<based_decode>& candidate = GetParam();
  for (const decode_case& test : cases()) {
    if (test.problem.batch_heads() > 1 || !test.problem.normalize) continue;
    if (cannot_run_problem(candidate, test.problem)) continue;
    on_device_type(candidate, [&]<class T>(T) {
      decode_run<T> run(candidate, test);
      const auto refuses = [&](auto spoil) {
        decode_args<T> args = run.arguments();
        spoil(args);
        EXPECT_THROW(run.call(args), invalid_argument);
      };
      refuses([](auto& args) { args.problem.batch = 0; });
      refuses([](auto& args) { args.q.data = nullptr; });
      refuses([](auto& args) { args.kv = nullptr; });
      refuses([](auto& args) { args.kv_bytes -= 1; });
      refuses([](auto& args) { args.z = nullptr; });
      refuses([](auto& args) { args.z_bytes *= 2; });
      return 0;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(registry, decode_implementation,
                         ::testing::ValuesIn(registry<based_decode>()),
                         [](const auto& test) { return name_of(test.param); });

TEST(decode_registry, holds_every_cpu_implementation) {
  std::vector<std::string_view> names;
  for (const auto& entry : registry<based_decode>()) {
    if (entry.device() == device_kind::cpu) names.push_back(entry.name);
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"based", "naive"}));
}

}  // namespace
}  // namespace based
