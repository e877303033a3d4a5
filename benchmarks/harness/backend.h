// Where an implementation runs: memory, data and time on one device, the CPU or a CUDA GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/core/element_type.h"
#include "kernels/core/implementation.h"
#include "kernels/core/random.h"

namespace based {

/// Cold: the device's last-level cache holds none of the row's tensors. Hot: as the previous call
/// left it.
enum class cache_state { cold, hot };

/// What the device can do at most, measured in this process.
struct ceilings {
  /// Bytes read plus bytes written; CUDA: a large copy, CPU: an update in place.
  double copy_bytes_per_s = 0;
  double flops_per_s = 0;  ///< CUDA: a bf16 8192^3 GEMM; CPU: fp32 fused multiply-adds
  std::string note;        ///< why one of them is 0
};

/// Readings of the device while a row ran; empty where it gives none.
struct telemetry {
  std::optional<double> sm_mhz, power_w, temperature_c;
  std::optional<std::string> throttle_reasons;  ///< empty text: nothing held the clock down
  std::string noise;                            ///< what else ran meanwhile; empty: nothing noticed
};

/// What an energy counter moves by, and how often.
struct energy_step {
  double seconds, joules;
};

/// Owns an allocation on a backend.
class memory {
 public:
  memory() = default;
  memory(void* data, std::size_t bytes, std::function<void()> release)
      : data_(data), bytes_(bytes), release_(std::move(release)) {}
  memory(memory&& other) noexcept { swap(other); }
  memory& operator=(memory&& other) noexcept {
    memory(std::move(other)).swap(*this);
    return *this;
  }
  ~memory() {
    if (release_) release_();
  }

  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }
  template <class T>
  std::span<T> elements() const {
    return {data<T>(), bytes_ / sizeof(T)};
  }

 private:
  void swap(memory& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(release_, other.release_);
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::function<void()> release_;
};

/// Live and peak bytes of a backend's allocations.
struct memory_usage {
  std::size_t live = 0;
  std::size_t peak = 0;
  std::int64_t allocations = 0;
};

class backend {
 public:
  /// Enqueues (CUDA) or makes (CPU) one call of a row on data set `set`.
  using launch = std::function<void(int set)>;

  virtual ~backend() = default;

  virtual device_kind kind() const = 0;
  /// What two runs must share for their rows to be comparable; measures nothing. As context().
  virtual std::map<std::string, std::string> identity() { return {}; }
  /// Name, driver, cache and so on, for the results' context; keys start with cpu_ or gpu_.
  virtual std::map<std::string, std::string> context() = 0;
  /// Measured once, on the first call.
  virtual const ceilings& measured_ceilings() = 0;
  /// The stream on which CUDA implementations are called; null on the CPU.
  virtual cuda_stream stream() const { return nullptr; }

  // Memory.
  virtual std::size_t free_bytes() = 0;
  virtual std::size_t cache_bytes() const = 0;  ///< the last-level cache
  memory allocate(std::size_t bytes);           ///< 256-byte aligned, uninitialised
  const memory_usage& usage() const { return usage_; }
  void restart_peak() { usage_ = {.live = usage_.live, .peak = usage_.live, .allocations = 0}; }

  // Data. Counts are in elements.
  virtual void upload(void* device, const void* host, std::size_t bytes) = 0;
  virtual void download(void* host, const void* device, std::size_t bytes) = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;  ///< within the device
  virtual void poison(void* data, std::size_t bytes) = 0;                ///< all bits 1: a NaN
  virtual void fill(void* data, element_type type, std::int64_t count, random_stream values) = 0;
  virtual std::int64_t count_nonfinite(const void* data, element_type type, std::int64_t count) = 0;

  /// Waits for all work; throws if any of it failed.
  virtual void synchronize() = 0;
  /// After an exception: the reason if the device can run nothing more in this process.
  virtual std::optional<std::string> lost() { return std::nullopt; }

  // Time, in seconds, one entry a call.
  /// Calls of data set 0, each timed alone; cold evicts the cache before each.
  virtual std::vector<double> time_calls(const launch& call, cache_state cache, int count) = 0;
  /// Back-to-back calls without launch gaps, one on each of `sets` data sets (cold, evicted before
  /// the first) or all on data set 0 (hot); an entry is the mean of one such rotation. A backend
  /// without has_rotations() has no launch to hide.
  virtual std::vector<double> time_rotations(const launch&, cache_state, int /*sets*/,
                                             int /*count*/) {
    return {};
  }
  virtual bool has_rotations() const { return false; }
  /// Leaves the device idle for so long, so that what runs next is not held back by what ran
  /// before. For a backend with can_rest() alone.
  virtual void rest(double /*seconds*/) {}
  virtual bool can_rest() const { return false; }
  /// What timing an empty call reads, by either way.
  virtual double call_floor() = 0;
  virtual double rotation_floor() { return 0; }

  /// The call, recorded once, to be replayed as a whole, where the device can do that: a graph.
  virtual std::function<void()> recorded(const std::function<void()>& call) { return call; }

  /// One call, alone between the profiler's start and stop.
  virtual void profile(const std::string& range, const launch& call) = 0;

  // Energy, of a device that counts its own.
  /// Measured once, on the first call; or why there is no counter.
  virtual std::variant<energy_step, std::string> measured_energy_step() {
    return "this device has no energy counter";
  }
  /// Since some moment; of a device with a step alone.
  virtual double energy_j() { return 0; }
  /// A function that starts so many rotations of calls, one on each of `sets` data sets, back to
  /// back without evictions, and waits for the end of those that it was called for before: the
  /// device always has work, whatever the caller does between two batches.
  virtual std::function<void(int rotations)> back_to_back(const launch& call, int sets) {
    return [call, sets](int rotations) {
      for (int i = 0; i < rotations * sets; ++i) call(i % sets);
    };
  }

  virtual void start_telemetry() {}
  /// The warm-up is over: forgets the readings so far.
  virtual void restart_telemetry() {}
  virtual telemetry stop_telemetry() { return {}; }

 protected:
  virtual void* allocate_raw(std::size_t bytes) = 0;
  virtual void free_raw(void* data) noexcept = 0;

 private:
  memory_usage usage_;
};

std::unique_ptr<backend> make_cpu_backend();

/// The backend of GPU `number` as CUDA numbers them, else of the current one, or the reason why
/// there is none.
std::variant<std::unique_ptr<backend>, std::string> make_cuda_backend(
    std::optional<int> number = std::nullopt);

}  // namespace based
