#include "benchmarks/harness/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace based {
namespace {

constexpr double warm_up_s = 0.1;           // long enough for a GPU's clock to leave idle
constexpr double warm_up_agreement = 0.02;  // between the medians of two successive batches
constexpr double batch_s = 0.05;            // samples between two looks at the stopping rule
constexpr int max_batch = 32;

int batch_of(double call_s) {
  return static_cast<int>(std::clamp(batch_s / std::max(call_s, 1e-9), 1.0, double{max_batch}));
}

/// Runs until two successive batches agree and warm_up_s has passed; the last median.
double warm_up(backend& device, const backend::launch& call, double until, const wall_clock& now) {
  const double start = now();
  double previous = device.time_calls(call, cache_state::hot, 1).front();
  while (now() + previous < until) {
    const double current = median(device.time_calls(call, cache_state::hot, batch_of(previous)));
    const bool agree = std::abs(current - previous) <= warm_up_agreement * current;
    previous = current;
    if (agree && now() - start >= warm_up_s) break;
  }
  return previous;
}

bool settled(const std::vector<double>& samples, const sampling_rule& rule) {
  if (static_cast<int>(samples.size()) < rule.min_samples) return false;
  double total = 0;
  for (double sample : samples) total += sample;
  return total >= rule.min_time_s && summarize(samples).relative_half_width() <= rule.half_width;
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

timing measure(backend& device, const measured_call& call, const sampling_rule& rule,
               const wall_clock& now) {
  const double start = now();
  const double deadline = start + rule.cap_s;
  const double warm_s = warm_up(device, call.launch, start + rule.cap_s / 4, now);
  device.restart_telemetry();

  timing result;
  result.rotated = call.capturable && device.has_rotations() && warm_s < rotation_below_s &&
                   call.replicate(rotation_calls);
  result.floor = result.rotated ? device.rotation_floor() : device.call_floor();

  const auto sample = [&](cache_state cache, double until) {
    std::vector<double> samples;
    int count = 1;  // until it is known what a sample costs, the eviction included
    double sample_s = 0;
    do {
      const double before = now();
      const std::vector<double> batch =
          result.rotated ? device.time_rotations(call.launch, cache, rotation_calls, count)
                         : device.time_calls(call.launch, cache, count);
      samples.insert(samples.end(), batch.begin(), batch.end());
      sample_s = (now() - before) / count;
      count = std::min(batch_of(sample_s), rule.max_samples - static_cast<int>(samples.size()));
    } while (!settled(samples, rule) && static_cast<int>(samples.size()) < rule.max_samples &&
             now() + sample_s < until);
    return samples;
  };

  // Cold is the headline and may use three quarters of the cap; hot gets what is left of it, or
  // half of that where a burst may follow.
  const double cold_start = now();
  result.samples = sample(cache_state::cold, start + rule.cap_s * 3 / 4);
  result.cold = summarize(result.samples);
  result.cold_cost_s = (now() - cold_start) / static_cast<double>(result.samples.size());
  const bool may_burst = rule.burst != burst_mode::never && !result.rotated && device.can_rest();
  const double hot_end = may_burst ? start + rule.cap_s * 7 / 8 : deadline;
  if (now() + warm_s < hot_end) result.hot_samples = sample(cache_state::hot, hot_end);
  result.left_s = deadline - now();
  return result;
}

bool wants_burst(burst_mode mode, const telemetry& steady_readings) {
  if (mode != burst_mode::automatic) return mode == burst_mode::always;
  const std::optional<std::string>& reasons = steady_readings.throttle_reasons;
  return !reasons || !reasons->empty();
}

std::vector<double> measure_burst(backend& device, const backend::launch& call,
                                  const timing& steady) {
  if (!device.can_rest() || steady.rotated) return {};
  if (burst_calls * steady.cold_cost_s > steady.left_s) return {};
  device.rest(burst_rest_s);
  return device.time_calls(call, cache_state::cold, burst_calls);
}

}  // namespace based
