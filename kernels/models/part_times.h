// What a forward pass spends its time on: mixers, products or the glue between them. Each part is
// an NVTX range, and in a pass whose shares are asked for also an interval on the device's time.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/implementation.h"
#include "kernels/core/nvtx.h"

namespace based::models {

enum class pass_part { mixers, products, glue };
inline constexpr std::array<std::string_view, 3> part_names = {"mixers", "products", "glue"};

/// The intervals of one pass of this thread. T is the element type of the pass: float where it runs
/// on the CPU, bf16 where it is enqueued on a CUDA stream.
template <class T>
class part_times {
 public:
  /// Those of this thread.
  static part_times& current() {
    thread_local part_times times;
    return times;
  }

  /// implementation::take_counts: the per cent of the last pass's time that each part took; of one
  /// that started after the call before this one, and is the first such. Synchronises with it.
  static std::vector<named_count> take_shares() {
    part_times& times = current();
    std::array<double, part_names.size()> seconds = {};
    double all = 0;
    for (std::size_t i = 0; i < times.parts_.size(); ++i) {
      const double took = times.seconds_between(2 * i, 2 * i + 1);
      seconds[static_cast<std::size_t>(times.parts_[i])] += took;
      all += took;
    }
    times.parts_.clear();
    times.is_asked_ = true;
    if (all == 0) return {};
    return {{"mixers_pct", 100 * seconds[0] / all},
            {"products_pct", 100 * seconds[1] / all},
            {"glue_pct", 100 * seconds[2] / all}};
  }

  /// Before the first part of a pass. One that is recorded into a graph is not timed.
  void start_pass(cuda_stream stream) {
    is_timed_ = is_asked_ && can_mark(stream);
    if (is_timed_) is_asked_ = false;
  }
  void start(pass_part part, cuda_stream stream) {
    if (!is_timed_) return;
    parts_.push_back(part);
    mark(2 * parts_.size() - 2, stream);
  }
  void end(cuda_stream stream) {
    if (is_timed_) mark(2 * parts_.size() - 1, stream);
  }

 private:
  bool can_mark(cuda_stream stream) const;
  /// Makes mark number `i` on the stream's timeline, in place of an older one.
  void mark(std::size_t i, cuda_stream stream);
  double seconds_between(std::size_t from, std::size_t to) const;

  bool is_asked_ = false, is_timed_ = false;
  std::vector<pass_part> parts_;
  std::vector<double> marks_;  // on the CPU, seconds
  std::vector<void*> events_;  // on a GPU, kept for the next pass
};

template <>
bool part_times<float>::can_mark(cuda_stream) const;
template <>
void part_times<float>::mark(std::size_t, cuda_stream);
template <>
double part_times<float>::seconds_between(std::size_t, std::size_t) const;
template <>
bool part_times<bf16>::can_mark(cuda_stream) const;
template <>
void part_times<bf16>::mark(std::size_t, cuda_stream);
template <>
double part_times<bf16>::seconds_between(std::size_t, std::size_t) const;

/// A part of the pass, as long as it lives.
template <class T>
class part_range {
 public:
  part_range(pass_part part, cuda_stream stream)
      : range_(std::string(part_names[static_cast<std::size_t>(part)])), stream_(stream) {
    part_times<T>::current().start(part, stream);
  }
  ~part_range() { part_times<T>::current().end(stream_); }
  part_range(const part_range&) = delete;
  part_range& operator=(const part_range&) = delete;

 private:
  nvtx_range range_;
  cuda_stream stream_;
};

}  // namespace based::models
