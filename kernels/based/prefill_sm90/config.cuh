// What a CTA of the Hopper prefill has: its share of a multiprocessor, its shared memory, the
// registers of its roles.
#pragma once

#include "kernels/based/prefill_sm90/head.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/state_pass.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/core/hopper.h"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {

using quad::feature_tile;

/// What a CTA has of its multiprocessor: half, or, where there are few enough CTAs, all of it. What
/// counts is then how long a chunk takes: loads are further ahead, and so are the features, two
/// output warpgroups take the chunks by turns, and the key moments are off the state's way.
struct half_multiprocessor {
  static constexpr int ctas = 2;
  static constexpr int output_groups = 1;       // output warpgroups
  static constexpr bool moments_apart = false;  // a warpgroup for the key moments, normalised
  static constexpr int stages = 3;              // of the ring that is loaded
  static constexpr int state_buffers = 2;       // tiles of S
  static constexpr int feature_buffers = 1;     // tiles of phi(K)
};
struct whole_multiprocessor {
  static constexpr int ctas = 1;
  static constexpr int output_groups = 2;
  static constexpr bool moments_apart = true;
  static constexpr int stages = 8;
  static constexpr int state_buffers = 3;
  static constexpr int feature_buffers = 2;
};
/// All of it, for a CTA that first passes over earlier chunks, of which it needs more at a time.
struct passing_multiprocessor : whole_multiprocessor {
  static constexpr int stages = 10;
  static constexpr int state_buffers = 2;
};

constexpr int gather_buffers = 3;  // of the states of earlier segments
constexpr int pass_groups = 2;     // warpgroups that pass over earlier chunks

/// `Variant` in all that follows: one of variants.cuh, each of which has one of these
/// configurations as its base.

/// Whether there is a warpgroup for the key moments.
template <class Variant, bool Normalize>
constexpr bool has_moments_group() {
  return Normalize && Variant::moments_apart;
}

template <class Variant, bool Normalize>
constexpr int cta_threads() {
  return warpgroup::threads *
         (Variant::output_groups + 1 + has_moments_group<Variant, Normalize>());
}

/// The named barrier of the warpgroup that keeps the key moments.
template <class Variant>
constexpr int barrier_of_moments = Variant::moments_apart ? moments_barrier : state_barrier;

template <class Variant>
struct shared_storage {
  static constexpr int stages = Variant::stages;
  static constexpr int state_buffers = Variant::state_buffers;
  static constexpr int feature_buffers = Variant::feature_buffers;
  static constexpr int output_groups = Variant::output_groups;
  token_tile q[stages];                                 // [64 x 16]
  token_tile k[stages];                                 // [64 x 16]
  value_tile v[stages];                                 // [64 x 64]
  feature_tile key_features[feature_buffers];           // [64 x 160]
  state_tile state[state_buffers];                      // [160 x 64]
  moments_tile moments[state_buffers];                  // [16 x 32]
  output_tile output[output_groups][warpgroup::warps];  // [16 x 64]
  ones_tile ones;                                       // [16 x 64]
  halves_tile halves;                                   // [8 x 16]
  float initial_tokens;
  int ticket;               // of balanced
  ring<stages> chunk_ring;  // q, k and v
  barrier state_ready[state_buffers];
  barrier gathered[gather_buffers];
  barrier initial_loaded;

  /// A head's initial state on its way to registers, in tiles that are not in use yet.
  __device__ compact_state& initial_state() {
    if constexpr (Variant::passes_over_earlier_chunks) {  // which use the tiles of S
      return in_place_of<compact_state>(key_features);
    } else {
      return in_place_of<compact_state>(state);
    }
  }

  /// A warpgroup's part of the pass over earlier chunks, in tiles that are not in use yet.
  union pass_part {
    feature_tile features[pass_feature_buffers];
    exact_parts sum;
  };
  __device__ pass_part& earlier(int group) {
    static_assert(
        !Variant::passes_over_earlier_chunks ||
        (sizeof(key_features) == sizeof(pass_part) && sizeof(state) == sizeof(pass_part)));
    void* const tiles = group == 0 ? static_cast<void*>(key_features) : state;
    return *static_cast<pass_part*>(tiles);
  }

 private:
  template <class T, class Tiles>
  __device__ static T& in_place_of(Tiles& tiles) {
    static_assert(sizeof(Tiles) >= sizeof(T));
    return *static_cast<T*>(static_cast<void*>(tiles));
  }
};

/// Warps that read a chunk: the state's, and those of the output warpgroup whose turn it is.
constexpr int consumer_warps = 2 * warpgroup::warps;

/// The registers of a thread: at launch as many for each, then those that a role with few needs
/// leaves are given to the others.
enum class role { output, state, moments };
template <class Variant, bool Normalize>
constexpr int even_registers = launch_registers<Variant::ctas, cta_threads<Variant, Normalize>()>;
template <class Variant, bool Normalize>
constexpr int registers_of(role of) {
  constexpr int even = even_registers<Variant, Normalize>;
  if (has_moments_group<Variant, Normalize>()) return of == role::moments ? even - 72 : even + 24;
  if (Variant::ctas > 1) return of == role::output ? even + 8 : even - 8;
  return even;
}
template <class Variant>
constexpr bool registers_fit() {
  const int of_groups =
      Variant::output_groups * registers_of<Variant, true>(role::output) +
      registers_of<Variant, true>(role::state) +
      has_moments_group<Variant, true>() * registers_of<Variant, true>(role::moments);
  return warpgroup::threads * of_groups <=
         cta_threads<Variant, true>() * even_registers<Variant, true>;
}
static_assert(registers_fit<half_multiprocessor>() && registers_fit<whole_multiprocessor>());

/// Called by: one warpgroup
template <class Variant, bool Normalize, role Of>
__device__ void take_registers() {
  set_registers<registers_of<Variant, Normalize>(Of), even_registers<Variant, Normalize>>();
}

template <class Variant>
constexpr bool fits_multiprocessor =
    Variant::ctas*(sizeof(shared_storage<Variant>) +
                   hopper::reserved_cta_bytes) <= hopper::shared_bytes;

}  // namespace based::sm90
