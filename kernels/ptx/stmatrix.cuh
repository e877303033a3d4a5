// stmatrix: a warp stores four 8x8 matrices of 16-bit elements; lane i gives the address of row
// i % 8 of matrix i / 8. PTX ISA, "Warp-level matrix store instruction: stmatrix".
#pragma once

#include <cstdint>

namespace based::ptx {

/// Stores the four matrices, or their transposes, to the rows whose addresses the lanes give.
/// Called by: one warp
template <bool Transpose>
__device__ inline void stmatrix_x4(std::uint32_t address, const std::uint32_t (&words)[4]) {
  if constexpr (Transpose) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
        "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
        : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
  }
}

}  // namespace based::ptx
