// Which rows get a burst and what they then report, on a device whose readings the test chooses.
#include "benchmarks/harness/row_fixture.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "benchmarks/harness/google_flags.h"
#include "tests/benchmarks/virtual_device.h"

namespace based {
namespace {

using nlohmann::json;

class nothing final : public row_instance {
 public:
  void launch(int) override {}
  verification verify() override { return {.relative_error = 0, .where = "o"}; }
  bool replicate(int) override { return true; }
};

class virtual_row final : public row {
 public:
  virtual_row()
      : row({.operation = "prefill",
             .implementation = "virtual",
             .device = device_kind::cuda,
             .parameters = {{"B", 1}},
             .work = {.nominal_flops = 4e9, .tokens = 8},
             .tolerance = 1,
             .unsupported = std::nullopt,
             .label = ""}) {}
  std::unique_ptr<row_instance> prepare(backend&, std::uint64_t) const override {
    return std::make_unique<nothing>();
  }
};

class RowFixture : public testing::Test {
 protected:
  RowFixture() {
    auto made = std::make_unique<virtual_device>();
    device_ = made.get();
    // 1 ms a call in the steady state; after a rest 0.81, 0.82, ... 0.91 ms.
    device_->call_s = [this](int i) {
      if (device_->rested < 0) return 1e-3;
      if (first_ < 0) first_ = i;
      return 0.81e-3 + 0.01e-3 * (i - first_);
    };
    run_.devices[device_kind::cuda] = std::move(made);
    run_.rule.cap_s = 1;
    run_.shown = std::make_unique<progress>(1);
  }

  /// The row as the results file has it.
  json measured() {
    std::vector<std::string> flags = google_command_line("row_fixture_test", {});
    std::vector<char*> arguments;
    for (std::string& flag : flags) arguments.push_back(flag.data());
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    benchmark::Initialize(&count, arguments.data());

    const memory_manager memory(run_);
    const auto fixture =
        std::make_shared<row_fixture>(std::make_unique<virtual_row>(), run_, memory);
    benchmark::RegisterBenchmark(fixture->spec().name().c_str(), [fixture](benchmark::State& s) {
      fixture->Run(s);
    })->UseManualTime();
    const auto path = std::filesystem::temp_directory_path() /
                      ("based_row_fixture_" + std::to_string(getpid()) + ".json");
    output_file file(path);
    results_reporter reporter(file, run_.log, {});
    benchmark::RunSpecifiedBenchmarks(&reporter);
    benchmark::ClearRegisteredBenchmarks();
    const json document = json::parse(std::ifstream(path));
    std::filesystem::remove(path);
    return document["benchmarks"].at(0);
  }

  run_state run_;
  virtual_device* device_;
  int first_ = -1;
};

TEST_F(RowFixture, ARowHeldDownReportsItsBurstBesideItsSteadyState) {
  device_->readings = {.sm_mhz = 1600, .throttle_reasons = "software_power_cap"};
  const json row = measured();
  EXPECT_EQ(row["status"], "ok");
  EXPECT_EQ(row["timing"], "calls");
  EXPECT_NEAR(row["ci_low_us"], 1000, 1e-9);  // steady, as every other figure
  EXPECT_EQ(row["samples"], row["samples_us"].size());
  EXPECT_NEAR(row["burst_us"], 860, 1e-9);
  EXPECT_EQ(row["burst_samples_us"],
            json({810.0, 820.0, 830.0, 840.0, 850.0, 860.0, 870.0, 880.0, 890.0, 900.0, 910.0}));
  EXPECT_EQ(row["throttle_reasons"], "software_power_cap");
  EXPECT_FALSE(device_->rested_while_reading) << "the rest is in the row's clock and power";
}

TEST_F(RowFixture, TheReadingsAreOfTheSamplingAlone) {
  measured();
  EXPECT_EQ(device_->restarts, 1);  // after the warm-up
}

TEST_F(RowFixture, ARowThatRanAloneHasNoNoise) {
  EXPECT_FALSE(measured().contains("noise"));
}

TEST_F(RowFixture, WhatElseRanIsOnTheRow) {
  device_->readings.noise = "1 other process on the GPU";
  EXPECT_EQ(measured()["noise"], "1 other process on the GPU");
}

TEST_F(RowFixture, EnergyIsMeasuredWhereItIsAskedFor) {
  device_->step = energy_step{1e-3, 0.5};
  device_->watts = 500;
  device_->readings.throttle_reasons = "";  // no burst, so that a call takes 1 ms
  EXPECT_FALSE(measured().contains("mJ"));
  run_.energy = true;
  const json row = measured();
  EXPECT_NEAR(row["mJ"], 500, 5);
  EXPECT_GT(row["energy_us"], 0);  // by the real clock, which the device's has nothing to do with
  EXPECT_NEAR(row["tokens_per_J"], 8 / 0.5, 0.2);
  EXPECT_NEAR(row["pJ_per_FLOP"], 0.5 / 4e9 * 1e12, 1.5);
  EXPECT_FALSE(row.contains("energy_absent"));
}

TEST_F(RowFixture, EnergyThatIsAbsentHasItsReason) {
  run_.energy = true;
  const json row = measured();
  EXPECT_FALSE(row.contains("mJ"));
  EXPECT_EQ(row["energy_absent"], "this device has no energy counter");
}

TEST_F(RowFixture, ARowNotHeldDownHasNoBurst) {
  device_->readings = {.sm_mhz = 1980, .throttle_reasons = ""};
  const json row = measured();
  EXPECT_EQ(row["status"], "ok");
  EXPECT_FALSE(row.contains("burst_us"));
  EXPECT_FALSE(row.contains("burst_samples_us"));
  EXPECT_FALSE(row.contains("throttle_reasons"));
  EXPECT_EQ(device_->rested, -1);
}

TEST_F(RowFixture, ADriverThatDoesNotSayIsTakenToHoldBack) {
  EXPECT_TRUE(measured().contains("burst_us"));
}

TEST_F(RowFixture, AlwaysTakesItThoughNothingHeldTheClockDown) {
  device_->readings.throttle_reasons = "";
  run_.rule.burst = burst_mode::always;
  EXPECT_TRUE(measured().contains("burst_us"));
}

TEST_F(RowFixture, NeverTakesItThoughTheClockWasHeldDown) {
  device_->readings.throttle_reasons = "software_power_cap";
  run_.rule.burst = burst_mode::never;
  EXPECT_FALSE(measured().contains("burst_us"));
}

}  // namespace
}  // namespace based
