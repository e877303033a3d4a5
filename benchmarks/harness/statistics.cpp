#include "benchmarks/harness/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/core/error.h"

namespace based {
namespace {

double median_of_sorted(const std::vector<double>& sorted) {
  const std::size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

}  // namespace

summary summarize(std::vector<double> samples) {
  BASED_REQUIRE(!samples.empty(), "no samples to summarize");
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());

  // The number of samples below the true median is Binomial(n, 1/2); its normal approximation
  // gives the ranks that enclose the median with 95 %.
  const double spread = 1.96 * std::sqrt(n) / 2;
  const auto low_rank = static_cast<std::ptrdiff_t>(std::floor(n / 2 - spread)) - 1;
  const auto high_rank = static_cast<std::ptrdiff_t>(std::ceil(n / 2 + spread));
  const auto last = static_cast<std::ptrdiff_t>(samples.size()) - 1;

  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  double squares = 0;
  for (double sample : samples) squares += (sample - mean) * (sample - mean);
  const double deviation = n > 1 ? std::sqrt(squares / (n - 1)) : 0;

  return {.median = median_of_sorted(samples),
          .low = samples[std::clamp<std::ptrdiff_t>(low_rank, 0, last)],
          .high = samples[std::clamp<std::ptrdiff_t>(high_rank, 0, last)],
          .cv = mean > 0 ? deviation / mean : 0};
}

double median(std::vector<double> samples) {
  BASED_REQUIRE(!samples.empty(), "no samples to take the median of");
  std::sort(samples.begin(), samples.end());
  return median_of_sorted(samples);
}

}  // namespace based
