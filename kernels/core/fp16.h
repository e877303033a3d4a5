// IEEE half precision as a storage type, without a CUDA header.
#pragma once

#include <cstdint>

namespace based {

/// One sign bit, five of exponent, ten of fraction; bit-compatible with CUDA's __half.
struct fp16 {
  std::uint16_t bits;
};

}  // namespace based
