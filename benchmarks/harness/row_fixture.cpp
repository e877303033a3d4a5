#include "benchmarks/harness/row_fixture.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <new>

#include "benchmarks/harness/energy.h"
#include "kernels/core/nvtx.h"

namespace based {
namespace {

constexpr double kib = 1024, mib = 1024 * 1024;
constexpr double near_floor = 10;  // a time below this many times its timer's floor is marked

std::string gib_text(double bytes) {
  return fmt::format("{:.2f} GiB", bytes / (kib * mib));
}

row_record ended(row_status status, std::string reason) {
  return {.status = status, .reason = std::move(reason)};
}

/// What a row does, timed or profiled: what its time and a profiler's counts are set against.
void count_work(benchmark::State& state, const row_work& work) {
  state.counters["nominal_GFLOP"] = work.nominal_flops / 1e9;
  if (work.executed_flops > 0) state.counters["executed_GFLOP"] = work.executed_flops / 1e9;
  state.counters["compulsory_MB"] = work.compulsory_bytes / 1e6;
}

}  // namespace

void memory_manager::Start() {
  measuring_ = true;
  for (const auto& [kind, device] : run_.devices) device->restart_peak();
}

void memory_manager::Stop(Result& result) {
  measuring_ = false;
  for (const auto& [kind, device] : run_.devices) {
    result.num_allocs += device->usage().allocations;
    result.max_bytes_used += static_cast<std::int64_t>(device->usage().peak);
  }
}

void row_fixture::BenchmarkCase(benchmark::State& state) {
  if (memory_.measuring()) {
    const row_record* measured = run_.log.last(spec().name());
    if (measured != nullptr && measured->status == row_status::ok) {
      backend& device = *run_.devices.at(spec().device);
      const auto instance = row_->prepare(device, run_.seed);
      instance->launch(0);
      device.synchronize();
    }
    for (auto _ : state) state.SetIterationTime(0);
    return;
  }

  run_.shown->start_row(spec().name());
  const nvtx_range range(spec().name());
  row_record record;
  for (auto _ : state) {
    record = measure_row(state);
    if (!ran(record.status)) break;
  }
  record.reason = utf8_text(record.reason);
  if (record.status == row_status::error) {
    state.SkipWithError(("ERROR: " + record.reason).c_str());
  } else if (record.status == row_status::out_of_memory) {
    state.SkipWithError(("OUT OF MEMORY: " + record.reason).c_str());
  } else if (record.status == row_status::skipped) {
    state.SkipWithError(("SKIPPED: " + record.reason).c_str());
  }
  run_.log.add(spec(), std::move(record));
}

row_record row_fixture::measure_row(benchmark::State& state) {
  if (spec().unsupported) return ended(row_status::skipped, *spec().unsupported);
  if (const auto lost = run_.lost.find(spec().device); lost != run_.lost.end()) {
    return ended(row_status::error, "not run: " + lost->second);
  }
  backend& device = *run_.devices.at(spec().device);

  const double needed = spec().work.tensor_bytes + static_cast<double>(spec().work.workspace_bytes);
  const auto free_bytes = [&] { return static_cast<double>(device.free_bytes()); };
  const auto out_of_memory = [&] {
    row_record record = ended(row_status::out_of_memory,
                              fmt::format("needs {} ({:.0f} bytes), {} free", gib_text(needed),
                                          needed, gib_text(free_bytes())));
    record.needs_bytes = needed;
    return record;
  };
  if (needed > free_bytes()) return out_of_memory();

  try {
    std::unique_ptr<row_instance> instance;
    verification verified;
    device.restart_peak();
    const std::size_t before = device.usage().live;
    {
      const nvtx_range setup("setup");
      instance = row_->prepare(device, run_.seed);
      device.synchronize();
    }
    const std::size_t peak_bytes = device.usage().peak - before + instance->own_bytes();
    {
      const nvtx_range verify("verify");
      verified = instance->verify();
    }
    if (verified.nonfinite > 0) {
      return ended(row_status::error, fmt::format("{} elements of {} are not finite or were never "
                                                  "written",
                                                  verified.nonfinite, verified.where));
    }
    if (!(verified.relative_error <= spec().tolerance)) {
      return ended(row_status::error,
                   fmt::format("relative error {:.2e} of {} is over the tolerance {:.1e}",
                               verified.relative_error, verified.where, spec().tolerance));
    }

    const backend::launch launch = [&](int set) { instance->launch(set); };
    if (run_.profile) {
      device.profile(spec().name(), launch);
      count_work(state, spec().work);
      state.SetIterationTime(0);
      state.SetLabel("profiled, not timed");
      return ended(row_status::profiled, "profiled, not timed");
    }

    timing timed;
    device.start_telemetry();
    {
      const nvtx_range measuring("measure");
      timed = measure(device,
                      {.launch = launch,
                       .replicate = [&](int sets) { return instance->replicate(sets); },
                       .capturable = instance->capturable()},
                      run_.rule);
    }
    // The readings are of the steady state alone: neither the rest nor the burst is in them.
    const telemetry readings = device.stop_telemetry();
    if (wants_burst(run_.rule.burst, readings)) {
      const nvtx_range burst("burst");
      timed.burst_samples = measure_burst(device, launch, timed);
    }
    device.synchronize();
    std::string energy_absent;
    if (run_.energy && spec().device == device_kind::cuda) {
      const nvtx_range energy("energy");
      energy_absent = count_energy(state, device, launch, timed);
    }

    state.SetIterationTime(timed.cold.median);
    state.SetLabel(spec().label);
    count(state, device, timed, verified, readings, peak_bytes);
    return {.status = row_status::ok,
            .reason = "",
            .samples = timed.samples,
            .burst_samples = timed.burst_samples,
            .rotated = timed.rotated,
            .throttle_reasons = readings.throttle_reasons.value_or(""),
            .noise = readings.noise,
            .queued = instance->queued(),
            .energy_absent = energy_absent};
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    device.stop_telemetry();
    if (const auto why = device.lost()) {
      run_.lost[spec().device] = fmt::format("{} was lost with {} in row {}",
                                             to_string(spec().device), *why, spec().name());
    }
    return ended(row_status::error, error.what());
  }
}

std::string row_fixture::count_energy(benchmark::State& state, backend& device,
                                      const backend::launch& launch, const timing& timed) const {
  const auto measured = measure_energy(device, launch, timed);
  if (const auto* absent = std::get_if<std::string>(&measured)) return *absent;
  const auto& [joules, seconds] = std::get<call_energy>(measured);
  state.counters["mJ"] = joules * 1e3;
  state.counters["energy_us"] = seconds * 1e6;
  state.counters["tokens_per_J"] = spec().work.tokens / joules;
  state.counters["pJ_per_FLOP"] = joules / spec().work.nominal_flops * 1e12;
  return {};
}

void row_fixture::count(benchmark::State& state, backend& device, const timing& timed,
                        const verification& verified, const telemetry& readings,
                        std::size_t peak_bytes) const {
  const row_work& work = spec().work;
  const double seconds = timed.cold.median;
  const ceilings& most = device.measured_ceilings();
  auto& counters = state.counters;

  counters["TFLOPs"] = work.nominal_flops / seconds / 1e12;
  if (work.executed_flops > 0) counters["exec_TFLOPs"] = work.executed_flops / seconds / 1e12;
  counters["GBps"] = work.compulsory_bytes / seconds / 1e9;
  if (most.copy_bytes_per_s > 0 && most.flops_per_s > 0) {
    const double floor = std::max(work.compulsory_bytes / most.copy_bytes_per_s,
                                  work.least_flops / most.flops_per_s);
    counters["roofline_pct"] = floor / seconds * 100;
  }
  counters["tokens_per_s"] = work.tokens / seconds;

  counters["mem_MiB"] = static_cast<double>(peak_bytes) / mib;
  counters["workspace_MiB"] = static_cast<double>(work.workspace_bytes) / mib;
  if (work.state_bytes > 0) counters["state_KiB"] = work.state_bytes / kib;

  counters["rel_err"] = verified.relative_error;
  counters["tolerance"] = spec().tolerance;
  for (const named_count& each : verified.counts) {
    counters[std::string(each.name)] = each.value;
  }

  counters["samples"] = static_cast<double>(timed.samples.size());
  counters["cv_pct"] = timed.cold.cv * 100;
  counters["ci_low_us"] = timed.cold.low * 1e6;
  counters["ci_high_us"] = timed.cold.high * 1e6;
  if (!timed.hot_samples.empty()) counters["hot_us"] = median(timed.hot_samples) * 1e6;
  if (!timed.burst_samples.empty()) counters["burst_us"] = median(timed.burst_samples) * 1e6;
  if (seconds < near_floor * timed.floor) counters["near_timer_floor"] = 1;

  count_work(state, work);

  if (readings.sm_mhz) counters["sm_MHz"] = *readings.sm_mhz;
  if (readings.power_w) counters["power_W"] = *readings.power_w;
  if (readings.temperature_c) counters["temp_C"] = *readings.temperature_c;
}

}  // namespace based
