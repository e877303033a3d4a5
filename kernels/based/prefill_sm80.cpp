#include "kernels/based/prefill_sm80.h"

#include <limits>
#include <string>

#include "kernels/based/circulant.h"

namespace based::sm80 {
namespace {

constexpr std::int64_t max_ctas = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t max_seqlen = max_ctas - stages * chunk_tokens;  // tokens are int

}  // namespace

unsupported_reason unsupported_on(const prefill_problem& problem, int major_capability) {
  if (major_capability < least_major_capability) {
    return "the device has compute capability " + std::to_string(major_capability) +
           ".x, this kernel needs " + std::to_string(least_major_capability) + ".0 (Ampere)";
  }
  if (problem.shape.batch_heads() > max_ctas) {
    return "batch x heads is more than " + std::to_string(max_ctas);
  }
  if (problem.shape.seqlen > max_seqlen) {
    return "seqlen is more than " + std::to_string(max_seqlen);
  }
  return std::nullopt;
}

double executed_flops(const prefill_problem& problem) {
  constexpr double block_product = 2.0 * 16 * 16 * 16;
  constexpr int blocks = chunk_tokens / 16;  // of sixteen tokens
  constexpr int weight_blocks = blocks * (blocks + 1) / 2;
  constexpr int scores = weight_blocks;
  constexpr int intra_chunk = weight_blocks * value_dim / 16;
  constexpr int state_product = blocks * circulant::slices * value_dim / 16;
  // By each output warp: M x of its rows, and the sums K^T [K 1] of all blocks, the ones 8 columns.
  constexpr double moments = blocks * (1 + blocks * 1.5);
  const double chunks = static_cast<double>((problem.shape.seqlen - 1) / chunk_tokens + 1);
  return problem.shape.batch_heads() * chunks * block_product *
         (scores + intra_chunk + 2 * state_product + (problem.options.normalize ? moments : 0));
}

}  // namespace based::sm80
