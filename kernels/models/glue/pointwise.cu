// What needs no neighbour: the embedding's rows, SwiGLU, and rotary positions.
//
// Grid: threads walk over 16-byte words, neighbours along a row. So that enough of the memory is
// asked for at a time, a thread has words of `together` rows, or heads, and reads them all before
// it uses the first.
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/models/glue.h"
#include "kernels/models/glue/rotation.cuh"
#include "kernels/models/glue/word.cuh"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/tile/silu.cuh"

namespace based::models {
namespace {

constexpr int threads = 256;
constexpr int together = 4;

/// Where a thread works: word `column` of the rows first, first + 1, ... < end.
struct place {
  std::int64_t column, first, end;
};
/// This thread's place in rows of `words` words.
/// Called by: one thread
__device__ place own_place(std::int64_t rows, std::int64_t words) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const std::int64_t first = at / words * together;
  return {at % words, first, min(first + together, rows)};
}
launch_shape shape_for(std::int64_t rows, std::int64_t words) {
  return {blocks_for((rows + together - 1) / together * words, threads), threads};
}

/// Words are here 16 bytes of the residual, half as many of the table.
__global__ __launch_bounds__(threads) void embed_kernel(
    const __grid_constant__ embed_args<bf16> p) {
  const place own = own_place(p.tokens, p.width / vector16<float>);
  const std::int64_t column = own.column * vector16<float>;
  uint2 word[together];
  bool known[together];
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (own.first + i >= own.end) break;
    const std::int32_t id = p.ids[own.first + i];
    known[i] = id >= 0 && id < p.vocabulary;
    if (known[i]) word[i] = *reinterpret_cast<const uint2*>(p.table + id * p.width + column);
  }
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (own.first + i >= own.end) break;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float4 value = {ptx::low_half(word[i].x), ptx::high_half(word[i].x),
                          ptx::low_half(word[i].y), ptx::high_half(word[i].y)};
    *reinterpret_cast<float4*>(p.residual + (own.first + i) * p.width + column) =
        known[i] ? value : float4{nan, nan, nan, nan};
  }
}

__global__ __launch_bounds__(threads) void swiglu_kernel(
    const __grid_constant__ swiglu_args<bf16> p) {
  const place own = own_place(p.tokens, p.inner / unit);
  uint4 value[together], gate[together];
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (own.first + i >= own.end) break;
    const bf16* const x = p.x + (own.first + i) * 2 * p.inner + own.column * unit;
    value[i] = load_word(x);
    gate[i] = load_word(x + p.inner);
  }
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (own.first + i >= own.end) break;
    float y[unit], z[unit];
    unpack(value[i], y);
    unpack(gate[i], z);
#pragma unroll
    for (int e = 0; e < unit; ++e) y[e] *= silu(z[e]);
    store_word(p.out + (own.first + i) * p.inner + own.column * unit, pack(y));
  }
}

struct rotate_params {
  rotate_args<bf16> given;
  rotation turn;
};

/// A "row" of own_place() is here a head of a token, `together` of which share their angles, and a
/// word of it eight pairs.
__global__ __launch_bounds__(threads) void rotate_kernel(const __grid_constant__ rotate_params p) {
  const rotate_args<bf16>& given = p.given;
  const int half = given.rotated / 2, words = half / unit;
  const std::int64_t groups = (given.heads + together - 1) / together;
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const int pair = static_cast<int>(at % words) * unit;
  const std::int64_t group = at / words % groups, token = at / words / groups;
  if (token >= given.tokens) return;
  // Neighbouring threads have neighbouring heads.
  bf16* const first = given.x + token * given.token_stride + group * given.head_dim + pair;
  const std::int64_t step = groups * given.head_dim;

  uint4 left[together], right[together];
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (group + i * groups >= given.heads) break;
    left[i] = load_word(first + i * step);
    right[i] = load_word(first + i * step + half);
  }
  float sines[unit], cosines[unit];
  p.turn.angles(token % given.seqlen, pair, sines, cosines);
#pragma unroll
  for (int i = 0; i < together; ++i) {
    if (group + i * groups >= given.heads) break;
    float a[unit], b[unit];
    unpack(left[i], a);
    unpack(right[i], b);
#pragma unroll
    for (int e = 0; e < unit; ++e) {
      const float x = a[e], y = b[e];
      a[e] = x * cosines[e] - y * sines[e];
      b[e] = x * sines[e] + y * cosines[e];
    }
    store_word(first + i * step, pack(a));
    store_word(first + i * step + half, pack(b));
  }
}

}  // namespace

template <>
void embed<bf16>(const embed_args<bf16>& args, cuda_stream stream) {
  launch_kernel(embed_kernel, shape_for(args.tokens, args.width / vector16<float>), stream, args);
}

template <>
void swiglu<bf16>(const swiglu_args<bf16>& args, cuda_stream stream) {
  launch_kernel(swiglu_kernel, shape_for(args.tokens, args.inner / unit), stream, args);
}

template <>
void rotate<bf16>(const rotate_args<bf16>& args, cuda_stream stream) {
  const std::int64_t groups = (args.heads + together - 1) / together;
  const std::int64_t items = args.tokens * groups * (args.rotated / 2 / unit);
  if (items == 0) return;
  launch_kernel(rotate_kernel, {blocks_for(items, threads), threads}, stream,
                rotate_params{args, rotation(args.rotated, args.base)});
}

}  // namespace based::models
