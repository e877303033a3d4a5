#include "benchmarks/harness/suite.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <regex>
#include <set>

#include "benchmarks/harness/energy.h"
#include "benchmarks/harness/reporters.h"
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
    auto cuda = make_cuda_backend(options.cuda_device);
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

/// How energy is measured here, or why it is not.
void add_energy_context(backend& device, std::map<std::string, std::string>& context) {
  const auto step = device.measured_energy_step();
  if (const auto* absent = std::get_if<std::string>(&step)) {
    context["gpu_energy_absent"] = *absent;
    return;
  }
  const auto& [seconds, joules] = std::get<energy_step>(step);
  context["gpu_energy"] = fmt::format(
      "back-to-back calls without evictions, over {} steps of the counter or more; idle power "
      "included",
      energy_steps);
  context["gpu_energy_step_ms"] = fmt::format("{:.1f}", seconds * 1e3);
  context["gpu_energy_step_mJ"] = fmt::format("{:.0f}", joules * 1e3);
}

/// Keys of Google Benchmark's own context.
constexpr const char* google_context[] = {
    "date",        "host_name",       "executable",          "num_cpus",
    "mhz_per_cpu", "aslr_enabled",    "cpu_scaling_enabled", "caches",
    "load_avg",    "library_version", "library_build_type",  "json_schema_version"};

/// Adds what --benchmark_context says; throws where it would say something else than is so.
void add_user_context(const std::map<std::string, std::string>& given,
                      std::map<std::string, std::string>& context) {
  for (const auto& [key, value] : given) {
    const bool taken = context.count(key) > 0 || key.starts_with("cpu_") ||
                       key.starts_with("gpu_") ||
                       std::ranges::find(google_context, key) != std::end(google_context);
    if (taken) {
      throw usage_error(
          fmt::format("--benchmark_context: '{}' is a key of the suite's own: give another", key));
    }
    context[utf8_text(key)] = utf8_text(value);
  }
}

/// What prints in this format.
std::unique_ptr<benchmark::BenchmarkReporter> make_reporter(
    output_format format, const std::map<std::string, std::string>& context, const run_state& run) {
  switch (format) {
    case output_format::json:
      return std::make_unique<json_reporter>(run.log);
    case output_format::csv:
      return std::make_unique<csv_reporter>();
    case output_format::console:
      break;
  }
  return std::make_unique<table_reporter>(context, *run.shown, run.log);
}

/// Registers the rows with Google Benchmark, runs them and reports to `reporters`.
void run_registered(std::vector<std::unique_ptr<row>> rows, run_state& run,
                    const google_flags& flags, const std::string& program,
                    const std::map<std::string, std::string>& context,
                    benchmark::BenchmarkReporter& reporter) {
  std::vector<std::string> command_line = google_command_line(program, flags);
  std::vector<char*> arguments;
  for (std::string& argument : command_line) arguments.push_back(argument.data());
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  // What the environment says is in the context already, checked.
  if (auto* taken = benchmark::internal::GetGlobalContext()) taken->clear();
  for (const auto& [key, value] : context) benchmark::AddCustomContext(key, value);

  memory_manager memory(run);
  if (!run.profile) benchmark::RegisterMemoryManager(&memory);
  for (auto& made : rows) {
    const auto fixture = std::make_shared<row_fixture>(std::move(made), run, memory);
    benchmark::RegisterBenchmark(fixture->spec().name().c_str(),
                                 [fixture](benchmark::State& state) { fixture->Run(state); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  if (rows.empty()) {  // Google Benchmark would call it a filter that matches nothing
    benchmark::BenchmarkReporter::Context nothing;
    nothing.name_field_width = 0;
    if (!flags.list_only) reporter.ReportContext(nothing);
    reporter.Finalize();
  } else {
    benchmark::RunSpecifiedBenchmarks(&reporter);
  }
  run.shown->clear();
  benchmark::RegisterMemoryManager(nullptr);
  // No Shutdown(): a later run in this process would find the context that it deletes.
  benchmark::ClearRegisteredBenchmarks();
}

int run_rows(int argc, char** argv) {
  const std::optional<suite_options> parsed = parse_command_line(argc, argv);
  if (!parsed) return exit_ok;
  const suite_options& options = *parsed;
  const google_flags& google = options.google;

  run_state run;
  run.seed = options.seed;
  run.profile = options.profile;
  run.rule.cap_s = options.time_cap_s;
  run.rule.min_time_s = google.min_time_s;
  run.rule.burst = options.burst;
  run.energy = options.energy;

  std::map<std::string, std::string> context = {
      {"schema", std::string(results_schema)},
      {"revision", revision},
      {"compiled_for", compiled_for},
      {"seed", std::to_string(options.seed)},
      {"l2_policy",
       "cold: no tensor of the row in the last-level cache before a call; hot beside it"},
      {"argv", utf8_text(fmt::format("{}", fmt::join(argv + 1, argv + argc, " ")))}};
  add_user_context(google.context, context);
  open_devices(options, run, context);

  std::vector<device_kind> devices;
  for (const auto& [kind, device] : run.devices) devices.push_back(kind);
  std::vector<std::unique_ptr<row>> rows = make_rows(devices, options);
  std::erase_if(rows,
                [&](const auto& made) { return !matches(google.filter, made->spec().name()); });
  if (rows.empty()) {
    throw usage_error(fmt::format(
        "--benchmark_filter: '{}' matches no row of this sweep; --benchmark_list_tests lists them",
        google.filter));
  }
  keep_shard(rows, options.part, options.time_cap_s);
  if (rows.empty()) {
    std::cerr << fmt::format("based_bench: no row falls in part {} of {}: there are fewer rows\n",
                             options.part.index, options.part.count);
  }
  const auto on_gpu = [](const auto& made) { return made->spec().device == device_kind::cuda; };
  if (!rows.empty() && std::ranges::none_of(rows, on_gpu)) {
    const std::string_view none = "is not used: no row is on a GPU";
    if (options.energy) std::cerr << fmt::format("based_bench: --energy {}\n", none);
    if (options.burst == burst_mode::always) {
      std::cerr << fmt::format("based_bench: --burst=always {}\n", none);
    }
  }
  for (const std::string& flag :
       rows.empty() ? std::vector<std::string>{} : unused_axes(rows, options)) {
    std::cerr << fmt::format("based_bench: --{} is not used: no operation of these rows has it\n",
                             flag);
  }
  for (const auto& [kind, device] : run.devices) context.merge(device->identity());

  // Locked before the earlier rows are read, so that nobody adds to them in between.
  std::optional<output_file> file;
  const bool writes_json = options.out.has_value();
  if (!google.list_only && (options.out || google.out)) {
    file.emplace(writes_json ? *options.out : std::filesystem::path(*google.out));
  }
  earlier_results earlier;
  if (options.resume) {
    std::set<std::string> selected;
    for (const auto& made : rows) selected.insert(made->spec().name());
    earlier = read_earlier(*options.resume, context, selected);
    std::erase_if(rows, [&](const auto& made) { return earlier.rows.count(made->spec().name()); });
    if (rows.empty() && !selected.empty())
      std::cerr << "based_bench: every row of this sweep is already in the file\n";
  }
  if (!google.list_only) {
    for (const auto& [kind, device] : run.devices) {
      context.merge(device->context());
      if (options.energy && kind == device_kind::cuda) add_energy_context(*device, context);
    }
  }

  run.shown = std::make_unique<progress>(rows.size());
  std::unique_ptr<benchmark::BenchmarkReporter> display =
      make_reporter(google.format, context, run);
  if (google.aggregates_only) {
    display = std::make_unique<aggregates_reporter>(std::move(display));
  }
  std::vector<benchmark::BenchmarkReporter*> reporters = {display.get()};
  std::unique_ptr<benchmark::BenchmarkReporter> to_file;
  if (file && writes_json) {
    to_file = std::make_unique<results_reporter>(*file, run.log, std::move(earlier));
  } else if (file) {
    to_file =
        std::make_unique<file_reporter>(*file, make_reporter(google.out_format, context, run));
  }
  if (to_file) reporters.push_back(to_file.get());
  tee_reporter tee(std::move(reporters));
  run_registered(std::move(rows), run, google, utf8_text(argv[0]), context, tee);
  return run.log.any_error() ? exit_row_failed : exit_ok;
}

/// Whether all that was printed has arrived.
bool flush_standard_output() {
  std::cout.flush();
  return std::cout.good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

}  // namespace

int run_suite(int argc, char** argv) {
  int status = exit_row_failed;
  try {
    status = run_rows(argc, argv);
  } catch (const usage_error& error) {
    std::cerr << "based_bench: " << error.what() << "\n";
    status = exit_usage;
  } catch (const invalid_argument& error) {  // of a value on an axis
    std::cerr << "based_bench: " << error.what() << "\n";
    status = exit_usage;
  } catch (const std::exception& error) {
    std::cerr << "based_bench: " << error.what() << "\n";
  }
  if (!flush_standard_output()) {
    std::cerr << "based_bench: cannot write standard output\n";
    status = std::max(status, exit_row_failed);
  }
  return status;
}

}  // namespace based
