// How many tiles of 64 queries a kernel with a speculative maximum has worked on again.
#pragma once

#include <vector>

#include "kernels/core/implementation.h"

namespace based::attention_counts {

/// The counter of the current device, in its memory. A kernel adds to it where it redoes a tile, so
/// that it costs nothing where none is.
unsigned long long* redone();

/// implementation::take_counts of a kernel that adds to it. Synchronises with the device.
std::vector<named_count> take();

}  // namespace based::attention_counts
