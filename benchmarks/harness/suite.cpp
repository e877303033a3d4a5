#include "benchmarks/harness/suite.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <regex>
#include <set>

#include "benchmarks/harness/revision.h"
#include "benchmarks/harness/row_fixture.h"
#include "benchmarks/harness/rows.h"
#include "benchmarks/harness/suite_options.h"
#include "benchmarks/harness/usage_error.h"
#include "kernels/core/error.h"

namespace based {
namespace {

constexpr int exit_ok = 0, exit_row_failed = 1, exit_usage = 2;

/// Whether Google Benchmark's filter takes this row; its full name carries Google's own suffix.
bool matches(const std::string& filter, const std::string& row_name) {
  if (filter.empty() || filter == "all") return true;
  const bool negated = filter.front() == '-';
  try {
    const std::regex pattern(negated ? filter.substr(1) : filter, std::regex::extended);
    return std::regex_search(row_name + "/manual_time", pattern) != negated;
  } catch (const std::regex_error&) {
    throw usage_error(fmt::format("--benchmark_filter: '{}' is not a regular expression", filter));
  }
}

/// The devices asked for that are here; throws if one asked for by name is not.
void open_devices(const suite_options& options, run_state& run,
                  std::map<std::string, std::string>& context) {
  const auto wanted = [&](device_kind kind) {
    return std::find(options.devices.begin(), options.devices.end(), kind) != options.devices.end();
  };
  const bool choose = options.devices.empty();
  if (choose || wanted(device_kind::cuda)) {
    auto cuda = make_cuda_backend();
    if (auto* device = std::get_if<std::unique_ptr<backend>>(&cuda)) {
      run.devices[device_kind::cuda] = std::move(*device);
    } else if (choose) {
      context["gpu_absent"] = std::get<std::string>(cuda) + "; running on the CPU";
    } else {
      throw usage_error(
          fmt::format("--device: cuda is not available here: {}", std::get<std::string>(cuda)));
    }
  }
  if (wanted(device_kind::cpu) || run.devices.empty()) {
    run.devices[device_kind::cpu] = make_cpu_backend();
  }
}

int run_rows(int argc, char** argv) {
  std::optional<parsed_command_line> parsed = parse_command_line(argc, argv);
  if (!parsed) return exit_ok;
  const suite_options& options = parsed->options;

  std::vector<char*> arguments;
  for (std::string& argument : parsed->google_benchmark) arguments.push_back(argument.data());
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return exit_usage;
  const std::string filter = benchmark::GetBenchmarkFilter();

  run_state run;
  run.seed = options.seed;
  run.profile = options.profile;
  run.rule.cap_s = options.time_cap_s;
  run.rule.min_time_s = options.min_time_s;
  run.rule.burst = options.burst;

  std::map<std::string, std::string> context = {
      {"schema", std::string(results_schema)},
      {"revision", revision},
      {"compiled_for", compiled_for},
      {"seed", std::to_string(options.seed)},
      {"l2_policy",
       "cold: no tensor of the row in the last-level cache before a call; hot beside it"},
      {"argv", fmt::format("{}", fmt::join(argv + 1, argv + argc, " "))}};
  open_devices(options, run, context);

  std::vector<device_kind> devices;
  for (const auto& [kind, device] : run.devices) devices.push_back(kind);
  std::vector<std::unique_ptr<row>> rows = make_rows(devices, options);
  std::erase_if(rows, [&](const auto& made) { return !matches(filter, made->spec().name()); });
  if (rows.empty()) {
    throw usage_error(fmt::format(
        "--benchmark_filter: '{}' matches no row of this sweep; --benchmark_list_tests lists them",
        filter));
  }
  for (const std::string& flag : unused_axes(rows, options)) {
    std::cerr << fmt::format("based_bench: --{} is not used: no operation of these rows has it\n",
                             flag);
  }
  if (!options.list_only) {
    for (const auto& [kind, device] : run.devices) context.merge(device->context());
  }

  earlier_results earlier;
  if (options.resume) {
    std::set<std::string> selected;
    for (const auto& made : rows) selected.insert(made->spec().name());
    earlier = read_earlier(*options.resume, context, selected);
    std::erase_if(rows, [&](const auto& made) { return earlier.rows.count(made->spec().name()); });
  }
  for (const auto& [key, value] : context) benchmark::AddCustomContext(key, value);

  memory_manager memory(run);
  run.shown = std::make_unique<progress>(rows.size());
  if (!options.profile) benchmark::RegisterMemoryManager(&memory);
  for (auto& made : rows) {
    const auto fixture = std::make_shared<row_fixture>(std::move(made), run, memory);
    benchmark::RegisterBenchmark(fixture->spec().name().c_str(),
                                 [fixture](benchmark::State& state) { fixture->Run(state); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  if (rows.empty()) std::cerr << "every row of this sweep is already in the file\n";

  std::vector<benchmark::BenchmarkReporter*> reporters;
  std::unique_ptr<benchmark::BenchmarkReporter> display;
  if (options.console) {
    display = std::make_unique<table_reporter>(context, *run.shown);
  } else {
    display.reset(benchmark::CreateDefaultDisplayReporter());
  }
  reporters.push_back(display.get());
  std::unique_ptr<results_reporter> file;
  if (options.out && !options.list_only) {
    file = std::make_unique<results_reporter>(*options.out, run.log, std::move(earlier));
    reporters.push_back(file.get());
  }
  tee_reporter tee(std::move(reporters));
  benchmark::RunSpecifiedBenchmarks(&tee);
  run.shown->clear();
  benchmark::RegisterMemoryManager(nullptr);
  benchmark::ClearRegisteredBenchmarks();
  benchmark::Shutdown();
  return run.log.any_error() ? exit_row_failed : exit_ok;
}

}  // namespace

int run_suite(int argc, char** argv) {
  try {
    return run_rows(argc, argv);
  } catch (const usage_error& error) {
    std::cerr << "based_bench: " << error.what() << "\n";
    return exit_usage;
  } catch (const invalid_argument& error) {  // of a value on an axis
    std::cerr << "based_bench: " << error.what() << "\n";
    return exit_usage;
  } catch (const std::exception& error) {
    std::cerr << "based_bench: " << error.what() << "\n";
    return exit_row_failed;
  }
}

}  // namespace based
