// A CUDA GPU as a backend: bf16 tensors, one stream, events. Its few kernels are in
// device_kernels.cu.
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/device_kernels.h"
#include "benchmarks/harness/gemm_ceiling.h"
#include "benchmarks/harness/measure.h"
#include "benchmarks/harness/nvml.h"
#include "benchmarks/harness/statistics.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/nvtx.h"

namespace based {
namespace {

class event {
 public:
  event() { BASED_CUDA(cudaEventCreate(&event_)); }
  ~event() { cudaEventDestroy(event_); }
  event(const event&) = delete;
  event& operator=(const event&) = delete;
  void record(cudaStream_t stream) { BASED_CUDA(cudaEventRecord(event_, stream)); }
  /// Until what was recorded has happened. No error is looked at: the next checked call finds it.
  void wait() const noexcept { static_cast<void>(cudaEventSynchronize(event_)); }
  double seconds_since(const event& start) const {
    float ms = 0;
    BASED_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
    return ms / 1e3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// The ends of batches of calls, of which one is in flight at a time.
class last_two {
 public:
  ~last_two() {
    if (batches_ > 0) ends_[(batches_ - 1) % 2].wait();
  }
  /// Ends a batch, and waits for the end of the one before it.
  void close(cudaStream_t stream) {
    ends_[batches_ % 2].record(stream);
    if (batches_ > 0) ends_[(batches_ - 1) % 2].wait();
    ++batches_;
  }

 private:
  event ends_[2];
  int batches_ = 0;
};

/// A start and a stop for each of several samples in flight.
struct event_pairs {
  explicit event_pairs(int count) : start(count), stop(count) {}
  std::vector<double> seconds() const {
    std::vector<double> values;
    for (std::size_t i = 0; i < start.size(); ++i) {
      values.push_back(stop[i].seconds_since(start[i]));
    }
    return values;
  }
  std::vector<event> start, stop;
};

/// Releases with a CUDA call.
template <class Handle, cudaError_t (*destroy)(Handle)>
class owned {
 public:
  owned() = default;
  ~owned() {
    if (handle_ != nullptr) destroy(handle_);
  }
  owned(const owned&) = delete;
  owned& operator=(const owned&) = delete;
  Handle get() const { return handle_; }
  Handle* out() { return &handle_; }

 private:
  Handle handle_ = nullptr;
};

class cuda_backend final : public backend {
 public:
  explicit cuda_backend(int device) : device_(device) {
    char bus_id[32] = {};
    BASED_CUDA(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device));
    nvml_ = nvml_sampler::open(bus_id);
    BASED_CUDA(cudaSetDevice(device));
    BASED_CUDA(cudaGetDeviceProperties(&properties_, device));
    BASED_CUDA(cudaStreamCreateWithFlags(stream_.out(), cudaStreamNonBlocking));
    BASED_CUDA(cudaCtxResetPersistingL2Cache());
    BASED_CUDA(cudaMalloc(flush_.out(), flush_bytes()));
    BASED_CUDA(cudaMalloc(counter_.out(), sizeof(unsigned long long)));
  }

  device_kind kind() const override { return device_kind::cuda; }
  cuda_stream stream() const override { return stream_.get(); }

  std::map<std::string, std::string> identity() override {
    return {{"gpu_name", properties_.name}};
  }

  std::map<std::string, std::string> context() override {
    int driver = 0, runtime = 0;
    BASED_CUDA(cudaDriverGetVersion(&driver));
    BASED_CUDA(cudaRuntimeGetVersion(&runtime));
    const ceilings& most = measured_ceilings();
    const auto version = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
    std::string uuid = "GPU-";
    for (int i = 0; i < 16; ++i) {
      uuid += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                          static_cast<unsigned char>(properties_.uuid.bytes[i]));
    }
    std::map<std::string, std::string> facts = {
        {"gpu_uuid", uuid},
        {"gpu_number", std::to_string(device_)},
        {"gpu_compute_capability", fmt::format("{}.{}", properties_.major, properties_.minor)},
        {"gpu_sm_count", std::to_string(properties_.multiProcessorCount)},
        {"gpu_l2_MiB", fmt::format("{:.0f}", static_cast<double>(cache_bytes()) / (1 << 20))},
        {"gpu_cuda_driver", version(driver)},
        {"gpu_cuda_runtime", version(runtime)},
        {"gpu_copy_GBps", fmt::format("{:.0f}", most.copy_bytes_per_s / 1e9)},
        {"gpu_gemm_TFLOPs", fmt::format("{:.0f}", most.flops_per_s / 1e12)},
        {"gpu_timer_floor_us", fmt::format("{:.2f}", call_floor() * 1e6)},
        {"gpu_rotation_floor_us", fmt::format("{:.2f}", rotation_floor() * 1e6)},
        {"gpu_flush_MiB", fmt::format("{:.0f}", static_cast<double>(flush_bytes()) / (1 << 20))},
        {"gpu_burst", fmt::format("{} calls after {} s idle", burst_calls, burst_rest_s)}};
    if (nvml_) facts["gpu_driver"] = nvml_->driver_version();
    if (!most.note.empty()) facts["gpu_ceilings_note"] = most.note;
    return facts;
  }

  const ceilings& measured_ceilings() override {
    if (ceilings_.copy_bytes_per_s == 0) {
      ceilings_.copy_bytes_per_s = measure_copy();
      const auto gemm = measure_gemm(*this);
      if (const double* flops = std::get_if<double>(&gemm)) {
        ceilings_.flops_per_s = *flops;
      } else {
        ceilings_.note = std::get<std::string>(gemm);
      }
    }
    return ceilings_;
  }

  std::size_t free_bytes() override {
    std::size_t free = 0, total = 0;
    BASED_CUDA(cudaMemGetInfo(&free, &total));
    return free;
  }
  std::size_t cache_bytes() const override {
    return static_cast<std::size_t>(properties_.l2CacheSize);
  }

  void upload(void* to, const void* from, std::size_t bytes) override {
    copy_and_wait(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    copy_and_wait(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    BASED_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  void poison(void* data, std::size_t bytes) override {
    BASED_CUDA(cudaMemsetAsync(data, 0xff, bytes, stream()));
  }

  void fill(void* data, element_type type, std::int64_t count, random_stream values) override {
    launch_fill(data, type, count, values, stream());
  }

  std::int64_t count_nonfinite(const void* data, element_type type, std::int64_t count) override {
    if (count == 0) return 0;
    unsigned long long found = 0;
    BASED_CUDA(cudaMemsetAsync(counter_.get(), 0, sizeof found, stream()));
    auto* result = static_cast<unsigned long long*>(counter_.get());
    launch_count_nonfinite(data, type, count, result, stream());
    download(&found, result, sizeof found);
    return static_cast<std::int64_t>(found);
  }

  void synchronize() override { BASED_CUDA(cudaStreamSynchronize(stream())); }

  std::optional<std::string> lost() override {
    static_cast<void>(cudaGetLastError());  // a passing error is forgotten by this
    const cudaError_t code = cudaDeviceSynchronize();
    if (code == cudaSuccess) return std::nullopt;
    return cudaGetErrorName(code);
  }

  std::vector<double> time_calls(const launch& call, cache_state cache, int count) override {
    event_pairs events(count);
    // Cold: the flush before each call also hides the launches of what follows it. Hot: a call
    // that is not timed refills the cache, behind a kernel that hides the launches.
    for (int i = 0; i < count; ++i) {
      if (cache == cache_state::cold) {
        flush(i);
        if (queueing_s_ > short_queueing_s) block();
      } else {
        block();
        call(0);
      }
      events.start[i].record(stream());
      const double start = steady_seconds();
      call(0);
      queueing_s_ = steady_seconds() - start;
      events.stop[i].record(stream());
    }
    synchronize();
    return events.seconds();
  }

  bool has_rotations() const override { return true; }

  std::vector<double> time_rotations(const launch& call, cache_state cache, int sets,
                                     int count) override {
    const bool cold = cache == cache_state::cold;
    const captured_calls rotation(*this, call, sets, cold);

    event_pairs events(count);
    rotation.launch(stream());  // warm-up
    for (int i = 0; i < count; ++i) {
      cold ? flush(i) : block();
      events.start[i].record(stream());
      rotation.launch(stream());
      events.stop[i].record(stream());
    }
    synchronize();
    std::vector<double> seconds = events.seconds();
    for (double& each : seconds) each /= sets;
    return seconds;
  }

  std::function<void()> recorded(const std::function<void()>& call) override {
    const auto captured = std::make_shared<captured_calls>(
        *this, [call](int) { call(); }, 1, false);
    return [this, captured] { captured->launch(stream()); };
  }

  bool can_rest() const override { return true; }
  void rest(double seconds) override {
    synchronize();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

  double call_floor() override {
    if (call_floor_ == 0) {
      call_floor_ = median(time_calls(empty_call(), cache_state::cold, floor_samples));
    }
    return call_floor_;
  }
  double rotation_floor() override {
    if (rotation_floor_ == 0) {
      rotation_floor_ =
          median(time_rotations(empty_call(), cache_state::cold, rotation_calls, floor_samples));
    }
    return rotation_floor_;
  }

  void profile(const std::string& range, const launch& call) override {
    synchronize();
    BASED_CUDA(cudaProfilerStart());
    {
      const nvtx_range named(range);
      call(0);
      synchronize();
    }
    BASED_CUDA(cudaProfilerStop());
  }

  std::variant<energy_step, std::string> measured_energy_step() override {
    if (!energy_step_) energy_step_ = measure_energy_step();
    return *energy_step_;
  }
  double energy_j() override { return nvml_ ? nvml_->energy_j().value_or(0) : 0; }

  std::function<void(int)> back_to_back(const launch& call, int sets) override {
    std::function<void()> rotate = [call] { call(0); };
    if (sets > 1) {
      const auto captured = std::make_shared<captured_calls>(*this, call, sets, true);
      rotate = [this, captured] { captured->launch(stream()); };
    }
    const auto ends = std::make_shared<last_two>();
    return [this, rotate, ends](int rotations) {
      for (int i = 0; i < rotations; ++i) rotate();
      ends->close(stream());
    };
  }

  void start_telemetry() override {
    if (nvml_) nvml_->start();
  }
  void restart_telemetry() override {
    if (nvml_) nvml_->restart();
  }
  telemetry stop_telemetry() override { return nvml_ ? nvml_->stop() : telemetry{}; }

 protected:
  void* allocate_raw(std::size_t bytes) override {
    void* data = nullptr;
    const cudaError_t code = cudaMalloc(&data, bytes);
    if (code == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      throw std::bad_alloc();
    }
    BASED_CUDA(code);
    return data;
  }
  void free_raw(void* data) noexcept override { static_cast<void>(cudaFree(data)); }

 private:
  static constexpr int floor_samples = 51;
  // What a flush writes: three times the L2, and no less than what the sources' timers write, for
  // its length is also the rest that a GPU at its power cap gets between two calls.
  static constexpr std::size_t cold_cache_multiple = 3;
  static constexpr std::size_t least_flush_bytes = std::size_t{256} << 20;
  static constexpr double block_s = 100e-6;  // longer than queueing a few launches
  static constexpr double longest_block_s = 0.05;
  static constexpr double short_queueing_s = 20e-6;  // a flush hides as much, several times over

  /// Calls as one graph: of each data set in turn, or all of data set 0.
  class captured_calls {
   public:
    captured_calls(cuda_backend& device, const backend::launch& call, int sets, bool in_turn) {
      const cudaStream_t stream = device.stream();
      BASED_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      try {
        for (int set = 0; set < sets; ++set) call(in_turn ? set : 0);
      } catch (...) {
        cudaStreamEndCapture(stream, graph_.out());
        throw;
      }
      BASED_CUDA(cudaStreamEndCapture(stream, graph_.out()));
      BASED_CUDA(cudaGraphInstantiate(executable_.out(), graph_.get(), 0));
      BASED_CUDA(cudaGraphUpload(executable_.get(), stream));
    }
    void launch(cudaStream_t stream) const {
      BASED_CUDA(cudaGraphLaunch(executable_.get(), stream));
    }

   private:
    owned<cudaGraph_t, cudaGraphDestroy> graph_;
    owned<cudaGraphExec_t, cudaGraphExecDestroy> executable_;
  };

  /// From the times and sizes of the counter's moves, in at most two seconds.
  std::variant<energy_step, std::string> measure_energy_step() {
    if (!nvml_ || !nvml_->energy_j()) return "the driver does not count this GPU's energy";
    constexpr std::size_t moves = 12;
    constexpr double most_s = 2;
    std::vector<double> seconds, joules;
    const double start = steady_seconds();
    double last_s = start, last_j = energy_j();
    bool at_a_move = false;  // the first ends a step of which the start was not seen
    while (seconds.size() < moves && steady_seconds() - start < most_s) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      const double here_j = energy_j(), here_s = steady_seconds();
      if (here_j == last_j) continue;
      if (std::exchange(at_a_move, true)) {
        seconds.push_back(here_s - last_s);
        joules.push_back(here_j - last_j);
      }
      last_s = here_s;
      last_j = here_j;
    }
    if (seconds.empty()) return "the driver's energy counter did not move in two seconds";
    return energy_step{median(seconds), median(joules)};
  }

  /// What an empty kernel reads is the floor of both ways of timing.
  launch empty_call() {
    return [this](int) { launch_empty(stream()); };
  }

  /// Keeps the GPU busy until two calls are queued that take the host as long as the last one did.
  void block() { launch_spin(std::clamp(4 * queueing_s_, block_s, longest_block_s), stream()); }

  /// Writes over the whole L2, several times its size.
  void flush(int value) {
    BASED_CUDA(cudaMemsetAsync(flush_.get(), value & 1, flush_bytes(), stream()));
  }

  std::size_t flush_bytes() const {
    return std::max(cold_cache_multiple * cache_bytes(), least_flush_bytes);
  }

  void copy_and_wait(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    BASED_CUDA(cudaMemcpyAsync(to, from, bytes, kind, stream()));
    synchronize();
  }

  double measure_copy() {
    constexpr std::size_t bytes = std::size_t{1} << 31;
    const memory from = allocate(bytes), to = allocate(bytes);
    fill(from.data(), element_type::bf16, bytes / sizeof(bf16), random_stream(1, 1, 1.0f));
    const auto copy_all = [&](int) { copy(to.data(), from.data(), bytes); };
    time_calls(copy_all, cache_state::hot, 2);
    return 2.0 * bytes / median(time_calls(copy_all, cache_state::hot, 11));
  }

  int device_;
  cudaDeviceProp properties_{};
  owned<cudaStream_t, cudaStreamDestroy> stream_;
  owned<void*, cudaFree> flush_;
  owned<void*, cudaFree> counter_;
  std::unique_ptr<nvml_sampler> nvml_;
  ceilings ceilings_;
  std::optional<std::variant<energy_step, std::string>> energy_step_;
  double queueing_s_ = 0;  ///< of the host, to queue the last call
  double call_floor_ = 0;
  double rotation_floor_ = 0;
};

}  // namespace

std::variant<std::unique_ptr<backend>, std::string> make_cuda_backend(std::optional<int> number) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return fmt::format("no CUDA device: {} ({})", cudaGetErrorString(code), cudaGetErrorName(code));
  }
  if (count == 0) return "no CUDA device";
  if (number && *number >= count) {
    return fmt::format("no CUDA device {}: there are {}, counted from 0", *number, count);
  }
  int device = number.value_or(0);
  if (!number) BASED_CUDA(cudaGetDevice(&device));
  return std::unique_ptr<backend>(std::make_unique<cuda_backend>(device));
}

}  // namespace based
