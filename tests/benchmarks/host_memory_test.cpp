// Memory limits as Linux writes them, in a folder of the test's own, and this machine's.
#include "benchmarks/harness/host_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace based {
namespace {

namespace fs = std::filesystem;

class HostMemory : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("based_host_memory_" + std::to_string(getpid()));
    fs::remove_all(root_);
    put("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 1000 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  fs::path root_;
};

TEST_F(HostMemory, IsTheMachinesWithoutAGroup) {
  EXPECT_EQ(free_host_bytes(root_), 1000u * 1024);
}

TEST_F(HostMemory, IsWhatAGroupLeaves) {
  put("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  put("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
  put("sys/fs/cgroup/slurm/job_7/step_0/memory.current", "100000\n");
  put("sys/fs/cgroup/slurm/job_7/memory.max", "500000\n");  // the job's, around the step's
  put("sys/fs/cgroup/slurm/job_7/memory.current", "200000\n");
  EXPECT_EQ(free_host_bytes(root_), 300000u);
  put("sys/fs/cgroup/slurm/job_7/memory.stat", "anon 150000\ninactive_file 50000\n");
  EXPECT_EQ(free_host_bytes(root_), 350000u);
  put("sys/fs/cgroup/slurm/job_7/memory.current", "600000\n");  // a limit lowered below its use
  EXPECT_EQ(free_host_bytes(root_), 0u);
}

TEST_F(HostMemory, KnowsTheFirstVersionToo) {
  put("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n");
  put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "500000\n");
  put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "200000\n");
  put("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 100000\n");
  EXPECT_EQ(free_host_bytes(root_), 400000u);
}

TEST_F(HostMemory, FindsAContainersLimitAtTheTop) {
  put("proc/self/cgroup", "0::/as/the/machine/names/it\n");
  put("sys/fs/cgroup/memory.max", "500000\n");
  put("sys/fs/cgroup/memory.current", "100000\n");
  EXPECT_EQ(free_host_bytes(root_), 400000u);
}

TEST(FreeHostBytes, OfThisMachineAreSome) {
  EXPECT_GT(free_host_bytes(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace based
