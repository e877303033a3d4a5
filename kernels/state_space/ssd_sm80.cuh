// Mamba-2's state space duality on mma.sync: device code.
//
//   S_l = exp(dt_l A) S_{l-1} + dt_l x_l B_l^T,   y_l = S_l C_l   (+ D x_l)   (times silu(z_l))
//
// in chunks of 32 tokens. With s_i the sum of dt A log2(e) from the chunk's start to token i, its
// own included, S the state before the chunk and X, B, C [32 x P, S, S] the chunk (S as a size is
// the state dimension),
//
//   Y = 2^s_i (C S^T) + W X,   W_ij = 2^(s_i - s_j) dt_j (C B^T)_ij for j <= i
//   S = 2^s_31 S + X^T diag(2^(s_31 - s_j) dt_j) B
//
// Every power is of a difference that is not positive, taken in fp32, so none overflows.
//
// Grid: one CTA of eight warps for some heads of a group, which share B, C and C B^T, and for one
// segment of the sequence. A warp keeps 32 rows and at most 128 columns of a head's S, [P x S], in
// fp32 registers for the whole segment: rounded, it is the right operand of C S^T as it lies, and a
// block of B or C from shared memory serves two products. Where S has 256 columns two warps have a
// half each; their sums of Y meet in shared memory, each finishing sixteen of the chunk's tokens.
//
// For each chunk, in two variants:
//
//   one_barrier    C B^T of the next chunk; C S^T, W X and the new S of this one. Half of the warps
//                  pass the barrier before the new S. B has four buffers, C three, what belongs to
//                  one chunk two: 81 to 177 KB of shared memory
//   two_barriers   C B^T and C S^T; a barrier; W X and the new S. Two buffers of B and C and one
//                  of the rest fit into the 99 KB of the smaller cards
//
// What Y lacks of the other warp's half is added after the next barrier.
#pragma once

#include <cstdint>

#include "kernels/core/padded_tile.cuh"
#include "kernels/core/tensor_view.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/state_space/softplus.h"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based::ssd_sm80 {

inline constexpr int chunk_tokens = 32;
inline constexpr int token_blocks = chunk_tokens / 16;
inline constexpr int warps = 8;
inline constexpr int threads = warps * warp_size;
inline constexpr int warp_rows = 32;  // of S
inline constexpr int row_blocks = warp_rows / 16;
inline constexpr int most_columns = 128;  // of S, a warp
// C B^T has three blocks [16 x 16] on and below the diagonal, (0, 0), (1, 0) and (1, 1), each the
// sum of two, over half of the columns: a warp has one of the six, or none.
inline constexpr int score_blocks = 3;
inline constexpr int score_parts = 2;
static_assert(chunk_tokens == warp_size);  // a lane a token, where steps and decays are summed

/// C B^T of a chunk, lane by lane.
using score_sums = float4[score_parts][score_blocks][2][warp_size];

template <int HeadDim, int StateDim>
struct config {
  static constexpr int warp_columns = StateDim < most_columns ? StateDim : most_columns;
  static constexpr int column_parts = StateDim / warp_columns;
  static constexpr int row_parts = HeadDim / warp_rows;
  static constexpr int heads = warps / (row_parts * column_parts);  // of a CTA
  static constexpr int steps = warp_columns / 16;
  // Blocks of sixteen tokens that a warp writes.
  static constexpr int out_blocks = token_blocks / column_parts;
};

struct parameters {
  sequence_view<const bf16> x, dt, b, c, z;  // [B,H,N,P], [B,H,N,1], [B,G,N,S] twice, [B,H,N,P]
  sequence_view<bf16> y;                     // [B, H, N, P]
  const float* a;                            // [H]
  const float* dt_bias;                      // [H]; null: none
  const float* d;                            // [H]; null: no skip
  const float* start;                        // [B, H, segments, P, S]; null: zero
  float* end;             // [B, H, P, S], after the last segment; null: not wanted
  float* segment_states;  // [B, H, segments, P, S], of each segment by itself
  float* segment_decays;  // [B, H, segments], exponents of two
  int seqlen;
  int segments;
  int segment_chunks;
  int heads;
  int groups;
  int head_sets;  // CTAs of a group
  bool softplus;
  bool gate;
};

/// What a warp works on.
template <int HeadDim, int StateDim>
struct warp_place {
  using shape = config<HeadDim, StateDim>;
  int batch, group, segment;
  int first_head, last_head;  // of the CTA
  int slot, head;             // of the warp: which of the CTA's heads
  int warp, first_row, first_column, column_part;
  int first_token, tokens, chunks;
  bool is_own;  ///< not so where another warp works on the very same: the group has no more heads

  /// Called by: one warp
  __device__ explicit warp_place(const parameters& p) : warp(warp::uniform_index()) {
    int index = static_cast<int>(blockIdx.x);
    segment = index % p.segments;
    index /= p.segments;
    const int set = index % p.head_sets;
    index /= p.head_sets;
    group = index % p.groups;
    batch = index / p.groups;
    const int group_heads = p.heads / p.groups;
    first_head = group * group_heads + set * shape::heads;
    last_head = shape::heads == 1 ? first_head
                                  : min(first_head + shape::heads, (group + 1) * group_heads) - 1;
    column_part = warp % shape::column_parts;
    const int row_part = warp / shape::column_parts % shape::row_parts;
    slot = shape::heads == 1 ? 0 : warp / (shape::column_parts * shape::row_parts);
    head = min(first_head + slot, last_head);
    is_own = first_head + slot <= last_head;
    first_row = row_part * warp_rows;
    first_column = column_part * shape::warp_columns;
    first_token = segment * p.segment_chunks * chunk_tokens;
    tokens = min(p.seqlen - first_token, p.segment_chunks * chunk_tokens);
    chunks = (tokens + chunk_tokens - 1) / chunk_tokens;
  }
  /// This warp's part of a state, elements.
  /// Called by: one thread
  __device__ std::int64_t state_offset(const parameters& p, std::int64_t states_per_head,
                                       std::int64_t index) const {
    const std::int64_t batch_head = std::int64_t{batch} * p.heads + head;
    return ((batch_head * states_per_head + index) * HeadDim + first_row) * StateDim + first_column;
  }
};

/// A chunk's steps dt and their decays, a token a lane.
class chunk_steps {
 public:
  /// Starts to read the first chunk's. Called by: one warp
  template <class Place>
  __device__ chunk_steps(const parameters& p, const Place& at)
      : from_(p.dt.token(at.batch, at.head, at.first_token + warp::lane())),
        stride_(chunk_tokens * p.dt.token_stride),
        left_(at.tokens - warp::lane()),
        rate_(p.a[at.head] * log2e),
        bias_(p.dt_bias == nullptr ? 0 : p.dt_bias[at.head]),
        softplus_(p.softplus) {
    read();
  }

  /// The next chunk's, and starts to read those of the chunk after it. Called by: one warp
  __device__ void advance() {
    const bool is_token = left_ > 0;
    float step = __uint_as_float(std::uint32_t{raw_} << 16) + bias_;
    if (softplus_) step = softplus(step);
    // Past the end nothing is added and nothing decays.
    step_ = is_token ? step : 0;
    sum_ = step_ * rate_;
#pragma unroll
    for (int distance = 1; distance < warp_size; distance *= 2) {
      const float before = __shfl_up_sync(~0u, sum_, distance);
      if (warp::lane() >= distance) sum_ += before;
    }
    total_ = __shfl_sync(~0u, sum_, warp_size - 1);
    left_ -= chunk_tokens;
    from_ += stride_;
    read();
  }

  /// s_i, dt_i and 2^(s_31 - s_i) dt_i of a token.
  /// Called by: one warp
  __device__ float sum(int token) const {
    return __shfl_sync(~0u, sum_, token);
  }
  /// Called by: one warp
  __device__ float step(int token) const {
    return __shfl_sync(~0u, step_, token);
  }
  /// Called by: one warp
  __device__ float weight(int token) const {
    return __shfl_sync(~0u, step_ * ptx::ex2(total_ - sum_), token);
  }
  /// s_31.
  /// Called by: one thread
  __device__ float total() const {
    return total_;
  }

 private:
  static constexpr float log2e = 1.44269504088896f;

  /// Called by: one thread
  __device__ void read() {
    if (left_ > 0) raw_ = from_->bits;
  }

  const bf16* from_;
  std::int64_t stride_;
  int left_;  // tokens from this lane's on
  float rate_, bias_;
  bool softplus_;
  std::uint16_t raw_ = 0;
  float step_ = 0, sum_ = 0, total_ = 0;
};

/// 32 rows of a head's S and some of its columns, in registers.
template <int HeadDim, int StateDim>
class warp_state {
 public:
  using shape = config<HeadDim, StateDim>;

  /// From `from`, rows StateDim elements apart; null: zero. Called by: one warp
  __device__ void load(const float* from) {
    if (from == nullptr) return;
    for_each(from, [](const float2& pair, float& left, float& right) {
      left = pair.x;
      right = pair.y;
    });
  }
  /// Called by: one warp
  __device__ void store(float* to) {
    for_each(to, [](float2& pair, float left, float right) { pair = {left, right}; });
  }

  /// Columns 16 step .. of a block of sixteen rows, rounded, as the right operand of a product
  /// over columns.
  /// Called by: one warp
  __device__ right_slice rounded(int block, int step) const {
    return warp::as_right(to_bf16(s_[block], step));
  }

  /// S = decay S + X^T B, X^T [32 x 32] being weighted. Called by: one warp
  template <class Tile>
  __device__ void advance(float decay, const operand_slice (&x)[token_blocks][row_blocks],
                          const Tile& b, int first_column) {
#pragma unroll
    for (int r = 0; r < row_blocks; ++r) {
#pragma unroll
      for (float& value : s_[r].value) value *= decay;
    }
#pragma unroll
    for (int j = 0; j < token_blocks; ++j) {
#pragma unroll
      for (int k = 0; k < shape::steps; ++k) {
        const right_slice right = warp::load_transposed_right(b, 16 * j, first_column + 16 * k);
#pragma unroll
        for (int r = 0; r < row_blocks; ++r) warp::mma_ABt(s_[r], k, x[j][r], right);
      }
    }
  }

 private:
  /// Called by: one warp
  template <class Pointer, class Function>
  __device__ void for_each(Pointer rows, Function f) {
    using pair_type = std::conditional_t<std::is_same_v<Pointer, float*>, float2, const float2>;
    const int g = warp::lane() / 4, t = warp::lane() % 4;
    rows += g * StateDim + 2 * t;
#pragma unroll
    for (int r = 0; r < row_blocks; ++r) {
#pragma unroll
      for (int e = 0; e < s_[r].size; e += 2) {
        const int row = 16 * r + e % 4 / 2 * 8, column = e / 4 * 8;
        f(*reinterpret_cast<pair_type*>(rows + row * StateDim + column), s_[r].value[e],
          s_[r].value[e + 1]);
      }
    }
  }

  accumulator_tile<shape::warp_columns> s_[row_blocks] = {};
};

/// X^T of a head's chunk, [32 rows x 32 tokens], as left operands.
/// Called by: one warp
template <class Tile>
__device__ inline void load_inputs(operand_slice (&x)[token_blocks][row_blocks], const Tile& tile,
                                   int first_row) {
#pragma unroll
  for (int j = 0; j < token_blocks; ++j) {
#pragma unroll
    for (int r = 0; r < row_blocks; ++r) {
      x[j][r] = warp::load_transposed(tile, 16 * j, first_row + 16 * r);
    }
  }
}

/// X^T times its tokens' weights.
/// Called by: one warp
__device__ inline void weigh(operand_slice (&x)[token_blocks][row_blocks],
                             const chunk_steps& steps) {
  const int t = warp::lane() % 4;
#pragma unroll
  for (int j = 0; j < token_blocks; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = 16 * j + 8 * half + 2 * t;
      const float even = steps.weight(token), odd = steps.weight(token + 1);
#pragma unroll
      for (int r = 0; r < row_blocks; ++r) {
#pragma unroll
        for (int word = 2 * half; word < 2 * half + 2; ++word) {
          std::uint32_t& pair = x[j][r].word[word];
          pair = ptx::to_bf16x2(ptx::low_half(pair) * even, ptx::high_half(pair) * odd);
        }
      }
    }
  }
}

/// Starts the copies of a CTA's chunks, in order.
template <int HeadDim, int StateDim>
class chunk_loader {
 public:
  using place = warp_place<HeadDim, StateDim>;

  /// Called by: one thread
  __device__ explicit chunk_loader(const place& at) : at_(at) {}

  /// Rows of B or C. Called by: one block
  template <class Tile>
  __device__ void load(Tile& to, const sequence_view<const bf16>& from, int chunk) const {
    load(to, from, at_.group, chunk);
  }
  /// X of each of the CTA's heads. Called by: one block
  template <class Tile, int Heads>
  __device__ void load(Tile (&to)[Heads], const sequence_view<const bf16>& from, int chunk) const {
#pragma unroll
    for (int i = 0; i < Heads; ++i)
      load(to[i], from, min(at_.first_head + i, at_.last_head), chunk);
  }

 private:
  template <class Tile>
  __device__ void load(Tile& to, const sequence_view<const bf16>& from, int head, int chunk) const {
    const int token = chunk * chunk_tokens;
    block::load_async<threads>(to, from.token(at_.batch, head, at_.first_token + token),
                               from.token_stride, at_.tokens - token);
  }

  const place& at_;
};

/// `Ahead`: C B^T is computed a chunk ahead, so that one barrier a chunk will do, for more memory.
template <int HeadDim, int StateDim, bool Ahead>
struct shared_storage {
  using shape = config<HeadDim, StateDim>;
  static constexpr int stages = Ahead ? 3 : 2;                  // of C
  static constexpr int b_stages = Ahead ? 4 : 2;                // of B
  static constexpr int buffers = Ahead ? 2 : 1;                 // of what one chunk has
  padded_tile<chunk_tokens, StateDim> b[b_stages];              // [32 x S]
  padded_tile<chunk_tokens, StateDim> c[stages];                // [32 x S]
  padded_tile<chunk_tokens, HeadDim> x[buffers][shape::heads];  // [32 x P]
  score_sums scores[buffers];
  // What a warp has of Y for the other warp's tokens, lane by lane.
  float4 parts[buffers][shape::column_parts > 1 ? warps : 1][4][warp_size];
};

/// One of two slices, chosen word by word: a chosen reference would put both into local memory.
/// Called by: one thread
__device__ inline operand_slice select(bool first, const operand_slice& a, const operand_slice& b) {
  operand_slice chosen;
#pragma unroll
  for (int i = 0; i < 4; ++i) chosen.word[i] = first ? a.word[i] : b.word[i];
  return chosen;
}

/// C B^T of a chunk, sixteen rows and columns a warp, to `to`. Called by: one warp
template <class Tile>
__device__ inline void score(score_sums& to, const Tile& c, const Tile& b, int warp) {
  const int block = warp % score_blocks, part = warp / score_blocks;
  if (part >= score_parts) return;
  constexpr int columns = Tile::cols / score_parts;
  // Two sums, of every other sixteen columns: a product need not wait for the one before it.
  accumulator_tile<16> sums[2] = {};
#pragma unroll
  for (int column = 0; column < columns; column += 16) {
    const operand_slice left = warp::load_left(c, block == 0 ? 0 : 16, part * columns + column);
    const right_slice right = warp::load_right(b, block == 2 ? 16 : 0, part * columns + column);
    warp::mma_ABt(sums[column / 16 % 2], 0, left, right);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] = sums[0].value[4 * half + e] + sums[1].value[4 * half + e];
    to[part][block][half][warp::lane()] = {sum[0], sum[1], sum[2], sum[3]};
  }
}

/// Y of a warp's rows of S, [32 tokens x 32].
template <int HeadDim, int StateDim>
class warp_output {
 public:
  using shape = config<HeadDim, StateDim>;
  using place = warp_place<HeadDim, StateDim>;

  /// Y = 2^s (C S^T). Called by: one warp
  template <class Tile>
  __device__ void contract(const Tile& c, const place& at,
                           const warp_state<HeadDim, StateDim>& state, const chunk_steps& steps) {
#pragma unroll
    for (auto& block : y_) clear(block);
#pragma unroll
    for (int k = 0; k < shape::steps; ++k) {
      operand_slice left[token_blocks];
#pragma unroll
      for (int i = 0; i < token_blocks; ++i) {
        left[i] = warp::load_left(c, 16 * i, at.first_column + 16 * k);
      }
#pragma unroll
      for (int r = 0; r < row_blocks; ++r) {
        const right_slice right = state.rounded(r, k);
#pragma unroll
        for (int i = 0; i < token_blocks; ++i) warp::mma_ABt(y_[i], r, left[i], right);
      }
    }
    const int g = warp::lane() / 4;
#pragma unroll
    for (int i = 0; i < token_blocks; ++i) {
      scale_rows(y_[i], {ptx::ex2(steps.sum(16 * i + g)), ptx::ex2(steps.sum(16 * i + g + 8))});
    }
  }

  /// Y += W X. Where two warps share the rows, each takes the tokens of one block of X.
  /// Called by: one warp
  __device__ void add_chunk(const score_sums& scores, const place& at, const chunk_steps& steps,
                            const operand_slice (&x)[token_blocks][row_blocks]) {
    if constexpr (shape::column_parts > 1) {
      operand_slice own[row_blocks];
#pragma unroll
      for (int r = 0; r < row_blocks; ++r) own[r] = select(at.column_part == 0, x[0][r], x[1][r]);
      add_block(scores, at.column_part, steps, own);
    } else {
#pragma unroll
      for (int j = 0; j < token_blocks; ++j) add_block(scores, j, steps, x[j]);
    }
  }

  /// Y += D X, of the tokens that this warp writes. Called by: one warp
  template <class Tile>
  __device__ void add_skip(const Tile& x, const place& at, float d) {
    for_each(
        [&](int row, int column, float& left, float& right) {
          const auto word = x.template load<std::uint32_t>(row, at.first_row + column);
          left = fmaf(d, ptx::low_half(word), left);
          right = fmaf(d, ptx::high_half(word), right);
        },
        at);
  }

  /// Hands over what this warp has of the tokens that the other one writes. Called by: one warp
  template <class Parts>
  __device__ void hand_over(Parts& parts, const place& at) {
    if constexpr (shape::column_parts > 1) {
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        float4 part;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& own = y_[0].value[4 * q + e];
          const float other = y_[1].value[4 * q + e];
          reinterpret_cast<float*>(&part)[e] = at.column_part == 0 ? other : own;
          own = at.column_part == 0 ? own : other;
        }
        parts[at.warp][q][warp::lane()] = part;
      }
    }
  }

  /// Takes over the other warp's part of what this warp writes: after a barrier.
  /// Called by: one warp
  template <class Parts>
  __device__ void take_over(const Parts& parts, const place& at) {
    if constexpr (shape::column_parts > 1) {
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const float4 part = parts[at.warp ^ 1][q][warp::lane()];
        y_[0].value[4 * q] += part.x;
        y_[0].value[4 * q + 1] += part.y;
        y_[0].value[4 * q + 2] += part.z;
        y_[0].value[4 * q + 3] += part.w;
      }
    }
  }

  /// Reads the gate of the tokens that this warp writes. Called by: one warp
  __device__ void load_gate(const parameters& p, const place& at, int chunk) {
    if (!p.gate) return;
    for_each_row(p.z, at, chunk, [&](const bf16* from, int i, int half) {
      gate_[i][half] = from == nullptr ? uint4{} : *reinterpret_cast<const uint4*>(from);
    });
  }

  /// Writes them, gated. Called by: one warp
  __device__ void store(const parameters& p, const place& at, int chunk) {
    if (!at.is_own) return;
    if (p.gate) apply_gate();
    for_each_row(p.y, at, chunk, [&](bf16* to, int i, int half) {
      std::uint32_t words[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float* const pair = y_[i].value + 4 * n + 2 * half;
        words[n] = ptx::to_bf16x2(pair[0], pair[1]);
      }
      warp::transpose_quads(words);
      if (to != nullptr) {
        *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
      }
    });
  }

 private:
  /// Called by: one thread
  __device__ static float silu(float z) {
    constexpr float log2e = 1.44269504088896f;
    return __fdividef(z, 1 + ptx::ex2(-z * log2e));
  }

  /// Y *= silu(z), of the tokens that this warp writes. Called by: one warp
  __device__ void apply_gate() {
#pragma unroll
    for (int i = 0; i < shape::out_blocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4& z = gate_[i][half];
        std::uint32_t gate[4] = {z.x, z.y, z.z, z.w};
        warp::transpose_quads(gate);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          float* const pair = y_[i].value + 4 * n + 2 * half;
          pair[0] *= silu(ptx::low_half(gate[n]));
          pair[1] *= silu(ptx::high_half(gate[n]));
        }
      }
    }
  }

  /// Y += W X of block j of X. Called by: one warp
  __device__ void add_block(const score_sums& scores, int j, const chunk_steps& steps,
                            const operand_slice (&x)[row_blocks]) {
    const int t = warp::lane() % 4;
    float sums[4], token_steps[4];  // of the columns of W that this lane holds
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = 16 * j + e / 2 * 8 + 2 * t + e % 2;
      sums[e] = steps.sum(token);
      token_steps[e] = steps.step(token);
    }
#pragma unroll
    for (int i = 0; i < token_blocks; ++i) {
      if (i < j) continue;
      const operand_slice w = weights(scores, i, j, steps, sums, token_steps);
#pragma unroll
      for (int r = 0; r < row_blocks; ++r) {
        warp::mma_ABt(y_[i], r, w, warp::as_right(x[r]));
      }
    }
  }

  /// W of blocks i of rows and j of columns, as a left operand. Called by: one warp
  __device__ static operand_slice weights(const score_sums& scores, int i, int j,
                                          const chunk_steps& steps, const float (&sums)[4],
                                          const float (&token_steps)[4]) {
    const int g = warp::lane() / 4, t = warp::lane() % 4;
    accumulator_tile<16> w;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 one = scores[0][i + j][half][warp::lane()];
      const float4 other = scores[1][i + j][half][warp::lane()];
      w.value[4 * half] = one.x + other.x;
      w.value[4 * half + 1] = one.y + other.y;
      w.value[4 * half + 2] = one.z + other.z;
      w.value[4 * half + 3] = one.w + other.w;
    }
    const float row_sums[2] = {steps.sum(16 * i + g), steps.sum(16 * i + g + 8)};
#pragma unroll
    for (int e = 0; e < w.size; ++e) {
      const int column = e / 4 * 2 + e % 2;  // of this lane's four
      const int row = g + e % 4 / 2 * 8;
      const bool is_seen = i > j || e / 4 * 8 + 2 * t + e % 2 <= row;
      const float difference = row_sums[e % 4 / 2] - sums[column];
      w.value[e] *= token_steps[column] * ptx::ex2(is_seen ? difference : -INFINITY);
    }
    return to_bf16(w, 0);
  }

  /// Calls f(token, column, left, right) for each pair of neighbours that this warp writes and this
  /// lane holds. Called by: one warp
  template <class Function>
  __device__ void for_each(Function f, const place& at) {
    const int g = warp::lane() / 4, t = warp::lane() % 4;
    const int first = shape::column_parts > 1 ? 16 * at.column_part : 0;
#pragma unroll
    for (int i = 0; i < shape::out_blocks; ++i) {
#pragma unroll
      for (int e = 0; e < y_[i].size; e += 2) {
        f(first + 16 * i + e % 4 / 2 * 8 + g, e / 4 * 8 + 2 * t, y_[i].value[e],
          y_[i].value[e + 1]);
      }
    }
  }

  /// Calls f(address, i, half) for each row of y_[i] that this warp writes and this lane shares:
  /// of a tensor like Y, the address of the lane's quarter of the row's 32 elements; null past the
  /// end. Called by: one warp
  template <class T, class Function>
  __device__ void for_each_row(const sequence_view<T>& tensor, const place& at, int chunk,
                               Function f) {
    const int first_token =
        chunk * chunk_tokens + (shape::column_parts > 1 ? 16 * at.column_part : 0);
    const int token = first_token + warp::lane() / 4;
    T* const rows = tensor.token(at.batch, at.head, at.first_token + token) + at.first_row +
                    warp::lane() % 4 * 8;
#pragma unroll
    for (int i = 0; i < shape::out_blocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = 16 * i + 8 * half;
        f(token + row < at.tokens ? rows + row * tensor.token_stride : nullptr, i, half);
      }
    }
  }

  accumulator_tile<warp_rows> y_[token_blocks];
  uint4 gate_[shape::out_blocks][2] = {};
};

template <int HeadDim, int StateDim, bool Ahead>
__global__ void __launch_bounds__(threads, 1) forward_kernel(const __grid_constant__ parameters p) {
  using shape = config<HeadDim, StateDim>;
  using storage = shared_storage<HeadDim, StateDim, Ahead>;
  constexpr int stages = storage::stages, b_stages = storage::b_stages;
  constexpr int buffers = storage::buffers;
  extern __shared__ uint4 shared_bytes[];
  auto& shared = *reinterpret_cast<storage*>(shared_bytes);
  const warp_place<HeadDim, StateDim> at(p);
  const chunk_loader<HeadDim, StateDim> loader(at);
  const auto load_rows = [&](int chunk) {
    if (chunk >= at.chunks) return;
    loader.load(shared.b[chunk % b_stages], p.b, chunk);
    loader.load(shared.c[chunk % stages], p.c, chunk);
  };
  const auto load_inputs_of = [&](int chunk) {
    if (chunk < at.chunks) loader.load(shared.x[chunk % buffers], p.x, chunk);
  };
  const auto score_chunk = [&](int chunk) {
    score(shared.scores[chunk % buffers], shared.c[chunk % stages], shared.b[chunk % b_stages],
          at.warp);
  };
  load_rows(0);
  if constexpr (Ahead) {
    block::commit_loads();
    load_inputs_of(0);
    load_rows(1);
  }
  block::commit_loads();

  chunk_steps steps(p, at);
  warp_state<HeadDim, StateDim> state;  // [32 x 128]
  if (p.start != nullptr) state.load(p.start + at.state_offset(p, p.segments, at.segment));
  warp_output<HeadDim, StateDim> y;  // [32 x 32]
  const auto finish = [&](int chunk) {
    y.take_over(shared.parts[chunk % buffers], at);
    y.store(p, at, chunk);
  };
  if constexpr (Ahead) {
    block::wait_loads<1>();
    __syncthreads();
    score_chunk(0);
  }

  const auto enter = [&](int chunk) {
    block::wait_loads<0>();
    __syncthreads();  // what was loaded is here; what the loads below write is no longer read
    load_inputs_of(Ahead ? chunk + 1 : chunk);
    if constexpr (!Ahead) block::commit_loads();
    load_rows(Ahead ? chunk + 2 : chunk + 1);
    block::commit_loads();
  };
  // The second of two warps on a scheduler adds a chunk to S behind the next barrier: while one has
  // S to multiply, the other has Y to finish and W to make.
  const bool is_late = Ahead && at.warp >= warps / 2;
  operand_slice x[token_blocks][row_blocks];  // X^T [32 x 32]
  const auto add_to_state = [&](int chunk) {
    const float decay = ptx::ex2(steps.total());
    // The sums of the next chunk's steps have nothing to do but wait: best beside products.
    if constexpr (Ahead) steps.advance();
    state.advance(decay, x, shared.b[chunk % b_stages], at.first_column);
  };
  if constexpr (Ahead) steps.advance();
#pragma unroll 1
  for (int chunk = 0; chunk < at.chunks; ++chunk) {
    const int buffer = chunk % buffers;
    enter(chunk);
    if (is_late && chunk > 0) add_to_state(chunk - 1);
    if (shape::column_parts > 1 && chunk > 0) finish(chunk - 1);
    if constexpr (!Ahead) steps.advance();
    if (!Ahead || chunk + 1 < at.chunks) score_chunk(Ahead ? chunk + 1 : chunk);
    y.contract(shared.c[chunk % stages], at, state, steps);
    if constexpr (!Ahead) {
      block::wait_loads<1>();
      __syncthreads();  // X and C B^T are here
    }
    if (shape::column_parts == 1) y.load_gate(p, at, chunk);
    const auto& inputs = shared.x[buffer][at.slot];  // [32 x P]
    load_inputs(x, inputs, at.first_row);
    y.add_chunk(shared.scores[buffer], at, steps, x);
    y.hand_over(shared.parts[buffer], at);
    if (p.d != nullptr) y.add_skip(inputs, at, p.d[at.head]);
    if (shape::column_parts == 1) {
      y.store(p, at, chunk);
    } else {
      y.load_gate(p, at, chunk);
    }
    weigh(x, steps);
    if (!is_late) add_to_state(chunk);
  }
  if (is_late) add_to_state(at.chunks - 1);
  if constexpr (shape::column_parts > 1) {
    __syncthreads();
    finish(at.chunks - 1);
  }
  if (p.end != nullptr && at.segment == p.segments - 1 && at.is_own) {
    state.store(p.end + at.state_offset(p, 1, 0));
  }
}

template <int HeadDim, int StateDim>
struct states_storage {
  static constexpr int stages = 2;
  padded_tile<chunk_tokens, StateDim> b[stages];                                   // [32 x S]
  padded_tile<chunk_tokens, HeadDim> x[stages][config<HeadDim, StateDim>::heads];  // [32 x P]
};

/// The states of segments by themselves, from zero, and their decays. Grid as forward_kernel's; the
/// last segment's is of no use.
template <int HeadDim, int StateDim>
__global__ void __launch_bounds__(threads, 1)
    segment_states_kernel(const __grid_constant__ parameters p) {
  constexpr int stages = states_storage<HeadDim, StateDim>::stages;
  extern __shared__ uint4 shared_bytes[];
  auto& shared = *reinterpret_cast<states_storage<HeadDim, StateDim>*>(shared_bytes);
  const warp_place<HeadDim, StateDim> at(p);
  if (at.segment == p.segments - 1) return;
  const chunk_loader<HeadDim, StateDim> loader(at);
  const auto load_next = [&](int chunk) {
    if (chunk < at.chunks) {
      loader.load(shared.b[chunk % stages], p.b, chunk);
      loader.load(shared.x[chunk % stages], p.x, chunk);
    }
    block::commit_loads();
  };
  load_next(0);
  chunk_steps steps(p, at);
  warp_state<HeadDim, StateDim> state;
  float decay = 0;  // an exponent
#pragma unroll 1
  for (int chunk = 0; chunk < at.chunks; ++chunk) {
    const int stage = chunk % stages;
    block::wait_loads<0>();
    __syncthreads();
    load_next(chunk + 1);
    steps.advance();
    decay += steps.total();
    operand_slice x[token_blocks][row_blocks];
    load_inputs(x, shared.x[stage][at.slot], at.first_row);
    weigh(x, steps);
    state.advance(ptx::ex2(steps.total()), x, shared.b[stage], at.first_column);
  }
  if (!at.is_own) return;
  state.store(p.segment_states + at.state_offset(p, p.segments, at.segment));
  if (at.first_row == 0 && at.first_column == 0 && warp::lane() == 0) {
    const std::int64_t batch_head = std::int64_t{at.batch} * p.heads + at.head;
    p.segment_decays[batch_head * p.segments + at.segment] = decay;
  }
}

}  // namespace based::ssd_sm80
