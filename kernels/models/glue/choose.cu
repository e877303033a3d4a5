// The next token of each row of logits: the id whose score is the largest, the first of several.
// The score is the logit, or of a draw the logit over the temperature and a noise of Gumbel's
// distribution, which makes it a draw from the softmax (the Gumbel-max method).
//
// Grid: a block a row. A row is read once; a draw from the largest logits reads it five times more,
// from the L2 cache, to find the least of them by its bits, eight at a time.
//
//   logits [rows, vocabulary] fp32   ids, position [rows] int32
#include <cmath>
#include <cstdint>

#include "kernels/core/launch.h"
#include "kernels/core/random.h"
#include "kernels/core/warp_size.h"
#include "kernels/models/glue.h"
#include "kernels/models/glue/decode.h"
#include "kernels/models/glue/word.cuh"

namespace based::models {
namespace {

constexpr int threads = 1024;
constexpr int warps = threads / warp_size;

/// Integers in the order of the values; less than any is 0, for NaN. Both zeros are one value.
/// Called by: one thread
__device__ std::uint32_t rank_of(float value) {
  if (isnan(value)) return 0;
  const std::uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// A rank and an id in one number: the larger rank is the larger number, or else the smaller id.
/// Called by: one thread
__device__ std::uint64_t candidate(std::uint32_t rank, int id) {
  return std::uint64_t{rank} << 32 | ~static_cast<std::uint32_t>(id);
}

/// Calls use(id, logit) for a thread's logits of a row.
/// Called by: one block
template <class Use>
__device__ void each_logit(const float* row, int vocabulary, Use use) {
  const int whole = vocabulary / unit * unit;
  for (int first = static_cast<int>(threadIdx.x) * unit; first < whole; first += threads * unit) {
    float logit[unit];
    load_unit(row + first, logit);
#pragma unroll
    for (int e = 0; e < unit; ++e) use(first + e, logit[e]);
  }
  if (const int id = whole + static_cast<int>(threadIdx.x); id < vocabulary) use(id, row[id]);
}

/// The largest over the block, in thread 0.
/// Called by: one block
__device__ std::uint64_t maximum_over_block(std::uint64_t value) {
  __shared__ std::uint64_t parts[warps];
  const auto over_warp = [](std::uint64_t own) {
#pragma unroll
    for (int bit = warp_size / 2; bit > 0; bit /= 2) {
      own = max(own, __shfl_xor_sync(~0u, own, bit));
    }
    return own;
  };
  value = over_warp(value);
  if (threadIdx.x % warp_size == 0) parts[threadIdx.x / warp_size] = value;
  __syncthreads();
  return threadIdx.x < warp_size ? over_warp(parts[threadIdx.x]) : value;
}

/// The rank of the k-th largest logit of a row, by radix selection.
/// Called by: one block
__device__ std::uint32_t least_rank(const float* row, int vocabulary, int k) {
  constexpr int bits = 8, buckets = 1 << bits;
  __shared__ int counts[buckets];
  __shared__ std::uint32_t chosen;  // the upper bits of the rank that is looked for
  __shared__ int wanted;            // which of those that have these bits it is, from 1
  if (threadIdx.x == 0) chosen = 0, wanted = k;
  for (int shift = 32 - bits; shift >= 0; shift -= bits) {
    for (int i = static_cast<int>(threadIdx.x); i < buckets; i += threads) counts[i] = 0;
    __syncthreads();
    const std::uint32_t upper = chosen;
    each_logit(row, vocabulary, [&](int, float logit) {
      const std::uint32_t rank = rank_of(logit) >> shift;
      if (rank >> bits == upper) atomicAdd(&counts[rank % buckets], 1);
    });
    __syncthreads();
    if (threadIdx.x == 0) {
      int bucket = buckets - 1;
      while (wanted > counts[bucket]) wanted -= counts[bucket--];
      chosen = upper << bits | static_cast<std::uint32_t>(bucket);
    }
    __syncthreads();
  }
  return chosen;
}

__global__ __launch_bounds__(threads) void choose_kernel(const __grid_constant__ choose_args p) {
  const std::int64_t row = blockIdx.x;
  const float* const logits = p.logits + row * p.row_stride;
  const auto vocabulary = static_cast<int>(p.vocabulary);
  std::uint64_t best = 0;
  if (p.temperature > 0) {
    const std::uint32_t least = p.top_k > 0 ? least_rank(logits, vocabulary, p.top_k) : 0;
    const std::uint64_t key = draw_key(p.seed, row, p.position == nullptr ? 0 : p.position[row]);
    each_logit(logits, vocabulary, [&](int id, float logit) {
      if (isnan(logit) || rank_of(logit) < least) return;
      const float noise = -logf(-logf(draw_uniform(key, id)));
      best = max(best, candidate(rank_of(logit / p.temperature + noise), id));
    });
  } else {
    each_logit(logits, vocabulary, [&](int id, float logit) {
      const std::uint32_t rank = rank_of(logit);
      if (rank > 0) best = max(best, candidate(rank, id));
    });
  }
  best = maximum_over_block(best);
  if (threadIdx.x > 0) return;
  p.ids[row] = best == 0 ? 0 : static_cast<std::int32_t>(~static_cast<std::uint32_t>(best));
  if (p.position != nullptr) ++p.position[row];
}

}  // namespace

void choose(const choose_args& args, cuda_stream stream) {
  require_choice(args);
  launch_kernel(choose_kernel, {blocks_for(args.batch, 1), threads}, stream, args);
}

}  // namespace based::models
