// The stopping rules, on a device whose clock the test winds.
#include "benchmarks/harness/measure.h"

#include <gtest/gtest.h>

#include <functional>

namespace based {
namespace {

/// A device on which call i takes call_s(i) of virtual time, and an eviction takes evict_s.
class virtual_device final : public backend {
 public:
  std::function<double(int)> call_s = [](int) { return 1e-3; };
  double evict_s = 0;
  bool rotations = false;
  double now = 0;
  int calls = 0, rotated_sets = 0;

  device_kind kind() const override { return device_kind::cuda; }
  std::map<std::string, std::string> context() override { return {}; }
  const ceilings& measured_ceilings() override { return ceilings_; }
  std::size_t free_bytes() override { return 0; }
  std::size_t cache_bytes() const override { return 1 << 20; }
  void upload(void*, const void*, std::size_t) override {}
  void download(void*, const void*, std::size_t) override {}
  void copy(void*, const void*, std::size_t) override {}
  void poison(void*, std::size_t) override {}
  void fill(void*, element_type, std::int64_t, random_stream) override {}
  std::int64_t count_nonfinite(const void*, element_type, std::int64_t) override { return 0; }
  void synchronize() override {}
  double call_floor() override { return 1e-6; }
  double rotation_floor() override { return 2e-7; }
  void profile(const std::string&, const launch&) override {}
  bool has_rotations() const override { return rotations; }

  std::vector<double> time_calls(const launch&, cache_state cache, int count) override {
    std::vector<double> seconds;
    for (int i = 0; i < count; ++i) {
      if (cache == cache_state::cold) now += evict_s;
      seconds.push_back(call_s(calls++));
      now += seconds.back();
    }
    return seconds;
  }
  std::vector<double> time_rotations(const launch&, cache_state, int sets, int count) override {
    rotated_sets = sets;
    return time_calls({}, cache_state::hot, count);
  }

 protected:
  void* allocate_raw(std::size_t) override { return nullptr; }
  void free_raw(void*) noexcept override {}

 private:
  ceilings ceilings_;
};

timing run(virtual_device& device, const sampling_rule& rule, bool replicates = true) {
  return measure(device,
                 {.launch = [](int) {}, .replicate = [replicates](int) { return replicates; }},
                 rule, [&device] { return device.now; });
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

}  // namespace
}  // namespace based
