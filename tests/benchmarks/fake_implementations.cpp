// Implementations that behave in one known way each, for the tests of the harness.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/based/prefill.h"

namespace based {
namespace {

/// The reference itself.
void right(const prefill_args<float>& args) {
  const auto& [batch, heads, seqlen] = args.problem.shape;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(seqlen));
  for (std::int64_t n = 0; n < seqlen; ++n) rows[static_cast<std::size_t>(n)] = n;
  std::vector<double> o(rows.size() * value_dim);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      reference::prefill_rows({.seqlen = seqlen,
                               .q = args.q.token(b, h, 0),
                               .k = args.k.token(b, h, 0),
                               .v = args.v.token(b, h, 0)},
                              args.problem.options, rows, o);
      std::transform(o.begin(), o.end(), args.o.token(b, h, 0),
                     [](double value) { return static_cast<float>(value); });
    }
  }
}

/// One 16 x 64 tile of the last head is off by a tenth.
void corrupted_tile(const prefill_args<float>& args) {
  right(args);
  const auto& [batch, heads, seqlen] = args.problem.shape;
  for (std::int64_t n = std::max<std::int64_t>(0, seqlen - 16); n < seqlen; ++n) {
    float* row = args.o.token(batch - 1, heads - 1, n);
    for (int c = 0; c < value_dim; ++c) row[c] *= 1.1f;
  }
}

/// One element keeps whatever was in the buffer.
void unwritten_element(const prefill_args<float>& args) {
  const float before = *args.o.token(0, 0, 0);
  right(args);
  *args.o.token(0, 0, 0) = before;
}

int counted_calls = 0;
void counts_calls(const prefill_args<float>& args) {
  ++counted_calls;
  right(args);
}

/// Right, and so slow as a tenth of a millisecond a sequence makes it, to which the environment can
/// add a known part: a slow-down that a comparison has to find.
void spins(const prefill_args<float>& args) {
  using clock = std::chrono::steady_clock;
  const char* slower = std::getenv("BASED_FAKE_SLOWER_PCT");
  const double percent = slower == nullptr ? 0 : std::atof(slower);
  const clock::time_point start = clock::now();
  const std::chrono::duration<double> whole(1e-4 * static_cast<double>(args.problem.shape.batch) *
                                            (1 + percent / 100));
  right(args);
  while (clock::now() - start < whole) {
  }
}

void throws(const prefill_args<float>&) {
  throw std::runtime_error("made to throw");
}

/// An implementation of the prefill that behaves as `run` does.
implementation<based_prefill> fake(std::string_view name, void (*run)(const prefill_args<float>&)) {
  return {.name = name,
          .summary = "made for the tests of the harness",
          .role = implementation_role::baseline,
          .tolerance = 1e-5,
          .executed_flops = [](const prefill_problem&) { return 0.0; },
          .run = run};
}
implementation<based_prefill> fake(std::string_view name,
                                   std::size_t (*workspace_bytes)(const prefill_problem&)) {
  implementation<based_prefill> made = fake(name, right);
  made.workspace_bytes = workspace_bytes;
  return made;
}
implementation<based_prefill> unsupported() {
  implementation<based_prefill> made = fake("unsupported", right);
  made.unsupported = [](const prefill_problem&) -> unsupported_reason {
    return "made to be unsupported";
  };
  return made;
}

implementation<based_prefill> counting() {
  implementation<based_prefill> made = fake("counts_calls", counts_calls);
  made.take_counts = [] {
    return std::vector<named_count>{
        {"calls", static_cast<double>(std::exchange(counted_calls, 0))}};
  };
  return made;
}

const registration<based_prefill> registered[] = {
    registration<based_prefill>(fake("right", right)),
    registration<based_prefill>(fake("corrupted_tile", corrupted_tile)),
    registration<based_prefill>(fake("unwritten_element", unwritten_element)),
    registration<based_prefill>(fake("spins", spins)),
    registration<based_prefill>(fake("throws", throws)),
    registration<based_prefill>(unsupported()),
    registration<based_prefill>(counting()),
    registration<based_prefill>(
        fake("gibibyte", [](const prefill_problem&) { return std::size_t{1} << 30; })),
    registration<based_prefill>(
        fake("too_large", [](const prefill_problem&) { return std::size_t{1} << 60; })),
};

}  // namespace
}  // namespace based
