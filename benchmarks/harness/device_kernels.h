// The harness's own kernels, launched on a stream; every launch is checked.
#pragma once

#include <cstdint>

#include "benchmarks/harness/backend.h"

namespace based {

/// Does nothing: what timing it reads is the timer's floor.
void launch_empty(cuda_stream stream);

/// Occupies the stream for `seconds` of the device's own timer.
void launch_spin(double seconds, cuda_stream stream);

/// data[i] = values(i), i < count.
void launch_fill(void* data, element_type type, std::int64_t count, random_stream values,
                 cuda_stream stream);

/// Adds the number of elements that are NaN or infinite to *result, on the device.
void launch_count_nonfinite(const void* data, element_type type, std::int64_t count,
                            unsigned long long* result, cuda_stream stream);

}  // namespace based
