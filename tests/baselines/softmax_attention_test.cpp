// Every registered implementation of softmax attention, on every device, against the float64
// reference, and proof that the comparison can fail.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "baselines/reference/softmax_attention.h"
#include "kernels/attention/attention.h"
#include "kernels/core/error.h"
#include "tests/baselines/sampling.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

namespace based {

struct attention_case {
  std::string name;
  attention_problem problem;
  support::layout order = support::layout::bhnd;
  float deviation = 1.0f;  ///< of queries and keys
};
std::ostream& operator<<(std::ostream& out, const attention_case& test) {
  return out << test.name;
}

std::ostream& operator<<(std::ostream& out, const implementation<softmax_attention>& entry) {
  return out << entry.name;
}

namespace {

using support::guarded_buffer;
using support::sequence_buffer;
using ::testing::IsEmpty;
using ::testing::Not;

/// Runs the case on poisoned, guarded buffers; what is wrong, a line each.
template <class T>
std::vector<std::string> verify_as(const implementation<softmax_attention>& candidate,
                                   const attention_case& test) {
  const attention_problem& problem = test.problem;
  const std::int64_t head_size = problem.seqlen * problem.head_dim;
  const std::int64_t size = problem.batch * problem.heads * head_size;
  const auto q = support::normal_values(size, 1, test.deviation);
  const auto k = support::normal_values(size, 2, test.deviation);
  const auto v = support::normal_values(size, 3);
  const auto tensor = [&] {
    return sequence_buffer<T>(candidate.device(), test.order, problem.batch, problem.heads,
                              problem.seqlen, problem.head_dim);
  };
  auto device_q = tensor(), device_k = tensor(), device_v = tensor(), device_o = tensor();
  device_q.write(q);
  device_k.write(k);
  device_v.write(v);

  const std::size_t bytes = candidate.workspace_bytes(problem);
  guarded_buffer<std::byte> workspace(candidate.device(), static_cast<std::int64_t>(bytes));
  const attention_args<T> args = {
      problem, device_q.view(), device_k.view(), device_v.view(), device_o.view(), workspace.data(),
      bytes};
  if constexpr (std::is_same_v<T, float>) {
    candidate(args);
  } else {
    candidate(args, nullptr);
  }
  support::synchronize(candidate.device());

  std::vector<std::string> wrong;
  for (auto* buffer : {&device_q, &device_k, &device_v, &device_o}) {
    if (const auto damage = buffer->buffer().guard_damage()) wrong.push_back(*damage);
  }
  if (const auto damage = workspace.guard_damage()) wrong.push_back(*damage);
  const std::vector<float> o = device_o.read();
  if (const auto bad = first_not_finite(o); bad >= 0) {
    wrong.push_back(fmt::format("o: element {} is not finite", bad));
  }
  const std::vector<std::int64_t> rows = sampled_rows(problem.seqlen);
  std::vector<double> expected(rows.size() * problem.head_dim);
  for (std::int64_t head = 0; head < problem.batch * problem.heads; ++head) {
    const std::int64_t at = head * head_size;
    reference::attention_rows({problem.seqlen, problem.head_dim, problem.causal, q.data() + at,
                               k.data() + at, v.data() + at},
                              rows, expected);
    const auto actual = gather_rows(std::span(o).subspan(at, head_size), rows, problem.head_dim);
    const support::comparison result = support::compare(actual, expected, problem.head_dim);
    if (!result.within(candidate.tolerance)) {
      wrong.push_back(fmt::format("o of head {}, sampled rows: {}, tolerance {:.3g}", head,
                                  result.message(), candidate.tolerance));
    }
  }
  return wrong;
}

std::vector<std::string> verify(const implementation<softmax_attention>& candidate,
                                const attention_case& test) {
  return candidate.device() == device_kind::cpu ? verify_as<float>(candidate, test)
                                                : verify_as<bf16>(candidate, test);
}

std::vector<attention_case> cases() {
  std::vector<attention_case> all;
  for (const int dim : {64, 128}) {
    for (const bool causal : {true, false}) {
      const std::string kind = fmt::format("D{}{}", dim, causal ? "_causal" : "");
      for (const std::int64_t n : {1, 63, 64, 65, 1000, 4097}) {
        for (const auto& [batch, heads] : {std::pair{1, 1}, std::pair{2, 3}}) {
          if (n > 1000 && batch > 1) continue;  // quadratic work: one head shows as much
          all.push_back(
              {fmt::format("{}_B{}H{}N{}", kind, batch, heads, n), {batch, heads, n, dim, causal}});
        }
      }
      all.push_back(
          {fmt::format("{}_bnhd", kind), {2, 3, 200, dim, causal}, support::layout::bnhd});
      // Scores of a hundred and more: without the running maximum they overflow.
      all.push_back({fmt::format("{}_large_values", kind),
                     {1, 2, 500, dim, causal},
                     support::layout::bhnd,
                     4.0f});
      all.push_back({fmt::format("{}_tiny_values", kind),
                     {1, 2, 500, dim, causal},
                     support::layout::bhnd,
                     1e-3f});
    }
  }
  return all;
}

class attention : public ::testing::TestWithParam<
                      std::tuple<implementation<softmax_attention>, attention_case>> {};

TEST_P(attention, matches_reference) {
  const auto& [candidate, test] = GetParam();
  if (const auto reason = cannot_run_problem(candidate, test.problem)) GTEST_SKIP() << *reason;
  EXPECT_THAT(verify(candidate, test), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(registry, attention,
                         ::testing::Combine(::testing::ValuesIn(registry<softmax_attention>()),
                                            ::testing::ValuesIn(cases())),
                         [](const auto& test) {
                           const auto& candidate = std::get<0>(test.param);
                           return fmt::format("{}_{}_{}", candidate.name,
                                              to_string(candidate.device()),
                                              std::get<1>(test.param).name);
                         });

implementation<softmax_attention> cpu_implementation() {
  return *std::ranges::find_if(registry<softmax_attention>(), [](const auto& entry) {
    return entry.device() == device_kind::cpu;
  });
}

void run_on_cpu(const attention_args<float>& args) {
  cpu_implementation()(args);
}

using attention_function = implementation<softmax_attention>::cpu_function;
class attention_fault : public ::testing::TestWithParam<attention_function> {};

TEST_P(attention_fault, is_detected) {
  implementation<softmax_attention> faulty = cpu_implementation();
  faulty.tolerance = 4e-3;  // of bf16: the loosest in use
  const attention_case test = {"", {2, 3, 200, 64, true}};
  EXPECT_THAT(verify(faulty, test), IsEmpty());
  faulty.run = GetParam();
  EXPECT_THAT(verify(faulty, test), Not(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(all, attention_fault,
                         ::testing::Values(
                             [](const attention_args<float>& args) {  // not causal
                               attention_args<float> other = args;
                               other.problem.causal = false;
                               run_on_cpu(other);
                             },
                             [](const attention_args<float>& args) {  // the keys of a tile missed
                               run_on_cpu(args);
                               attention_args<float> shifted = args;
                               shifted.k.data += 64 * shifted.k.token_stride;
                               shifted.v.data += 64 * shifted.v.token_stride;
                               shifted.q.data += 64 * shifted.q.token_stride;
                               shifted.o.data += 64 * shifted.o.token_stride;
                               shifted.problem.seqlen -= 64;
                               run_on_cpu(shifted);
                             },
                             [](const attention_args<float>& args) {  // a row left as it was
                               const float unwritten = *args.o.token(1, 1, 70);
                               run_on_cpu(args);
                               std::fill_n(args.o.token(1, 1, 70), args.problem.head_dim,
                                           unwritten);
                             },
                             [](const attention_args<float>& args) {  // a guard overwritten
                               run_on_cpu(args);
                               args.o.data[-1] = 0;
                             }));

TEST(softmax_attention_registry, refuses_bad_arguments) {
  attention_args<float> args;
  args.problem = {1, 1, 64, 64, true};
  EXPECT_THROW(run_on_cpu(args), invalid_argument);
}

}  // namespace
}  // namespace based
