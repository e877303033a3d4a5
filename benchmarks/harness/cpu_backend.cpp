// The CPU as a backend: fp32 tensors, OpenMP, a monotonic clock.
#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/host_memory.h"
#include "benchmarks/harness/noise.h"
#include "benchmarks/harness/statistics.h"
#include "kernels/core/nvtx.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace based {
namespace {

constexpr std::size_t allocation_alignment = 256;
constexpr std::size_t cache_line = 64;

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The value after `key` in a "key : value" file such as /proc/cpuinfo; empty where there is none.
std::string first_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto colon = line.find(':');
    const auto start = line.find_first_not_of(" \t", colon + 1);
    if (colon != std::string::npos && start != std::string::npos) return line.substr(start);
  }
  return {};
}

/// fp32 FLOP/s of all threads, each running independent chains of fused multiply-adds.
double measure_peak_flops() {
#ifdef __AVX512F__
  constexpr int lanes = 16;
#else
  constexpr int lanes = 8;
#endif
  constexpr int chains = 10;  // covers a latency of 4 on two units, and fits 16 registers
  constexpr std::int64_t steps = 1'000'000;
  using vector = float __attribute__((vector_size(lanes * sizeof(float))));
  double best = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    float sink = 0;
    const double seconds = seconds_of([&] {
#pragma omp parallel reduction(+ : sink)
      {
        std::array<vector, chains> sum;  // all different, or the compiler would compute one for all
        for (int c = 0; c < chains; ++c) sum[c] = vector{} + static_cast<float>(c);
        const vector factor = vector{} + 0.999f, addend = vector{} + 1e-3f;
        for (std::int64_t step = 0; step < steps; ++step) {
          for (vector& chain : sum) chain = chain * factor + addend;
        }
        for (const vector& chain : sum) {
          for (int lane = 0; lane < lanes; ++lane) sink += chain[lane];
        }
      }
    });
    const double flops = 2.0 * lanes * chains * static_cast<double>(steps) * omp_get_max_threads();
    if (std::isfinite(sink)) best = std::max(best, flops / seconds);
  }
  return best;
}

class cpu_backend final : public backend {
 public:
  device_kind kind() const override { return device_kind::cpu; }

  std::map<std::string, std::string> identity() override {
    return {{"cpu_name", first_value("/proc/cpuinfo", "model name")},
            {"cpu_threads", std::to_string(omp_get_max_threads())}};
  }

  std::map<std::string, std::string> context() override {
    const ceilings& most = measured_ceilings();
    return {{"cpu_llc_MiB", fmt::format("{:.0f}", static_cast<double>(cache_bytes()) / (1 << 20))},
            {"cpu_copy_GBps", fmt::format("{:.1f}", most.copy_bytes_per_s / 1e9)},
            {"cpu_peak_TFLOPs", fmt::format("{:.3f}", most.flops_per_s / 1e12)},
            {"cpu_timer_floor_us", fmt::format("{:.3f}", call_floor() * 1e6)}};
  }

  const ceilings& measured_ceilings() override {
    static const ceilings most = {.copy_bytes_per_s = measure_update(),
                                  .flops_per_s = measure_peak_flops(),
                                  .note = ""};  // a process may have several backends in turn
    return most;
  }

  std::size_t free_bytes() override { return free_host_bytes(); }

  std::size_t cache_bytes() const override {
    const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? static_cast<std::size_t>(bytes) : std::size_t{32} << 20;
  }

  void upload(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void poison(void* data, std::size_t bytes) override { std::memset(data, 0xff, bytes); }

  void fill(void* data, element_type type, std::int64_t count, random_stream values) override {
    with_type_of(type, [&]<class T>(std::type_identity<T>) { fill_as<T>(data, count, values); });
  }

  std::int64_t count_nonfinite(const void* data, element_type type, std::int64_t count) override {
    return with_type_of(type,
                        [&]<class T>(std::type_identity<T>) { return count_as<T>(data, count); });
  }

  void synchronize() override {}

  std::vector<double> time_calls(const launch& call, cache_state cache, int count) override {
    std::vector<double> seconds;
    for (int i = 0; i < count; ++i) {
      if (cache == cache_state::cold) evict();
      seconds.push_back(seconds_of([&] { call(0); }));
    }
    return seconds;
  }

  double call_floor() override {
    if (floor_ == 0) floor_ = median(time_calls([](int) {}, cache_state::hot, 1001));
    return floor_;
  }

  void start_telemetry() override { before_ = read_host_counters(); }
  void restart_telemetry() override { before_ = read_host_counters(); }
  telemetry stop_telemetry() override {
    telemetry readings;
    readings.noise = host_noise(before_, read_host_counters(), omp_get_max_threads());
    return readings;
  }

  void profile(const std::string& range, const launch& call) override {
    const nvtx_range named(range);
    call(0);
  }

 protected:
  void* allocate_raw(std::size_t bytes) override {
    void* data = ::operator new (bytes, std::align_val_t{allocation_alignment});
    live_[data] = bytes;
    return data;
  }
  void free_raw(void* data) noexcept override {
    live_.erase(data);
    ::operator delete (data, std::align_val_t{allocation_alignment});
  }

 private:
  template <class T>
  static void fill_as(void* data, std::int64_t count, random_stream values) {
    T* to = static_cast<T*>(data);
#pragma omp parallel for simd
    for (std::int64_t i = 0; i < count; ++i) to[i] = from_float<T>(values(i));
  }

  template <class T>
  static std::int64_t count_as(const void* data, std::int64_t count) {
    const T* from = static_cast<const T*>(data);
    std::int64_t nonfinite = 0;
#pragma omp parallel for reduction(+ : nonfinite)
    for (std::int64_t i = 0; i < count; ++i) nonfinite += !std::isfinite(to_float(from[i]));
    return nonfinite;
  }

  /// Takes every line of this backend's live allocations out of all cache levels.
  void evict() {
#ifdef __x86_64__
    for (const auto& [data, bytes] : live_) {
      const char* line = static_cast<const char*>(data);
      for (std::size_t at = 0; at < bytes; at += cache_line) _mm_clflush(line + at);
    }
    _mm_mfence();
#else
    // No user-level flush: read three times the last-level cache instead.
    static std::vector<char> other(3 * cache_bytes(), 1);
    volatile char sink = 0;
    for (std::size_t at = 0; at < other.size(); at += cache_line) sink = other[at];
    static_cast<void>(sink);
#endif
  }

  /// The best of updates in place, by all threads, of 1 to 64 MiB that no cache holds before: what
  /// a row can move at most, for unlike a copy it fetches no line only to overwrite it, and like a
  /// row's its writes may stay in a cache.
  double measure_update() {
    double best = 0;
    for (const std::int64_t mib : {1, 4, 16, 64}) {
      const std::int64_t bytes = mib << 20;
      const auto words = bytes / static_cast<std::int64_t>(sizeof(std::uint32_t));
      const memory updated = allocate(static_cast<std::size_t>(bytes));
      poison(updated.data(), updated.bytes());  // first touch
      const auto update = [&](int) {
        auto* word = updated.data<std::uint32_t>();
#pragma omp parallel for simd schedule(static)
        for (std::int64_t i = 0; i < words; ++i) word[i] += 1;
      };
      for (const double seconds : time_calls(update, cache_state::cold, 10)) {
        best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds);
      }
    }
    return best;
  }

  std::map<void*, std::size_t> live_;
  host_counters before_;
  double floor_ = 0;
};

}  // namespace

std::unique_ptr<backend> make_cpu_backend() {
  return std::make_unique<cpu_backend>();
}

}  // namespace based
