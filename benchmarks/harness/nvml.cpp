#include "benchmarks/harness/nvml.h"

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "benchmarks/harness/statistics.h"

namespace based {
namespace {

// The part of NVML's C interface that is used here (NVML API reference); its header is not part of
// every toolkit.
using nvml_device = struct nvmlDevice_st*;
constexpr int nvml_success = 0;
constexpr unsigned nvml_clock_sm = 1;
constexpr unsigned nvml_temperature_gpu = 0;

constexpr std::pair<unsigned long long, const char*> throttle_names[] = {
    {0x02, "applications_clocks"}, {0x04, "software_power_cap"}, {0x08, "hardware_slowdown"},
    {0x10, "sync_boost"},          {0x20, "software_thermal"},   {0x40, "hardware_thermal"},
    {0x80, "power_brake"}};

constexpr auto poll_interval = std::chrono::milliseconds(10);

struct library {
  int (*init)();
  int (*handle_by_pci)(const char*, nvml_device*);
  int (*clock)(nvml_device, unsigned, unsigned*);
  int (*power)(nvml_device, unsigned*);
  int (*temperature)(nvml_device, unsigned, unsigned*);
  int (*throttle)(nvml_device, unsigned long long*);
  int (*driver)(char*, unsigned);

  /// False where the library or one of its functions is missing.
  bool load() {
    void* handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return false;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      return function != nullptr;
    };
    return find(init, "nvmlInit_v2") && find(handle_by_pci, "nvmlDeviceGetHandleByPciBusId_v2") &&
           find(clock, "nvmlDeviceGetClockInfo") && find(power, "nvmlDeviceGetPowerUsage") &&
           find(temperature, "nvmlDeviceGetTemperature") &&
           find(throttle, "nvmlDeviceGetCurrentClocksThrottleReasons") &&
           find(driver, "nvmlSystemGetDriverVersion") && init() == nvml_success;
  }
};

class sampler final : public nvml_sampler {
 public:
  sampler(const library& calls, nvml_device device) : calls_(calls), device_(device) {}
  ~sampler() override { stop(); }

  std::string driver_version() override {
    char text[96] = {};
    return calls_.driver(text, sizeof text) == nvml_success ? text : "";
  }

  void start() override {
    stop();
    polling_ = true;
    thread_ = std::thread([this] {
      while (polling_) {
        poll();
        std::this_thread::sleep_for(poll_interval);
      }
    });
  }

  telemetry stop() override {
    polling_ = false;
    if (!thread_.joinable()) return {};
    thread_.join();
    telemetry readings;
    const auto take = [](std::vector<double>& values, std::optional<double>& into) {
      if (!values.empty()) into = median(std::exchange(values, {}));
    };
    take(mhz_, readings.sm_mhz);
    take(watts_, readings.power_w);
    take(degrees_, readings.temperature_c);
    if (const auto found = std::exchange(throttle_, std::nullopt)) {
      std::string& reasons = readings.throttle_reasons.emplace();
      for (const auto& [bit, name] : throttle_names) {
        if ((*found & bit) == 0) continue;
        if (!reasons.empty()) reasons += ',';
        reasons += name;
      }
    }
    return readings;
  }

 private:
  void poll() {
    unsigned value = 0;
    if (calls_.clock(device_, nvml_clock_sm, &value) == nvml_success) mhz_.push_back(value);
    if (calls_.power(device_, &value) == nvml_success) watts_.push_back(value / 1000.0);  // mW
    if (calls_.temperature(device_, nvml_temperature_gpu, &value) == nvml_success) {
      degrees_.push_back(value);
    }
    unsigned long long reasons = 0;
    if (calls_.throttle(device_, &reasons) == nvml_success) {
      throttle_ = throttle_.value_or(0) | reasons;
    }
  }

  library calls_;
  nvml_device device_;
  std::thread thread_;
  std::atomic<bool> polling_ = false;
  std::vector<double> mhz_, watts_, degrees_;
  std::optional<unsigned long long> throttle_;  // of all polls that were answered
};

}  // namespace

std::unique_ptr<nvml_sampler> nvml_sampler::open(const std::string& pci_bus_id) {
  library calls{};
  nvml_device device = nullptr;
  if (!calls.load() || calls.handle_by_pci(pci_bus_id.c_str(), &device) != nvml_success) {
    return nullptr;
  }
  return std::make_unique<sampler>(calls, device);
}

}  // namespace based
