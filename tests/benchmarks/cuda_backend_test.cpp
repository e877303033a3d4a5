// The CUDA backend against kernels of known length, memory of known size and values of known bits.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/device_kernels.h"
#include "benchmarks/harness/measure.h"

namespace based {
namespace {

class CudaBackend : public testing::Test {
 protected:
  void SetUp() override {
    auto made = make_cuda_backend();
    if (auto* reason = std::get_if<std::string>(&made)) GTEST_SKIP() << *reason;
    device_ = std::move(std::get<std::unique_ptr<backend>>(made));
  }

  backend::launch spin(double seconds) {
    return [this, seconds](int) { launch_spin(seconds, device_->stream()); };
  }

  timing measure_spin(double seconds) {
    return measure(*device_, {.launch = spin(seconds), .replicate = [](int) { return true; }},
                   {.cap_s = 3});
  }

  std::unique_ptr<backend> device_;
};

TEST_F(CudaBackend, ReportsKernelsOfKnownLength) {
  for (const double seconds : {5e-6, 20e-6, 200e-6}) {
    const timing t = measure_spin(seconds);
    EXPECT_NEAR(t.cold.median, seconds, std::max(1e-6, 0.02 * seconds))
        << (t.rotated ? "rotation, floor " : "calls, floor ") << t.floor;
    ASSERT_FALSE(t.hot_samples.empty());
    EXPECT_NEAR(median(t.hot_samples), seconds, std::max(1e-6, 0.02 * seconds));
  }
}

TEST_F(CudaBackend, ABurstReportsKernelsOfKnownLengthAfterARest) {
  for (const double seconds : {50e-6, 200e-6, 2e-3}) {
    const timing steady = measure_spin(seconds);
    const double before = steady_seconds();
    const std::vector<double> burst = measure_burst(*device_, spin(seconds), steady);
    EXPECT_GE(steady_seconds() - before, burst_rest_s);
    ASSERT_EQ(burst.size(), burst_calls);
    // Calls, whose floor is in them: after a rest no warm queue hides it.
    EXPECT_NEAR(median(burst), seconds, std::max(steady.floor + 1e-6, 0.02 * seconds));
  }
}

TEST_F(CudaBackend, ARestWaitsForWhatIsQueued) {
  const double before = steady_seconds();
  spin(0.2)(0);
  device_->rest(0.1);
  EXPECT_GE(steady_seconds() - before, 0.299);  // two clocks, the device's and the host's
}

TEST_F(CudaBackend, TheSameKernelTwiceIsTheSame) {
  const timing a = measure_spin(100e-6), b = measure_spin(100e-6);
  EXPECT_LE(a.cold.low, b.cold.high * 1.005);
  EXPECT_LE(b.cold.low, a.cold.high * 1.005);
}

TEST_F(CudaBackend, CountsMemoryAsTheDeviceDoes) {
  constexpr std::size_t gibibyte = std::size_t{1} << 30;
  const std::size_t free = device_->free_bytes();
  device_->restart_peak();
  const std::size_t before = device_->usage().peak;
  {
    const memory block = device_->allocate(gibibyte);
    EXPECT_EQ(device_->usage().live - before, gibibyte);
    EXPECT_NEAR(static_cast<double>(free - device_->free_bytes()), gibibyte, 4 << 20);
  }
  EXPECT_EQ(device_->usage().peak - before, gibibyte);
  EXPECT_EQ(device_->usage().live, before);
}

TEST_F(CudaBackend, FillsWithTheBitsThatTheHostComputes) {
  constexpr std::int64_t count = 100'003;
  const random_stream values(5, 6, 0.25f);
  const memory tensor = device_->allocate(count * sizeof(bf16));
  device_->fill(tensor.data(), element_type::bf16, count, values);
  std::vector<bf16> got(count);
  device_->download(got.data(), tensor.data(), tensor.bytes());
  for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(to_float(got[i]), values(i)) << i;
}

TEST_F(CudaBackend, FindsEveryNonfiniteElement) {
  constexpr std::int64_t count = 1 << 20;
  const memory tensor = device_->allocate(count * sizeof(bf16));
  device_->poison(tensor.data(), tensor.bytes());
  EXPECT_EQ(device_->count_nonfinite(tensor.data(), element_type::bf16, count), count);
  device_->fill(tensor.data(), element_type::bf16, count, random_stream(1, 1, 1.0f));
  EXPECT_EQ(device_->count_nonfinite(tensor.data(), element_type::bf16, count), 0);
  const bf16 infinity = to_bf16(INFINITY);
  device_->upload(tensor.data<bf16>() + count - 1, &infinity, sizeof infinity);
  EXPECT_EQ(device_->count_nonfinite(tensor.data(), element_type::bf16, count), 1);
}

TEST_F(CudaBackend, MeasuresItsCeilings) {
  const ceilings& most = device_->measured_ceilings();
  EXPECT_GT(most.copy_bytes_per_s, 100e9);
  if (most.note.empty()) {
    EXPECT_GT(most.flops_per_s, 1e12);
  }
}

}  // namespace
}  // namespace based
