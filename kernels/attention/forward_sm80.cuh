// Softmax attention on mma.sync with a speculative maximum: device code.
//
//   S = Q K_j^T,   P = 2^(scale log2(e) S - m),   l += rowsum(P),   O += P V_j
//   O /= l
//
// for the tiles j of 64 keys that a block of 128 queries sees, last to first. m is a row's largest
// score in the first tile that the row sees, and then stays as it is: later tiles need no maximum
// and rescale nothing. That is exact, for softmax does not depend on m, and P and its sums have the
// range to differ from 1; only an overflow can hurt. So at the end the block votes, and where a sum
// is not small enough (infinities and NaN included) it starts again and follows the maximum from
// tile to tile, as FlashAttention does. Where that is not finite either, a third pass keeps what is
// no number to the rows that see it.
//
// Grid: tiles of 128 queries, the last first, heads, batch. Each of four warps owns 32
// queries, so that a block of K or V from shared memory serves two products; S, P and O never leave
// registers. Keys and values of the next tile are on their way while one is worked on: with head
// dimension 64 both, in a second buffer; with 128 by turns, the values behind Q K^T and the keys
// behind P V.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/padded_tile.cuh"
#include "kernels/core/tensor_view.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm80 {

inline constexpr int query_tile = 128;
inline constexpr int key_tile = 64;
inline constexpr int warps = 4;
inline constexpr int threads = warps * warp_size;
inline constexpr int warp_queries = query_tile / warps;
inline constexpr int row_blocks = warp_queries / 16;
inline constexpr int key_slices = key_tile / 16;

template <int HeadDim>
struct config {
  static constexpr int slices = HeadDim / 16;
  static constexpr int buffers = HeadDim == 64 ? 2 : 1;  // of keys and of values
  // Whether queries stay in registers: with head dimension 128 there is no room.
  static constexpr bool holds_queries = HeadDim == 64;
  static constexpr int blocks_per_multiprocessor = 2;
};

/// A row's sum of P that the speculative pass may have: far below fp32's largest. An element of P
/// that has left the range of T shows in O.
inline constexpr float largest_sum = 1e30f;

template <class T>
struct parameters {
  sequence_view<const T> q, k, v;  // [B, H, N, Dh], [B, Hkv, Nkv, Dh]
  sequence_view<T> o;              // [B, H, N, Dh]
  float* lse;                      // [B, H, N]; null: not wanted
  unsigned long long* redone;      // counts tiles of 64 queries that are worked on again
  int seqlen;
  int keys;
  int window;  // as large as `keys` where there is none
  int heads;
  int group;         // query heads that share a key head
  float log2_scale;  // the scores' scale times log2(e)
  bool causal;
};

/// The keys that a query sees: first .. last, none where that is empty.
struct key_range {
  int first, last;
};

/// Called by: one thread
template <class T>
__device__ inline key_range seen_by(const parameters<T>& p, int query) {
  const int last = p.causal ? query + p.keys - p.seqlen : p.keys - 1;
  return {max(last - p.window + 1, 0), last};
}

/// What a block works on.
struct query_block {
  int batch, head, key_head;
  int first;  // query
  int queries;

  /// Called by: one thread
  template <class T>
  __device__ explicit query_block(const parameters<T>& p) {
    batch = static_cast<int>(blockIdx.z);
    head = static_cast<int>(blockIdx.y);
    key_head = p.group == 1 ? head : head / p.group;
    const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x);
    first = tile * query_tile;
    queries = min(p.seqlen - first, query_tile);
  }
};

template <int HeadDim>
struct shared_storage {
  using key_rows = padded_tile<key_tile, HeadDim>;  // [64 x Dh]
  padded_tile<query_tile, HeadDim> q;               // [128 x Dh]
  key_rows k[config<HeadDim>::buffers];
  key_rows v[config<HeadDim>::buffers];
};

/// A warp's 32 queries, and what it has of them.
template <class T, int HeadDim>
class warp_rows {
 public:
  using storage = shared_storage<HeadDim>;
  static constexpr int slices = config<HeadDim>::slices;

  /// Called by: one warp
  __device__ explicit warp_rows(const query_block& block)
      : first_(block.first + warp::uniform_index() * warp_queries) {}

  /// Reads the queries, where they stay in registers. Called by: one warp
  __device__ void load_queries(const storage& shared) {
    if constexpr (config<HeadDim>::holds_queries) {
#pragma unroll
      for (int i = 0; i < slices; ++i) load_queries(shared, i);
    }
  }

  /// Forgets what was added. Called by: one warp
  __device__ void start() {
    is_frozen_ = false;
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      clear(o_[m]);
      sum_[m] = {0, 0};
    }
  }

  /// Whether any of the rows sees a key of the tile that starts with `key`. Called by: one warp
  __device__ bool sees(const parameters<T>& p, int key) const {
    return key <= of_last(p).last && key + key_tile > of_first(p).first;
  }

  /// Whether all of the rows see all keys of the tile that starts with `key`. Called by: one warp
  __device__ bool all_see_all(const parameters<T>& p, int key) const {
    return key + key_tile - 1 <= of_first(p).last && key >= of_last(p).first;
  }

  /// S = Q K^T, unscaled, minus infinity where a row does not see a key. Called by: one warp
  __device__ void score(const parameters<T>& p, const storage& shared, int buffer, int key) {
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) clear(s_[m]);
#pragma unroll
    for (int i = 0; i < slices; ++i) {
      if constexpr (!config<HeadDim>::holds_queries) load_queries(shared, i);
#pragma unroll
      for (int j = 0; j < key_slices; ++j) {
        const right_slice k = warp::load_right(shared.k[buffer], 16 * j, 16 * i);
#pragma unroll
        for (int m = 0; m < row_blocks; ++m) {
          warp::mma_ABt<T>(s_[m], j, q_[m][config<HeadDim>::holds_queries ? i : 0], k);
        }
      }
    }
    if (!all_see_all(p, key)) mask(p, key);
  }

  /// Before the exponentials of the first tiles: m of rows that see their first keys.
  /// Called by: one warp
  __device__ void freeze_offsets(const parameters<T>& p, int key) {
    if (is_frozen_) return;
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      const row_values tile = warp::row_max(fold_max(s_[m], {-INFINITY, -INFINITY}));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Tiles come last to first.
        const bool has_seen = seen_by(p, row(m, half)).last >= key + key_tile;
        const float own = offset_of(tile.value[half], p.log2_scale);
        if (!has_seen) offset_[m].value[half] = own;
      }
    }
    // If the first row sees this tile, every row has seen one.
    is_frozen_ = key <= of_first(p).last;
  }

  /// Before the exponentials of each tile: m is a row's largest score so far, and O and the sums
  /// follow it. Called by: one warp
  __device__ void raise_offsets(const parameters<T>& p) {
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      const row_values tile = warp::row_max(fold_max(s_[m], {-INFINITY, -INFINITY}));
      row_values corrections;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& offset = offset_[m].value[half];
        float& sum = sum_[m].value[half];
        // One of the threads that share a row has a part of the sum, if it has seen a key.
        const float before = warp::row_max(sum > 0 ? offset : -INFINITY);
        offset = fmaxf(before, tile.value[half] * p.log2_scale);
        if (offset == -INFINITY) offset = 0;
        corrections.value[half] = ptx::ex2(before - offset);
        sum *= corrections.value[half];
      }
      scale_rows(o_[m], corrections);
    }
  }

  /// P = 2^(scale S - m), O += P V. Called by: one warp
  __device__ void add(const parameters<T>& p, const storage& shared, int buffer) {
#pragma unroll
    for (int j = 0; j < key_slices; ++j) {
      operand_slice weights[row_blocks];  // [16 x 16]
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int e = 8 * j; e < 8 * j + 8; ++e) {
          const int half = e % 4 / 2;
          const float weight =
              ptx::ex2(fmaf(s_[m].value[e], p.log2_scale, -offset_[m].value[half]));
          sum_[m].value[half] += weight;
          s_[m].value[e] = weight;
        }
        weights[m] = to_operand<T>(s_[m], j);
      }
#pragma unroll
      for (int d = 0; d < slices; ++d) {
        const right_slice v = warp::load_transposed_right(shared.v[buffer], 16 * j, 16 * d);
#pragma unroll
        for (int m = 0; m < row_blocks; ++m) warp::mma_ABt<T>(o_[m], d, weights[m], v);
      }
    }
  }

  /// As add(), for a tile of which some rows see only a part, where a value may be no finite
  /// number: a weight of 0 times NaN is NaN, so keys that a row does not see are left out one by
  /// one. Slow; follows score() and raise_offsets(). Called by: one warp
  __device__ void add_what_is_seen(const parameters<T>& p, const storage& shared, int buffer,
                                   int key) {
    float weights[row_blocks][accumulator_tile<key_tile>::size];
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
      for (int e = 0; e < s_[m].size; ++e) {
        const int half = e % 4 / 2;
        weights[m][e] = ptx::ex2(fmaf(s_[m].value[e], p.log2_scale, -offset_[m].value[half]));
        sum_[m].value[half] += weights[m][e];
      }
    }
    const int g = warp::lane() / 4, t = warp::lane() % 4;
#pragma unroll 1
    for (int column = 0; column < key_tile; ++column) {
      const int owner = column % 8 / 2;  // of the four threads that share a row
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float own = weights[m][column / 8 * 4 + 2 * half + column % 2];
          const float weight = __shfl_sync(~0u, own, 4 * g + owner);
          const key_range seen = seen_by(p, row(m, half));
          if (key + column < seen.first || key + column > seen.last) continue;
#pragma unroll
          for (int e = 2 * half; e < o_[m].size; e += 4) {
            const auto word =
                shared.v[buffer].template load<std::uint32_t>(column, e / 4 * 8 + 2 * t);
            o_[m].value[e] += weight * low_element<T>(word);
            o_[m].value[e + 1] += weight * high_element<T>(word);
          }
        }
      }
    }
  }

  /// Sums up the rows; whether the sums of all are as small as the speculative pass wants them, and
  /// all outputs finite. Called by: one warp
  __device__ bool finish() {
    bool good = true;
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      sum_[m] = warp::row_sum(sum_[m]);
      good &= sum_[m].value[0] < largest_sum && sum_[m].value[1] < largest_sum;
      float zero = 0;  // stays that unless an output is infinite or NaN
#pragma unroll
      for (int e = 0; e < o_[m].size; ++e) zero = fmaf(o_[m].value[e], 0.0f, zero);
      good &= zero == 0;
    }
    return good;
  }

  /// Called by: one warp
  __device__ void store(const parameters<T>& p, const query_block& block) const {
    const int t = warp::lane() % 4;
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int query = row(m, half);
        if (query >= p.seqlen) continue;
        const key_range seen = seen_by(p, query);
        const bool sees_none = seen.last < seen.first;
        const float sum = sum_[m].value[half];
        // Where all scores that a row sees are minus infinity, O and the sum are 0, and 0 / 0 is
        // NaN.
        const float inverse = sees_none ? 0 : ptx::reciprocal(sum);
        T* const to = p.o.token(block.batch, block.head, query) + 2 * t;
#pragma unroll
        for (int e = 2 * half; e < o_[m].size; e += 4) {
          *reinterpret_cast<std::uint32_t*>(to + e / 4 * 8) =
              to_word<T>(o_[m].value[e] * inverse, o_[m].value[e + 1] * inverse);
        }
        if (p.lse != nullptr && t == 0) {
          constexpr float ln2 = 0.693147180559945f;
          float& lse = p.lse[(std::int64_t{block.batch} * p.heads + block.head) * p.seqlen + query];
          lse = sees_none  ? -INFINITY
                : sum == 0 ? NAN
                           : (offset_[m].value[half] + log2f(sum)) * ln2;
        }
      }
    }
  }

 private:
  /// What the warp's first query sees, and its last one. Called by: one thread
  __device__ key_range of_first(const parameters<T>& p) const {
    return seen_by(p, first_);
  }
  /// Called by: one thread
  __device__ key_range of_last(const parameters<T>& p) const {
    return seen_by(p, first_ + warp_queries - 1);
  }

  /// Reads 16 columns of the queries. Called by: one warp
  __device__ void load_queries(const storage& shared, int i) {
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      q_[m][config<HeadDim>::holds_queries ? i : 0] =
          warp::load_left(shared.q, first_ % query_tile + 16 * m, 16 * i);
    }
  }

  /// Sets the scores of keys that a row does not see to minus infinity. Called by: one warp
  __device__ void mask(const parameters<T>& p, int key) {
    if (key + key_tile - 1 > of_first(p).last) {
      mask_where(p, [&](const key_range& seen, int column) { return key + column > seen.last; });
    }
    if (key < of_last(p).first) {
      mask_where(p, [&](const key_range& seen, int column) { return key + column < seen.first; });
    }
  }
  /// Called by: one warp
  template <class Hidden>
  __device__ void mask_where(const parameters<T>& p, Hidden is_hidden) {
    const int first_column = lane() % 4 * 2;
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        key_range seen = seen_by(p, row(m, half));
        seen.first -= first_column;
        seen.last -= first_column;
#pragma unroll
        for (int e = 2 * half; e < s_[m].size; e += 4) {
          const int column = e / 4 * 8;
          if (is_hidden(seen, column)) s_[m].value[e] = -INFINITY;
          if (is_hidden(seen, column + 1)) s_[m].value[e + 1] = -INFINITY;
        }
      }
    }
  }

  /// For what is not worth a register from tile to tile. Called by: one thread
  __device__ static int lane() {
    return ptx::opaque<int>(threadIdx.x) % warp_size;
  }
  /// The query in a thread's first or second row of a block of 16. Called by: one thread
  __device__ int row(int block, int half) const {
    return first_ + 16 * block + 8 * half + lane() / 4;
  }
  /// What is subtracted from scaled scores; a row that sees no key must not meet inf - inf.
  /// Called by: one thread
  __device__ static float offset_of(float maximum, float log2_scale) {
    return maximum == -INFINITY ? 0 : maximum * log2_scale;
  }

  int first_;  // query
  operand_slice q_[row_blocks][config<HeadDim>::holds_queries ? slices : 1];
  accumulator_tile<key_tile> s_[row_blocks];  // S, then P [16 x 64]
  accumulator_tile<HeadDim> o_[row_blocks];   // [16 x Dh]
  row_values sum_[row_blocks];                // of P; this thread's part
  row_values offset_[row_blocks] = {};        // m
  bool is_frozen_ = false;                    // whether each row has its m
};

/// A block is tried up to three times. `speculative`: a row's maximum is taken in the first tile
/// that it sees and then frozen. `online`: maxima are exact. `careful`: also, a value that is not
/// finite is multiplied with no weight that is zero because the query may not see it.
enum class attempt { speculative, online, careful };

/// The walk of a block over its keys.
template <class T, int HeadDim>
struct key_walk {
  static constexpr int buffers = config<HeadDim>::buffers;

  shared_storage<HeadDim>& shared;
  const parameters<T>& p;
  const query_block& block;
  int start,
      begin;  ///< the first keys of the tiles that come first and last; no tile: start < begin

  /// Called by: one block
  template <class Tile>
  __device__ void load(Tile& tile, const sequence_view<const T>& from, int key) const {
    block::load_async<threads>(tile, from.token(block.batch, block.key_head, key),
                               from.token_stride, p.keys - key);
  }

  /// Returns whether all outputs are as they have to be.
  /// Called by: one block
  template <attempt Kind>
  __device__ bool attend(warp_rows<T, HeadDim>& rows) const {
    rows.start();
    if (start >= begin) load(shared.k[0], p.k, start);
    block::commit_loads();
    if constexpr (buffers > 1) {
      if (start >= begin) load(shared.v[0], p.v, start);
      block::commit_loads();
    }
    int buffer = 0;
#pragma unroll 1
    for (int key = start; key >= begin; key -= key_tile) {
      // An attempt begins with its keys; the values are on their way.
      buffers > 1 && key == start ? block::wait_loads<1>() : block::wait_loads<0>();
      __syncthreads();  // the tile has arrived, and the other buffer is no longer read
      if (key == start && Kind == attempt::speculative) rows.load_queries(shared);
      if constexpr (buffers > 1) {
        if (key > begin) {
          load(shared.k[1 - buffer], p.k, key - key_tile);
          load(shared.v[1 - buffer], p.v, key - key_tile);
        }
      } else {
        load(shared.v[0], p.v, key);
      }
      block::commit_loads();
      const bool is_seen = rows.sees(p, key);
      if (is_seen) {
        rows.score(p, shared, buffer, key);
        Kind == attempt::speculative ? rows.freeze_offsets(p, key) : rows.raise_offsets(p);
      }
      if constexpr (buffers == 1) {
        block::wait_loads<0>();
        __syncthreads();  // the values have arrived, and the keys are no longer read
        if (key > begin) load(shared.k[0], p.k, key - key_tile);
        block::commit_loads();
      } else if (key == start) {
        block::wait_loads<1>();
        __syncthreads();  // the first values have arrived
      }
      if (is_seen && Kind == attempt::careful && !rows.all_see_all(p, key)) {
        rows.add_what_is_seen(p, shared, buffer, key);
      } else if (is_seen) {
        rows.add(p, shared, buffer);
      }
      if constexpr (buffers > 1) buffer = 1 - buffer;
    }
    const bool good = rows.finish();
    return __syncthreads_and(good);
  }
};

template <class T, int HeadDim>
__global__ void __launch_bounds__(threads, config<HeadDim>::blocks_per_multiprocessor)
    forward_kernel(const __grid_constant__ parameters<T> p) {
  extern __shared__ uint4 shared_bytes[];
  auto& shared = *reinterpret_cast<shared_storage<HeadDim>*>(shared_bytes);
  const query_block block(p);
  const int seen = seen_by(p, block.first + block.queries - 1).last;
  const int begin = seen_by(p, block.first).first / key_tile * key_tile;
  const int start = seen < 0 ? begin - key_tile : seen / key_tile * key_tile;
  const key_walk<T, HeadDim> walk = {shared, p, block, start, begin};

  block::load_async<threads>(shared.q, p.q.token(block.batch, block.head, block.first),
                             p.q.token_stride, block.queries);
  warp_rows<T, HeadDim> rows(block);
  if (!walk.template attend<attempt::speculative>(rows)) {
    if (threadIdx.x == 0) {
      atomicAdd(p.redone, static_cast<unsigned long long>((block.queries + 63) / 64));
    }
    if (!walk.template attend<attempt::online>(rows)) walk.template attend<attempt::careful>(rows);
  }
  rows.store(p, block);
}

}  // namespace based::attention_sm80
