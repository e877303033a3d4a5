// What becomes of files, flags and the environment: nothing is replaced that is no regular file,
// nothing is lost without a word, and each flag of Google Benchmark works or is refused by name.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "benchmarks/harness/results.h"
#include "tests/benchmarks/run_bench.h"

namespace based {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::string shape = " --batch=1 --heads=1 --seqlen=16 --time-cap=0.05 ";
const std::string right = " --implementation=right" + shape;

class Files : public bench_test {
 protected:
  void SetUp() override {
    bench_test::SetUp();
    setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1);  // what is tested here needs no more
  }
  std::string out() const { return " --benchmark_out=" + file() + " "; }
  static std::string text_of(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      found.push_back(entry.path().filename().string());
    }
    std::ranges::sort(found);
    return found;
  }
};

TEST_F(Files, ADeviceStaysADevice) {
  if (mknod(file().c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0) {  // as /dev/null
    GTEST_SKIP() << "only root can make a device node";
  }
  const outcome result = run(right + out());
  EXPECT_EQ(result.exit_status, 0) << result.output;
  struct stat found {};
  ASSERT_EQ(stat(file().c_str(), &found), 0);
  EXPECT_TRUE(S_ISCHR(found.st_mode));
}

TEST_F(Files, AFifoIsWrittenThrough) {
  ASSERT_EQ(mkfifo(file().c_str(), 0600), 0);
  const outcome result = shell("timeout 60 cat " + file() + " & timeout 60 " + fake_bench() +
                               " --device=cpu" + right + out() + ">/dev/null; wait");
  EXPECT_EQ(json::parse(result.output)["benchmarks"].size(), 1u);
  EXPECT_TRUE(fs::is_fifo(file()));
}

TEST_F(Files, BehindALinkIsTheFileThatItNames) {
  fs::create_directory(folder_ / "elsewhere");
  fs::create_symlink("elsewhere/target.json", file());  // which is not there yet
  for (int time = 0; time < 2; ++time) {
    const outcome result = run(right + out());
    EXPECT_EQ(result.exit_status, 0) << result.output;
    EXPECT_TRUE(fs::is_symlink(file()));
    EXPECT_EQ(json::parse(text_of(folder_ / "elsewhere/target.json"))["benchmarks"].size(), 1u);
    std::ofstream(folder_ / "elsewhere/target.json") << "old";
  }
}

TEST_F(Files, AReplacedFileKeepsItsPermissions) {
  write("old");
  ASSERT_EQ(chmod(file().c_str(), 0640), 0);
  ASSERT_EQ(run(right + out()).exit_status, 0);
  EXPECT_EQ(fs::status(file()).permissions(), fs::perms(0640));
}

TEST_F(Files, AFolderIsRefusedAndNothingLeftBehind) {
  fs::create_directory(file());
  const outcome result = run(right + out());
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, HasSubstr("it is a folder"));
  EXPECT_THAT(names(), testing::ElementsAre("results.json"));
  EXPECT_TRUE(fs::is_empty(file()));
}

TEST_F(Files, BadUsageLeavesNoFile) {
  write("{}");
  const std::string new_file = (folder_ / "new.json").string();
  EXPECT_EQ(run(right + "--resume=" + file() + " --benchmark_out=" + new_file).exit_status, 2);
  EXPECT_THAT(names(), testing::ElementsAre("results.json"));
}

TEST_F(Files, StandardOutputIsNoFileToReplace) {
  const outcome result = shell(fake_bench() + " --device=cpu" + right +
                               "--benchmark_out=/dev/stdout >" + file() + " 2>&1");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(text_of(file()), HasSubstr("--benchmark_format=json"));
}

TEST_F(Files, ASecondProcessIsRefused) {
  // The first has replaced the file at least once when the second comes.
  const std::string first = fake_bench() + " --device=cpu --implementation=right --batch=1 " +
                            "--heads=1 --seqlen=16:2048:*2 --time-cap=0.5" + out() +
                            ">/dev/null & first=$!; until grep -q N:16 " + file() +
                            " 2>/dev/null; do sleep 0.01; done; ";
  const outcome second = shell(first + fake_bench() + " --device=cpu" + right + out() +
                               " 2>&1; echo status $?; kill $first; wait");
  EXPECT_THAT(second.output, HasSubstr("another process is writing it"));
  EXPECT_THAT(second.output, HasSubstr("status 2"));
  EXPECT_GE(read()["benchmarks"].size(), 1u);
  EXPECT_EQ(run(right + out()).exit_status, 0) << "the lock outlived its process";
}

TEST_F(Files, AFullDeviceIsSaid) {
  const std::string bench = fake_bench() + " --device=cpu" + right;
  for (const std::string where :
       {"--benchmark_out=/dev/full >/dev/null",
        "--benchmark_out=/dev/full --benchmark_out_format=csv >/dev/null", ">/dev/full",
        "--benchmark_format=csv >/dev/full", "--benchmark_format=json >/dev/full",
        "--benchmark_list_tests >/dev/full", "--help >/dev/full"}) {
    const outcome result = shell("(" + bench + where + ") 2>&1");
    EXPECT_EQ(result.exit_status, 1) << where;
    EXPECT_THAT(result.output, HasSubstr("cannot write")) << where;
  }
}

TEST_F(Files, AFullDiskKeepsTheRowsThatItHolds) {
  // No file may be longer than eight blocks of 512 bytes: the later rows do not fit.
  const outcome result =
      shell("(trap '' XFSZ; ulimit -f 8; " + fake_bench() +
            " --device=cpu --implementation=right --batch=1 --heads=1 --seqlen=16:256:*2" +
            " --time-cap=0.05" + out() + ") 2>&1");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.output, HasSubstr("cannot write"));
  EXPECT_TRUE(read().contains("benchmarks"));
  EXPECT_THAT(names(), testing::ElementsAre("results.json"));
}

TEST_F(Files, ThereIsNoEmptyFileBeforeTheFirstRow) {
  // Killed while it measures the machine, which takes longest here; then it can begin again.
  const std::string first = fake_bench() + " --device=cpu" + right + out() +
                            ">/dev/null & first=$!; until [ -e " + folder_.string() +
                            "/.results.json.lock ]; do sleep 0.01; done; ls " + folder_.string() +
                            "; ";
  const outcome second = shell(first + fake_bench() + " --device=cpu" + right + out() +
                               " 2>&1; echo status $?; kill -KILL $first; wait");
  EXPECT_THAT(second.output, Not(HasSubstr("results.json\n")));
  EXPECT_THAT(second.output, HasSubstr("another process is writing it"));
  EXPECT_FALSE(fs::exists(file()));
  ASSERT_EQ(run(right + out()).exit_status, 0) << "what a killed process left is in the way";
  EXPECT_THAT(names(), testing::ElementsAre("results.json"));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST_F(Files, CsvHasOneSetOfColumns) {
  // The first row has no counters at all.
  const std::string rows =
      " --implementation=corrupted_tile,right --benchmark_repetitions=2" + shape;
  const outcome shown = shell(fake_bench() + " --device=cpu --benchmark_format=csv" + rows);
  EXPECT_EQ(shown.exit_status, 1);
  ASSERT_EQ(run(rows + out() + "--benchmark_out_format=csv").exit_status, 1);
  for (const std::string& text : {shown.output, text_of(file())}) {
    const std::vector<std::string> lines = lines_of(text);
    ASSERT_EQ(lines.size(), 1 + 2 + 2 + 4u) << text;  // heading, repetitions, aggregates
    for (const std::string& line : lines) {
      EXPECT_EQ(std::ranges::count(line, ','), std::ranges::count(lines.front(), ',')) << line;
    }
    EXPECT_THAT(lines[1], HasSubstr("ERROR: relative error"));
  }
}

TEST_F(Files, CsvHasAColumnForEachCounter) {
  ASSERT_EQ(run(right + out()).exit_status, 0);
  const json row = read()["benchmarks"].at(0);
  const std::string heading =
      lines_of(shell(fake_bench() + " --device=cpu --benchmark_format=csv" + right).output).front();
  for (const char* counter : {"TFLOPs", "GBps", "samples", "rel_err", "nominal_GFLOP"}) {
    EXPECT_TRUE(row.contains(counter)) << counter;
    EXPECT_THAT(heading, HasSubstr(std::string("\"") + counter + "\""));
  }
}

TEST_F(Files, AConsoleTableGoesToAFileToo) {
  ASSERT_EQ(run(right + out() + "--benchmark_out_format=console").exit_status, 0);
  EXPECT_THAT(text_of(file()), HasSubstr("prefill/right/cpu"));
}

TEST_F(Files, JsonOnStandardOutputIsJson) {
  // The coefficient of variation of a counter that is always 0 is no number.
  const outcome result = shell(fake_bench() + " --device=cpu --benchmark_format=json " +
                               "--benchmark_repetitions=2" + right + "2>/dev/null");
  EXPECT_EQ(result.exit_status, 0);
  const json document = json::parse(result.output, nullptr, false);
  ASSERT_FALSE(document.is_discarded()) << result.output;
  EXPECT_EQ(document["benchmarks"].size(), 2 + 4u);
  EXPECT_EQ(document["benchmarks"][0]["status"], "ok");
  EXPECT_EQ(document["context"]["schema"], "based-bench/1");
}

TEST_F(Files, TheFileKeepsEveryRepetition) {
  for (const std::string flag : {"display", "report"}) {
    const outcome result = run("--benchmark_repetitions=3 --benchmark_" + flag +
                               "_aggregates_only=true" + right + out());
    ASSERT_EQ(result.exit_status, 0) << result.output;
    int repetitions = 0;
    const json document = read();
    for (const json& row : document["benchmarks"]) repetitions += row["run_type"] == "iteration";
    EXPECT_EQ(repetitions, 3);
    EXPECT_THAT(result.output,
                AllOf(HasSubstr("manual_time_median"), Not(HasSubstr("manual_time "))));
  }
  const outcome once = run("--benchmark_display_aggregates_only=true" + right);
  EXPECT_THAT(once.output, HasSubstr("manual_time ")) << "there is no aggregate of one repetition";
}

TEST_F(Files, ResumeRefusesWhatAComparisonRefuses) {
  ASSERT_EQ(run(right + out()).exit_status, 0);
  const json good = read();
  const auto refused = [&](const std::string& why) {
    const outcome result = run(right + "--resume=" + file());
    EXPECT_EQ(result.exit_status, 2) << why;
    EXPECT_THAT(result.output, HasSubstr(why));
  };
  for (const char* key :
       {"schema", "revision", "compiled_for", "l2_policy", "cpu_name", "cpu_threads"}) {
    json other = good;
    other["context"][key] = "something else";
    write(other.dump());
    refused(key);
  }
  json unknown = good;
  unknown["context"]["revision"] = "unknown";
  write(unknown.dump());
  refused("revision");

  write(good.dump());
  ASSERT_EQ(run(right + "--resume=" + file()).exit_status, 0);
}

TEST_F(Files, ResumeCanList) {
  ASSERT_EQ(run(right + out()).exit_status, 0);
  const std::string before = text_of(file());
  const outcome listed =
      run("--implementation=right --batch=1 --heads=1 --seqlen=16,32 "
          "--benchmark_list_tests --resume=" +
          file());
  EXPECT_EQ(listed.exit_status, 0) << listed.output;
  EXPECT_THAT(listed.output, AllOf(HasSubstr("N:32/"), Not(HasSubstr("N:16/"))));
  EXPECT_EQ(text_of(file()), before);
}

TEST_F(Files, ACompleteResumeEndsWell) {
  ASSERT_EQ(run(right + out()).exit_status, 0);
  const json before = read();
  for (const std::string more : {"", "--benchmark_list_tests"}) {
    const outcome again = run(right + "--resume=" + file() + " " + more);
    EXPECT_EQ(again.exit_status, 0);
    EXPECT_THAT(again.output, AllOf(HasSubstr("every row of this sweep is already in the file"),
                                    Not(HasSubstr("Failed to match"))));
    EXPECT_EQ(read()["benchmarks"], before["benchmarks"]);
  }
}

TEST_F(Files, ResumeGoesOnInJsonAlone) {
  ASSERT_EQ(run(right + out()).exit_status, 0);
  const outcome result = run(right + "--resume=" + file() + " --benchmark_out_format=csv" +
                             " --benchmark_out=" + (folder_ / "rows.csv").string());
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.output, HasSubstr("--benchmark_out_format must be json"));
}

TEST_F(Files, FlagsThatDoNotWorkAreRefusedByName) {
  for (const auto& [argument, why] : std::map<std::string, std::string>{
           {"--benchmark_min_warmup_time=0.2", "--time-cap bounds it"},
           {"--benchmark_min_time=10x", "counts iterations"},
           {"--benchmark_min_time=soon", "is not a number of seconds"},
           {"--benchmark_color=true", "no colours"},
           {"--benchmark_counters_tabular", "fixed columns"},
           {"--benchmark_time_unit=ms", "in microseconds"},
           {"--benchmark_perf_counters=CYCLES", "--profile"},
           {"--benchmark_dry_run", "--benchmark_list_tests lists"},
           {"--device=cuda:", "'cuda:' is not a device"},
           {"--device=cuda:x", "'cuda:x' is not a device"},
           {"--device=cuda:-1", "'cuda:-1' is not a device"},
           {"--device=cuda:0,cuda:1", "a process runs on one"},
           {"--device=cuda:4096", "cuda is not available here"},
           {"--benchmark_repetitions=0", "'0' is not a whole number of 1 or more"},
           {"--benchmark_repetitions=-1", "'-1' is not"},
           {"--benchmark_repetitions=two", "'two' is not"},
           {"--benchmark_format=xml", "'xml' is not console, json or csv"},
           {"--benchmark_out_format=xml", "'xml' is not console, json or csv"},
           {"--benchmark_list_tests=perhaps", "'perhaps' is not true or false"},
           {"--benchmark_filter", "needs a value"},
           {"--benchmark_context=key", "'key' is not key=value"}}) {
    const outcome result = run(argument + right);
    EXPECT_EQ(result.exit_status, 2) << argument;
    const std::string name = argument.substr(0, argument.find('='));
    EXPECT_THAT(result.output, AllOf(HasSubstr(name), HasSubstr(why)));
    EXPECT_EQ(std::ranges::count(result.output, '\n'), 1) << result.output;
  }
}

TEST_F(Files, FlagsOfOtherVersionsThatAskForNothingAreTaken) {
  for (const std::string argument :
       {"--benchmark_min_warmup_time=0", "--benchmark_color=auto", "--benchmark_dry_run=false",
        "--benchmark_counters_tabular=false", "--benchmark_time_unit=us",
        "--benchmark_min_time=0.01s",
        "--benchmark_enable_random_interleaving=true --benchmark_repetitions=2", "--v=0"}) {
    const outcome result = run(argument + right);
    EXPECT_EQ(result.exit_status, 0) << argument << result.output;
    EXPECT_THAT(result.output, HasSubstr("prefill/right/cpu")) << argument;
  }
}

TEST_F(Files, HelpListsNoFlagThatIsRefused) {
  const outcome result = run("--help");
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("--benchmark_context"), Not(HasSubstr("--benchmark_min_warmup_time")),
                    Not(HasSubstr("--benchmark_color"))));
}

TEST_F(Files, TheEnvironmentSetsFlagsAsTheCommandLineDoes) {
  const std::string bench = fake_bench() + " --device=cpu" + right + " 2>&1";
  ASSERT_EQ(shell("BENCHMARK_OUT=" + file() + " " + bench).exit_status, 0);
  EXPECT_EQ(read()["benchmarks"].at(0)["status"], "ok") << "not the suite's writer";
  EXPECT_EQ(shell("BENCHMARK_REPETITIONS=0 " + bench).exit_status, 2);
  EXPECT_EQ(shell("BENCHMARK_MIN_WARMUP_TIME=1 " + bench).exit_status, 2);
  EXPECT_THAT(shell("BENCHMARK_FORMAT=csv " + bench).output, HasSubstr("name,iterations"));
  EXPECT_EQ(shell("BENCHMARK_FILTER=^nothing " + bench).exit_status, 2);
  EXPECT_EQ(shell("BENCHMARK_FILTER=^nothing " + fake_bench() + " --device=cpu" + right +
                  " --benchmark_filter=right 2>&1")
                .exit_status,
            0);
  ASSERT_EQ(shell("BENCHMARK_CONTEXT=site=here " + bench + out()).exit_status, 0);
  EXPECT_EQ(shell("BENCHMARK_CONTEXT=revision=abc " + bench).exit_status, 2);
}

TEST_F(Files, ContextAddsAndNeverReplaces) {
  const outcome result = run("--benchmark_context=site=here,who=me" + right + out());
  ASSERT_EQ(result.exit_status, 0) << result.output;
  EXPECT_EQ(read()["context"]["site"], "here");
  EXPECT_EQ(read()["context"]["who"], "me");
  for (const char* key :
       {"revision", "schema", "seed", "cpu_name", "gpu_name", "date", "l2_policy"}) {
    const outcome refused = run(std::string("--benchmark_context=") + key + "=abc" + right);
    EXPECT_EQ(refused.exit_status, 2) << key;
    EXPECT_THAT(refused.output, HasSubstr("is a key of the suite's own"));
  }
}

TEST_F(Files, ArgumentsNeedNotBeText) {
  const std::string byte = "\"$(printf '\\351')\"";
  const outcome result = shell(fake_bench() + " --device=cpu" + right +
                               "--benchmark_context=site=" + byte + out() + "2>&1");
  ASSERT_EQ(result.exit_status, 0) << result.output;
  EXPECT_EQ(read()["context"]["site"], "\\xe9");
  EXPECT_THAT(read()["context"]["argv"].get<std::string>(), HasSubstr("site=\\xe9"));
}

TEST(Utf8Text, KeepsWhatIsTextAndShowsTheBytesThatAreNot) {
  EXPECT_EQ(utf8_text("plain caf\u00e9 \u20ac \U0001f600"), "plain caf\u00e9 \u20ac \U0001f600");
  EXPECT_EQ(utf8_text("\xe9t\xe9"), "\\xe9t\\xe9");
  EXPECT_EQ(utf8_text("\xc0\xaf"), "\\xc0\\xaf");                    // a slash in too many bytes
  EXPECT_EQ(utf8_text("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(utf8_text("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond the last
  EXPECT_EQ(utf8_text("cut \xe2\x82"), "cut \\xe2\\x82");
}

}  // namespace
}  // namespace based
