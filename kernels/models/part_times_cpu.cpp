// The times of a pass's parts on the CPU, which runs each where it is called.
#include <chrono>

#include "kernels/models/part_times.h"

namespace based::models {

template <>
bool part_times<float>::can_mark(cuda_stream) const {
  return true;
}

template <>
void part_times<float>::mark(std::size_t i, cuda_stream) {
  if (marks_.size() <= i) marks_.resize(i + 1);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  marks_[i] = std::chrono::duration<double>(now).count();
}

template <>
double part_times<float>::seconds_between(std::size_t from, std::size_t to) const {
  return marks_[to] - marks_[from];
}

}  // namespace based::models
