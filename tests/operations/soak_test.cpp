// Random problems for every implementation of the best device here: sizes, options, orders and
// magnitudes that no list of cases thought of. Disabled by default; scripts/gpu_check --soak runs
// it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "benchmarks/harness/sweep.h"
#include "tests/operations/candidates.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;

constexpr int problems = 60;  // of each candidate
constexpr int draws = 20000;  // in which so many that can be run are found
constexpr std::int64_t most_elements = std::int64_t{8} << 20;  // of all tensors together
constexpr double most_batch_or_heads = 24;  // each: more together than multiprocessors, too
constexpr double beyond_tested = 1.5;       // the largest size, as a multiple of the largest tested

// A few rows average over nothing: a result of so few may be off by as much as a single row may.
constexpr std::int64_t few_rows = 16;
constexpr double few_rows_allowance = 2;

class random_points {
 public:
  random_points(const operation& op, std::uint64_t seed) : op_(op), random_(seed) {}

  axis_values next() {
    axis_values point;
    for (const axis_info& axis : op_.axes()) point[std::string(axis.flag)] = value_on(axis);
    return point;
  }
  bool coin() { return std::bernoulli_distribution(0.5)(random_); }

 private:
  axis_value value_on(const axis_info& axis) {
    switch (axis.domain.of) {
      case axis_domain::kind::whole_number: {
        double most = most_batch_or_heads;
        if (!axis.tested.empty()) {
          most = beyond_tested *
                 static_cast<double>(std::ranges::max(parse_axis(axis.flag, axis.tested)));
        }
        // Small sizes as often as large ones.
        const double log_size = std::uniform_real_distribution<>(0, std::log(most + 1))(random_);
        return static_cast<std::int64_t>(std::exp(log_size));
      }
      case axis_domain::kind::real_number: {
        // A power of two is exact in bf16, other numbers are not: both are asked for.
        const double usual = std::get<double>(axis.usual.value_or(1.0));
        return coin() ? usual : usual * std::uniform_real_distribution<>(0.4, 1.6)(random_);
      }
      case axis_domain::kind::choice:
        return axis.domain.parse(axis.flag, axis.domain.names[up_to(axis.domain.names.size())]);
      case axis_domain::kind::options:
        break;
    }
    std::string some;
    for (const std::string& name : axis.domain.names) {
      if (coin()) some += (some.empty() ? "" : "+") + name;
    }
    return axis.domain.parse(axis.flag, some.empty() ? "none" : some);
  }
  std::size_t up_to(std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_);
  }

  const operation& op_;
  std::mt19937_64 random_;
};

std::int64_t elements_of(const operation_case& solved) {
  std::int64_t elements = 0;
  for (const tensor_spec& spec : solved.tensors()) elements += spec.count();
  return elements;
}

/// The fewest rows that an output has.
std::int64_t rows_of(const operation_case& solved) {
  std::int64_t rows = most_elements;
  for (const tensor_spec& spec : solved.tensors()) {
    if (spec.role == tensor_role::input) continue;
    rows = std::min(rows, spec.count() / spec.shape.back());
  }
  return rows;
}

/// Why a case cannot be run, or is no problem at all: heads that are no multiple of their groups.
unsupported_reason cannot_run_or_is_none(const candidate& tested, const operation_case& solved) {
  try {
    return cannot_run(tested, solved);
  } catch (const invalid_argument& error) {
    return error.what();
  }
}

class soak : public candidate_test {};

TEST_P(soak, DISABLED_of_random_problems) {
  const candidate& tested = GetParam();
  random_points source(*tested.op, 20241);
  int ran = 0;
  std::string reason;
  for (int draw = 0; draw < draws && ran < problems; ++draw) {
    const axis_values point = source.next();
    const sequence_order order = source.coin() ? sequence_order::bhnd : sequence_order::bnhd;
    const float factor = source.coin() ? 1.0f : 4.0f;
    const auto solved = tested.solve(point);
    if (elements_of(*solved) > most_elements) continue;
    if (const auto why = cannot_run_or_is_none(tested, *solved)) {
      reason = *why;
      continue;
    }
    checked_case call(*solved, tested.info.device, order, factor);
    call.run();
    const double allowance = rows_of(*solved) < few_rows ? few_rows_allowance : 1;
    EXPECT_THAT(call.problems(allowance * tested.info.tolerance), ::testing::IsEmpty())
        << fmt::format("problem {}: {}, order {}, factor {}", ran, text_of(*solved),
                       order == sequence_order::bhnd ? "bhnd" : "bnhd", factor);
    ++ran;
  }
  if (ran == 0 && tested.info.device == device_kind::cuda) GTEST_SKIP() << reason;
  EXPECT_EQ(ran, problems) << reason;
}

/// The candidates that run on the GPU where there is one, else those that run on the CPU.
std::vector<candidate> soaked() {
  const device_kind device = support::cuda_unavailable() ? device_kind::cpu : device_kind::cuda;
  return candidates([&](const candidate& each) { return each.info.device == device; });
}
BASED_FOR_CANDIDATES(soak, soaked());

}  // namespace
}  // namespace based
