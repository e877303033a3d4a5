// The warp's matrix products: m16n8k16 of bf16 or fp16, m16n8k8 of bf16 or tf32, with fp32
// accumulation (sm_80).
// PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions: mma" and "Matrix Fragments for
// mma.m16n8k16 with floating point type".
//
// With g = lane / 4 and t = lane % 4, a thread holds (two elements of a register in order of
// columns of A, of rows of B):
//
//   A [16x16]  a[0]: row g, columns 2t..     a[1]: row g + 8, columns 2t..
//              a[2]: row g, columns 8 + 2t.. a[3]: row g + 8, columns 8 + 2t..
//   B [16x8]   b0: rows 2t.., column g       b1: rows 8 + 2t.., column g
//   D [16x8]   d[0..1]: row g, columns 2t..  d[2..3]: row g + 8, columns 2t..
//
// so two D side by side, rounded and packed, are an A; and two D of a transposed product, one under
// the other, are a B.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"

namespace based::ptx {

/// D += A B, elements of A and B being bf16 or fp16.
/// Called by: one warp
template <class T = bf16>
__device__ inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, fp16>);
#define BASED_MMA(type)                                                 \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type            \
      ".f32 "                                                           \
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                  \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (std::is_same_v<T, bf16>) {
    BASED_MMA("bf16");
  } else {
    BASED_MMA("f16");
  }
#undef BASED_MMA
}

/// D += A B, A [16 x 8] and B [8 x 8] of bf16: the first halves of the fragments above.
/// Called by: one warp
__device__ inline void mma_m16n8k8(float (&d)[4], std::uint32_t a0, std::uint32_t a1,
                                   std::uint32_t b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b));
}

/// D += A B, A [16 x 8] and B [8 x 8] of tf32, which are fp32 whose last 13 bits do not count, a
/// register each: a[0], a[1]: rows g, g + 8, column t; a[2], a[3]: column t + 4; b0, b1: rows t,
/// t + 4, column g. PTX ISA, "Matrix Fragments for mma.m16n8k8".
/// Called by: one warp
__device__ inline void mma_m16n8k8_tf32(float (&d)[4], float a0, float a1, float a2, float a3,
                                        float b0, float b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(__float_as_uint(a2)),
        "r"(__float_as_uint(a3)), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

}  // namespace based::ptx
