// Runs fake_bench, which is based_bench with implementations that behave in one known way each, as
// its user does: from a shell.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace based {

struct outcome {
  int exit_status;
  std::string output;
};

/// Runs a shell command; its output is what it prints on stdout.
inline outcome shell(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  outcome result{-1, ""};
  std::array<char, 4096> buffer;
  while (const std::size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) {
    result.output.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return result;
}

/// The path of fake_bench, beside the running test.
inline std::string fake_bench() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fake_bench").string();
}

/// Runs fake_bench; its output is what it prints on stdout and stderr.
inline outcome run(const std::string& arguments, const std::string& device = "cpu") {
  return shell(fake_bench() + " --device=" + device + " " + arguments + " 2>&1");
}

/// Has an empty folder, in which file() is where the results go.
class bench_test : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("based_suite_" + std::string(test->name()) + "_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file() const { return (folder_ / "results.json").string(); }
  nlohmann::json read() const { return nlohmann::json::parse(std::ifstream(file())); }
  void write(const std::string& text) const { std::ofstream(file()) << text; }

  std::filesystem::path folder_;
};

}  // namespace based
