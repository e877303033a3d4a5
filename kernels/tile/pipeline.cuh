// What a kernel of producers and consumers is made of: a ring of buffers that both go round, and
// the split of a block's warpgroups into roles with registers of their own.
#pragma once

#include <cstdint>

#include "kernels/core/hopper.h"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

/// The barriers of `Size` buffers that are filled in turn, where something else says when one may
/// be filled again. Each side keeps its own ring_position, from 0 on.
template <int Size>
class fill_ring {
 public:
  using position = ring_position<Size>;

  /// Before any other use; ptx::fence_mbarrier_init() and a barrier of the block follow. A buffer
  /// is full after `fills` arrivals, one for each warp::load_async, and the bytes that they
  /// announce.
  /// Called by: one thread
  __device__ void init(int fills) {
    for (barrier& full : full_) full.init(fills);
  }
  /// The barrier to which a fill of a buffer arrives.
  /// Called by: one thread
  __device__ barrier& filled(int buffer) { return full_[buffer]; }
  /// Called by: one thread
  __device__ barrier& filled(position at) { return full_[at.buffer]; }
  /// Until the buffer is full.
  /// Called by: one thread
  __device__ void wait_full(position at) { full_[at.buffer].wait(at.parity); }

 private:
  barrier full_[Size];
};

/// The barriers of a ring of `Size` buffers. A producer waits until a buffer is empty and fills it;
/// consumers wait until it is full, read it and release it:
///
///   ring.wait_empty(at); warp::load_async(ring.filled(at), ..., buffers[at.buffer]); at.advance();
///   ring.wait_full(at);  ... buffers[at.buffer] ...;  ring.warp_release(at);         at.advance();
///
/// Every phase has to be waited for: a consumer that skips a buffer waits for it and releases it,
/// too, for a wait tells the newest phase only.
template <int Size>
class ring : public fill_ring<Size> {
 public:
  using position = ring_position<Size>;

  /// As fill_ring's. A buffer is empty after `releases` arrivals.
  /// Called by: one thread
  __device__ void init(int fills, int releases) {
    for (int i = 0; i < Size; ++i) {
      this->filled(i).init(fills);
      empty_[i].init(releases);
    }
  }

  /// Until all consumers have released what the buffer held in the round before this position's; at
  /// once in the first round.
  /// Called by: one thread
  __device__ void wait_empty(position at) { empty_[at.buffer].wait(at.parity ^ 1); }
  /// Until all consumers have released what the buffer holds in this position's round. For a
  /// consumer that also refills.
  /// Called by: one thread
  __device__ void wait_released(position at) { empty_[at.buffer].wait(at.parity); }

  /// One arrival of the warp, after the reads of all its lanes.
  /// Called by: one warp
  __device__ void warp_release(position at) { empty_[at.buffer].warp_arrive(); }
  /// One arrival, or `count`.
  /// Called by: one thread
  __device__ void release(position at) { empty_[at.buffer].arrive(); }
  /// Called by: one thread
  __device__ void release(position at, int count) { empty_[at.buffer].arrive(count); }

 private:
  barrier empty_[Size];
};

/// Registers of a thread at launch: an even share of the multiprocessor's, in steps of eight.
template <int Ctas, int Threads>
inline constexpr int launch_registers = hopper::registers / (Ctas * Threads) / 8 * 8;

/// Gives the threads of the calling warpgroup `Wanted` registers each, of a block that was launched
/// with `AtLaunch`.
/// Called by: one warpgroup
template <int Wanted, int AtLaunch>
__device__ inline void set_registers() {
  static_assert(Wanted % 8 == 0 && Wanted >= 24 && Wanted <= 240,
                "setmaxnreg takes multiples of 8 from 24 to 240");
  if constexpr (Wanted > AtLaunch) ptx::increase_registers<Wanted>();
  if constexpr (Wanted < AtLaunch) ptx::decrease_registers<Wanted>();
}

/// A role in a block: how many warpgroups have it, and how many registers each of their threads.
struct warpgroup_role {
  int warpgroups;
  int registers;
};

/// The warpgroups of a block by role, the first role's first, and the registers that move between
/// them: a launch gives each thread as many, then roles that need few hand some over (setmaxnreg).
/// `Ctas`: blocks that share a multiprocessor, as __launch_bounds__ has it.
template <int Ctas, warpgroup_role... Roles>
struct role_split {
  static constexpr int warpgroups = (Roles.warpgroups + ...);
  static constexpr int threads = warpgroups * warpgroup::threads;

  static constexpr int at_launch = launch_registers<Ctas, threads>;

  // A warpgroup that asks for more than is left waits for ever: the pool is what the launch took.
  static_assert(((Roles.warpgroups * Roles.registers) + ...) <= warpgroups * at_launch,
                "the roles' registers are more than the block was launched with");

  /// Sets the registers of the calling warpgroup's role and calls that role's function with the
  /// warpgroup's index within the role. `warp` is warp::uniform_index(); functions are in the order
  /// of the roles.
  /// Called by: one block
  template <class... Functions>
  __device__ static void run(int warp, Functions... functions) {
    static_assert(sizeof...(Functions) == sizeof...(Roles));
    int first = 0;  // of a role's warpgroups
    const int group = warp / warpgroup::warps;
    const auto run_if_own = [&]<warpgroup_role Role>(auto& function) {
      if (group >= first && group < first + Role.warpgroups) {
        set_registers<Role.registers, at_launch>();
        function(group - first);
      }
      first += Role.warpgroups;
    };
    (run_if_own.template operator()<Roles>(functions), ...);
  }
};

}  // namespace based
