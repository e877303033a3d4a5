#include "benchmarks/harness/nvml.h"

#include <dlfcn.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "benchmarks/harness/noise.h"
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
constexpr auto power_lag = std::chrono::milliseconds(300);

struct nvml_process {  // nvmlProcessInfo_v2_t
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
};

/// The power of the last tenth of a second. nvmlDeviceGetPowerUsage gives a mean of a second on
/// newer GPUs, which for a shorter row is mostly of what was before it.
constexpr unsigned nvml_power_instant = 186;  // NVML_FI_DEV_POWER_INSTANT, mW

struct nvml_field {  // nvmlFieldValue_t
  unsigned id;
  unsigned scope;  // 0: the GPU
  long long timestamp, latency_us;
  unsigned type;
  int status;
  union {
    unsigned whole;
    unsigned long long wide;
  } value;
};

struct library {
  int (*init)();
  int (*handle_by_pci)(const char*, nvml_device*);
  int (*clock)(nvml_device, unsigned, unsigned*);
  int (*power)(nvml_device, unsigned*);
  int (*temperature)(nvml_device, unsigned, unsigned*);
  int (*throttle)(nvml_device, unsigned long long*);
  int (*driver)(char*, unsigned);
  // Null where the driver is older than they are.
  int (*energy)(nvml_device, unsigned long long*);
  int (*processes)(nvml_device, unsigned*, nvml_process*);
  int (*fields)(nvml_device, int, nvml_field*);

  /// False where the library or one of its functions is missing.
  bool load() {
    void* handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return false;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      return function != nullptr;
    };
    find(energy, "nvmlDeviceGetTotalEnergyConsumption");
    find(processes, "nvmlDeviceGetComputeRunningProcesses_v3");
    find(fields, "nvmlDeviceGetFieldValues");
    return find(init, "nvmlInit_v2") && find(handle_by_pci, "nvmlDeviceGetHandleByPciBusId_v2") &&
           find(clock, "nvmlDeviceGetClockInfo") && find(power, "nvmlDeviceGetPowerUsage") &&
           find(temperature, "nvmlDeviceGetTemperature") &&
           find(throttle, "nvmlDeviceGetCurrentClocksThrottleReasons") &&
           find(driver, "nvmlSystemGetDriverVersion") && init() == nvml_success;
  }
};

class sampler final : public nvml_sampler {
 public:
  sampler(const library& calls, nvml_device device)
      : calls_(calls), device_(device), processes_before_(process_ids().size()) {}
  ~sampler() override { stop(); }

  std::string driver_version() override {
    char text[96] = {};
    return calls_.driver(text, sizeof text) == nvml_success ? text : "";
  }

  std::optional<double> energy_j() override {
    unsigned long long millijoules = 0;
    if (calls_.energy == nullptr || calls_.energy(device_, &millijoules) != nvml_success) {
      return std::nullopt;
    }
    return static_cast<double>(millijoules) * 1e-3;
  }

  void start() override {
    stop();
    if (!own_is_hidden_) {
      const std::vector<unsigned> ids = process_ids();
      own_is_hidden_ = std::ranges::count(ids, getpid()) == 0 && ids.size() > processes_before_;
    }
    others_ = 0;
    restarted_ = std::chrono::steady_clock::now();
    polling_ = true;
    thread_ = std::thread([this] {
      while (polling_) {
        poll();
        std::this_thread::sleep_for(poll_interval);
      }
    });
  }

  void restart() override {
    const std::lock_guard lock(mutex_);
    mhz_.clear();
    watts_.clear();
    degrees_.clear();
    throttle_.reset();
    restarted_ = std::chrono::steady_clock::now();
    others_ = other_processes();
  }

  telemetry stop() override {
    polling_ = false;
    if (!thread_.joinable()) return {};
    thread_.join();
    telemetry readings;
    readings.noise = gpu_noise(mhz_, std::max(others_, other_processes()));
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
  /// The ids of the processes that compute on this GPU.
  std::vector<unsigned> process_ids() const {
    nvml_process found[64];
    unsigned count = std::size(found);
    if (calls_.processes == nullptr || calls_.processes(device_, &count, found) != nvml_success) {
      return {};
    }
    std::vector<unsigned> ids;
    for (unsigned i = 0; i < count; ++i) ids.push_back(found[i].pid);
    return ids;
  }

  int other_processes() const {
    const std::vector<unsigned> ids = process_ids();
    const auto own = own_is_hidden_.value_or(false) ? 1 : std::ranges::count(ids, getpid());
    return std::max(0, static_cast<int>(ids.size()) - static_cast<int>(own));
  }

  std::optional<unsigned> power_mw() const {
    nvml_field instant = {.id = nvml_power_instant};
    if (calls_.fields != nullptr && calls_.fields(device_, 1, &instant) == nvml_success &&
        instant.status == nvml_success) {
      return instant.value.whole;
    }
    unsigned mean = 0;
    if (calls_.power(device_, &mean) == nvml_success) return mean;
    return std::nullopt;
  }

  void poll() {
    const std::lock_guard lock(mutex_);
    unsigned value = 0;
    if (calls_.clock(device_, nvml_clock_sm, &value) == nvml_success) mhz_.push_back(value);
    if (std::chrono::steady_clock::now() - restarted_ > power_lag) {
      if (const auto milliwatts = power_mw()) watts_.push_back(*milliwatts / 1000.0);
    }
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
  std::size_t processes_before_;       ///< that computed before this process used the GPU
  std::optional<bool> own_is_hidden_;  ///< this process is listed under another number
  int others_ = 0;
  std::thread thread_;
  std::mutex mutex_;  // of the readings
  std::atomic<bool> polling_ = false;
  std::vector<double> mhz_, watts_, degrees_;
  std::chrono::steady_clock::time_point restarted_;
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
