// Implementations that behave in one known way each, for the tests of the harness.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <stdexcept>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/based/prefill.h"

namespace based {
namespace {

constexpr std::size_t gibibyte = std::size_t{1} << 30;

unsupported_reason anything(const prefill_problem&) {
  return std::nullopt;
}
unsupported_reason nothing(const prefill_problem&) {
  return "made to be unsupported";
}
std::size_t no_workspace(const prefill_problem&) {
  return 0;
}
std::size_t one_gibibyte(const prefill_problem&) {
  return gibibyte;
}
std::size_t too_much(const prefill_problem&) {
  return std::size_t{1} << 60;
}
double no_flops(const prefill_problem&) {
  return 0;
}

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

void throws(const prefill_args<float>&) {
  throw std::runtime_error("made to throw");
}

constexpr double tolerance = 1e-5;

const registration<based_prefill> registered[] = {
    registration<based_prefill>({"right", "", tolerance, anything, no_workspace, no_flops, right}),
    registration<based_prefill>(
        {"corrupted_tile", "", tolerance, anything, no_workspace, no_flops, corrupted_tile}),
    registration<based_prefill>(
        {"unwritten_element", "", tolerance, anything, no_workspace, no_flops, unwritten_element}),
    registration<based_prefill>(
        {"throws", "", tolerance, anything, no_workspace, no_flops, throws}),
    registration<based_prefill>(
        {"unsupported", "", tolerance, nothing, no_workspace, no_flops, right}),
    registration<based_prefill>(
        {"gibibyte", "", tolerance, anything, one_gibibyte, no_flops, right}),
    registration<based_prefill>({"too_large", "", tolerance, anything, too_much, no_flops, right}),
};

}  // namespace
}  // namespace based
