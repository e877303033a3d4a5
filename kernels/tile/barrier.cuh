// Barriers in shared memory, and positions in a ring of buffers guarded by them.
#pragma once

#include <cstdint>

#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/sync.cuh"

namespace based {

/// An mbarrier. A phase is over after its arrivals and the bytes it was told to expect.
class barrier {
 public:
  /// Makes a phase be over after `arrivals`.
  /// Called by: one thread
  __device__ void init(int arrivals) { ptx::mbarrier_init(&word_, arrivals); }
  /// One arrival, or `count`.
  /// Called by: one thread
  __device__ void arrive() { ptx::mbarrier_arrive(&word_); }
  /// Called by: one thread
  __device__ void arrive(int count) { ptx::mbarrier_arrive(&word_, count); }
  /// One arrival, which announces `bytes` of bulk copies to the barrier.
  /// Called by: one thread
  __device__ void arrive_expect(int bytes) { ptx::mbarrier_arrive_expect(&word_, bytes); }

  /// One arrival of the whole warp, after all its lanes' accesses.
  /// Called by: one warp
  __device__ void warp_arrive() {
    __syncwarp();
    if (ptx::elect_lane()) arrive();
  }

  /// Returns when the phase of `parity` is over; the phase before the first counts as over, with
  /// parity 1.
  /// Called by: one thread
  __device__ void wait(std::uint32_t parity) {
    while (!ptx::mbarrier_try_wait(&word_, parity)) {
    }
  }

  /// The barrier as ptx:: takes it.
  /// Called by: one thread
  __device__ std::uint64_t* word() { return &word_; }

 private:
  std::uint64_t word_;
};

/// Position in a ring of `Size` buffers: the buffer, and the parity of its current phase.
template <int Size>
struct ring_position {
  int buffer = 0;
  std::uint32_t parity = 0;

  /// The position `steps` on, at most `Size`.
  /// Called by: one thread
  __device__ constexpr ring_position next(int steps = 1) const {
    const int to = buffer + steps;
    return to >= Size ? ring_position{to - Size, parity ^ 1} : ring_position{to, parity};
  }
  /// Moves on by one step, or by any number.
  /// Called by: one thread
  __device__ constexpr void advance() { *this = next(); }
  /// Called by: one thread
  __device__ constexpr void advance(int steps) {
    const int to = buffer + steps;
    buffer = to % Size;
    parity ^= to / Size & 1;
  }
};

/// Votes of warps that stand in different places of a kernel, one vote after the other. Who waits
/// for a vote's end has also waited for what the other warps did before it.
class ballot_box {
 public:
  /// Before any other use, and before a barrier of the block. `warps`: of those that vote.
  /// Called by: one thread
  __device__ void init(int warps) {
    all_have_voted_.init(warps);
    last_yes_[0] = last_yes_[1] = 0;
  }

  /// Whether any warp's `yes` holds in vote number `vote`, 1 and up, which all take part in.
  /// Called by: one warp
  __device__ bool any(bool yes, int vote) {
    // A place is written again two votes on, after all have read it. It need not be cleared.
    int& place = last_yes_[vote % 2];
    if (yes && ptx::elect_lane()) place = vote;
    all_have_voted_.warp_arrive();
    all_have_voted_.wait((vote + 1) % 2);
    return *const_cast<volatile int*>(&place) == vote;
  }

 private:
  barrier all_have_voted_;
  int last_yes_[2];
};

}  // namespace based
