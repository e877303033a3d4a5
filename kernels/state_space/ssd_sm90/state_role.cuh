// A warpgroup that keeps states in its registers, and works out what is read from them.
#pragma once

#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/ptx/stmatrix.cuh"
#include "kernels/ptx/tanh.cuh"
#include "kernels/state_space/ssd_sm90/config.cuh"

namespace based::ssd_sm90 {

/// `Gated`: y is multiplied by silu(z). `StatesOnly`: only the states after the chunks are wanted.
template <class Config, bool Gated, bool StatesOnly>
class state_role {
  using storage = shared_storage<Config>;
  using token_tile = typename storage::token_tile;
  using part = accumulator_tile<part_cols>;
  using output = accumulator_tile<chunk_tokens>;     // Y^T [64 x 64]
  using token_operand = operand_tile<chunk_tokens>;  // x^T [64 x 64]
  static constexpr int parts_of_slice = Config::parts_of_slice;

 public:
  /// `warp`: of the warpgroup.
  /// Called by: one thread
  __device__ state_role(storage& shared, const parameters& p, int group, int warp)
      : shared_(shared), p_(p), group_(group), warp_(warp) {}

  /// Called by: one warpgroup
  __device__ void run() {
    load_states();
#pragma unroll 1
    for (int chunk = shared_.range.first; chunk < ptx::opaque(shared_.range.last); ++chunk) {
      shared_.decay_ring.wait_full(stage_);
      work_on<0>();
      if constexpr (Config::slices_of_group > 1) work_on<1>();
      shared_.decay_ring.release(stage_);
      stage_.advance();
    }
    store_states();
  }

 private:
  /// Called by: one thread
  __device__ int slice_of(int k) const {
    return Config::state_groups * k + group_;
  }
  /// Called by: one thread
  __device__ typename Config::weight_position weights_at(int slice) const {
    return Config::weights_at(stage_, ptx::opaque(slice));
  }

  /// One slice's tokens of a chunk.
  /// Called by: one warpgroup
  template <int K>
  __device__ void work_on() {
    constexpr bool is_last = K == Config::slices_of_group - 1;
    const int slice = slice_of(K);
    const chunk_decays<Config::slices>& decays = shared_.decays[stage_.buffer];
    token_tile& x = shared_.x[stage_.buffer][slice];
    output y;
    if constexpr (!StatesOnly) {
      if (K == 0) shared_.c_ring.wait_full(stage_);
      read_state<K>(y);
      warpgroup::mma_wait<0>(y);
      if (is_last) shared_.c_ring.warp_release(stage_);
    }
    if (K == 0) shared_.x_ring.wait_full(stage_);
    token_operand added = load_tokens(x);
    scale(added, decays.later[slice]);
    const float kept = decays.kept[slice];
    if (K == 0) shared_.b_ring.wait_full(stage_);
    add_tokens<K>(added, kept);
    if constexpr (!StatesOnly) scale(y, decays.earlier[slice]);
    wait_for_tokens<K>();
    if (is_last) shared_.b_ring.warp_release(stage_);
    if constexpr (!StatesOnly) {
      shared_.weight_ring.wait_full(weights_at(slice));
      if (p_.chunks == 1) scale(y, shared_.inverse_divisors[slice]);
      add_pairs(y, x, slice);
      token_operand z;
      if constexpr (Gated) {  // behind the products of W
        shared_.z_loaded[slice].wait(Config::parity_of(stage_));
        z = load_tokens(shared_.z[slice]);
      }
      warpgroup::mma_wait<0>(y);
      if (p_.chunks == 1) scale(y, shared_.divisors[slice]);
      if constexpr (Gated) gate(y, z);
      shared_.weight_ring.warp_release(weights_at(slice));
    }
    if constexpr (StatesOnly) {
      if (is_last) shared_.x_ring.warp_release(stage_);
    } else {
      store_output(y, x);
      shared_.y_written[stage_.buffer][slice].warp_arrive();
    }
  }

  /// The first part of slice K's.
  template <int K>
  static constexpr int first_part = K* parts_of_slice;

  /// Starts Y^T = S C^T, S rounded. The slices of S on their way to the tensor cores are few, for
  /// each takes registers.
  /// Called by: one warpgroup
  template <int K>
  __device__ void read_state(output& y) {
    constexpr int steps_of_part = part_cols / 16, batch = 2;
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) {
      const auto& c = shared_.c[stage_.buffer][i];
#pragma unroll
      for (int step = 0; step < steps_of_part; step += batch) {
        operand_slice rounded[batch];
#pragma unroll
        for (int j = 0; j < batch; ++j) {
          rounded[j] = to_bf16(state_[first_part<K> + i], step + j);
        }
        warpgroup::mma_fence();
#pragma unroll
        for (int j = 0; j < batch; ++j) {
          if (i == 0 && step + j == 0) {
            warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(y, rounded[j], c, step + j);
          } else {
            warpgroup::mma_ABt(y, rounded[j], c, step + j);
          }
        }
        warpgroup::mma_commit();
        if (i < parts_of_slice - 1 || step < steps_of_part - batch) warpgroup::mma_wait<0>(y);
      }
    }
  }

  /// Called by: one thread
  template <int K>
  __device__ void scale_state(float factor) {
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) {
      scale_rows(state_[first_part<K> + i], {factor, factor});
    }
  }

  /// Starts S = kept S + (x later)^T B.
  /// Called by: one warpgroup
  template <int K>
  __device__ void add_tokens(const token_operand& added, float kept) {
    if (kept != 1) scale_state<K>(kept);
    warpgroup::mma_fence(state_[first_part<K>], state_[first_part<K> + parts_of_slice - 1]);
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) {
      warpgroup::mma_AB(state_[first_part<K> + i], added, shared_.b[stage_.buffer][i]);
    }
    warpgroup::mma_commit();
  }

  /// Starts Y^T += x^T W^T.
  /// Called by: one warpgroup
  __device__ void add_pairs(output& y, const token_tile& x, int slice) {
    const token_operand tokens = load_tokens(x);
    warpgroup::mma_fence(y);
    warpgroup::mma_ABt(y, tokens, shared_.weights[weights_at(slice).buffer]);
    warpgroup::mma_commit();
  }

  /// Called by: one warpgroup
  template <int K>
  __device__ void wait_for_tokens() {
    warpgroup::mma_wait<0>(state_[first_part<K>], state_[first_part<K> + parts_of_slice - 1]);
  }

  /// Where this lane reads or writes a tile for the transpose of this warp's columns. An address is
  /// not worth a register.
  /// Called by: one thread
  __device__ const char* transposing(const token_tile& tile) const {
    const int lane = ptx::opaque<int>(threadIdx.x) % warp_size;
    const int row = token_tile::layout::offset(lane / 16 * 8 + lane % 8, 0);
    // The columns' bytes flip bits of the row's.
    return reinterpret_cast<const char*>(tile.elements) + (row ^ (32 * warp_ + lane / 8 % 2 * 16));
  }
  /// Tokens 16 step .. of what `from` reads: rows of the transpose as a left operand.
  /// Called by: one warp
  __device__ static operand_slice load_transposed(const char* from, int step) {
    operand_slice slice;
    ptx::ldmatrix_x4_trans(slice.word, from + token_tile::layout::offset(16 * step, 0));
    return slice;
  }
  /// This warp's rows of the transpose of a tile.
  /// Called by: one warpgroup
  __device__ token_operand load_tokens(const token_tile& tile) const {
    const char* const from = transposing(tile);
    token_operand loaded;
#pragma unroll
    for (int i = 0; i < loaded.slices; ++i) loaded.slice[i] = load_transposed(from, i);
    return loaded;
  }

  /// The factors of the two tokens whose columns of eight this thread holds.
  /// Called by: one thread
  __device__ static float2 factors_of(const float (&factors)[chunk_tokens], int eight) {
    return *reinterpret_cast<const float2*>(&factors[8 * eight + 2 * (warp::lane() % 4)]);
  }

  /// Multiplies each column with its token's factor.
  /// Called by: one thread
  __device__ static void scale(token_operand& tile, const float (&factors)[chunk_tokens]) {
#pragma unroll
    for (int i = 0; i < chunk_tokens / 8; ++i) {
      const float2 factor = factors_of(factors, i);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        std::uint32_t& word = tile.slice[i / 2].word[i % 2 * 2 + row];
        word = ptx::to_bf16x2(ptx::low_half(word) * factor.x, ptx::high_half(word) * factor.y);
      }
    }
  }
  /// Called by: one thread
  __device__ static void scale(output& tile, const float (&factors)[chunk_tokens]) {
#pragma unroll
    for (int i = 0; i < chunk_tokens / 8; ++i) {
      const float2 factor = factors_of(factors, i);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        tile.value[4 * i + 2 * row] *= factor.x;
        tile.value[4 * i + 2 * row + 1] *= factor.y;
      }
    }
  }

  /// x silu(z).
  /// Called by: one thread
  __device__ static float gated(float x, float z) {
    const float half = 0.5f * z;
    return x * fmaf(half, ptx::tanh(half), half);
  }

  /// Puts Y, rounded, in the place of x: in columns that no other warp reads.
  /// Called by: one warp
  __device__ void store_output(const output& y, token_tile& to) const {
    const std::uint32_t at = ptx::shared_address(transposing(to));
    __syncwarp();  // all lanes have read x
#pragma unroll
    for (int i = 0; i < chunk_tokens / 16; ++i) {
      ptx::stmatrix_x4<true>(at + token_tile::layout::offset(16 * i, 0), to_bf16(y, i).word);
    }
    ptx::fence_proxy_async();
  }

  /// Y^T = Y^T silu(Z^T).
  /// Called by: one thread
  __device__ static void gate(output& y, const token_operand& z) {
#pragma unroll
    for (int i = 0; i < output::size; i += 2) {
      const std::uint32_t word = z.slice[i / 8].word[i % 8 / 2];
      y.value[i] = gated(y.value[i], ptx::low_half(word));
      y.value[i + 1] = gated(y.value[i + 1], ptx::high_half(word));
    }
  }

  /// Where the state before (after) the CTA's chunks is handed over among the segments.
  /// Called by: one thread
  __device__ float4* partial_state(const slice_place& place, int segment) const {
    constexpr int units = slice_dim * Config::state_dim / 4;
    return p_.partial_states + (place.index * (p_.segments - 1) + segment) * units;
  }

  /// f(value, row, col) for pairs of neighbours of this thread's in slice K's state [64 x S].
  /// Called by: one thread
  template <int K, class Function>
  __device__ void for_each_pair(Function f) {
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) {
#pragma unroll
      for (int j = 0; j < part::size; j += 2) {
        const int row = 16 * warp_ + warp::lane() / 4 + j % 4 / 2 * 8;
        const int col = part_cols * i + j / 4 * 8 + warp::lane() % 4 * 2;
        float* const value = state_[first_part<K> + i].value + j;
        f(value, row * Config::state_dim + col);
      }
    }
  }
  /// f(value, unit) for fours of this thread's in slice K's state, in an order of their own.
  /// Called by: one thread
  template <int K, class Function>
  __device__ void for_each_four(Function f) {
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) {
#pragma unroll
      for (int j = 0; j < part::size; j += 4) {
        const int unit = (i * part::size + j) / 4 * warpgroup::threads + warpgroup::thread();
        f(state_[first_part<K> + i].value + j, unit);
      }
    }
  }

  /// Called by: one warpgroup
  template <int K>
  __device__ void load_state() {
    const slice_place place(p_, shared_.range, slice_of(K));
#pragma unroll
    for (int i = 0; i < parts_of_slice; ++i) clear(state_[first_part<K> + i]);
    if constexpr (StatesOnly) return;  // the pass begins with the initial state
    if (shared_.range.segment > 0) {
      const float4* const from = partial_state(place, shared_.range.segment - 1);
      for_each_four<K>([&](float* value, int unit) {
        const float4 four = __ldcg(from + unit);
        value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
      });
    } else if (p_.initial_state != nullptr) {
      const float* const from = p_.initial_state + place.index * slice_dim * Config::state_dim;
      for_each_pair<K>([&](float* value, int at) {
        const auto two = *reinterpret_cast<const float2*>(from + at);
        value[0] = two.x, value[1] = two.y;
      });
    }
  }
  /// Called by: one warpgroup
  __device__ void load_states() {
    if (!StatesOnly && shared_.range.segment > 0) ptx::wait_for_prior_grid();
    load_state<0>();
    if constexpr (Config::slices_of_group > 1) load_state<1>();
  }

  /// Called by: one warpgroup
  template <int K>
  __device__ void store_state() {
    const slice_place place(p_, shared_.range, slice_of(K));
    if (!place.is_own) return;
    const int last_buffer = stage_.next(Config::stages - 1).buffer;
    scale_state<K>(shared_.decays[last_buffer].after[slice_of(K)]);
    if constexpr (StatesOnly) {
      float4* const to = partial_state(place, shared_.range.segment);
      for_each_four<K>([&](const float* value, int unit) {
        to[unit] = {value[0], value[1], value[2], value[3]};
      });
    } else if (p_.final_state != nullptr && shared_.range.last == p_.chunks) {
      float* const to = p_.final_state + place.index * slice_dim * Config::state_dim;
      for_each_pair<K>([&](const float* value, int at) {
        *reinterpret_cast<float2*>(to + at) = {value[0], value[1]};
      });
    }
  }
  /// Called by: one warpgroup
  __device__ void store_states() {
    store_state<0>();
    if constexpr (Config::slices_of_group > 1) store_state<1>();
  }

  storage& shared_;
  const parameters& p_;
  int group_, warp_;
  part state_[parts];
  ring_position<Config::stages> stage_;
};

}  // namespace based::ssd_sm90
