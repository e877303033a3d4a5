// A device whose clock the test winds.
#pragma once

#include <cmath>
#include <functional>

#include "benchmarks/harness/backend.h"

namespace based {

/// A device on which call i takes call_s(i) of virtual time, and an eviction takes evict_s.
class virtual_device final : public backend {
 public:
  std::function<double(int)> call_s = [](int) { return 1e-3; };
  double evict_s = 0;
  bool rotations = false, rests = true;
  double now = 0, rested = -1;  // until when it last rested
  int calls = 0, rotated_sets = 0, restarts = 0;
  std::optional<energy_step> step;  // of the energy counter; none: there is no counter
  double watts = 0;
  telemetry readings;
  bool reading = false, rested_while_reading = false;

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
  bool can_rest() const override { return rests; }
  void rest(double seconds) override {
    rested = now += seconds;
    rested_while_reading |= reading;
  }
  std::variant<energy_step, std::string> measured_energy_step() override {
    if (step) return *step;
    return backend::measured_energy_step();
  }
  double energy_j() override { return std::floor(now / step->seconds) * step->seconds * watts; }
  std::function<void(int)> back_to_back(const launch&, int sets) override {
    rotated_sets = sets;
    return [this, sets](int times) {
      for (int i = 0; i < times * sets; ++i) now += call_s(calls++);
    };
  }
  void start_telemetry() override { reading = true; }
  void restart_telemetry() override { ++restarts; }
  telemetry stop_telemetry() override {
    reading = false;
    return readings;
  }

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

}  // namespace based
