// One token's attention over a cache of keys and values, which it joins.
//
//   s_j = scale q . k_j,   o = sum_j exp(s_j) v_j / sum_j exp(s_j),   j over the filled slots
//
// The work is reading the cache once. A cache is cut into pieces of whole `block_rows`, as many as
// fill the device: each block has one piece of one head. A row's columns lie side by side in
// lanes_per_row lanes, in K and in V alike, so that the weight which these lanes find for their row
// of K is the one that their row of V wants. A warp weighs its rows by its own running maximum; the
// warps meet in shared memory, the pieces in the workspace, where the block that comes last merges
// them in their order. It leaves the count of blocks at 0 for the next call.
//
//   grid (B H, pieces)   qkv [B, 3, H, Dh]   out [B, H, Dh]   k_cache, v_cache [B, H, S, Dh]
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "kernels/core/head_dims.h"
#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/models/glue/cache_pieces.h"
#include "kernels/models/glue/decode.h"
#include "kernels/models/glue/rotation.cuh"
#include "kernels/models/glue/word.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/shuffle.cuh"

namespace based::models {
namespace {

constexpr int threads = 128;
constexpr int warps = threads / warp_size;
constexpr int rows_per_thread = 4;  // whose words are on their way together

template <int Dim>
inline constexpr int lanes_per_row = Dim / unit;
template <int Dim>
inline constexpr int rows_per_pass = threads / lanes_per_row<Dim>;

struct params {
  cached_attention_args<bf16> given;
  rotation turn;
  int pieces;
  float score_scale;  ///< of scores in powers of 2
  float* partial;     ///< [B H, pieces, Dh + 2]: unnormalised outputs, maximum, sum
  unsigned* arrived;  ///< [B H]
};

/// The softmax of some rows, before its division: weights are 2^(score - maximum).
struct weighed {
  float out[unit];
  float maximum = -FLT_MAX;  // not infinity, whose difference to itself is no number
  float sum = 0;
};

/// A unit of a head at `head`, turned where it belongs to a pair.
/// Called by: one thread
__device__ void load_turned(const bf16* head, int column, int rotated, const float (&sines)[unit],
                            const float (&cosines)[unit], float (&to)[unit]) {
  unpack(load_word(head + column), to);
  if (column >= rotated) return;
  const int half = rotated / 2;
  const bool is_left = column < half;
  float other[unit];
  unpack(load_word(head + (is_left ? column + half : column - half)), other);
#pragma unroll
  for (int e = 0; e < unit; ++e) {
    to[e] = to[e] * cosines[e] + (is_left ? -other[e] : other[e]) * sines[e];
  }
}

/// Merges the warps' parts of a piece: threads 0 .. Dim - 1 return their column's.
/// Called by: one block
template <int Dim>
__device__ void merge_warps(const weighed& own, float& out, float& maximum, float& sum) {
  __shared__ float outs[warps][Dim], maxima[warps], sums[warps];
  const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  if (lane < lanes_per_row<Dim>) {
#pragma unroll
    for (int e = 0; e < unit; ++e) outs[warp][lane * unit + e] = own.out[e];
  }
  if (lane == 0) maxima[warp] = own.maximum, sums[warp] = own.sum;
  __syncthreads();
  maximum = -FLT_MAX, sum = 0, out = 0;
#pragma unroll
  for (int w = 0; w < warps; ++w) maximum = fmaxf(maximum, maxima[w]);
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    const float factor = ptx::ex2(maxima[w] - maximum);
    sum += factor * sums[w];
    out += factor * outs[w][threadIdx.x % Dim];
  }
}

template <int Dim>
__global__ __launch_bounds__(threads) void cached_attention_kernel(
    const __grid_constant__ params p) {
  constexpr int lanes = lanes_per_row<Dim>, pass = rows_per_pass<Dim>;
  constexpr int block_rows = pass * rows_per_thread;
  static_assert(block_rows * Dim == cache_pieces::step_elements);
  const cached_attention_args<bf16>& given = p.given;
  const std::int64_t bh = blockIdx.x, b = bh / given.heads, h = bh % given.heads;
  const std::int64_t position = given.position[b], slots = given.slots;
  const std::int64_t filled = min(position + 1, slots), appended = position % slots;
  const int column = static_cast<int>(threadIdx.x % lanes) * unit;
  const auto row_in_pass = static_cast<int>(threadIdx.x / lanes);

  // Whole block_rows of the filled slots, as evenly as they go.
  const std::int64_t steps = (filled + block_rows - 1) / block_rows;
  const std::int64_t begin = steps * blockIdx.y / p.pieces * block_rows;
  const std::int64_t end = min(steps * (blockIdx.y + 1) / p.pieces * block_rows, filled);

  float sines[unit] = {}, cosines[unit] = {};
  const int half = given.rotated / 2;
  if (column < given.rotated) p.turn.angles(position, column % half, sines, cosines);
  const std::int64_t width = given.heads * Dim;
  const bf16* const q = given.qkv + b * 3 * width + h * Dim;
  float query[unit], key[unit];
  load_turned(q, column, given.rotated, sines, cosines, query);
  load_turned(q + width, column, given.rotated, sines, cosines, key);
#pragma unroll
  for (float& each : query) each *= p.score_scale;
  const uint4 new_key = pack(key), new_value = load_word(q + 2 * width + column);

  bf16* const k_cache = given.k_cache + bh * slots * Dim + column;
  bf16* const v_cache = given.v_cache + bh * slots * Dim + column;
  if (appended >= begin && appended < end && row_in_pass == 0) {  // nobody reads this slot
    store_word(k_cache + appended * Dim, new_key);
    store_word(v_cache + appended * Dim, new_value);
  }

  weighed own = {};
  for (std::int64_t first = begin + row_in_pass; first - row_in_pass < end; first += block_rows) {
    uint4 keys[rows_per_thread] = {}, values[rows_per_thread] = {};
#pragma unroll
    for (int r = 0; r < rows_per_thread; ++r) {
      const std::int64_t row = first + r * pass;
      if (row >= end) continue;
      const bool is_new = row == appended;
      keys[r] = is_new ? new_key : load_word(k_cache + row * Dim);
      values[r] = is_new ? new_value : load_word(v_cache + row * Dim);
    }
    float scores[rows_per_thread], maximum = own.maximum;
#pragma unroll
    for (int r = 0; r < rows_per_thread; ++r) {
      unpack(keys[r], key);
      float dot = 0;
#pragma unroll
      for (int e = 0; e < unit; ++e) dot += query[e] * key[e];
      dot = ptx::sum_over_lanes<1, lanes>(dot);
      scores[r] = first + r * pass < end ? dot : -INFINITY;
      maximum = fmaxf(maximum, scores[r]);
    }
    maximum = ptx::maximum_over_lanes<lanes>(maximum);
    const float factor = ptx::ex2(own.maximum - maximum);
    own.maximum = maximum;
    own.sum *= factor;
#pragma unroll
    for (float& each : own.out) each *= factor;
#pragma unroll
    for (int r = 0; r < rows_per_thread; ++r) {
      const float weight = ptx::ex2(scores[r] - maximum);
      float value[unit];
      unpack(values[r], value);
      own.sum += weight;
#pragma unroll
      for (int e = 0; e < unit; ++e) own.out[e] += weight * value[e];
    }
  }
  own.sum = ptx::sum_over_lanes<lanes>(own.sum);
#pragma unroll
  for (float& each : own.out) each = ptx::sum_over_lanes<lanes>(each);

  float out, maximum, sum;
  merge_warps<Dim>(own, out, maximum, sum);
  bf16* const to = given.out + bh * Dim + threadIdx.x;
  if (p.pieces == 1) {
    if (threadIdx.x < Dim) *to = to_bf16(out / sum);
    return;
  }

  // The pieces, by the last block of this head.
  constexpr int stride = Dim + 2;
  float* const partial = p.partial + bh * p.pieces * stride;
  if (threadIdx.x < Dim) partial[blockIdx.y * stride + threadIdx.x] = out;
  if (threadIdx.x == 0) {
    partial[blockIdx.y * stride + Dim] = maximum;
    partial[blockIdx.y * stride + Dim + 1] = sum;
  }
  __threadfence();
  __syncthreads();
  const bool is_last = __syncthreads_or(
      threadIdx.x == 0 && atomicAdd(&p.arrived[bh], 1u) == static_cast<unsigned>(p.pieces) - 1);
  if (!is_last) return;
  __threadfence();
  if (threadIdx.x == 0) p.arrived[bh] = 0;
  if (threadIdx.x >= Dim) return;
  maximum = -FLT_MAX, sum = 0, out = 0;
  for (int i = 0; i < p.pieces; ++i) maximum = fmaxf(maximum, partial[i * stride + Dim]);
  for (int i = 0; i < p.pieces; ++i) {
    const float factor = ptx::ex2(partial[i * stride + Dim] - maximum);
    sum += factor * partial[i * stride + Dim + 1];
    out += factor * partial[i * stride + threadIdx.x];
  }
  *to = to_bf16(out / sum);
}

}  // namespace

template <>
void cached_attention<bf16>(const cached_attention_args<bf16>& args, cuda_stream stream) {
  require_cache(args);
  const cache_pieces pieces(args.batch, args.heads, args.head_dim, args.slots);
  auto* const workspace = static_cast<std::byte*>(args.workspace);
  const params p = {
      .given = args,
      .turn = rotation(args.rotated, args.base),
      .pieces = pieces.count,
      .score_scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(args.head_dim)),
      .partial = reinterpret_cast<float*>(workspace + pieces.counter_bytes),
      .arrived = reinterpret_cast<unsigned*>(workspace)};
  const launch_shape shape = {
      dim3(blocks_for(pieces.heads, 1), static_cast<unsigned>(pieces.count)), threads};
  with_head_dim(args.head_dim,
                [&]<int Dim>() { launch_kernel(cached_attention_kernel<Dim>, shape, stream, p); });
}

}  // namespace based::models
