// What a forward pass spends its time on: mixers, products or the glue between them. Each part is
// an NVTX range, and in a pass whose shares are asked for also an interval on the device's time.
#pragma once

#include <array>
#include <chrono>
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

/// Numbered marks on the time of a pass. A mark takes the place of an older one of its number.
template <class T>
class pass_clock;

/// On the CPU, which runs each part where it is called.
template <>
class pass_clock<float> {
 public:
  static bool can_mark(cuda_stream) { return true; }
  void mark(std::size_t i, cuda_stream) {
    if (marks_.size() <= i) marks_.resize(i + 1);
    marks_[i] = std::chrono::steady_clock::now();
  }
  double seconds_between(std::size_t from, std::size_t to) const {
    return std::chrono::duration<double>(marks_[to] - marks_[from]).count();
  }

 private:
  std::vector<std::chrono::steady_clock::time_point> marks_;
};

/// Events on a CUDA stream.
template <>
class pass_clock<bf16> {
 public:
  /// Not while the stream is recorded into a graph.
  static bool can_mark(cuda_stream stream);
  void mark(std::size_t i, cuda_stream stream);
  /// Waits for the later of both.
  double seconds_between(std::size_t from, std::size_t to) const;

 private:
  std::vector<void*> events_;
};

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
      const double took = times.clock_.seconds_between(2 * i, 2 * i + 1);
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
    is_timed_ = is_asked_ && pass_clock<T>::can_mark(stream);
    if (is_timed_) is_asked_ = false;
  }
  void start(pass_part part, cuda_stream stream) {
    if (!is_timed_) return;
    parts_.push_back(part);
    clock_.mark(2 * parts_.size() - 2, stream);
  }
  void end(cuda_stream stream) {
    if (is_timed_) clock_.mark(2 * parts_.size() - 1, stream);
  }

 private:
  bool is_asked_ = false, is_timed_ = false;
  std::vector<pass_part> parts_;
  pass_clock<T> clock_;
};

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
