// The selective scan with its states in registers, for sm_80 and later.
//
//   x_l[c][n] = exp(dt_l[c] A[c][n]) x_{l-1}[c][n] + (dt u)_l[c] B_l[n]
//   y_l[c] = sum_n C_l[n] x_l[c][n]
//
// The 16 states of a channel lie in 2 or 4 neighbouring lanes, which take the tokens in order.
// Tokens come in steps: the lanes of a channel share the work on dt and dt u of the next step's
// tokens, exchange it through shared memory that their warp has to itself, and add up their parts
// of y at the end of a step. B and C of a chunk are turned into fp32 once for a CTA.
//
// The exponential unit takes 8 clocks for a warp's instruction, 16 of them a channel and token, and
// everything else fits beside it if it is issued between them: see `after`.
//
//   grid (channel tiles of all groups x segments x B)   block 512 or 256
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
static_assert(chunk_steps % 2 == 0);     // steps have two buffers
constexpr int operand_buffers = 3;       // of B and C: read, written, and not yet read by all
static_assert(warp_size == 2 * states);  // a warp has a word of each state of both

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
  int zero;                      ///< 0, which the compiler does not know: see `after`
  bool gate;
  bool aligned;         ///< rows of u, delta, z and y start at 16-byte words
  bool shared_aligned;  ///< rows of B and C
};

/// `Scaled`: y has the terms of the options skip, gate or both.
template <pass Pass, int Lanes, bool Softplus, bool Scaled = false>
struct scan_config {
  static constexpr bool has_outputs = Pass == pass::outputs;
  static constexpr bool softplus = Softplus, scaled = Scaled;
  static constexpr int lanes = Lanes;                 // of a channel
  static constexpr int lane_states = states / Lanes;  // of a channel in a lane
  static constexpr int warps = scan::warps(Lanes), threads = warps * warp_size;
  static constexpr int warp_channels = warp_size / Lanes;
  static constexpr int lane_tokens = step_tokens / Lanes;  // of a step: a lane's share
  static_assert(row_words <= warps);                       // a thread has a word of B or C at most
  static_assert(tile_channels(Lanes) == warps * warp_channels);
  static constexpr int ctas_per_multiprocessor = resident_threads / threads;
};

/// A chunk's tokens of the channels of a warp.
template <class Config>
struct warp_storage {
  using rows = bf16[Config::warp_channels][chunk];
  rows u[2], delta[2];  ///< this chunk and the next; y takes the place of u
  rows z[Config::scaled ? 2 : 1];
};

/// dt and dt u of the tokens of a step, and what moves the next channel to other banks.
struct token_input {
  float dt, dt_u;
};
template <class Config>
struct step_storage {
  token_input token[2][Config::warp_channels][step_tokens + 2];
};

template <class Config>
struct shared_storage {
  /// [token][the states of a lane: B's, then C's].
  float operands[operand_buffers][chunk][2 * states];
  warp_storage<Config> of_warps[Config::warps];
  step_storage<Config> steps[Config::warps];
  barrier arrived;  ///< a phase a chunk: its operands are written, and those before the last read
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

/// x / (1 + exp(-x)).
/// Called by: one thread
__device__ inline float silu(float x) {
  constexpr float log2e = 1.44269504f;
  return x * ptx::reciprocal(1.0f + ptx::ex2(-log2e * x));
}

/// A warp's share of the work: some channels of one segment of one sequence.
template <class Config>
class warp_scan {
  static constexpr int lane_states = Config::lane_states, lane_tokens = Config::lane_tokens,
                       lanes = Config::lanes, warp_channels = Config::warp_channels;
  using rows = typename warp_storage<Config>::rows;

 public:
  /// Called by: one warp
  __device__ warp_scan(warp_storage<Config>& shared, step_storage<Config>& steps,
                       const parameters& p, int batch, int segment, int first_channel, int channels,
                       int end)
      : shared_(shared),
        steps_(steps),
        p_(p),
        batch_(batch),
        segment_(segment),
        first_channel_(first_channel),
        channels_(channels),
        end_(end),
        lane_(threadIdx.x % warp_size),
        channel_(lane_ / lanes),
        part_(lane_ % lanes) {}

  /// Starts loading the chunk that starts at `token`.
  /// Called by: one warp
  __device__ void load(int token, int buffer) {
    load_rows(p_.u, shared_.u[buffer], token);
    load_rows(p_.delta, shared_.delta[buffer], token);
    if (Config::scaled && p_.gate) load_rows(p_.z, shared_.z[buffer], token);
    ptx::cp_async_commit();
  }
  /// Until all but the last `Pending` chunks that were loaded are there.
  /// Called by: one warp
  template <int Pending>
  __device__ static void wait_for_load() {
    ptx::cp_async_wait<Pending>();
    __syncwarp();
  }

  /// Reads what it starts from, and prepares the first step. `operands`: of the first token, which
  /// is there, as the chunk in the first buffer is.
  /// Called by: one warp
  __device__ void start(int token, const float* operands) {
    constexpr float log2e = 1.44269504f;
    const bool exists = channel_ < channels_;
    const int channel = first_channel_ + channel_;
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const int n = state_of(i);
      const std::int64_t at = static_cast<std::int64_t>(channel) * p_.d_state + n;
      rate_[i] = exists && n < p_.d_state ? log2e * p_.a[at] : 0.0f;
      x_[i] = 0;
    }
    bias_ = p_.bias != nullptr && exists ? p_.bias[channel] : 0.0f;
    skip_ = p_.d != nullptr && exists ? p_.d[channel] : 0.0f;
    if constexpr (Config::has_outputs) start_state();
    const raw_tokens raw = raw_of(0, 0);
#pragma unroll
    for (int i = 0; i < lane_tokens; ++i) prepare(part_of(raw.delta, i), raw.u, i, end_ - token);
    publish(0);
    read_inputs(0, 0);
    read_operands(operands);
#pragma unroll
    for (int n = 0; n < lane_states; ++n) decay_[n] = ptx::ex2(now_[0].dt * rate_[n]);
  }

  /// Where a step lies: its first token, its chunk's buffer, which step of the chunk it is, and
  /// its operands.
  struct position {
    int token, buffer, step;
    const float* operands;
  };

  /// Takes the tokens of a step, and prepares the next one.
  ///
  /// What the next token needs of the exponential unit is asked for between the multiply-adds of
  /// this one: `after` has the compiler keep that order.
  /// Called by: one warp
  __device__ void advance(const position& at, const position& next) {
    const raw_tokens raw = raw_of(next.buffer, next.step);
    const int left = end_ - next.token;
    pairs z;
    if constexpr (Config::scaled) z = read_tokens(shared_.z[at.buffer], at.step);
    float y[step_tokens], gate[lane_tokens];
#pragma unroll
    for (int i = 0; i < step_tokens; ++i) {
      const bool is_last = i + 1 == step_tokens;
      if (!is_last && i % 2 == 1) read_inputs(at.step, i + 1);
      const float next_dt =
          is_last ? steps_.token[next.step % 2][channel_][0].dt : now_[(i + 1) % step_tokens].dt;
      float b[lane_states], c[lane_states];
#pragma unroll
      for (int n = 0; n < lane_states; ++n) {
        b[n] = operands_[n];
        c[n] = operands_[lane_states + n];
      }
      read_operands(is_last ? next.operands : at.operands + (i + 1) * 2 * states);
      y[i] = 0;
#pragma unroll
      for (int n = 0; n < lane_states; ++n) {
        x_[n] = fmaf(decay_[n], x_[n], now_[i].dt_u * b[n]);
        if constexpr (Config::has_outputs) y[i] = fmaf(x_[n], c[n], y[i]);
      }
      const float dt = after(x_[lane_states - 1], next_dt);
#pragma unroll
      for (int n = 0; n < lane_states; ++n) decay_[n] = ptx::ex2(dt * rate_[n]);
      if (i < lane_tokens) prepare(after(x_[0], part_of(raw.delta, i)), raw.u, i, left);
      if (i + 1 == lane_tokens) publish(next.step);
      if (Config::scaled && i % lanes == 0) {
        const float scale = silu(after(x_[0], part_of(z, i / lanes)));
        gate[i / lanes] = p_.gate ? scale : 1.0f;
      }
    }
    if constexpr (Config::has_outputs) finish_step(y, gate, at);
    read_inputs(next.step, 0);
  }

  /// Writes the chunk's y. Called by: one warp
  __device__ void store(int token, int buffer) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < words_a_lane; ++i) {
      const int at = i * warp_size + lane_, row = at / row_words;
      const int first = at % row_words * word_tokens;
      if (row >= channels_) continue;
      store_tokens(p_.y.token(batch_, first_channel_ + row, 0), token + first, end_, p_.aligned,
                   load_word(&place(shared_.u[buffer], row, first)));
    }
  }

  /// Called by: one warp
  __device__ void finish() {
    if constexpr (!Config::has_outputs) {
      const std::int64_t first = segment_row(segment_);
      store_state(p_.segment_states + first * p_.d_state);
      total_ = ptx::sum_over_lanes<1, lanes>(total_);
      if (part_ == 0 && channel_ < channels_) p_.segment_steps[first + channel_] = total_;
    } else if (p_.final_state != nullptr && segment_ == p_.segments - 1) {
      store_state(p_.final_state + state_row() * p_.d_state);
    }
  }

 private:
  /// A lane's tokens of a step.
  struct alignas(2 * lane_tokens) pairs {
    std::uint32_t pair[lane_tokens / 2];
  };
  struct raw_tokens {
    pairs u, delta;
  };
  static constexpr int words_a_lane = warp_channels * row_words / warp_size;

  __device__ int state_of(int i) const {
    return part_ * lane_states + i;
  }
  /// The first channel's row in [B, D, S], and in [B, segments, D, S].
  __device__ std::int64_t state_row() const {
    return static_cast<std::int64_t>(batch_) * p_.d_inner + first_channel_;
  }
  __device__ std::int64_t segment_row(int segment) const {
    return (static_cast<std::int64_t>(batch_) * p_.segments + segment) * p_.d_inner +
           first_channel_;
  }

  /// `value`, for the compiler one that follows from x: what is made of it is not made earlier.
  /// Otherwise the exponentials of several tokens are issued in a row, as they wait for nothing,
  /// and while they are, the warp issues nothing else. One instruction.
  __device__ float after(float x, float value) const {
    return __int_as_float(__float_as_int(value) | (__float_as_int(x) & p_.zero));
  }

  /// Where a token of a row stands: its words are permuted, so that lanes that read neighbouring
  /// rows find them in different banks.
  template <class Rows>
  __device__ static auto& place(Rows& all, int row, int token) {
    constexpr int line_rows = 8 / row_words;
    const int word = token / word_tokens ^ row / line_rows % row_words;
    return all[row][word * word_tokens + token % word_tokens];
  }

  __device__ void load_rows(const sequence_view<const bf16>& view, rows& to, int token) const {
#pragma unroll
    for (int i = 0; i < words_a_lane; ++i) {
      const int at = i * warp_size + lane_, row = at / row_words;
      const int first = at % row_words * word_tokens;
      bf16* const word = &place(to, row, first);
      const bool exists = row < channels_ && token + first < end_;
      const bf16* const from = exists ? view.token(batch_, first_channel_ + row, 0) : view.data;
      if (!exists || (p_.aligned && token + first + word_tokens <= end_)) {
        ptx::cp_async_16(word, exists ? from + token + first : from, exists);
      } else {
        store_word(word, load_tokens(from, token + first, end_, p_.aligned));
      }
    }
  }

  /// Where this lane's tokens of a step stand.
  template <class Rows>
  __device__ auto& tokens_of(Rows& all, int step) const {
    return place(all, channel_, step * step_tokens + part_ * lane_tokens);
  }
  __device__ pairs read_tokens(const rows& from, int step) const {
    return reinterpret_cast<const pairs&>(tokens_of(from, step));
  }
  __device__ raw_tokens raw_of(int buffer, int step) const {
    return {read_tokens(shared_.u[buffer], step), read_tokens(shared_.delta[buffer], step)};
  }
  __device__ static float part_of(const pairs& from, int i) {
    return i % 2 == 0 ? ptx::low_half(from.pair[i / 2]) : ptx::high_half(from.pair[i / 2]);
  }

  /// This lane's token i of the next step, of which `left` tokens exist: states stay as they are
  /// past the end.
  __device__ void prepare(float delta, const pairs& u, int i, int left) {
    float dt = delta + bias_;
    if constexpr (Config::softplus) dt = softplus(dt);
    if (part_ * lane_tokens + i >= left) dt = 0;
    if constexpr (!Config::has_outputs) total_ += dt;
    next_[i] = {dt, dt * part_of(u, i)};
  }
  /// Makes what was prepared known to the other lanes of the channel.
  __device__ void publish(int step) {
    __syncwarp();
    token_input* const to = &steps_.token[step % 2][channel_][part_ * lane_tokens];
#pragma unroll
    for (int i = 0; i < lane_tokens; i += 2) {
      *reinterpret_cast<float4*>(to + i) = {next_[i].dt, next_[i].dt_u, next_[i + 1].dt,
                                            next_[i + 1].dt_u};
    }
    __syncwarp();
  }
  /// Tokens i and i + 1 of a step.
  __device__ void read_inputs(int step, int i) {
    const float4 two = *reinterpret_cast<const float4*>(&steps_.token[step % 2][channel_][i]);
    now_[i] = {two.x, two.y};
    now_[i + 1] = {two.z, two.w};
  }
  /// This lane's states' part of a token's B and C.
  __device__ void read_operands(const float* token) {
    const float* const from = token + part_ * 2 * lane_states;
#pragma unroll
    for (int i = 0; i < 2 * lane_states; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      operands_[i] = four.x;
      operands_[i + 1] = four.y;
      operands_[i + 2] = four.z;
      operands_[i + 3] = four.w;
    }
  }

  /// Adds up the lanes' parts of y such that each has the sums of its own tokens, and puts those
  /// in the place of u.
  __device__ void finish_step(float (&y)[step_tokens], const float (&gate)[lane_tokens],
                              const position& at) {
#pragma unroll
    for (int bit = lanes / 2; bit > 0; bit /= 2) {
      const int count = bit * lane_tokens;  // of tokens that remain to a lane
      const bool is_upper = (part_ & bit) != 0;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const float given = is_upper ? y[i] : y[i + count], kept = is_upper ? y[i + count] : y[i];
        y[i] = kept + __shfl_xor_sync(~0u, given, bit);
      }
    }
    if constexpr (Config::scaled) {
      const pairs u = read_tokens(shared_.u[at.buffer], at.step);
#pragma unroll
      for (int i = 0; i < lane_tokens; ++i) y[i] = fmaf(skip_, part_of(u, i), y[i]) * gate[i];
    }
    pairs rounded;
#pragma unroll
    for (int i = 0; i < lane_tokens; i += 2) rounded.pair[i / 2] = ptx::to_bf16x2(y[i], y[i + 1]);
    reinterpret_cast<pairs&>(tokens_of(shared_.u[at.buffer], at.step)) = rounded;
  }

  __device__ void start_state() {
    const float* from = p_.initial_state;
    if (from != nullptr) from += state_row() * p_.d_state;
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const int n = state_of(i), at = channel_ * p_.d_state + n;
      if (channel_ >= channels_ || n >= p_.d_state) continue;
      float x = from != nullptr ? from[at] : 0.0f;
#pragma unroll 4
      for (int s = 0; s < segment_; ++s) {
        const std::int64_t first = segment_row(s);
        x = fmaf(ptx::ex2(rate_[i] * p_.segment_steps[first + channel_]), x,
                 p_.segment_states[first * p_.d_state + at]);
      }
      x_[i] = x;
    }
  }

  __device__ void store_state(float* to) const {
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const int n = state_of(i);
      if (channel_ < channels_ && n < p_.d_state) to[channel_ * p_.d_state + n] = x_[i];
    }
  }

  warp_storage<Config>& shared_;
  step_storage<Config>& steps_;
  const parameters& p_;
  int batch_, segment_, first_channel_, channels_, end_;
  int lane_, channel_, part_;  // this lane has part `part_` of its channel's states
  float x_[lane_states];
  float rate_[lane_states];          // A log2(e)
  float decay_[lane_states];         // of the next token
  float operands_[2 * lane_states];  // B and C of the next token
  float bias_, skip_;
  float total_ = 0;                // of this lane's dt
  token_input now_[step_tokens];   // of this step, as far as they are read
  token_input next_[lane_tokens];  // of the next step, this lane's
};

/// This thread's word of the chunk of B or C that starts at `token`: a warp has the word of its
/// number of all rows, so that it writes to different banks.
/// Called by: one thread
__device__ inline uint4 load_shared(const parameters& p, int batch, int group, int token, int end) {
  const int n = threadIdx.x % states, word = threadIdx.x / warp_size;
  if (word >= row_words || n >= p.d_state) return {};
  const sequence_view<const bf16>& view = threadIdx.x % warp_size < states ? p.b : p.c;
  return load_tokens(view.token(batch, group * p.d_state + n, 0), token + word * word_tokens, end,
                     p.shared_aligned);
}

/// Called by: one thread
template <int LaneStates>
__device__ void store_shared(float (&to)[chunk][2 * states], const uint4& word) {
  const int n = threadIdx.x % states, first = threadIdx.x / warp_size * word_tokens;
  if (first >= chunk) return;
  const int part = threadIdx.x % warp_size < states ? 0 : LaneStates;
  float values[word_tokens];
  unpack(word, values);
#pragma unroll
  for (int i = 0; i < word_tokens; ++i) {
    to[first + i][n / LaneStates * 2 * LaneStates + part + n % LaneStates] = values[i];
  }
}

template <class Config>
__global__ void __launch_bounds__(Config::threads, Config::ctas_per_multiprocessor)
    selective_scan_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(16) std::byte raw[];
  auto& shared = *reinterpret_cast<shared_storage<Config>*>(raw);
  const int running = Config::has_outputs ? p.segments : p.segments - 1;
  const int tile = static_cast<int>(blockIdx.x % p.tiles);
  const int segment = static_cast<int>(blockIdx.x / p.tiles % running);
  const int batch = static_cast<int>(blockIdx.x / p.tiles / running);
  const int group = tile / p.group_tiles;
  const int warp = threadIdx.x / warp_size;
  const int in_group =
      tile % p.group_tiles * tile_channels(Config::lanes) + warp * Config::warp_channels;
  const int first_channel = group * p.group_channels + in_group;
  const int channels = min(max(p.group_channels - in_group, 0), Config::warp_channels);
  const int begin = segment * p.segment_tokens;
  const int end = min(begin + p.segment_tokens, p.seqlen);

  if (threadIdx.x == 0) shared.arrived.init(Config::threads);
  __syncthreads();
  warp_scan<Config> scan(shared.of_warps[warp], shared.steps[warp], p, batch, segment,
                         first_channel, channels, end);
  scan.load(begin, 0);
  scan.load(begin + chunk, 1);
  store_shared<Config::lane_states>(shared.operands[0], load_shared(p, batch, group, begin, end));
  shared.arrived.arrive();
  uint4 operands = load_shared(p, batch, group, begin + chunk, end);
  scan.template wait_for_load<1>();
  shared.arrived.wait(0);
  scan.start(begin, shared.operands[0][0]);
  int buffer = 0, stage = 0;
#pragma unroll 1
  for (int token = begin; token < end; token += chunk) {
    // All warps have read the chunk before the last in the buffer that is written: they have
    // arrived since, at the last chunk.
    const int next_stage = stage + 1 == operand_buffers ? 0 : stage + 1;
    store_shared<Config::lane_states>(shared.operands[next_stage], operands);
    shared.arrived.arrive();
    operands = load_shared(p, batch, group, token + 2 * chunk, end);
#pragma unroll 1
    for (int step = 0; step < chunk_steps; ++step) {
      const int at = step * step_tokens, next = at + step_tokens;
      const bool is_last = step + 1 == chunk_steps;
      if (is_last) {
        shared.arrived.wait(buffer ^ 1);
        scan.template wait_for_load<0>();
      }
      scan.advance({token + at, buffer, step, shared.operands[stage][at]},
                   {token + next, is_last ? buffer ^ 1 : buffer, is_last ? 0 : step + 1,
                    is_last ? shared.operands[next_stage][0] : shared.operands[stage][next]});
    }
    if constexpr (Config::has_outputs) scan.store(token, buffer);
    __syncwarp();
    scan.load(token + 2 * chunk, buffer);
    buffer ^= 1;
    stage = next_stage;
  }
  scan.finish();
}

}  // namespace based::scan
