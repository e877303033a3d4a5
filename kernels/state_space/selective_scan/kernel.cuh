// The selective scan with its states in registers and its products on the tensor cores, for sm_80
// and later.
//
//   x_l[c][n] = exp(dt_l[c] A[c][n]) x_{l-1}[c][n] + (dt u)_l[c] B_l[n]
//   y_l[c] = sum_n C_l[n] x_l[c][n]
//
// A warp has 16 channels of 16 states, eight states a thread, and takes the tokens in order. For
// it, x_l is the accumulator of m16n8 products, one of the first and one of the last eight states:
// dt u B is a product over one index, split in two bf16 parts of dt u so that nothing of it is
// lost. x_l, as it lies in the accumulators, is the left operand of the product with C of eight
// tokens, of which the column of token l is kept. So the exponential unit has all to do that it can
// do, 16 exponentials a channel and token, while few other instructions are issued; where
// `polynomials` of a thread's eight are polynomials, it has less.
//
//   grid (channel tiles of all groups x segments x B)   block 256, 128 channels
//   u, delta, z, y [B, D, N]   B, C [B, G S, N], bf16   A [D, S], states [B, D, S], fp32   S <= 16
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/tensor_view.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/state_space/selective_scan/plan.h"
#include "kernels/state_space/softplus.h"

namespace based::scan {

constexpr int states = 16;  // of a channel, those beyond d_state being zero
constexpr int warps = 8;    // of a CTA
constexpr int threads = warps * warp_size;
constexpr int warp_channels = 16;
static_assert(warps * warp_channels == tile_channels);
constexpr int chunk = 64;       // tokens between two loads
constexpr int word_tokens = 8;  // of a 16-byte word, and of a product with C
constexpr int row_words = chunk / word_tokens;
constexpr int thread_rows = warp_channels * row_words / warp_size;  // a word of each
static_assert(2 * states * row_words == threads);                   // a word of B or C a thread

/// Tokens may be cut into segments, which run at the same time: first all but the last of them find
/// the state that they would end in had they started from zero, then each starts from what those
/// before it left.
enum class pass { states, outputs };

struct parameters {
  sequence_view<const bf16> u, delta, b, c, z;
  sequence_view<bf16> y;
  const float *a, *d, *bias;  ///< d, bias: null without
  const float* initial_state;
  float* final_state;
  float* segment_states;  ///< [B, segments, D, S]
  float* segment_steps;   ///< [B, segments, D], the sum of dt
  int seqlen, d_inner, d_state, group_channels, group_tiles, tiles;
  int segments, segment_tokens;  ///< a multiple of `chunk`
  bool softplus, gate;
  bool aligned;         ///< rows of u, delta, z and y start at 16-byte words
  bool shared_aligned;  ///< rows of B and C
};

/// What the warps share of a chunk: B and C as operands.
struct shared_chunk {
  /// {B / 4, B / 4}: [two tokens][state % 8][token, state / 8]. The product has the same dt u at
  /// four times as many indices as it needs.
  uint4 b[chunk / 2][8];
  /// [four tokens][token % 2][state % 8][token / 2, state / 8].
  float4 c[chunk / 4][2][8];
};

/// What two channels, eight apart, have at a token: dt and the parts of dt u; then y in the place
/// of dt.
struct alignas(16) channel_pair {
  float dt[2];
  std::uint32_t input[2];
};
/// The tokens of a 16-byte word, and what moves the next ones to other banks.
struct pair_word {
  channel_pair token[word_tokens];
  uint4 pad;
};
struct pair_row {
  pair_word word[row_words];
  uint4 pad;
};

struct shared_storage {
  shared_chunk chunks[2];
  pair_row rows[warps][warp_channels / 2];
};

/// Eight tokens of a row from `token` on, zeros from `end` on.
/// Called by: one thread
__device__ inline uint4 load_tokens(const bf16* row, int token, int end, bool aligned) {
  if (aligned && token + word_tokens <= end) return load_word(row + token);
  std::uint32_t pairs[4] = {};
#pragma unroll
  for (int i = 0; i < word_tokens; ++i) {
    if (token + i < end) {
      pairs[i / 2] |= std::uint32_t{row[token + i].bits} << (i % 2 * 16);
    }
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

/// Called by: one thread
__device__ inline void store_tokens(bf16* row, int token, int end, bool aligned,
                                    const uint4& word) {
  if (aligned && token + word_tokens <= end) return store_word(row + token, word);
  const std::uint32_t pairs[] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int i = 0; i < word_tokens; ++i) {
    if (token + i < end) {
      row[token + i].bits = static_cast<std::uint16_t>(pairs[i / 2] >> (i % 2 * 16));
    }
  }
}

/// 2^(x y) for |x y| < 126, without the exponential unit: 2^n times a polynomial that is 1 at 0, so
/// that a slow decay keeps its relative precision.
/// Called by: one thread
__device__ inline float polynomial_ex2(float x, float y) {
  constexpr float to_whole = 0x1.8p23f;
  const float shifted = fmaf(x, y, to_whole);
  const float f = fmaf(x, y, to_whole - shifted);
  float p = 9.618110838e-03f;
  p = fmaf(p, f, 5.583728827e-02f);
  p = fmaf(p, f, 2.402325216e-01f);
  p = fmaf(p, f, 6.931368578e-01f);
  p = fmaf(p, f, 1.0f);
  return __int_as_float(__float_as_int(p) + (__float_as_int(shifted) << 23));
}

/// A warp's share of the work: 16 channels of one segment of one sequence.
template <pass Pass, int Polynomials>
class warp_scan {
 public:
  /// Called by: one warp
  __device__ warp_scan(pair_row (&rows)[warp_channels / 2], const parameters& p, int batch,
                       int segment, int first_channel, int channels)
      : rows_(rows),
        p_(p),
        batch_(batch),
        segment_(segment),
        first_channel_(first_channel),
        channels_(channels),
        lane_(threadIdx.x % warp_size) {}

  /// Called by: one warp
  __device__ void init() {
    constexpr float log2e = 1.44269504f;
    float largest = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int channel = channel_of(i), n = state_of(i);
      const bool exists = channel < channels_ && n < p_.d_state;
      decay_[i] =
          exists
              ? log2e * p_.a[static_cast<std::int64_t>(first_channel_ + channel) * p_.d_state + n]
              : 0.0f;
      largest = fmaxf(largest, fabsf(decay_[i]));
      x_[i / 4][i % 4] = 0;
    }
    if constexpr (Polynomials > 0) {
#pragma unroll
      for (int bit = 1; bit < warp_size; bit *= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, bit));
      }
      largest_decay_ = largest;
    }
#pragma unroll
    for (float& sum : steps_) sum = 0;
    if constexpr (Pass == pass::outputs) start_state();
  }

  /// Starts loading the tokens from `token` on.
  /// Called by: one warp
  __device__ void load(int token, int end) {
#pragma unroll
    for (int j = 0; j < thread_rows; ++j) {
      u_[j] = load_row(p_.u, j, token, end);
      delta_[j] = load_row(p_.delta, j, token, end);
    }
  }

  /// Turns what load() brought into steps and inputs.
  /// Called by: one warp
  __device__ void prepare(int token, int end) {
    float largest = 0;
#pragma unroll
    for (int j = 0; j < thread_rows / 2; ++j) {
      float u[2][word_tokens], dt[2][word_tokens];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = j + half * thread_rows / 2;
        unpack(u_[row], u[half]);
        unpack(delta_[row], dt[half]);
        const bool has_bias = p_.bias != nullptr && row_of(row) < channels_;
        const float bias = has_bias ? p_.bias[first_channel_ + row_of(row)] : 0.0f;
#pragma unroll
        for (int i = 0; i < word_tokens; ++i) {
          float& step = dt[half][i];
          step += bias;
          if (p_.softplus) step = softplus(step);
          // States stay as they are past the end.
          if (token + chunk > end && token + first_token() + i >= end) step = 0;
          if constexpr (Pass == pass::states) steps_[row] += step;
          if constexpr (Polynomials > 0) largest = fmaxf(largest, fabsf(step));
        }
      }
      channel_pair(&to)[word_tokens] = rows_[row_of(j)].word[lane_ % row_words].token;
#pragma unroll
      for (int i = 0; i < word_tokens; ++i) {
        *reinterpret_cast<uint4*>(&to[i]) = {__float_as_uint(dt[0][i]), __float_as_uint(dt[1][i]),
                                             parts_of(dt[0][i] * u[0][i]),
                                             parts_of(dt[1][i] * u[1][i])};
      }
    }
    if constexpr (Polynomials > 0) {
      constexpr float largest_exponent = 120;
      is_moderate_ = __all_sync(~0u, largest * largest_decay_ < largest_exponent);
    }
    __syncwarp();
  }

  /// Called by: one warp
  __device__ void advance(const shared_chunk& shared) {
    if (Polynomials > 0 && is_moderate_) {
      advance_chunk<Polynomials>(shared);
    } else {
      advance_chunk<0>(shared);
    }
    __syncwarp();
  }

  /// Writes the chunk's y. Called by: one warp
  __device__ void store(int token, int end) {
#pragma unroll
    for (int j = 0; j < thread_rows / 2; ++j) {
      const channel_pair(&from)[word_tokens] = rows_[row_of(j)].word[lane_ % row_words].token;
      float y[2][word_tokens];
#pragma unroll
      for (int i = 0; i < word_tokens; ++i) {
        const float2 pair = *reinterpret_cast<const float2*>(from[i].dt);
        y[0][i] = pair.x;
        y[1][i] = pair.y;
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_row(j + half * thread_rows / 2, token, end, y[half]);
      }
    }
    __syncwarp();
  }

  /// Called by: one warp
  __device__ void finish() {
    if constexpr (Pass == pass::states) {
      const std::int64_t first = segment_row(segment_);
      store_state(p_.segment_states + first * p_.d_state);
#pragma unroll
      for (int j = 0; j < thread_rows; ++j) {
#pragma unroll
        for (int bit = 1; bit < row_words; bit *= 2) {
          steps_[j] += __shfl_xor_sync(~0u, steps_[j], bit);
        }
        if (lane_ % row_words == 0 && row_of(j) < channels_) {
          p_.segment_steps[first + row_of(j)] = steps_[j];
        }
      }
    } else if (p_.final_state != nullptr && segment_ == p_.segments - 1) {
      store_state(p_.final_state + state_row() * p_.d_state);
    }
  }

 private:
  // An element of x in x_[i / 4][i % 4] is of this channel and state.
  __device__ int channel_of(int i) const {
    return lane_ / 4 + i % 4 / 2 * 8;
  }
  __device__ int state_of(int i) const {
    return i / 4 * 8 + lane_ % 4 * 2 + i % 2;
  }
  /// The row of which this thread has the j-th word.
  __device__ int row_of(int j) const {
    return lane_ / row_words + j * (warp_size / row_words);
  }
  /// The first channel's row in [B, D, S], and in [B, segments, D, S].
  __device__ std::int64_t state_row() const {
    return static_cast<std::int64_t>(batch_) * p_.d_inner + first_channel_;
  }
  __device__ std::int64_t segment_row(int segment) const {
    return (static_cast<std::int64_t>(batch_) * p_.segments + segment) * p_.d_inner +
           first_channel_;
  }

  __device__ uint4 load_row(const sequence_view<const bf16>& view, int j, int token,
                            int end) const {
    const int row = row_of(j);
    if (row >= channels_) return {};
    return load_tokens(view.token(batch_, first_channel_ + row, 0), token + first_token(), end,
                       p_.aligned);
  }

  __device__ int first_token() const {
    return lane_ % row_words * word_tokens;
  }

  __device__ void store_row(int j, int token, int end, float (&y)[word_tokens]) const {
    const int row = row_of(j);
    if (row >= channels_) return;
    if (p_.d != nullptr) {
      float u[word_tokens];
      unpack(load_row(p_.u, j, token, end), u);
      const float d = p_.d[first_channel_ + row];
#pragma unroll
      for (int i = 0; i < word_tokens; ++i) y[i] = fmaf(d, u[i], y[i]);
    }
    if (p_.gate) {
      constexpr float log2e = 1.44269504f;
      float z[word_tokens];
      unpack(load_row(p_.z, j, token, end), z);
#pragma unroll
      for (int i = 0; i < word_tokens; ++i) {
        y[i] *= z[i] * ptx::reciprocal(1.0f + ptx::ex2(-log2e * z[i]));
      }
    }
    store_tokens(p_.y.token(batch_, first_channel_ + row, 0), token + first_token(), end,
                 p_.aligned, pack(y));
  }

  /// v as the sum of two bf16, the lower half the larger one.
  __device__ static std::uint32_t parts_of(float v) {
    const float large = __uint_as_float(__float_as_uint(v) & 0xffff0000u);
    return ptx::to_bf16x2(large, v - large);
  }

  __device__ void start_state() {
    const float* from = p_.initial_state;
    if (from != nullptr) from += state_row() * p_.d_state;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int channel = channel_of(i), n = state_of(i);
      const int at = channel * p_.d_state + n;
      const bool exists = channel < channels_ && n < p_.d_state;
      if (!exists) continue;
      float x = from != nullptr ? from[at] : 0.0f;
#pragma unroll 4
      for (int s = 0; s < segment_; ++s) {
        const std::int64_t first = segment_row(s);
        x = fmaf(ptx::ex2(decay_[i] * p_.segment_steps[first + channel]), x,
                 p_.segment_states[first * p_.d_state + at]);
      }
      x_[i / 4][i % 4] = x;
    }
  }

  __device__ void store_state(float* to) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int channel = channel_of(i), n = state_of(i);
      if (channel < channels_ && n < p_.d_state) to[channel * p_.d_state + n] = x_[i / 4][i % 4];
    }
  }

  template <int Of>
  __device__ float decay(float dt, int i) const {
    // Spread over the eight, so that neighbours keep both units busy.
    const bool is_polynomial = i * Of / 8 != (i + 1) * Of / 8;
    return is_polynomial ? polynomial_ex2(dt, decay_[i]) : ptx::ex2(dt * decay_[i]);
  }

  /// The registers of x in the order in which they lie are, for the product with C, eight channels
  /// at four states above the same channels at the next four, and beside both the other channels:
  ///
  ///   rows g, g + 8: states 2q, 2q + 1    columns q, q + 4: channels g, g + 8
  ///
  /// So C stands in four columns, twice for each half of the channels with the other half's columns
  /// zero, once with the even states and once with the odd ones; y is the sum of two elements of
  /// one thread. The eight columns of a product are two tokens: column 4 token + 2 half + odd.
  template <int Of>
  __device__ void advance_chunk(const shared_chunk& shared) {
    const int g = lane_ / 4, q = lane_ % 4;
#pragma unroll 1
    for (int word = 0; word < row_words; ++word) {
      channel_pair(&tokens)[word_tokens] = rows_[g].word[word].token;
      float y[word_tokens / 2];  // of channel g + 8 (q % 2), tokens 2i + q / 2
#pragma unroll
      for (int i = 0; i < word_tokens; i += 4) {
        const int token = word * word_tokens + i;
        float4 c = {};
        if constexpr (Pass == pass::outputs) c = shared.c[token / 4][g / 4][2 * q + g % 2];
        y[i / 2] = advance_two<Of>(shared, token, &tokens[i], c.x, c.y);
        y[i / 2 + 1] = advance_two<Of>(shared, token + 2, &tokens[i + 2], c.z, c.w);
      }
      if constexpr (Pass == pass::outputs) {
        __syncwarp();
#pragma unroll
        for (int i = 0; i < word_tokens / 2; ++i) tokens[2 * i + q / 2].dt[q % 2] = y[i];
      }
    }
  }

  /// Two tokens; returns the y that falls to this thread.
  template <int Of>
  __device__ float advance_two(const shared_chunk& shared, int token, const channel_pair* given,
                               float low_c, float high_c) {
    const uint4 b = shared.b[token / 2][lane_ / 4];
    const bool of_low_half = lane_ / 4 % 4 < 2;
    const float c[] = {of_low_half ? low_c : 0.0f, of_low_half ? 0.0f : low_c,
                       of_low_half ? high_c : 0.0f, of_low_half ? 0.0f : high_c};
    float products[2][4] = {};
    advance_token<Of>(given[0], b.x, b.y);
    read_token(c, products[0]);
    advance_token<Of>(given[1], b.z, b.w);
    read_token(c, products[1]);
    const bool is_first = lane_ % 4 < 2;
    return (is_first ? products[0][0] : products[1][0]) +
           (is_first ? products[0][3] : products[1][3]);
  }

  template <int Of>
  __device__ void advance_token(const channel_pair& given, std::uint32_t b0, std::uint32_t b1) {
    const uint4 word = *reinterpret_cast<const uint4*>(&given);
    const float dt[] = {__uint_as_float(word.x), __uint_as_float(word.y)};
#pragma unroll
    for (int i = 0; i < 8; ++i) x_[i / 4][i % 4] *= decay<Of>(dt[i % 4 / 2], i);
    ptx::mma_m16n8k8(x_[0], word.z, word.w, b0);
    ptx::mma_m16n8k8(x_[1], word.z, word.w, b1);
  }

  __device__ void read_token(const float (&c)[4], float (&product)[4]) const {
    if constexpr (Pass == pass::outputs) {
      ptx::mma_m16n8k8_tf32(product, x_[0][0], x_[0][1], x_[0][2], x_[0][3], c[0], c[1]);
      ptx::mma_m16n8k8_tf32(product, x_[1][0], x_[1][1], x_[1][2], x_[1][3], c[2], c[3]);
    }
  }

  pair_row (&rows_)[warp_channels / 2];
  const parameters& p_;
  int batch_, segment_, first_channel_, channels_, lane_;
  float x_[2][4];
  float decay_[8];  // A log2(e)
  float steps_[thread_rows];
  uint4 u_[thread_rows], delta_[thread_rows];
  float largest_decay_ = 0;
  bool is_moderate_ = false;
};

/// This thread's word of the chunk of B or C that starts at `token`.
/// Called by: one thread
__device__ inline uint4 load_shared(const parameters& p, int batch, int group, int token, int end) {
  const int n = threadIdx.x / row_words % states;
  if (n >= p.d_state) return {};
  const sequence_view<const bf16>& view = threadIdx.x < threads / 2 ? p.b : p.c;
  return load_tokens(view.token(batch, group * p.d_state + n, 0),
                     token + static_cast<int>(threadIdx.x) % row_words * word_tokens, end,
                     p.shared_aligned);
}

/// Called by: one thread
__device__ inline void store_shared(shared_chunk& to, const uint4& word) {
  const int n = threadIdx.x / row_words % states;
  const int first = static_cast<int>(threadIdx.x) % row_words * word_tokens;
  float values[word_tokens];
  unpack(word, values);
  if (threadIdx.x < threads / 2) {
#pragma unroll
    for (int i = 0; i < word_tokens; ++i) {
      const float quarter = 0.25f * values[i];
      auto* pair = reinterpret_cast<std::uint32_t*>(&to.b[(first + i) / 2][n % 8]);
      pair[i % 2 * 2 + n / 8] = ptx::to_bf16x2(quarter, quarter);
    }
  } else {
#pragma unroll
    for (int i = 0; i < word_tokens; ++i) {
      auto* four = reinterpret_cast<float*>(&to.c[(first + i) / 4][i % 2][n % 8]);
      four[i % 4 / 2 * 2 + n / 8] = values[i];
    }
  }
}

template <pass Pass, int Polynomials>
__global__ void __launch_bounds__(threads, 2)
    selective_scan_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(16) std::byte raw[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(raw);
  const int running = Pass == pass::states ? p.segments - 1 : p.segments;
  const int tile = static_cast<int>(blockIdx.x % p.tiles);
  const int segment = static_cast<int>(blockIdx.x / p.tiles % running);
  const int batch = static_cast<int>(blockIdx.x / p.tiles / running);
  const int group = tile / p.group_tiles;
  const int warp = threadIdx.x / warp_size;
  const int in_group = tile % p.group_tiles * tile_channels + warp * warp_channels;
  const int first_channel = group * p.group_channels + in_group;
  const int channels = min(max(p.group_channels - in_group, 0), warp_channels);
  const int begin = segment * p.segment_tokens;
  const int end = min(begin + p.segment_tokens, p.seqlen);

  warp_scan<Pass, Polynomials> scan(shared.rows[warp], p, batch, segment, first_channel, channels);
  scan.load(begin, end);
  uint4 operands = load_shared(p, batch, group, begin, end);
  scan.init();
  int buffer = 0;
#pragma unroll 1
  for (int token = begin; token < end; token += chunk, buffer ^= 1) {
    scan.prepare(token, end);
    store_shared(shared.chunks[buffer], operands);
    __syncthreads();  // the other buffer has been read, too, when all are here once more
    if (token + chunk < end) {
      scan.load(token + chunk, end);
      operands = load_shared(p, batch, group, token + chunk, end);
    }
    scan.advance(shared.chunks[buffer]);
    if constexpr (Pass == pass::outputs) scan.store(token, end);
  }
  scan.finish();
}

}  // namespace based::scan
