// A grid that holds multiprocessors of the CUDA device while something else is tested.
#pragma once

#include <memory>

namespace based::support {

/// Holds `count` multiprocessors, each by a CTA with as much shared memory as a CTA can have, from
/// construction until release() or ten seconds have passed. CTAs that need shared memory find no
/// place there. Streams that wait for the default stream, and calls that synchronise the device,
/// wait for the release.
class occupied_multiprocessors {
 public:
  /// Returns when all of the CTAs are resident. Throws cuda_error, and runtime_error if they were
  /// not at the same time.
  explicit occupied_multiprocessors(int count);
  ~occupied_multiprocessors();
  occupied_multiprocessors(const occupied_multiprocessors&) = delete;
  occupied_multiprocessors& operator=(const occupied_multiprocessors&) = delete;

  /// False once they have been released, or have given up.
  bool are_held() const;
  void release();

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace based::support
