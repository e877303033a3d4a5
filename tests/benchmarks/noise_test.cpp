// What marks a row as disturbed, from counters of the test's making, and beside a real neighbour.
#include "benchmarks/harness/noise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <fstream>

#include "tests/benchmarks/run_bench.h"

namespace based {
namespace {

using testing::HasSubstr;

TEST(HostNoise, AQuietSecondIsNotMarked) {
  const host_counters before = {10, 100, 5.0, 3.0, 1000.0};
  EXPECT_EQ(host_noise(before, {11, 110, 5.01, 3.0, 1002.0}, 2), "");
  EXPECT_EQ(host_noise(before, before, 2), "");
}

TEST(HostNoise, EachKindIsNamed) {
  const host_counters before = {10, 100, 5.0, 3.0, 1000.0};
  EXPECT_EQ(host_noise(before, {11, 300, 5.0, 3.0, 1002.0}, 2),
            "100 involuntary switches a second and thread");
  EXPECT_EQ(host_noise(before, {11, 100, 5.5, 3.0, 1002.0}, 2), "25 % waiting for a core");
  EXPECT_EQ(host_noise(before, {11, 100, 5.0, 3.2, 1002.0}, 2), "10 % of the machine stolen");
  EXPECT_THAT(host_noise(before, {11, 300, 5.5, 3.2, 1002.0}, 2),
              testing::AllOf(HasSubstr("switches"), HasSubstr("waiting"), HasSubstr("stolen")));
}

TEST(HostNoise, AFewSwitchesOfAShortRowAreNone) {
  EXPECT_EQ(host_noise({10.0, 100}, {10.01, 104}, 1), "");
}

TEST(HostNoise, AKernelThatDoesNotCountWaitingIsNotTakenToHaveNone) {
  EXPECT_EQ(host_noise({10, 0, std::nullopt}, {11, 0, std::nullopt}, 1), "");
}

TEST(HostCounters, ReadWhatLinuxWrites) {
  const auto root = std::filesystem::temp_directory_path() / "based_noise_test";
  std::filesystem::create_directories(root / "proc/self/task/1");
  std::filesystem::create_directories(root / "proc/self/task/2");
  std::ofstream(root / "proc/self/task/1/schedstat") << "5000000000 250000000 7\n";
  std::ofstream(root / "proc/self/task/2/schedstat") << "5000000000 750000000 7\n";
  std::ofstream(root / "proc/stat") << "cpu  100 0 200 300 0 0 0 400 50 0\ncpu0 1 1 1 1\n";
  const host_counters found = read_host_counters(root);
  EXPECT_NEAR(found.waited_s.value_or(0), 1, 1e-9);
  EXPECT_NEAR(found.stolen_s / found.machine_s, 0.4, 1e-9);
  std::filesystem::remove_all(root);
  EXPECT_FALSE(read_host_counters(root).waited_s.has_value());
}

TEST(GpuNoise, AClockAsUsualIsNotMarked) {
  EXPECT_EQ(gpu_noise({}, 0), "");
  EXPECT_EQ(gpu_noise({1980, 1980, 1965, 1980, 1950, 1980}, 0), "");
  std::vector<double> one_reading_off(40, 1980);
  one_reading_off[7] = 345;
  EXPECT_EQ(gpu_noise(one_reading_off, 0), "");
}

TEST(GpuNoise, EachKindIsNamed) {
  EXPECT_EQ(gpu_noise({}, 1), "1 other process on the GPU");
  EXPECT_EQ(gpu_noise({}, 2), "2 other processes on the GPU");
  EXPECT_EQ(gpu_noise({1980, 1980, 1980, 1410, 1410, 1410}, 0), "clock from 1410 to 1980 MHz");
}

class Noise : public bench_test {};

TEST_F(Noise, ARowBesideAnotherProcessOnItsCoreIsMarked) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  const std::string pinned = "taskset -c " + std::to_string(core) + " ";
  const outcome result =
      shell(pinned + "sh -c 'while :; do :; done' & neighbour=$!; OMP_NUM_THREADS=1 " + pinned +
            fake_bench() + " --device=cpu --implementation=right --batch=1 --heads=1" +
            " --seqlen=512 --time-cap=1 --benchmark_out=" + file() + " 2>&1; kill $neighbour");
  const nlohmann::json row = read()["benchmarks"].at(0);
  ASSERT_TRUE(row.contains("noise")) << result.output;
  EXPECT_THAT(result.output, HasSubstr("(noise: " + row["noise"].get<std::string>()));
}

}  // namespace
}  // namespace based
