// wgmma: a warpgroup's asynchronous matrix multiply, m64nNk16 for every N, bf16 or fp16 operands,
// fp32 accumulators. PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate
// Instructions".
//
// Accumulators of m64nN: d[4 i + e] of lane l, warp w is row 16 w + l / 4 + 8 (e / 2), column
// 8 i + 2 (l % 4) + e % 2. The words of a register operand are in the positions of the accumulators
// of m64n16, two columns a word.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"
#include "kernels/ptx/major.h"

namespace based::ptx {

/// Whether a product replaces what its accumulators hold or is added to it.
enum class mma_mode { overwrite, accumulate };

/// wgmma.fence: orders register accesses before the wgmmas that follow.
/// Called by: one warpgroup
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// wgmma.commit_group: closes the group of the wgmmas since the last one.
/// Called by: one warpgroup
__device__ inline void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// wgmma.wait_group: until at most `Pending` of this thread's groups are in flight.
/// Called by: one warpgroup
template <int Pending>
__device__ inline void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// An asm statement names its operands by literal numbers and lists them one by one, so each width
// N and each type is a statement of its own. The preprocessor writes them. It walks along the list
// below, in which a width stands behind the four accumulators that make it up. What is before it
// are the accumulators of that product, N / 2 of them; the numbers that follow are those of A, B
// and the constants.
// clang-format off
#define BASED_OPERAND_NUMBERS                                                  \
    0,   1,   2,   3,   8,    4,   5,   6,   7,  16,    8,   9,  10,  11,  24, \
   12,  13,  14,  15,  32,   16,  17,  18,  19,  40,   20,  21,  22,  23,  48, \
   24,  25,  26,  27,  56,   28,  29,  30,  31,  64,   32,  33,  34,  35,  72, \
   36,  37,  38,  39,  80,   40,  41,  42,  43,  88,   44,  45,  46,  47,  96, \
   48,  49,  50,  51, 104,   52,  53,  54,  55, 112,   56,  57,  58,  59, 120, \
   60,  61,  62,  63, 128,   64,  65,  66,  67, 136,   68,  69,  70,  71, 144, \
   72,  73,  74,  75, 152,   76,  77,  78,  79, 160,   80,  81,  82,  83, 168, \
   84,  85,  86,  87, 176,   88,  89,  90,  91, 184,   92,  93,  94,  95, 192, \
   96,  97,  98,  99, 200,  100, 101, 102, 103, 208,  104, 105, 106, 107, 216, \
  108, 109, 110, 111, 224,  112, 113, 114, 115, 232,  116, 117, 118, 119, 240, \
  120, 121, 122, 123, 248,  124, 125, 126, 127, 256,  128, 129, 130, 131, 264, \
  132, 133, 134, 135
// clang-format on

// Scans its arguments again, 32 times and more: each time, the walk goes one width further.
#define BASED_SCAN(...) __VA_ARGS__
#define BASED_SCAN_4(...) BASED_SCAN(BASED_SCAN(BASED_SCAN(BASED_SCAN(__VA_ARGS__))))
#define BASED_SCAN_12(...) BASED_SCAN_4(BASED_SCAN_4(BASED_SCAN_4(__VA_ARGS__)))
#define BASED_SCAN_36(...) BASED_SCAN_12(BASED_SCAN_12(BASED_SCAN_12(__VA_ARGS__)))

#define BASED_UNPACK(...) __VA_ARGS__
#define BASED_PARENTHESES ()
#define BASED_PLACES(a, b, c, d) "%" #a ", %" #b ", %" #c ", %" #d
#define BASED_OPERANDS(constraint, a, b, c, e) \
  constraint(d[a]), constraint(d[b]), constraint(d[c]), constraint(d[e])

// One width: statement(N, name, scale_d, places, operands, i, ...). `name` is the instruction's
// with shape and types, `places` the string "%0, %1, ..." of the accumulators; `operands` lists
// them in parentheses; i, ... are the eight numbers that follow. What is done of the walk are the
// places and operands before this width.
#define BASED_WIDTHS(statement, type, constraint, scale_d, places, operands, a, b, c, e, N, i, j,  \
                     k, l, next_N, m, n, o, p, ...)                                                \
  statement(N, "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type, scale_d,           \
            places BASED_PLACES(a, b, c, e),                                                       \
            (BASED_UNPACK operands BASED_OPERANDS(constraint, a, b, c, e)), i, j, k, l, m, n, o)   \
      __VA_OPT__(BASED_WIDTHS_AGAIN BASED_PARENTHESES(                                             \
          statement, type, constraint, scale_d, places BASED_PLACES(a, b, c, e) ", ",              \
          (BASED_UNPACK operands BASED_OPERANDS(constraint, a, b, c, e), ), i, j, k, l, next_N, m, \
          n, o, p, __VA_ARGS__))
#define BASED_WIDTHS_AGAIN() BASED_WIDTHS
#define BASED_EACH_WIDTH_OF(statement, type, constraint, scale_d, ...) \
  BASED_SCAN_36(BASED_WIDTHS(statement, type, constraint, scale_d, , (), __VA_ARGS__))

/// A statement for each width, of which the template arguments T, Mode and Accumulators choose one.
#define BASED_EACH_WIDTH(statement)                                          \
  if constexpr (std::is_same_v<T, bf16> && Mode == mma_mode::accumulate) {   \
    BASED_EACH_WIDTH_OF(statement, "bf16", "+f", "1", BASED_OPERAND_NUMBERS) \
  } else if constexpr (std::is_same_v<T, bf16>) {                            \
    BASED_EACH_WIDTH_OF(statement, "bf16", "=f", "0", BASED_OPERAND_NUMBERS) \
  } else if constexpr (Mode == mma_mode::accumulate) {                       \
    BASED_EACH_WIDTH_OF(statement, "f16", "+f", "1", BASED_OPERAND_NUMBERS)  \
  } else {                                                                   \
    BASED_EACH_WIDTH_OF(statement, "f16", "=f", "0", BASED_OPERAND_NUMBERS)  \
  }

template <class T, int Accumulators>
inline constexpr bool is_wgmma =
    (std::is_same_v<T, bf16> || std::is_same_v<T, fp16>)&&Accumulators % 4 == 0 && Accumulators <=
                                                                                       128;

/// D [64 x N] = A B (+ D), N being twice the accumulators of a thread. A [64 x 16] in registers;
/// B [16 x N] in shared memory by its descriptor.
/// Called by: one warpgroup
template <class T, major BMajor, mma_mode Mode, int Accumulators>
__device__ inline void wgmma(float (&d)[Accumulators], const std::uint32_t (&a)[4],
                             std::uint64_t b) {
  static_assert(is_wgmma<T, Accumulators>);
#define BASED_WGMMA(N, name, scale_d, places, operands, i, j, k, l, m, n, o)                       \
  if constexpr (2 * Accumulators == N) {                                                           \
    asm volatile(                                                                                  \
        name " {" places "}, {" BASED_PLACES(i, j, k, l) "}, %" #m ", " scale_d ", 1, 1, %" #n ";" \
        : BASED_UNPACK operands                                                                    \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(BMajor)));      \
  }
  BASED_EACH_WIDTH(BASED_WGMMA)
#undef BASED_WGMMA
}

/// D [64 x N] = A B (+ D) with A [64 x 16], too, in shared memory by its descriptor.
/// Called by: one warpgroup
template <class T, major AMajor, major BMajor, mma_mode Mode, int Accumulators>
__device__ inline void wgmma(float (&d)[Accumulators], std::uint64_t a, std::uint64_t b) {
  static_assert(is_wgmma<T, Accumulators>);
#define BASED_WGMMA(N, name, scale_d, places, operands, i, j, k, l, m, n, o)                      \
  if constexpr (2 * Accumulators == N) {                                                          \
    asm volatile(name " {" places "}, %" #i ", %" #j ", " scale_d ", 1, 1, %" #k ", %" #l ";"     \
                 : BASED_UNPACK operands                                                          \
                 : "l"(a), "l"(b), "n"(static_cast<int>(AMajor)), "n"(static_cast<int>(BMajor))); \
  }
  BASED_EACH_WIDTH(BASED_WGMMA)
#undef BASED_WGMMA
}

#undef BASED_EACH_WIDTH
#undef BASED_EACH_WIDTH_OF
#undef BASED_WIDTHS_AGAIN
#undef BASED_WIDTHS
#undef BASED_OPERANDS
#undef BASED_PLACES
#undef BASED_SCAN_36
#undef BASED_SCAN_12
#undef BASED_SCAN_4
#undef BASED_SCAN
#undef BASED_PARENTHESES
#undef BASED_UNPACK
#undef BASED_OPERAND_NUMBERS

}  // namespace based::ptx
