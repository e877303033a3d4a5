// Every registered implementation of sliding-window decode, on every device, against the float64
// reference: softmax takes the slots of the ring in any order, so it is attention without a mask.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "baselines/reference/attention.h"
#include "kernels/core/error.h"
#include "kernels/sliding_window/sliding_window.h"
#include "tests/baselines/sampling.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

using support::guarded_buffer;
using support::sequence_buffer;
using ::testing::IsEmpty;

struct window_case {
  window_problem problem;
  support::layout order = support::layout::bhnd;

  std::string name() const {
    return fmt::format("B{}H{}W{}Dh{}position{}{}{}", problem.batch, problem.heads, problem.window,
                       problem.head_dim, problem.position, problem.append ? "" : "_stored",
                       order == support::layout::bhnd ? "" : "_bnhd");
  }
};
void PrintTo(const window_case& test, std::ostream* out) {
  *out << test.name();
}

std::vector<window_case> cases() {
  std::vector<window_case> all;
  for (const int window : {1, 5, 64, 128, 200}) {
    for (const int dim : {64, 128}) {
      // An empty, a partly filled, a just filled and a wrapped ring.
      for (const std::int64_t position :
           std::set<std::int64_t>{0, window / 2, window - 1, window, 3 * window + 2}) {
        all.push_back({{2, 3, window, dim, position, true}});
      }
      all.push_back({{2, 3, window, dim, 3 * window + 2, false}, support::layout::bnhd});
    }
  }
  all.push_back({{1, 1, 64, 64, std::int64_t{1} << 40, true}});
  all.push_back({{256, 16, 5, 64, 1000, true}});
  return all;
}

/// What a case is made of, in fp32: the rings as they are given to an implementation and as they
/// must be after its call. Empty slots hold NaN.
struct window_inputs {
  std::vector<float> q, k, v;           // [B, H, Dh]
  std::vector<float> k_cache, v_cache;  // [B, H, W, Dh], with the current token
  std::vector<float> k_given, v_given;  // without it, where the call appends

  explicit window_inputs(const window_problem& problem)
      : q(support::normal_values(problem.batch_heads() * problem.head_dim, 1)),
        k(support::normal_values(problem.batch_heads() * problem.head_dim, 2)),
        v(support::normal_values(problem.batch_heads() * problem.head_dim, 3)),
        k_cache(support::normal_values(problem.batch_heads() * ring_size(problem), 4)),
        v_cache(support::normal_values(problem.batch_heads() * ring_size(problem), 5)) {
    forget_slots(problem, problem.filled());
    add_current_token(problem);
  }

  void forget_slots(const window_problem& problem, int first) {
    for (std::vector<float>* cache : {&k_cache, &v_cache}) {
      for (std::int64_t head = 0; head < problem.batch_heads(); ++head) {
        const auto ring = cache->begin() + head * ring_size(problem);
        std::fill(ring + first * problem.head_dim, ring + ring_size(problem),
                  std::numeric_limits<float>::quiet_NaN());
      }
    }
  }

  void add_current_token(const window_problem& problem) {
    k_given = k_cache;
    v_given = v_cache;
    for (std::int64_t head = 0; head < problem.batch_heads(); ++head) {
      const std::int64_t from = head * problem.head_dim;
      const std::int64_t to = head * ring_size(problem) + problem.slot() * problem.head_dim;
      std::copy_n(k.begin() + from, problem.head_dim, k_cache.begin() + to);
      std::copy_n(v.begin() + from, problem.head_dim, v_cache.begin() + to);
    }
    if (problem.append) return;
    k_given = k_cache;
    v_given = v_cache;
  }

  static std::int64_t ring_size(const window_problem& problem) {
    return std::int64_t{problem.window} * problem.head_dim;
  }
};

std::vector<double> expected_output(const window_problem& problem, const window_inputs& inputs) {
  std::vector<double> expected(problem.batch_heads() * problem.head_dim);
  for (std::int64_t head = 0; head < problem.batch_heads(); ++head) {
    const std::int64_t token = head * problem.head_dim;
    const std::int64_t ring = token * problem.window;
    const std::int64_t rows[] = {0};
    reference::attention_rows(
        {{.seqlen = 1,
          .head_dim = problem.head_dim,
          .causal = false,
          .kv_seqlen = problem.filled()},
         inputs.q.data() + token,
         inputs.k_cache.data() + ring,
         inputs.v_cache.data() + ring},
        rows, {expected.data() + token, static_cast<std::size_t>(problem.head_dim)});
  }
  return expected;
}

/// The device's side of one case.
template <class T>
class window_run {
 public:
  window_run(const implementation<window_decode>& candidate, const window_case& test,
             const window_inputs& inputs)
      : candidate_(candidate),
        problem_(test.problem),
        q_(token(test)),
        k_(token(test)),
        v_(token(test)),
        o_(token(test)),
        k_cache_(candidate.device(), static_cast<std::int64_t>(inputs.k_cache.size())),
        v_cache_(candidate.device(), static_cast<std::int64_t>(inputs.v_cache.size())),
        workspace_(candidate.device(),
                   static_cast<std::int64_t>(candidate.workspace_bytes(test.problem))) {
    q_.write(inputs.q);
    k_.write(inputs.k);
    v_.write(inputs.v);
    k_cache_.write(rounded(inputs.k_given));
    v_cache_.write(rounded(inputs.v_given));
  }

  window_args<T> arguments() {
    return {.problem = problem_,
            .q = q_.view(),
            .k = k_.view(),
            .v = v_.view(),
            .o = o_.view(),
            .k_cache = k_cache_.data(),
            .v_cache = v_cache_.data(),
            .workspace = workspace_.data(),
            .workspace_bytes = static_cast<std::size_t>(workspace_.size())};
  }

  void call(const window_args<T>& args) {
    if constexpr (std::is_same_v<T, float>) {
      candidate_(args);
    } else {
      candidate_(args, nullptr);
    }
    support::synchronize(candidate_.device());
  }

  /// What is wrong after a call, a line each.
  std::vector<std::string> judge(const window_inputs& inputs) {
    std::vector<std::string> wrong;
    const auto result =
        support::compare(o_.read(), expected_output(problem_, inputs), problem_.head_dim);
    if (!result.within(candidate_.tolerance))
      wrong.push_back(fmt::format("o: {}", result.message()));
    if (!same_bits(k_cache_.read(), rounded(inputs.k_cache))) wrong.push_back("k_cache is off");
    if (!same_bits(v_cache_.read(), rounded(inputs.v_cache))) wrong.push_back("v_cache is off");
    for (const auto* cache : {&k_cache_, &v_cache_}) {
      if (const auto damage = cache->guard_damage()) wrong.push_back(*damage);
    }
    if (const auto damage = workspace_.guard_damage()) wrong.push_back(*damage);
    if (const auto damage = o_.buffer().guard_damage()) wrong.push_back(*damage);
    return wrong;
  }

 private:
  sequence_buffer<T> token(const window_case& test) const {
    return {candidate_.device(), test.order, test.problem.batch,
            test.problem.heads,  1,          test.problem.head_dim};
  }

  static std::vector<T> rounded(const std::vector<float>& values) {
    std::vector<T> result(values.size());
    std::transform(values.begin(), values.end(), result.begin(), from_float<T>);
    return result;
  }
  static bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b)));
  }

  const implementation<window_decode>& candidate_;
  window_problem problem_;
  sequence_buffer<T> q_, k_, v_, o_;
  guarded_buffer<T> k_cache_, v_cache_;
  guarded_buffer<std::byte> workspace_;
};

template <class Check>
auto on_device_type(const implementation<window_decode>& candidate, Check check) {
  return candidate.device() == device_kind::cpu ? check(float{}) : check(bf16{});
}

std::string name_of(const implementation<window_decode>& candidate) {
  return fmt::format("{}_{}", candidate.name, to_string(candidate.device()));
}

class sliding_window
    : public ::testing::TestWithParam<std::tuple<implementation<window_decode>, window_case>> {};

TEST_P(sliding_window, matches_reference) {
  const auto& [candidate, test] = GetParam();
  if (const auto reason = cannot_run_problem(candidate, test.problem)) GTEST_SKIP() << *reason;
  const window_inputs inputs(test.problem);
  const auto wrong = on_device_type(candidate, [&]<class T>(T) {
    window_run<T> run(candidate, test, inputs);
    run.call(run.arguments());
    return run.judge(inputs);
  });
  EXPECT_THAT(wrong, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(registry, sliding_window,
                         ::testing::Combine(::testing::ValuesIn(registry<window_decode>()),
                                            ::testing::ValuesIn(cases())),
                         [](const auto& test) {
                           return name_of(std::get<0>(test.param)) + "_" +
                                  std::get<1>(test.param).name();
                         });

class sliding_window_implementation
    : public ::testing::TestWithParam<implementation<window_decode>> {};

/// A ring that grows token by token and wraps ends like one that was filled at once.
TEST_P(sliding_window_implementation, appends_token_after_token) {
  const implementation<window_decode>& candidate = GetParam();
  window_case test{{1, 2, 64, 64, 0, true}};
  if (const auto reason = cannot_run_problem(candidate, test.problem)) GTEST_SKIP() << *reason;
  constexpr std::int64_t tokens = 150;
  const window_problem& problem = test.problem;
  const auto history = [&](std::uint64_t seed) {
    return support::normal_values(tokens * problem.batch_heads() * problem.head_dim, seed);
  };
  const std::vector<float> ks = history(6), vs = history(7);
  const std::int64_t token_size = problem.batch_heads() * problem.head_dim;

  const auto wrong = on_device_type(candidate, [&]<class T>(T) {
    window_inputs inputs(problem);
    inputs.forget_slots(problem, 0);
    std::vector<std::string> lines;
    for (std::int64_t n = 0; n < tokens && lines.empty(); ++n) {
      test.problem.position = n;
      inputs.k.assign(ks.begin() + n * token_size, ks.begin() + (n + 1) * token_size);
      inputs.v.assign(vs.begin() + n * token_size, vs.begin() + (n + 1) * token_size);
      inputs.add_current_token(problem);
      window_run<T> run(candidate, test, inputs);
      run.call(run.arguments());
      lines = run.judge(inputs);
    }
    return lines;
  });
  EXPECT_THAT(wrong, IsEmpty());
}

TEST_P(sliding_window_implementation, refuses_bad_arguments) {
  const implementation<window_decode>& candidate = GetParam();
  const window_case test{{1, 2, 64, 64, 70, true}};
  if (const auto reason = cannot_run_problem(candidate, test.problem)) GTEST_SKIP() << *reason;
  const window_inputs inputs(test.problem);
  on_device_type(candidate, [&]<class T>(T) {
    window_run<T> run(candidate, test, inputs);
    const auto refuses = [&](auto spoil) {
      window_args<T> args = run.arguments();
      spoil(args);
      EXPECT_THROW(run.call(args), invalid_argument);
    };
    refuses([](auto& args) { args.problem.window = 0; });
    refuses([](auto& args) { args.problem.position = -1; });
    refuses([](auto& args) { args.problem.head_dim = 32; });
    refuses([](auto& args) { args.problem.batch = 0; });
    refuses([](auto& args) { args.q.data = nullptr; });
    refuses([](auto& args) { args.k.data = nullptr; });
    refuses([](auto& args) { args.k_cache = nullptr; });
    refuses([](auto& args) { args.v_cache += 1; });
    if (candidate.workspace_bytes(test.problem) > 0) {
      refuses([](auto& args) { args.workspace_bytes -= 1; });
    }
    return 0;
  });
}

INSTANTIATE_TEST_SUITE_P(registry, sliding_window_implementation,
                         ::testing::ValuesIn(registry<window_decode>()),
                         [](const auto& test) { return name_of(test.param); });

TEST(sliding_window_registry, holds_every_cpu_implementation) {
  std::vector<std::string_view> names;
  for (const auto& entry : registry<window_decode>()) {
    if (entry.device() == device_kind::cpu) names.push_back(entry.name);
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"based", "naive"}));
}

}  // namespace
}  // namespace based
