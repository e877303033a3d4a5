// The program as its user meets it: exit status, messages, the results file, resume. Runs
// fake_bench beside this test, which is based_bench with implementations that behave in one known
// way each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/benchmarks/run_bench.h"

namespace {

using based::bench_test;
using based::outcome;
using based::run;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* small = " --batch=1 --heads=2 --seqlen=65 --time-cap=0.2 ";

using Suite = bench_test;

TEST_F(Suite, ARightRowIsReportedWhole) {
  const outcome result =
      run(std::string("--implementation=right --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["row"], "prefill/right/cpu/B:1/H:2/N:65");
  EXPECT_EQ(row["status"], "ok");
  EXPECT_EQ(row["operation"], "prefill");
  EXPECT_EQ(row["implementation"], "right");
  EXPECT_EQ(row["device"], "cpu");
  EXPECT_EQ(row["params"], json({{"B", 1}, {"H", 2}, {"N", 65}}));
  EXPECT_GT(row["real_time"], 0);
  EXPECT_LT(row["rel_err"], 1e-6);
  const double seconds = row["real_time"].get<double>() * 1e-6;
  EXPECT_NEAR(row["TFLOPs"], 2 * 65 * 273 * (2 + 4 * 64) / seconds / 1e12, 1e-9);
  EXPECT_NEAR(row["GBps"], 2 * 65 * 160 * 4 / seconds / 1e9, 1e-9);
  EXPECT_NEAR(row["tokens_per_s"], 65 / seconds, 1);
  EXPECT_NEAR(row["mem_MiB"], 2 * 65 * 160 * 4 / 1048576.0, 1e-9);
  EXPECT_EQ(row["workspace_MiB"], 0);
  EXPECT_EQ(row["samples_us"].size(), row["samples"]);
  EXPECT_EQ(read()["context"]["schema"], "based-bench/1");
}

TEST_F(Suite, WhatAnImplementationCountsIsOfTheVerifiedCallAlone) {
  const outcome result =
      run(std::string("--implementation=counts_calls --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_GT(row["samples"], 1);
  EXPECT_EQ(row["calls"], 1);
}

TEST_F(Suite, ACorruptedTileIsAnErrorWithoutATime) {
  const outcome result =
      run(std::string("--implementation=corrupted_tile --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("ERROR: relative error"));
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["status"], "error");
  EXPECT_THAT(row["reason"].get<std::string>(), HasSubstr("is over the tolerance 1.0e-05"));
  EXPECT_FALSE(row.contains("TFLOPs"));
  EXPECT_FALSE(row.contains("samples_us"));
}

TEST_F(Suite, AnUnwrittenElementIsAnError) {
  const outcome result = run(std::string("--implementation=unwritten_element") + small);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("1 elements of o are not finite or were never written"));
}

TEST_F(Suite, AThrowEndsItsRowAndNoOther) {
  const outcome result =
      run(std::string("--implementation=throws,right --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("ERROR: made to throw"));
  ASSERT_EQ(read()["benchmarks"].size(), 2u);
}

TEST_F(Suite, UnsupportedIsASkipWithItsReason) {
  const outcome result =
      run(std::string("--implementation=unsupported --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.output, HasSubstr("SKIPPED: made to be unsupported"));
  EXPECT_EQ(read()["benchmarks"].at(0)["status"], "skipped");
}

TEST_F(Suite, TooLargeIsASkipWithTheBytesItNeeds) {
  const outcome result =
      run(std::string("--implementation=too_large --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.output, HasSubstr("OUT OF MEMORY: needs"));
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["status"], "out_of_memory");
  EXPECT_EQ(row["needs_bytes"], (1ull << 60) + 2 * 65 * 160 * 4);
}

TEST_F(Suite, AGibibyteIsReportedAsAGibibyte) {
  const outcome result =
      run(std::string("--implementation=gibibyte --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["workspace_MiB"], 1024);
  EXPECT_NEAR(row["mem_MiB"], 1024 + 2 * 65 * 160 * 4 / 1048576.0, 1e-9);
  EXPECT_GE(row["max_bytes_used"], 1 << 30);  // Google Benchmark's own figure
}

TEST_F(Suite, RepetitionsAreKeptApartAndAggregated) {
  const outcome result = run(std::string("--implementation=right --benchmark_repetitions=3 "
                                         "--benchmark_out=") +
                             file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  int iterations = 0, aggregates = 0;
  const json document = read();
  for (const json& row : document["benchmarks"]) {
    const bool aggregate = row["run_type"] == "aggregate";
    (aggregate ? aggregates : iterations) += 1;
    EXPECT_EQ(row.contains("samples_us"), !aggregate);
    EXPECT_EQ(row["row"], "prefill/right/cpu/B:1/H:2/N:65");
  }
  EXPECT_EQ(iterations, 3);
  EXPECT_GE(aggregates, 3);
}

TEST_F(Suite, ResumeMeasuresOnlyWhatIsMissing) {
  const std::string right = "--implementation=right --heads=1 --batch=1 --time-cap=0.1 ";
  ASSERT_EQ(run(right + "--seqlen=16,32 --benchmark_out=" + file()).exit_status, 0);
  json before = read();
  before["benchmarks"][0]["real_time"] = 12345.0;  // a mark that a new measurement would not have
  write(before.dump());
  ASSERT_EQ(run(right + "--seqlen=16,32,64 --resume=" + folder_.string()).exit_status, 0);
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["real_time"], 12345.0);
  EXPECT_EQ(rows[2]["row"], "prefill/right/cpu/B:1/H:1/N:64");
}

TEST_F(Suite, ResumeTakesRowsWithAndWithoutABurst) {
  const std::string right = "--implementation=right --heads=1 --batch=1 --time-cap=0.1 ";
  ASSERT_EQ(run(right + "--seqlen=16,32 --benchmark_out=" + file()).exit_status, 0);
  json before = read();
  before["benchmarks"][0]["burst_us"] = 12345.0;
  before["benchmarks"][0]["burst_samples_us"] = {12344.0, 12345.0, 12346.0};
  write(before.dump());
  ASSERT_EQ(run(right + "--seqlen=16,32,64 --resume=" + folder_.string()).exit_status, 0);
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0], before["benchmarks"][0]);
  EXPECT_EQ(rows[1], before["benchmarks"][1]);
}

TEST_F(Suite, ACpuRowHasNoBurst) {
  const outcome result =
      run(std::string("--burst=always --implementation=right --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["status"], "ok");
  EXPECT_FALSE(row.contains("burst_us"));
  EXPECT_FALSE(row.contains("burst_samples_us"));
}

TEST_F(Suite, ResumeMeasuresErrorsAgain) {
  const std::string both = std::string("--implementation=right,throws") + small;
  EXPECT_EQ(run(both + "--benchmark_out=" + file()).exit_status, 1);
  const outcome again = run(both + "--resume=" + file());
  EXPECT_EQ(again.exit_status, 1);
  EXPECT_THAT(again.output, HasSubstr("prefill/throws"));
  EXPECT_THAT(again.output, Not(HasSubstr("prefill/right")));
  EXPECT_EQ(read()["benchmarks"].size(), 2u);
}

TEST_F(Suite, ResumeRefusesWhatDoesNotBelong) {
  const std::string right = std::string("--implementation=right") + small;
  ASSERT_EQ(run(right + "--benchmark_out=" + file()).exit_status, 0);
  const json good = read();

  outcome result = run(right + "--seed=2 --resume=" + file());
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, AllOf(HasSubstr("seed \"1\""), HasSubstr("\"2\"")));
  EXPECT_EQ(read(), good);

  const std::string truncated = good.dump().substr(0, good.dump().size() / 2);
  write(truncated);
  result = run(right + "--resume=" + file());
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, HasSubstr("is not complete JSON"));

  write("{\"some\": \"thing\"}");
  EXPECT_THAT(run(right + "--resume=" + file()).output, HasSubstr("no context and benchmarks"));

  json foreign = good;
  foreign["context"].erase("schema");
  write(foreign.dump());
  EXPECT_EQ(run(right + "--resume=" + file()).exit_status, 2);

  result = run(right + "--resume=/nowhere/results.json");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, HasSubstr("/nowhere/results.json"));
}

TEST_F(Suite, BadUsageIsOneLineThatNamesTheValue) {
  const auto refused = [](const std::string& arguments, const std::string& part) {
    const outcome result = run(arguments);
    EXPECT_EQ(result.exit_status, 2) << arguments;
    EXPECT_THAT(result.output, HasSubstr(part)) << arguments;
    EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
  };
  refused("--batch=0", "--batch: '0' is outside");
  refused("--seqlen=abc", "--seqlen: 'abc'");
  refused("--seqlen=8:4:*2", "'8:4:*2' ends before it starts");
  refused("--device=tpu", "'tpu' is not a device; want cpu, cuda");
  refused("--implementation=fast", "'fast' is not known on cpu; there is");
  refused("--options=norm", "'norm' is not an option; want none, all");
  refused("--variant=best", "'best' is no variant");
  refused("--head-dim=96", "'96' is not 64 or 128");
  refused("--causal=2", "'2' is not 0 or 1");
  refused("--rows=many", "--rows: 'many'");
  refused("--decay=fast", "--decay: 'fast' is not a number");
  refused("--direction=up", "--direction: 'up' is not forward or backward");
  refused("--terms=cubes", "'cubes' is not an option; want none, all, or some of squares, start");
  refused("--time-cap=0", "--time-cap");
  refused("--burst=sometimes", "--burst: 'sometimes' is not auto, always or never");
  refused("--energy=maybe", "--energy: 'maybe' is not true or false");
  refused("--profile=2", "--profile: '2' is not true or false");
  refused("--describe=no", "--describe: 'no' is not true or false");
  refused("--time-cap=soon", "'soon' is not a number of seconds");
  refused("--nonsense", "unknown argument '--nonsense'");
  refused("nonsense", "unknown argument 'nonsense'");
  refused("--benchmark_nonsense=1", "benchmark_nonsense");
  refused("--benchmark_filter=decode", "'decode' matches no row");
  refused("'--benchmark_filter=('", "is not a regular expression");
  refused("--benchmark_out=/nowhere/results.json", "cannot write '/nowhere/results.json'");
}

TEST_F(Suite, HelpShowsBothSetsOfFlags) {
  const outcome result = run("--help");
  EXPECT_EQ(result.exit_status, 0);
  for (const char* flag : {"--batch", "--seqlen", "--device", "--resume", "--time-cap", "--burst",
                           "--profile", "--benchmark_filter", "--benchmark_repetitions"}) {
    EXPECT_THAT(result.output, HasSubstr(flag));
  }
}

TEST_F(Suite, FilterAndListBehaveAsGoogleBenchmarks) {
  const outcome all = run("--benchmark_list_tests --implementation=right --seqlen=16,32");
  EXPECT_EQ(all.exit_status, 0);
  EXPECT_THAT(all.output, AllOf(HasSubstr("N:16/"), HasSubstr("N:32/")));
  const outcome one =
      run("--benchmark_list_tests --implementation=right --seqlen=16,32 --benchmark_filter=N:16/");
  EXPECT_THAT(one.output, AllOf(HasSubstr("N:16/"), Not(HasSubstr("N:32/"))));
  const outcome other =
      run("--benchmark_list_tests --implementation=right --seqlen=16,32 --benchmark_filter=-N:16/");
  EXPECT_THAT(other.output, AllOf(Not(HasSubstr("N:16/")), HasSubstr("N:32/")));
}

TEST_F(Suite, ProfileCallsEachRowOnceAndTimesNothing) {
  const outcome result =
      run(std::string("--profile --implementation=right --benchmark_out=") + file() + small);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.output, HasSubstr("profiled, not timed"));
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["real_time"], 0);
  EXPECT_EQ(row["status"], "profiled");
  // What the profiler's counts are set against.
  EXPECT_GT(row["nominal_GFLOP"], 0);
  EXPECT_GT(row["compulsory_MB"], 0);
  EXPECT_FALSE(row.contains("executed_GFLOP"));  // `right` declares none
  // It has no time, so that --resume measures it.
  EXPECT_EQ(run(std::string("--implementation=right --resume=") + file() + small).exit_status, 0);
  ASSERT_EQ(read()["benchmarks"].size(), 1u);
  EXPECT_EQ(read()["benchmarks"].at(0)["status"], "ok");
}

TEST_F(Suite, WhatNoAddressReachesIsOutOfMemoryWithItsBytes) {
  const outcome result =
      run("--implementation=step_by_step --rows=2147483647 --length=2147483647 --benchmark_out=" +
          file());
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row["status"], "out_of_memory");
  EXPECT_DOUBLE_EQ(row["needs_bytes"].get<double>(), 2.0 * 4 * 2147483647.0 * 2147483647.0);
}

TEST_F(Suite, ResumeRefusesAMalformedRow) {
  const std::string right = std::string("--implementation=right ") + small;
  ASSERT_EQ(run(right + "--benchmark_out=" + file()).exit_status, 0);
  const json good = read();
  const auto refused = [&](const char* field, const json& value) {
    json bad = good;
    bad["benchmarks"][0][field] = value;
    write(bad.dump());
    const outcome result = run(right + "--resume=" + file());
    EXPECT_EQ(result.exit_status, 2) << field;
    EXPECT_THAT(result.output, AllOf(HasSubstr("holds row 'prefill/right/cpu/B:1/H:2/N:65'"),
                                     HasSubstr(std::string(field) + " is")));
  };
  refused("status", "good");
  refused("status", 7);
  refused("real_time", "fast");
  refused("params", json::array());
  refused("device", "tpu");
  refused("samples_us", 3);
  json twice = good;
  twice["benchmarks"].push_back(good["benchmarks"][0]);
  write(twice.dump());
  const outcome result = run(right + "--resume=" + file());
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, HasSubstr("' twice"));
}

TEST_F(Suite, APartWithoutRowsIsAFileWithoutRows) {
  const outcome result =
      run(std::string("--implementation=right --shard=2147483647/2147483647 --benchmark_out=") +
          file() + small);
  EXPECT_EQ(result.exit_status, 0) << result.output;
  EXPECT_TRUE(read()["benchmarks"].empty());
  EXPECT_EQ(read()["context"]["schema"], "based-bench/1");
}

TEST_F(Suite, ARowIsListedOnce) {
  const outcome result =
      run("--benchmark_list_tests --implementation=step_by_step --rows=1 --type=f32,f32 "
          "--decay=0.75,0.75000000001");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  EXPECT_EQ(std::ranges::count(result.output, '\n'), 1) << result.output;
}

TEST_F(Suite, MoreBadUsageNamesTheValue) {
  const std::pair<const char*, const char*> cases[] = {
      {"--shard=0/3", "--shard: '0/3' is no part I/N"},
      {"--shard=4/3", "--shard: '4/3' is no part I/N"},
      {"--batch=1:2147483647:+1", "--batch: lists more than 10000 values"},
      {"--batch=1:1000:+1 --heads=1:1000:+1", "more than 100000 rows"},
      {"--decay=1e300", "--decay: '1e300' is outside fp32's range"},
      {"--rows=99999999999999999999", "is outside 1 to 2147483647"},
      {"--seed=1,999", "--seed: '1,999' is no seed"},
      {"--seed=0", "--seed: '0' is no seed"},
      {"--seed=-1", "--seed: '-1' is no seed"},
      {"--seed=x", "--seed: 'x' is no seed"},
      {"--batch= --heads=1", "--batch= is empty; want --batch=LIST"},
      {"--time-cap=0", "--time-cap: '0' is not above 0"},
      {"--type=f64", "f32, bf16 or fp16"},
      {"--benchmark_out_format=csv", "--benchmark_out_format: there is no file"},
      {"--describe --nonsense", "--nonsense"},
      {"--describe --decay=x", "--decay: 'x' is not a number"}};
  for (const auto& [arguments, message] : cases) {
    const outcome result = run(arguments);
    EXPECT_EQ(result.exit_status, 2) << arguments << result.output;
    EXPECT_THAT(result.output, AllOf(testing::StartsWith("based_bench: "), HasSubstr(message)))
        << arguments;
  }
  EXPECT_THAT(run(std::string("--energy --burst=always --implementation=right") + small).output,
              AllOf(HasSubstr("--energy is not used"), HasSubstr("--burst=always is not used")));
}

TEST_F(Suite, CsvGoesThroughToGoogleBenchmark) {
  const outcome result = run(std::string("--implementation=right --benchmark_format=csv") + small);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.output, HasSubstr("name,iterations,real_time"));
}

// An operation that one file adds: fake_operation.cpp.

constexpr const char* leaky = " --implementation=step_by_step --time-cap=0.1 ";

TEST_F(Suite, AnOperationOfOneFileIsListed) {
  const outcome listed = run("--benchmark_list_tests --implementation=step_by_step");
  EXPECT_EQ(listed.exit_status, 0) << listed.output;
  // The rows' default sweep, the length's default, and what is usual left out.
  EXPECT_EQ(listed.output,
            "leaky_sum/step_by_step/cpu/R:1/L:100/manual_time\n"
            "leaky_sum/step_by_step/cpu/R:2/L:100/manual_time\n");
  EXPECT_THAT(run("--help").output, AllOf(HasSubstr("--decay"), HasSubstr("(leaky_sum)"),
                                          HasSubstr("none, all, or some of squares, start")));
}

TEST_F(Suite, AnOperationOfOneFileIsDescribed) {
  const outcome described = run("--describe");
  EXPECT_EQ(described.exit_status, 0) << described.output;
  const json description = json::parse(described.output);
  for (const json& operation : description["operations"]) {
    if (operation["name"] != "leaky_sum") continue;
    std::vector<std::string> flags;
    for (const json& axis : operation["axes"]) flags.push_back(axis["flag"]);
    EXPECT_THAT(flags, ElementsAre("rows", "length", "decay", "direction", "terms"));
    EXPECT_EQ(operation["axes"][0]["default"], json({{"cpu", "1,2"}}));
    EXPECT_EQ(operation["axes"][0]["value"], 2);
    EXPECT_EQ(operation["axes"][3]["values"], json({"forward", "backward"}));
    const json& ours = operation["implementations"].at(0);
    EXPECT_EQ(ours["name"], "step_by_step");
    EXPECT_EQ(ours["role"], "ours");
    EXPECT_EQ(ours["types"], json({"f32", "bf16"}));
    EXPECT_EQ(operation["implementations"].at(1)["reimplements"], json({"someone_elses"}));
    return;
  }
  ADD_FAILURE() << "leaky_sum is not described";
}

TEST_F(Suite, AnOperationOfOneFileIsTimedAndWrittenWithItsParameters) {
  const outcome result = run(leaky + ("--benchmark_out=" + file()) +
                             " --rows=3 --length=64:128:*2 --decay=0.25 --direction=backward"
                             " --terms=start,none");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0]["row"],
            "leaky_sum/step_by_step/cpu/R:3/L:64/decay:0.25/direction:backward/terms:start");
  EXPECT_EQ(
      rows[0]["params"],
      json({{"R", 3}, {"L", 64}, {"decay", 0.25}, {"direction", "backward"}, {"terms", "start"}}));
  EXPECT_FALSE(rows[1]["params"].contains("terms"));
  for (const json& row : rows) {
    EXPECT_EQ(row["status"], "ok") << row;
    EXPECT_EQ(row["operation"], "leaky_sum");
    EXPECT_GT(row["real_time"], 0);
    EXPECT_LT(row["rel_err"], 1e-5);
  }
  const double seconds = rows[0]["real_time"].get<double>() * 1e-6;
  EXPECT_NEAR(rows[0]["TFLOPs"], 3.0 * 3 * 64 / seconds / 1e12, 1e-9);
}

TEST_F(Suite, AnOperationOfOneFileIsVerified) {
  const outcome result =
      run("--implementation=from_zero --rows=1 --time-cap=0.1"
          " --terms=none,start --benchmark_out=" +
          file());
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("ERROR: relative error"));
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["status"], "ok");
  EXPECT_EQ(rows[1]["status"], "error");
}

TEST_F(Suite, AnOperationOfOneFileIsResumed) {
  ASSERT_EQ(run(leaky + ("--rows=1 --benchmark_out=" + file())).exit_status, 0);
  json before = read();
  before["benchmarks"][0]["real_time"] = 12345.0;  // a mark that a new measurement would not have
  write(before.dump());
  ASSERT_EQ(run(leaky + ("--rows=1 --decay=0.5,0.75 --resume=" + file())).exit_status, 0);
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["real_time"], 12345.0);
  EXPECT_EQ(rows[1]["row"], "leaky_sum/step_by_step/cpu/R:1/L:100/decay:0.75");
}

TEST_F(Suite, AnElementTypeIsOneOfTheImplementations) {
  const std::string one_row = std::string(leaky) + "--rows=1 --benchmark_out=" + file();
  const outcome both = run(one_row + " --type=f32,bf16");
  EXPECT_EQ(both.exit_status, 0) << both.output;
  const json rows = read()["benchmarks"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["row"], "leaky_sum/step_by_step/cpu/R:1/L:100");
  EXPECT_EQ(rows[1]["row"], "leaky_sum/step_by_step/cpu/R:1/L:100/type:bf16");
  EXPECT_EQ(rows[1]["params"]["type"], "bf16");
  // 100 elements of two tensors each; and only a result of bf16 is rounded so coarsely.
  EXPECT_NEAR(rows[0]["mem_MiB"], 2 * 100 * 4 / 1048576.0, 1e-9);
  EXPECT_NEAR(rows[1]["mem_MiB"], 2 * 100 * 2 / 1048576.0, 1e-9);
  EXPECT_LT(rows[0]["rel_err"], 1e-6);
  EXPECT_GT(rows[1]["rel_err"], 1e-4);

  const outcome other = run(one_row + " --type=fp16");
  EXPECT_EQ(other.exit_status, 2);
  EXPECT_THAT(other.output, HasSubstr("--type: 'fp16' is no element type of the selected"));
}

TEST_F(Suite, AnAxisThatNoSelectedRowHasIsNamed) {
  const outcome unused = run("--benchmark_list_tests --implementation=right --decay=0.25");
  EXPECT_EQ(unused.exit_status, 0) << unused.output;
  EXPECT_THAT(unused.output, HasSubstr("--decay is not used: no operation of these rows has it\n"));
  const outcome used = run("--benchmark_list_tests --implementation=step_by_step --decay=0.25");
  EXPECT_THAT(used.output, AllOf(HasSubstr("/decay:0.25/"), Not(HasSubstr("is not used"))));
}

class CudaSuite : public Suite {
 protected:
  void SetUp() override {
    Suite::SetUp();
    const outcome probe = run("--benchmark_list_tests", "cuda");
    if (probe.exit_status != 0) GTEST_SKIP() << probe.output;
  }
};

TEST_F(CudaSuite, ARightRowCarriesTheDevicesReadings) {
  const outcome result =
      run(std::string("--implementation=right --benchmark_out=") + file() + small, "cuda");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json document = read();
  const json row = document["benchmarks"].at(0);
  EXPECT_EQ(row["status"], "ok");
  EXPECT_EQ(row["row"], "prefill/right/cuda/B:1/H:2/N:65");
  EXPECT_NEAR(row["mem_MiB"], 2 * 65 * 160 * 2 / 1048576.0, 1e-9);
  for (const char* key : {"gpu_name", "gpu_uuid", "gpu_sm_count", "gpu_l2_MiB", "gpu_cuda_driver",
                          "gpu_cuda_runtime", "gpu_copy_GBps", "gpu_timer_floor_us"}) {
    EXPECT_TRUE(document["context"].contains(key)) << key;
  }
}

TEST_F(CudaSuite, ABurstIsTheMedianOfItsSamples) {
  const std::string long_row =
      "--implementation=right --batch=1 --heads=2 --seqlen=4096 --time-cap=5 ";
  const outcome always = run(long_row + "--burst=always --benchmark_out=" + file(), "cuda");
  EXPECT_EQ(always.exit_status, 0) << always.output;
  EXPECT_THAT(always.output, HasSubstr("(burst "));
  const json row = read()["benchmarks"].at(0);
  ASSERT_EQ(row["timing"], "calls");
  auto samples = row["burst_samples_us"].get<std::vector<double>>();
  ASSERT_EQ(samples.size(), 11u);
  std::sort(samples.begin(), samples.end());
  EXPECT_NEAR(row["burst_us"], samples[5], 1e-3);

  ASSERT_EQ(run(long_row + "--burst=never --benchmark_out=" + file(), "cuda").exit_status, 0);
  EXPECT_FALSE(read()["benchmarks"].at(0).contains("burst_us"));
}

TEST_F(CudaSuite, ARotatedRowHasNoBurst) {
  const outcome result =
      run(std::string("--burst=always --implementation=right --benchmark_out=") + file() + small,
          "cuda");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  const json row = read()["benchmarks"].at(0);
  EXPECT_EQ(row.contains("burst_us"), row["timing"] == "calls");
}

TEST_F(CudaSuite, AWrongElementIsAnError) {
  const outcome result = run(std::string("--implementation=corrupted_element") + small, "cuda");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("ERROR: relative error"));
}

TEST_F(CudaSuite, AGibibyteIsReportedAsAGibibyte) {
  const outcome result =
      run(std::string("--implementation=gibibyte --benchmark_out=") + file() + small, "cuda");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  EXPECT_EQ(read()["benchmarks"].at(0)["workspace_MiB"], 1024);
}

TEST_F(CudaSuite, ALaunchThatFailsEndsItsRowAlone) {
  const outcome result = run(std::string("--implementation=unlaunchable,right "
                                         "--benchmark_filter='prefill/(right|unlaunchable)' "
                                         "--benchmark_repetitions=2 --benchmark_out=") +
                                 file() + small,
                             "cuda");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("ERROR: cudaErrorInvalid"));
  EXPECT_EQ(read()["benchmarks"].at(0)["status"], "ok");
}

TEST_F(CudaSuite, AStickyErrorNamesTheRowsThatAreLost) {
  const outcome result = run(std::string("--implementation=gibibyte,illegal_address,right "
                                         "--benchmark_out=") +
                                 file() + small,
                             "cuda");
  EXPECT_EQ(result.exit_status, 1);
  const json document = read();
  const json& rows = document["benchmarks"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["status"], "ok");
  EXPECT_THAT(rows[1]["reason"].get<std::string>(), HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_THAT(rows[2]["reason"].get<std::string>(),
              AllOf(HasSubstr("not run: cuda was lost with cudaErrorIllegalAddress"),
                    HasSubstr("prefill/illegal_address/cuda")));
}

}  // namespace
