// The stopping rules, on a device whose clock the test winds.
#include "benchmarks/harness/measure.h"

#include <gtest/gtest.h>

#include "tests/benchmarks/virtual_device.h"

namespace based {
namespace {

timing run(virtual_device& device, const sampling_rule& rule, bool replicates = true) {
  return measure(device,
                 {.launch = [](int) {}, .replicate = [replicates](int) { return replicates; }},
                 rule, [&device] { return device.now; });
}

std::vector<double> burst_after(virtual_device& device, const timing& steady) {
  return measure_burst(
      device, [](int) {}, steady);
}

/// Held down to nine tenths of its speed unless it rested less than 20 ms before.
void make_power_capped(virtual_device& device) {
  device.call_s = [&device](int) {
    const bool fresh = device.rested >= 0 && device.now < device.rested + 0.02;
    return fresh ? 0.9e-3 : 1e-3;
  };
}

TEST(Measure, StopsSoonWhenSamplesAgree) {
  virtual_device device;
  const timing t = run(device, {});
  EXPECT_EQ(t.cold.median, 1e-3);
  EXPECT_GE(t.samples.size(), 11u);
  EXPECT_LE(t.samples.size(), 64u);
  EXPECT_FALSE(t.hot_samples.empty());
  EXPECT_FALSE(t.rotated);
  EXPECT_LT(device.now, 1.0);
}

TEST(Measure, NoisySamplesRunToTheCapAndNotFarBeyond) {
  virtual_device device;
  device.call_s = [](int i) { return 1e-3 * (1 + static_cast<double>(mix64(i) % 1000) / 500); };
  const timing t = run(device, {.cap_s = 2, .half_width = 1e-6, .max_samples = 1'000'000});
  EXPECT_GT(t.samples.size(), 100u);
  EXPECT_GT(device.now, 1.5);
  EXPECT_LT(device.now, 2.2);
}

TEST(Measure, ACallLongerThanTheCapIsSampledOnce) {
  virtual_device device;
  device.call_s = [](int) { return 30.0; };
  const timing t = run(device, {.cap_s = 10});
  EXPECT_EQ(t.samples.size(), 1u);
  EXPECT_EQ(t.cold.median, 30);
  EXPECT_TRUE(t.hot_samples.empty());
}

TEST(Measure, EvictionCountsAgainstTheCap) {
  virtual_device device;
  device.evict_s = 1;
  const timing t = run(device, {.cap_s = 10, .half_width = 0, .min_samples = 1'000});
  EXPECT_LE(t.samples.size(), 10u);
  EXPECT_LT(device.now, 11);
}

TEST(Measure, MinimalTimeIsReached) {
  virtual_device device;
  const timing t = run(device, {.min_time_s = 0.5});
  EXPECT_GE(t.samples.size(), 500u);
}

TEST(Measure, WaitsForTheClockToSettle) {
  virtual_device device;
  // 300 slow calls, as on an idle GPU, then the true speed.
  device.call_s = [](int i) { return i < 300 ? 2e-3 - 3e-6 * i : 1e-3; };
  const timing t = run(device, {});
  EXPECT_EQ(t.cold.median, 1e-3);
}

TEST(Measure, ShortCallsRotate) {
  virtual_device device;
  device.rotations = true;
  device.call_s = [](int) { return 5e-6; };
  const timing t = run(device, {});
  EXPECT_TRUE(t.rotated);
  EXPECT_EQ(device.rotated_sets, rotation_calls);
  EXPECT_EQ(t.floor, 2e-7);
}

TEST(Measure, ShortCallsWhoseSetsDoNotFitAreTimedOneByOne) {
  virtual_device device;
  device.rotations = true;
  device.call_s = [](int) { return 5e-6; };
  const timing t = run(device, {}, false);
  EXPECT_FALSE(t.rotated);
  EXPECT_EQ(device.rotated_sets, 0);
  EXPECT_EQ(t.floor, 1e-6);
}

TEST(Measure, LongCallsDoNotRotate) {
  virtual_device device;
  device.rotations = true;
  const timing t = run(device, {});
  EXPECT_FALSE(t.rotated);
}

TEST(Burst, ReadsWhatTheDeviceDoesAfterARestAndTheSteadyStateDoesNot) {
  virtual_device device;
  make_power_capped(device);
  const timing steady = run(device, {});
  const double before = device.now;
  const std::vector<double> burst = burst_after(device, steady);
  EXPECT_EQ(steady.cold.median, 1e-3);
  EXPECT_EQ(burst, std::vector<double>(burst_calls, 0.9e-3));
  EXPECT_EQ(device.rested, before + burst_rest_s);
}

TEST(Burst, EvictsBeforeEachCall) {
  virtual_device device;
  device.evict_s = 1e-3;
  const timing steady = run(device, {});
  EXPECT_NEAR(steady.cold_cost_s, 2e-3, 1e-9);
  burst_after(device, steady);
  EXPECT_NEAR(device.now - device.rested, burst_calls * 2e-3, 1e-9);
}

TEST(Burst, NeedsADeviceThatRestsAndSingleCalls) {
  virtual_device restless;
  restless.rests = false;
  EXPECT_TRUE(burst_after(restless, run(restless, {})).empty());

  virtual_device rotating;
  rotating.rotations = true;
  rotating.call_s = [](int) { return 5e-6; };
  EXPECT_TRUE(burst_after(rotating, run(rotating, {})).empty());
  EXPECT_EQ(rotating.rested, -1);
  EXPECT_FALSE(burst_after(rotating, run(rotating, {}, false)).empty());  // sets do not fit
}

TEST(Burst, NoisyRowsKeepTimeForIt) {
  virtual_device device;
  device.call_s = [](int i) { return 1e-3 * (1 + static_cast<double>(mix64(i) % 1000) / 500); };
  const sampling_rule rule = {.cap_s = 0.8, .half_width = 1e-6, .max_samples = 1'000'000};
  const timing steady = run(device, rule);
  EXPECT_FALSE(steady.hot_samples.empty());
  EXPECT_EQ(burst_after(device, steady).size(), burst_calls);
  EXPECT_LE(device.now, rule.cap_s + burst_rest_s);
}

TEST(Burst, WhereNoneIsTakenHotHasTheTime) {
  for (const auto mode : {burst_mode::automatic, burst_mode::never}) {
    virtual_device device;
    device.call_s = [](int i) { return 1e-3 * (1 + static_cast<double>(mix64(i) % 1000) / 500); };
    const timing steady =
        run(device, {.cap_s = 2, .half_width = 1e-6, .max_samples = 1'000'000, .burst = mode});
    EXPECT_NEAR(steady.left_s, mode == burst_mode::never ? 0 : 0.25, 0.1);
  }
}

TEST(Burst, TheCapHasRoomForAllItsCallsOrNoneIsMade) {
  for (const double call_s : {5e-3, 10e-3, 20e-3, 50e-3, 100e-3}) {
    virtual_device device;
    device.call_s = [call_s](int) { return call_s; };
    const timing steady = run(device, {.cap_s = 0.8});
    const std::vector<double> burst = burst_after(device, steady);
    const bool fits = burst_calls * call_s <= steady.left_s;
    EXPECT_EQ(burst.size(), fits ? burst_calls : 0) << call_s;
    EXPECT_EQ(device.rested >= 0, fits) << call_s;
    EXPECT_LE(device.now, 0.8 + (fits ? burst_rest_s : call_s)) << call_s;
    EXPECT_EQ(fits, call_s < 50e-3) << call_s;  // both happen here
  }
}

TEST(Burst, IsWantedWhereTheClockMayHaveBeenHeldDown) {
  const telemetry silent, free{.throttle_reasons = ""},
      held{.throttle_reasons = "software_power_cap"};
  EXPECT_TRUE(wants_burst(burst_mode::automatic, held));
  EXPECT_TRUE(wants_burst(burst_mode::automatic, silent));
  EXPECT_FALSE(wants_burst(burst_mode::automatic, free));
  EXPECT_TRUE(wants_burst(burst_mode::always, free));
  EXPECT_FALSE(wants_burst(burst_mode::never, held));
}

}  // namespace
}  // namespace based
