#include "benchmarks/harness/suite_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <iostream>
#include <limits>

#include "benchmarks/harness/empty_values.h"
#include "benchmarks/harness/energy.h"
#include "benchmarks/harness/rows.h"
#include "benchmarks/harness/sweep.h"
#include "benchmarks/harness/usage_error.h"
#include "kernels/core/error.h"
#include "kernels/core/operation.h"

namespace based {
namespace {

/// cpu, cuda, cuda:1, or the CPU and one of the others.
void parse_devices(const std::string& text, suite_options& options) {
  options.devices.clear();
  options.cuda_device.reset();
  for (const std::string& part : split(text)) {
    if (part == "cpu") {
      options.devices.push_back(device_kind::cpu);
      continue;
    }
    const bool numbered = part.starts_with("cuda:");
    int number = 0;
    const char* end = part.data() + part.size();
    if (part != "cuda" && !(numbered && std::from_chars(part.data() + 5, end, number).ptr == end &&
                            number >= 0 && part.size() > 5)) {
      throw usage_error(fmt::format(
          "--device: '{}' is not a device; want cpu, cuda, cuda:N or cpu beside one of them",
          part));
    }
    if (std::ranges::find(options.devices, device_kind::cuda) != options.devices.end()) {
      throw usage_error(fmt::format("--device: '{}' names two GPUs; a process runs on one", text));
    }
    options.devices.push_back(device_kind::cuda);
    if (numbered) options.cuda_device = number;
  }
}

burst_mode parse_burst(const std::string& text) {
  if (text == "auto") return burst_mode::automatic;
  if (text == "always") return burst_mode::always;
  if (text == "never") return burst_mode::never;
  throw usage_error(fmt::format("--burst: '{}' is not auto, always or never", text));
}

/// A whole number of 1 or more; empty: `text` is none, or is too large for an int.
std::optional<int> counting_number(std::string_view text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end || value < 1) return std::nullopt;
  return value;
}

std::uint64_t parse_seed(const std::string& text) {
  if (const auto seed = counting_number(text)) return static_cast<std::uint64_t>(*seed);
  throw usage_error(fmt::format("--seed: '{}' is no seed; want one whole number of 1 to {}", text,
                                std::numeric_limits<int>::max()));
}

/// The parts of a list, each once.
std::vector<std::string> distinct(const std::string& text) {
  std::vector<std::string> names;
  for (const std::string& part : split(text)) {
    if (std::ranges::find(names, part) == names.end()) names.push_back(part);
  }
  return names;
}

shard parse_shard(const std::string& text) {
  const std::vector<std::string> parts = split(text, '/');
  if (parts.size() == 2) {
    const auto index = counting_number(parts[0]), count = counting_number(parts[1]);
    if (index && count && *index <= *count) return {*index, *count};
  }
  throw usage_error(fmt::format("--shard: '{}' is no part I/N, with I from 1 to N", text));
}

/// An axis in --help: what it is, of which operations, its values and its default sweeps.
std::string axis_help(const shared_axis& axis) {
  const axis_info& info = axis.info;
  std::string text(info.help);
  if (axis.operations.size() < operations().size()) {
    text += fmt::format(" ({})", fmt::join(axis.operations, ", "));
  }
  if (info.domain.of == axis_domain::kind::options) {
    text +=
        fmt::format(": none, all, or some of {} joined by +", fmt::join(info.domain.names, ", "));
  } else if (!info.domain.names.empty()) {
    text += fmt::format(": {}", fmt::join(info.domain.names, ", "));
  } else if (info.domain.of == axis_domain::kind::whole_number) {
    text += ", as 1,4,16 or 1:256:*2";
  }
  return text;
}

}  // namespace

std::optional<suite_options> parse_command_line(int argc, char** argv) {
  CLI::App app{"based_bench: sequence mixers, verified and timed"};
  app.allow_extras();
  app.set_help_flag("--help,-h", "Print this help and Google Benchmark's");

  suite_options options;
  const auto text_option = [&app](const std::string& flag,
                                  const std::function<void(const std::string&)>& set,
                                  const std::string& type, const std::string& text) {
    app.add_option_function<std::string>(flag, set, text)
        ->type_name(type)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  };
  const auto switch_option = [&app](const std::string& flag, bool& value, const std::string& text) {
    app.add_flag(flag, value, text)->check([](const std::string& given) {
      const bool is_known = given == "true" || given == "false";
      return is_known ? "" : fmt::format("'{}' is not true or false", given);
    });
  };
  for (const shared_axis& axis : all_axes()) {
    const std::string flag(axis.info.flag);
    text_option(
        "--" + flag, [&options, flag](const std::string& text) { options.axes[flag] = text; },
        "LIST", axis_help(axis));
  }
  text_option(
      "--device", [&](const std::string& text) { parse_devices(text, options); }, "LIST",
      "cpu, cuda, cuda:1 (the second GPU) or cpu,cuda; default: cuda where there is a GPU, else "
      "cpu");
  text_option(
      "--implementation", [&](const std::string& text) { options.implementations = split(text); },
      "LIST", "Names of implementations; default: all");
  text_option(
      "--variant", [&](const std::string& text) { options.variants = distinct(text); }, "LIST",
      "Force these variants of implementations that have several; default: they choose");
  text_option(
      "--type", [&](const std::string& text) { options.types = distinct(text); }, "LIST",
      "Element types, f32, bf16 or fp16, of implementations that have several; default: each one's "
      "usual one");
  text_option(
      "--shard", [&](const std::string& text) { options.part = parse_shard(text); }, "I/N",
      "Run part I of N, I from 1: each row is in one part, and the parts take about equal time; "
      "python -m plots merge puts their files together");
  text_option(
      "--seed", [&](const std::string& text) { options.seed = parse_seed(text); }, "INT",
      "Seed of the random inputs; default: 1");
  text_option(
      "--time-cap",
      [&](const std::string& text) {
        options.time_cap_s = parse_seconds("--time-cap", text);
        if (options.time_cap_s <= 0) {
          throw usage_error(fmt::format("--time-cap: '{}' is not above 0 seconds", text));
        }
      },
      "SECONDS", "Wall-clock bound of a row's warm-up and sampling; default: 10");
  text_option(
      "--burst", [&](const std::string& text) { options.burst = parse_burst(text); }, "WHEN",
      fmt::format(
          "Whether GPU rows of single calls are timed again in {} calls after {} s of idling,"
          " which the cap leaves out: auto (where the clock was held down), always, never; "
          "default: auto",
          burst_calls, burst_rest_s));
  text_option(
      "--resume", [&](const std::string& text) { options.resume = text; }, "FILE",
      "A results file, or the folder that holds results.json: keep its rows, measure the others");
  switch_option("--energy", options.energy,
                fmt::format("Run each GPU row again, back to back for {} steps of the GPU's energy "
                            "counter (some seconds, which the cap leaves out): mJ, energy_us, "
                            "tokens_per_J, pJ_per_FLOP",
                            energy_steps));
  switch_option(
      "--profile", options.profile,
      "Set up and verify each row, then make exactly one call of it between the profiler's "
      "start and stop, in an NVTX range of the row's name");

  bool describe = false;
  switch_option(
      "--describe", describe,
      "Print the operations, their axes and implementations as JSON, and measure nothing");

  refuse_empty_values(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help() << "\nGoogle Benchmark's own:\n" << google_flags_help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw usage_error(error.what());
  } catch (const invalid_argument& error) {
    throw usage_error(std::string(error.what()));
  }
  if (options.resume && std::filesystem::is_directory(*options.resume)) {
    *options.resume /= "results.json";
  }

  options.google = parse_google_flags(app.remaining());
  if (options.google.out_format != output_format::json && !options.google.out) {
    throw usage_error("--benchmark_out_format: there is no file; name it by --benchmark_out");
  }
  if (describe) {
    // For what it refuses.
    static_cast<void>(make_rows({device_kind::cpu, device_kind::cuda}, options));
    std::cout << description() << "\n";
    return std::nullopt;
  }
  if (options.google.out_format == output_format::json && options.google.out) {
    options.out = *options.google.out;
  }
  if (options.resume) {
    if (options.google.out && !options.out) {
      throw usage_error(
          "--resume goes on with a file in JSON: --benchmark_out_format must be json");
    }
    if (!options.out) options.out = options.resume;
  }
  return options;
}

}  // namespace based
