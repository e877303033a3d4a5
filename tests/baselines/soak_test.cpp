// Random problems for the Based kernels on CUDA, a thousand of them: shapes, options, layouts and
// variants that no list of cases thought of. Disabled by default; scripts/gpu_check --soak runs it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/baselines/prefill_check.h"
#include "tests/baselines/sampling.h"

namespace based {
namespace {

constexpr int problems = 1000;
constexpr std::int64_t most_tokens = 16384;  // B * H * N: keeps the float64 reference quick
constexpr double longest = 6000;
constexpr double most_batch_heads = 24;  // of each: more together than multiprocessors, too

// Few tokens average over nothing. A scaled query or key, a product of two, the weight and the
// output are each rounded to bf16 once, by 2^-9 at most: the bound is their sum.
constexpr std::int64_t few_tokens = 16;
constexpr double few_tokens_tolerance = 4.0 / 512;

class problem_source {
 public:
  explicit problem_source(std::uint64_t seed) : random_(seed) {}

  prefill_case next(const implementation<based_prefill>& kernel) {
    prefill_shape shape;
    do {
      shape = {size_up_to(most_batch_heads), size_up_to(most_batch_heads), size_up_to(longest)};
    } while (shape.tokens() > most_tokens);
    prefill_case test = {.name = "", .shape = shape};
    // A power of two is exact in bf16, any other scale is not: both are asked for.
    test.options.scale =
        coin() ? 0.25f : std::uniform_real_distribution<float>(0.1f, 0.4f)(random_);
    test.options.normalize = coin();
    test.options.initial_state = coin();
    test.options.final_state = coin();
    test.order = coin() ? support::layout::bhnd : support::layout::bnhd;
    test.deviation = coin() ? 0.25f : 1.0f;
    const auto variants = static_cast<int>(kernel.variants.size());
    const auto chosen = up_to(variants + 1) - 1;
    if (chosen < variants) test.variant = kernel.variants[static_cast<std::size_t>(chosen)];
    return test;
  }

 private:
  bool coin() { return std::bernoulli_distribution(0.5)(random_); }
  /// Small sizes as often as large ones.
  std::int64_t size_up_to(double most) {
    const double log_size = std::uniform_real_distribution<>(0, std::log(most + 1))(random_);
    return static_cast<std::int64_t>(std::exp(log_size));
  }
  int up_to(int most) { return std::uniform_int_distribution<>(1, most)(random_); }

  std::mt19937_64 random_;
};

TEST(soak, DISABLED_random_problems) {
  std::vector<implementation<based_prefill>> kernels;
  for (const auto& entry : registry<based_prefill>()) {
    if (entry.device() == device_kind::cuda && entry.name.starts_with("based")) {
      kernels.push_back(entry);
    }
  }
  if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  ASSERT_FALSE(kernels.empty());
  problem_source source(20241);
  for (int i = 0; i < problems; ++i) {
    auto kernel = kernels[static_cast<std::size_t>(i) % kernels.size()];
    const prefill_case test = source.next(kernel);
    if (test.shape.seqlen < few_tokens) kernel.tolerance = few_tokens_tolerance;
    if (cannot_run_problem(kernel, test.problem())) continue;
    EXPECT_THAT(verify(kernel, test), testing::IsEmpty()) << fmt::format(
        "problem {}: {} {} B={} H={} N={} scale={} normalize={} initial={} final={} "
        "bnhd={} deviation={}",
        i, kernel.name, test.variant, test.shape.batch, test.shape.heads, test.shape.seqlen,
        test.options.scale, test.options.normalize, test.options.initial_state,
        test.options.final_state, test.order == support::layout::bnhd, test.deviation);
  }
}

}  // namespace
}  // namespace based
