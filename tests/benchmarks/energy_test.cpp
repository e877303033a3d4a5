// Energy a call, on a device whose clock and whose energy counter the test winds.
#include "benchmarks/harness/energy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/benchmarks/virtual_device.h"

namespace based {
namespace {

/// `steady_s`: what a call took before, where that is not what it takes now.
std::variant<call_energy, std::string> energy_of(virtual_device& device, double call_s,
                                                 bool rotated, double steady_s = 0) {
  device.call_s = [call_s](int) { return call_s; };
  timing steady;
  steady.cold.median = steady_s > 0 ? steady_s : call_s;
  steady.rotated = rotated;
  return measure_energy(
      device, [](int) {}, steady, [&device] { return device.now; });
}

TEST(Energy, IsThePowerTimesTheTimeOfACall) {
  for (const double step_s : {0.02, 0.1}) {
    for (const double call_s : {5e-6, 20e-6, 300e-6, 5e-3}) {
      virtual_device device;
      device.step = energy_step{step_s, 500 * step_s};
      device.watts = 500;
      const auto energy = energy_of(device, call_s, call_s < rotation_below_s);
      ASSERT_TRUE(std::holds_alternative<call_energy>(energy)) << std::get<std::string>(energy);
      EXPECT_NEAR(std::get<call_energy>(energy).joules, 500 * call_s, 0.02 * 500 * call_s);
      EXPECT_NEAR(std::get<call_energy>(energy).seconds, call_s, 1e-9);
      EXPECT_GE(device.now, energy_steps * step_s);
      EXPECT_LT(device.now, 2 * energy_steps * step_s + 1);
    }
  }
}

TEST(Energy, OfACallThatSlowsDownHasTheTimeOfItsOwnWindow) {
  virtual_device device;
  device.step = energy_step{0.1, 70};
  device.watts = 700;
  const auto energy = std::get<call_energy>(energy_of(device, 240e-6, false, 200e-6));
  EXPECT_NEAR(energy.seconds, 240e-6, 1e-9);
  EXPECT_NEAR(energy.joules / energy.seconds, 700, 7);
}

TEST(Energy, OfACallLongerThanAStepIsKnownToAStep) {
  virtual_device device;
  device.step = energy_step{0.1, 70};
  device.watts = 700;
  EXPECT_NEAR(std::get<call_energy>(energy_of(device, 0.37, false)).joules, 700 * 0.37,
              0.05 * 700 * 0.37);
}

TEST(Energy, HoldsNoEviction) {
  virtual_device device;
  device.step = energy_step{0.02, 10};
  device.watts = 500;
  device.evict_s = 10;
  EXPECT_NEAR(std::get<call_energy>(energy_of(device, 1e-3, false)).joules, 0.5, 0.01);
}

TEST(Energy, RotatesOverTheDataSetsOfARotatedRow) {
  virtual_device device;
  device.step = energy_step{0.02, 10};
  energy_of(device, 10e-6, true);
  EXPECT_EQ(device.rotated_sets, rotation_calls);
  energy_of(device, 1e-3, false);
  EXPECT_EQ(device.rotated_sets, 1);
}

TEST(Energy, ACounterThatStandsStillIsSaid) {
  virtual_device device;
  device.step = energy_step{0.02, 10};
  device.watts = 0;
  EXPECT_THAT(std::get<std::string>(energy_of(device, 1e-3, false)),
              testing::HasSubstr("the energy counter moved 0 times"));
}

TEST(Energy, WithoutACounterTheReasonIsTheDevices) {
  virtual_device device;
  EXPECT_EQ(std::get<std::string>(energy_of(device, 1e-3, false)),
            "this device has no energy counter");
}

}  // namespace
}  // namespace based
