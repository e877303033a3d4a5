// The suite's benchmark::Fixture: takes one row from set-up through verification to its counters.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <string>

#include "benchmarks/harness/console.h"
#include "benchmarks/harness/measure.h"
#include "benchmarks/harness/results.h"
#include "benchmarks/harness/row.h"

namespace based {

/// What all fixtures of a run share.
struct run_state {
  std::map<device_kind, std::unique_ptr<backend>> devices;
  std::uint64_t seed = 1;
  sampling_rule rule;
  bool energy = false;  ///< measure it where the device counts it
  bool profile = false;
  row_log log;
  std::unique_ptr<progress> shown;
  std::map<device_kind, std::string> lost;  ///< devices that an earlier row broke, and how
};

/// Google Benchmark runs a row once more, briefly, between Start and Stop, to ask for its memory.
class memory_manager final : public benchmark::MemoryManager {
 public:
  explicit memory_manager(const run_state& run) : run_(run) {}
  void Start() override;
  void Stop(Result& result) override;
  void Stop(Result* result) override { Stop(*result); }
  bool measuring() const { return measuring_; }

 private:
  const run_state& run_;
  bool measuring_ = false;
};

class row_fixture final : public benchmark::Fixture {
 public:
  row_fixture(std::unique_ptr<row> measured, run_state& run, const memory_manager& memory)
      : row_(std::move(measured)), run_(run), memory_(memory) {}

  const row_spec& spec() const { return row_->spec(); }

 protected:
  void BenchmarkCase(benchmark::State& state) override;

 private:
  /// Sets the row up, verifies and times it; the record says what became of it.
  row_record measure_row(benchmark::State& state);
  void count(benchmark::State& state, backend& device, const timing& timed,
             const verification& verified, const telemetry& readings, std::size_t peak_bytes) const;
  /// Adds the energy's counters; why there are none, else empty.
  std::string count_energy(benchmark::State& state, backend& device, const backend::launch& launch,
                           const timing& timed) const;

  std::unique_ptr<row> row_;
  run_state& run_;
  const memory_manager& memory_;
};

}  // namespace based
