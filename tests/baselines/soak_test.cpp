// Random problems for the Based kernels on CUDA, a thousand of them: shapes, options, layouts and
// variants that no list of cases thought of. Disabled by default; scripts/gpu_check --soak runs it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/baselines/prefill_check.h"
#include "tests/baselines/sampling.h"

namespace based {
namespace {

constexpr int problems = 1000;
constexpr std::int64_t most_tokens = 16384;  // B * H * N: keeps the float64 reference quick
constexpr std::int64_t most_balanced_tokens = 3 * most_tokens;  // several chunks of many heads
constexpr double longest = 6000;
constexpr double most_batch_heads = 24;  // of each: more together than multiprocessors, too

// Few tokens average over nothing. A scaled query or key, a product of two, the weight and the
// output are each rounded to bf16 once, by 2^-9 at most: the bound is their sum.
constexpr std::int64_t few_tokens = 16;
constexpr double few_tokens_tolerance = 4.0 / 512;

/// A kernel's variants that this device has: all that are for it take so many heads of this length.
std::vector<std::string_view> variants_here(const implementation<based_prefill>& kernel) {
  std::vector<std::string_view> variants;
  for (const std::string_view variant : kernel.variants) {
    if (!kernel.unsupported({{16, 16, 1000}, {}, variant})) variants.push_back(variant);
  }
  return variants;
}

class problem_source {
 public:
  explicit problem_source(std::uint64_t seed) : random_(seed) {}

  /// Of a shape that the variant drawn for it, if one is, can run.
  prefill_case next(const implementation<based_prefill>& kernel) {
    prefill_case test = {.name = "", .shape = {}};
    // A power of two is exact in bf16, any other scale is not: both are asked for.
    test.options.scale =
        coin() ? 0.25f : std::uniform_real_distribution<float>(0.1f, 0.4f)(random_);
    test.options.normalize = coin();
    test.options.initial_state = coin();
    test.options.final_state = coin();
    test.order = coin() ? support::layout::bhnd : support::layout::bnhd;
    test.deviation = coin() ? 0.25f : 1.0f;
    std::vector<std::string_view> variants = variants_here(kernel);
    variants.emplace_back();  // the kernel's own choice
    test.variant = variants[static_cast<std::size_t>(up_to(static_cast<int>(variants.size())) - 1)];
    const std::int64_t most = test.variant == "balanced" ? most_balanced_tokens : most_tokens;
    do {
      test.shape = {size_up_to(most_batch_heads), size_up_to(most_batch_heads),
                    size_up_to(longest)};
    } while (test.shape.tokens() > most || cannot_run_problem(kernel, test.problem()));
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
  std::ranges::sort(kernels, {}, &implementation<based_prefill>::name);  // the same problems always
  std::map<std::string, int> counts;                                     // by kernel and variant
  problem_source source(20241);
  for (int i = 0; i < problems; ++i) {
    auto kernel = kernels[static_cast<std::size_t>(i) % kernels.size()];
    const prefill_case test = source.next(kernel);
    if (test.shape.seqlen < few_tokens) kernel.tolerance = few_tokens_tolerance;
    ++counts[fmt::format("{} {}", kernel.name, test.variant)];
    EXPECT_THAT(verify(kernel, test), testing::IsEmpty()) << fmt::format(
        "problem {}: {} {} B={} H={} N={} scale={} normalize={} initial={} final={} "
        "bnhd={} deviation={}",
        i, kernel.name, test.variant, test.shape.batch, test.shape.heads, test.shape.seqlen,
        test.options.scale, test.options.normalize, test.options.initial_state,
        test.options.final_state, test.order == support::layout::bnhd, test.deviation);
  }
  constexpr int least = 40;  // of each variant, by chance
  for (const auto& kernel : kernels) {
    for (const std::string_view variant : variants_here(kernel)) {
      EXPECT_GE(counts[fmt::format("{} {}", kernel.name, variant)], least) << variant;
    }
  }
}

}  // namespace
}  // namespace based
