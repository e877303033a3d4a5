// The warp that stores y, which takes the place of x, and loads z.
#pragma once

#include "kernels/ptx/tma.cuh"
#include "kernels/state_space/ssd_sm90/config.cuh"

namespace based::ssd_sm90 {

template <class Config, bool Gated>
class output_role {
  using storage = shared_storage<Config>;

 public:
  /// Called by: one thread
  __device__ output_role(storage& shared, const parameters& p, const block_range& range)
      : shared_(shared), p_(p), range_(range) {}

  /// Called by: one warp
  __device__ void run() {
    if (Gated) {
      for (int slice = 0; slice < Config::slices; ++slice) load_gate(slice, range_.first);
    }
    ring_position<Config::stages> at;
#pragma unroll 1
    for (int chunk = range_.first; chunk < range_.last; ++chunk) {
#pragma unroll 1
      for (int slice = 0; slice < Config::slices; ++slice) {
        shared_.y_written[at.buffer][slice].wait(at.parity);
        if (Gated && chunk + 1 < range_.last)
          load_gate(slice, chunk + 1);  // y is written: z is read
        store(slice, chunk, at.buffer);
      }
      warp::wait_stores_read();
      shared_.x_ring.warp_release(at);
      at.advance();
    }
  }

 private:
  /// Called by: one warp
  __device__ void load_gate(int slice, int chunk) {
    if (ptx::elect_lane()) {
      const slice_place place(p_, range_, slice);
      auto& z = shared_.z[slice];
      barrier& loaded = shared_.z_loaded[slice];
      loaded.arrive_expect(z.bytes);
      ptx::bulk_tensor_load(z.at(0, 0), &p_.z, loaded.word(), place.col, chunk * chunk_tokens,
                            place.head, range_.batch);
    }
  }

  /// Called by: one warp
  __device__ void store(int slice, int chunk, int buffer) {
    if (ptx::elect_lane()) {
      const slice_place place(p_, range_, slice);
      if (place.is_own) {
        ptx::bulk_tensor_store(&p_.y, shared_.x[buffer][slice].at(0, 0), place.col,
                               chunk * chunk_tokens, place.head, range_.batch);
      }
      ptx::bulk_commit_group();
    }
  }

  storage& shared_;
  const parameters& p_;
  const block_range& range_;
};

}  // namespace based::ssd_sm90
