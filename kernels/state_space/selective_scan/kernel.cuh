// The selective scan with its states in registers, for sm_80 and later.
//
//   x_l[c][n] = exp(dt_l[c] A[c][n]) x_{l-1}[c][n] + (dt u)_l[c] B_l[n]
//   y_l[c] = sum_n C_l[n] x_l[c][n]
//
// The 16 states of a channel lie in 1, 2 or 4 neighbouring lanes, which take the tokens in order.
// Tokens come in steps of eight. The lanes of a channel share the work on dt and dt u of the next
// step's tokens, hand it to each other, and add up their parts of y at the end of a step. B and C
// of a chunk are turned into fp32 once for a CTA.
//
// The exponential unit takes 8 clocks for a warp's instruction, 16 of them a channel and token; all
// else fits beside it if the compiler puts it between them: see `scan_config`.
//
//   grid (channel tiles of all groups x segments x B)   block 256
//   u, delta, z, y [B, D, N]   B, C [B, G S, N], bf16   A [D, S], states [B, D, S], fp32   S <= 16
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/tensor_view.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/ptx/shuffle.cuh"
#include "kernels/state_space/selective_scan/plan.h"
#include "kernels/state_space/softplus.h"
#include "kernels/tile/barrier.cuh"

namespace based::scan {

constexpr int word_tokens = 8;                  // of a 16-byte word
constexpr int row_words = chunk / word_tokens;  // of a channel's tokens of a chunk
constexpr int step_tokens = word_tokens;
constexpr int chunk_steps = chunk / step_tokens;
constexpr int operand_buffers = 3;       // of B and C: read, written, and not yet read by all
static_assert(warp_size == 2 * states);  // a warp has a word of each state of both
static_assert(row_words == warps);       // a thread has a word of B or C
static_assert(row_words == 8);           // words of a row of 128 bytes: see `place`

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
  bool gate;
  bool has_words;  ///< all rows start at 16-byte words, and their lengths are multiples of one
};

/// `Scaled`: y has the terms of the options skip, gate or both. `Whole`: all chunks are whole, of
/// as many channels as a CTA has, and stand at 16-byte words, so that no token needs a test.
template <pass Pass, int Lanes, bool Softplus, bool Scaled, bool Whole>
struct scan_config {
  static constexpr bool has_outputs = Pass == pass::outputs;
  static constexpr bool softplus = Softplus, scaled = Scaled, whole = Whole;
  static constexpr int lanes = Lanes;                 // of a channel
  static constexpr int lane_states = states / Lanes;  // of a channel in a lane
  static constexpr int warp_channels = warp_size / Lanes;
  static constexpr int lane_tokens = step_tokens / Lanes;  // of a step: a lane's share
  /// Chunks of u: this one and the next, and where there is memory for it one that takes the load
  /// while y is read from this one.
  static constexpr int u_buffers = scan::u_buffers(Scaled);
  // How the compiler mixes exponentials with the rest follows from how many registers it may use
  // and from whether a token's decays are made beside the token before: the fastest of some 250
  // forms that were measured (DESIGN_LOG.md).
  static constexpr bool decays_ahead = Lanes > 1;
  static constexpr int registers = Lanes == 1 ? 136 : 112;
};

/// A chunk's tokens of the channels of a warp.
template <class Config, bool Scaled = Config::scaled>
struct warp_storage {
  using rows = bf16[Config::warp_channels][chunk];
  rows u[Config::u_buffers];  ///< y takes the place of u
  rows delta[2];              ///< this chunk and the next
};
template <class Config>
struct warp_storage<Config, true> : warp_storage<Config, false> {
  typename warp_storage<Config, false>::rows z[2];
};

template <class Config>
struct shared_storage {
  /// [token][the states of a lane: B's, then C's].
  float operands[operand_buffers][chunk][2 * states];
  warp_storage<Config> of_warps[warps];
  barrier arrived;  ///< a phase a chunk: its operands are written, and those before the last read
};

/// x / (1 + exp(-x)).
/// Called by: one thread
__device__ inline float silu(float x) {
  constexpr float log2e = 1.44269504f;
  return x * ptx::reciprocal(1.0f + ptx::ex2(-log2e * x));
}

/// This thread's word of the chunk of B or C that starts at `token`: a warp has the word of its
/// number of all rows, so that it writes to different banks.
/// Called by: one thread
template <class Config>
__device__ uint4 load_shared(const parameters& p, int batch, int group, int token, int end) {
  const int n = threadIdx.x % states, first = token + threadIdx.x / warp_size * word_tokens;
  if (n >= p.d_state || first >= end) return {};
  const sequence_view<const bf16>& view = threadIdx.x % warp_size < states ? p.b : p.c;
  const bf16* const from = view.token(batch, group * p.d_state + n, first);
  if (Config::whole || p.has_words) return load_word(from);
  std::uint32_t pairs[4] = {};
#pragma unroll
  for (int i = 0; i < word_tokens; ++i) {
    if (first + i < end) pairs[i / 2] |= std::uint32_t{from[i].bits} << (i % 2 * 16);
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

/// Called by: one thread
template <int LaneStates>
__device__ void store_shared(float (&to)[chunk][2 * states], const uint4& word) {
  const int n = threadIdx.x % states, first = threadIdx.x / warp_size * word_tokens;
  const int part = threadIdx.x % warp_size < states ? 0 : LaneStates;
  float values[word_tokens];
  unpack(word, values);
#pragma unroll
  for (int i = 0; i < word_tokens; ++i) {
    to[first + i][n / LaneStates * 2 * LaneStates + part + n % LaneStates] = values[i];
  }
}

/// Where a token of a row stands: its words are permuted, so that lanes that read neighbouring rows
/// find them in different banks.
/// Called by: one thread
template <class Rows>
__device__ inline auto& place(Rows& all, int row, int token) {
  const int word = token / word_tokens ^ row % row_words;
  return all[row][word * word_tokens + token % word_tokens];
}

/// The rows of a warp's channels in tensors like u, tokens of a chunk at a time.
template <class Config>
class row_mover {
 public:
  /// Called by: one warp
  __device__ row_mover(const parameters& p, int batch, int first_channel, int channels, int end)
      : batch_(batch),
        first_channel_(first_channel),
        channels_(channels),
        end_(end),
        has_words_(p.has_words) {}

  /// Starts to copy a chunk; zeros stand for what does not exist.
  /// Called by: one warp
  template <class Rows>
  __device__ void load(Rows& to, const sequence_view<const bf16>& view, int token) const {
    if (Config::whole || has_words_) {
      for_each_word(view, token, [&](const bf16* from, int row, int first) {
        const bool exists = Config::whole || (row < channels_ && token + first < end_);
        ptx::cp_async_16(&place(to, row, first), exists ? from : view.data, exists);
      });
      return;
    }
    for_each_token(view, token, [&](const bf16* from, int row, int at) {
      place(to, row, at) = from == nullptr ? bf16{} : *from;
    });
  }
  /// Called by: one warp
  template <class Rows>
  __device__ void store(Rows& from, const sequence_view<bf16>& view, int token) const {
    if (Config::whole || has_words_) {
      for_each_word(view, token, [&](bf16* to, int row, int first) {
        const bool exists = Config::whole || (row < channels_ && token + first < end_);
        if (exists) store_word(to, load_word(&place(from, row, first)));
      });
      return;
    }
    for_each_token(view, token, [&](bf16* to, int row, int at) {
      if (to != nullptr) *to = place(from, row, at);
    });
  }

 private:
  /// Calls f(address, row, first token in the chunk) for each word of this lane.
  template <class T, class Function>
  __device__ void for_each_word(const sequence_view<T>& view, int token, Function f) const {
    constexpr int rows_apart = warp_size / row_words;
    const int lane = threadIdx.x % warp_size;
    const int row = lane / row_words, first = lane % row_words * word_tokens;
    T* at = view.token(batch_, first_channel_ + row, token + first);
    const std::int64_t stride = rows_apart * view.head_stride;
#pragma unroll
    for (int i = 0; i < Config::warp_channels / rows_apart; ++i, at += stride) {
      f(at, row + i * rows_apart, first);
    }
  }
  /// Calls f(address, row, token in the chunk) for each token of the chunk, with null for those
  /// that do not exist.
  template <class T, class Function>
  __device__ void for_each_token(const sequence_view<T>& view, int token, Function f) const {
#pragma unroll 1
    for (int row = 0; row < Config::warp_channels; ++row) {
      T* const from = view.token(batch_, first_channel_ + row, token);
#pragma unroll 1
      for (int at = threadIdx.x % warp_size; at < chunk; at += warp_size) {
        f(row < channels_ && token + at < end_ ? from + at : nullptr, row, at);
      }
    }
  }

  int batch_, first_channel_, channels_, end_;
  bool has_words_;  // tokens can be moved as 16-byte words
};

/// A channel's tokens of a step: dt, and dt u.
struct step_inputs {
  float dt[step_tokens], dt_u[step_tokens];
};

/// A lane's tokens of a step.
template <class Config>
struct alignas(2 * Config::lane_tokens) lane_words {
  std::uint32_t pair[Config::lane_tokens / 2];
  /// Called by: one thread
  __device__ float token(int i) const {
    return i % 2 == 0 ? ptx::low_half(pair[i / 2]) : ptx::high_half(pair[i / 2]);
  }
};

/// dt and dt u of a channel's tokens.
template <class Config>
struct input_maker {
  float bias;

  /// Of one token. Called by: one thread
  __device__ float step_of(float delta) const {
    if constexpr (Config::softplus) return softplus(delta + bias);
    return delta + bias;
  }
  /// Of a step, each lane those of its share for all lanes of the channel. Called by: one warp
  __device__ void make(step_inputs& to, const lane_words<Config>& delta,
                       const lane_words<Config>& u) const {
    constexpr int lanes = Config::lanes;
#pragma unroll
    for (int i = 0; i < Config::lane_tokens; ++i) {
      const float dt = step_of(delta.token(i)), dt_u = dt * u.token(i);
#pragma unroll
      for (int part = 0; part < lanes; ++part) {
        const int from = threadIdx.x % warp_size / lanes * lanes + part;
        to.dt[part * Config::lane_tokens + i] = lanes == 1 ? dt : __shfl_sync(~0u, dt, from);
        to.dt_u[part * Config::lane_tokens + i] = lanes == 1 ? dt_u : __shfl_sync(~0u, dt_u, from);
      }
    }
  }
};

/// B or C of a token, of a lane's states.
/// Called by: one thread
template <int States>
__device__ inline void read_operands(float (&to)[States], const float* from) {
#pragma unroll
  for (int i = 0; i < States; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}

template <class Config>
__global__ void __launch_bounds__(threads, 1) __maxnreg__(Config::registers)
    selective_scan_kernel(const __grid_constant__ parameters p) {
  constexpr int lanes = Config::lanes, lane_states = Config::lane_states;
  constexpr int lane_tokens = Config::lane_tokens;
  using words = lane_words<Config>;
  extern __shared__ __align__(16) std::byte raw[];
  auto& shared = *reinterpret_cast<shared_storage<Config>*>(raw);
  const int running = Config::has_outputs ? p.segments : p.segments - 1;
  const int tile = static_cast<int>(blockIdx.x % p.tiles);
  const int segment = static_cast<int>(blockIdx.x / p.tiles % running);
  const int batch = static_cast<int>(blockIdx.x / p.tiles / running);
  const int group = tile / p.group_tiles;
  const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const int in_group = tile % p.group_tiles * tile_channels(lanes) + warp * Config::warp_channels;
  const int channels = min(max(p.group_channels - in_group, 0), Config::warp_channels);
  const int row = lane / lanes, part = lane % lanes;  // this lane has part `part` of a channel
  const int first_channel = group * p.group_channels + in_group, channel = first_channel + row;
  const bool exists = row < channels;
  const int begin = segment * p.segment_tokens;
  const int end = min(begin + p.segment_tokens, p.seqlen);
  auto& mine = shared.of_warps[warp];
  const row_mover<Config> mover(p, batch, first_channel, channels, end);
  // Of [B, D, S] and [B, segments, D, S]: this channel's first state.
  const std::int64_t state_row = std::int64_t{batch} * p.d_inner + channel;
  const auto segment_row = [&](int s) {
    return (std::int64_t{batch} * p.segments + s) * p.d_inner + channel;
  };

  if (threadIdx.x == 0) shared.arrived.init(threads);
  __syncthreads();
  const auto load = [&](int token, int buffer, int u_buffer) {
    if (token < end) {
      mover.load(mine.u[u_buffer], p.u, token);
      mover.load(mine.delta[buffer], p.delta, token);
      if constexpr (Config::scaled) {
        if (p.gate) mover.load(mine.z[buffer], p.z, token);
      }
    }
    ptx::cp_async_commit();
  };
  load(begin, 0, 0);
  load(begin + chunk, 1, 1);
  store_shared<lane_states>(shared.operands[0], load_shared<Config>(p, batch, group, begin, end));
  shared.arrived.arrive();
  uint4 operands = load_shared<Config>(p, batch, group, begin + chunk, end);

  // State n of this lane is state part * lane_states + n of the channel.
  float x[lane_states], rate[lane_states];  // rate: A log2(e)
  const auto has_state = [&](int n) { return exists && part * lane_states + n < p.d_state; };
#pragma unroll
  for (int n = 0; n < lane_states; ++n) {
    constexpr float log2e = 1.44269504f;
    const int state = part * lane_states + n;
    rate[n] = has_state(n) ? log2e * p.a[std::int64_t{channel} * p.d_state + state] : 0.0f;
    const bool is_given = Config::has_outputs && p.initial_state != nullptr && has_state(n);
    x[n] = is_given ? p.initial_state[state_row * p.d_state + state] : 0.0f;
  }
  if (Config::has_outputs && exists) {
    // The loads of all states of several segments are on their way at once.
#pragma unroll 2
    for (int s = 0; s < segment; ++s) {
      const float steps = p.segment_steps[segment_row(s)];
      const float* const from = p.segment_states + segment_row(s) * p.d_state;
#pragma unroll
      for (int n = 0; n < lane_states; ++n) {
        const float state = has_state(n) ? from[part * lane_states + n] : 0.0f;
        x[n] = fmaf(ptx::ex2(rate[n] * steps), x[n], state);
      }
    }
  }
  const input_maker<Config> maker{p.bias != nullptr && exists ? p.bias[channel] : 0.0f};
  const float skip = Config::scaled && p.d != nullptr && exists ? p.d[channel] : 0.0f;
  float total = 0;  // of dt

  const auto words_at = [&](auto& rows, int step) -> words& {
    return reinterpret_cast<words&>(place(rows, row, step * step_tokens + part * lane_tokens));
  };
  const auto finish = [&](float y, float u, int buffer, int token) {
    if constexpr (Config::scaled) {
      y = fmaf(skip, u, y);
      if (p.gate) y *= silu(to_float(place(mine.z[buffer], row, token)));
    }
    return y;
  };
  ptx::cp_async_wait<1>();
  __syncwarp();
  shared.arrived.wait(0);
  step_inputs now, next;
  maker.make(now, words_at(mine.delta[0], 0), words_at(mine.u[0], 0));
  float decay[lane_states];  // of the next token, where they are made ahead
  if constexpr (Config::decays_ahead) {
#pragma unroll
    for (int n = 0; n < lane_states; ++n) decay[n] = ptx::ex2(now.dt[0] * rate[n]);
  }
  int buffer = 0, u_buffer = 0, stage = 0;
#pragma unroll 1
  for (int token = begin; token < end; token += chunk) {
    // All warps have read the chunk before the last in the buffer that is written: they have
    // arrived since, at the last chunk.
    const int next_stage = stage + 1 == operand_buffers ? 0 : stage + 1;
    store_shared<lane_states>(shared.operands[next_stage], operands);
    shared.arrived.arrive();
    operands = load_shared<Config>(p, batch, group, token + 2 * chunk, end);
    const int next_u_buffer = u_buffer + 1 == Config::u_buffers ? 0 : u_buffer + 1;
    const int tokens = Config::whole ? chunk : min(end - token, chunk);
    const int steps = tokens / step_tokens;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const bool is_last = step + 1 == chunk_steps;
      // Two conditions, though the first would do: with one, the compiler puts the exponentials of
      // a step closer together (DESIGN_LOG.md).
      if (is_last) shared.arrived.wait(buffer ^ 1);
      if (is_last && token + chunk < end) {
        ptx::cp_async_wait<0>();
        __syncwarp();
      }
      const int next_buffer = is_last ? buffer ^ 1 : buffer, next_step = is_last ? 0 : step + 1;
      const words next_u = words_at(mine.u[is_last ? next_u_buffer : u_buffer], next_step);
      const words next_delta = words_at(mine.delta[next_buffer], next_step);
      const float* const of_step =
          shared.operands[stage][step * step_tokens] + part * 2 * lane_states;
      float y[step_tokens];
      maker.make(next, next_delta, next_u);
#pragma unroll
      for (int i = 0; i < step_tokens; ++i) {
        float b[lane_states], c[lane_states];
        read_operands(b, of_step + i * 2 * states);
        if constexpr (Config::has_outputs) read_operands(c, of_step + i * 2 * states + lane_states);
        const float next_dt = i + 1 == step_tokens ? next.dt[0] : now.dt[(i + 1) % step_tokens];
        // Of states with even and with odd numbers, which do not wait for each other.
        float sums[2] = {};
#pragma unroll
        for (int n = 0; n < lane_states; ++n) {
          const float by = Config::decays_ahead ? decay[n] : ptx::ex2(now.dt[i] * rate[n]);
          x[n] = fmaf(by, x[n], now.dt_u[i] * b[n]);
          if constexpr (Config::has_outputs) sums[n % 2] = fmaf(x[n], c[n], sums[n % 2]);
          if constexpr (Config::decays_ahead) decay[n] = ptx::ex2(next_dt * rate[n]);
        }
        y[i] = sums[0] + sums[1];
        if constexpr (!Config::has_outputs) total += now.dt[i];
      }
      if constexpr (Config::has_outputs) {
        // Each lane gets the sums of its own tokens, which take the place of u.
#pragma unroll
        for (int bit = lanes / 2; bit > 0; bit /= 2) {
          const int count = bit * lane_tokens;  // of tokens that remain to a lane
          const bool is_upper = (part & bit) != 0;
#pragma unroll
          for (int i = 0; i < count; ++i) {
            const float given = is_upper ? y[i] : y[i + count];
            const float kept = is_upper ? y[i + count] : y[i];
            y[i] = kept + __shfl_xor_sync(~0u, given, bit);
          }
        }
        words& u = words_at(mine.u[u_buffer], step);
        if constexpr (Config::scaled) {
          const words z = words_at(mine.z[buffer], step);
#pragma unroll
          for (int i = 0; i < lane_tokens; ++i) {
            y[i] = fmaf(skip, u.token(i), y[i]);
            const float gate = silu(z.token(i));
            y[i] *= p.gate ? gate : 1.0f;
          }
        }
        words rounded;
#pragma unroll
        for (int i = 0; i < lane_tokens; i += 2) {
          rounded.pair[i / 2] = ptx::to_bf16x2(y[i], y[i + 1]);
        }
        u = rounded;
      }
      now = next;
    }
    if constexpr (!Config::whole) {
      // The tokens of a step that the sequence ends in, one by one.
#pragma unroll 1
      for (int at = steps * step_tokens; at < tokens; ++at) {
        bf16& u = place(mine.u[u_buffer], row, at);
        const float dt = maker.step_of(to_float(place(mine.delta[buffer], row, at)));
        const float dt_u = dt * to_float(u);
        const float* const of_token = shared.operands[stage][at] + part * 2 * lane_states;
        float y = 0;
#pragma unroll
        for (int n = 0; n < lane_states; ++n) {
          x[n] = fmaf(ptx::ex2(dt * rate[n]), x[n], dt_u * of_token[n]);
          if constexpr (Config::has_outputs) y = fmaf(x[n], of_token[lane_states + n], y);
        }
        total += dt;
        if constexpr (Config::has_outputs) {
          y = finish(ptx::sum_over_lanes<1, lanes>(y), to_float(u), buffer, at);
          __syncwarp();  // all lanes of the channel have read u
          if (part == 0) u = to_bf16(y);
        }
      }
    }
    if constexpr (Config::has_outputs) {
      __syncwarp();
      mover.store(mine.u[u_buffer], p.y, token);
    }
    __syncwarp();
    load(token + 2 * chunk, buffer, (u_buffer + 2) % Config::u_buffers);
    buffer ^= 1;
    u_buffer = next_u_buffer;
    stage = next_stage;
  }

  float* to = Config::has_outputs ? p.final_state : p.segment_states;
  if (to == nullptr || (Config::has_outputs && segment != p.segments - 1)) return;
  to += (Config::has_outputs ? state_row : segment_row(segment)) * p.d_state;
#pragma unroll
  for (int n = 0; n < lane_states; ++n) {
    if (has_state(n)) to[part * lane_states + n] = x[n];
  }
  if (!Config::has_outputs && exists && part == 0) p.segment_steps[segment_row(segment)] = total;
}

}  // namespace based::scan
