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

/// Whether wgmma has a product of `n` columns.
constexpr bool is_wgmma_width(int n) {
  return n % 8 == 0 && n >= 8 && n <= 256;
}

namespace detail {

// Parts of the instruction's name, for the asm constraint "C", which takes arrays of char.
template <int Value, int Digits = 1 + (Value >= 10) + (Value >= 100)>
inline constexpr char decimal[] = {Value / 100 + '0', Value / 10 % 10 + '0', Value % 10 + '0', 0};
template <int Value>
inline constexpr char decimal<Value, 2>[] = {Value / 10 + '0', Value % 10 + '0', 0};
template <int Value>
inline constexpr char decimal<Value, 1>[] = {Value + '0', 0};

template <class T>
inline constexpr char type_suffix[] = ".unknown";
template <>
inline constexpr char type_suffix<bf16>[] = ".bf16";
template <>
inline constexpr char type_suffix<fp16>[] = ".f16";

}  // namespace detail

// An asm statement names its operands by literal numbers and lists them one by one, so each width
// is a statement of its own. The preprocessor writes them: it cuts the list of numbers after four,
// eight, ... 128. What is before the cut are the accumulators, N / 2 of them, and what follows are
// A, B and the constants.
//
// BASED_EACH_WIDTH(statement, constraint, scale_d) is statement(scale_d, places, operands, i, ...)
// for each N: `places` is the string "%0, %1, ..." of the accumulators, `operands` lists them in
// parentheses with `constraint`, and i, ... are the eight numbers after the cut.

#define BASED_OPERAND_NUMBERS                                                                     \
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,   \
      26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, \
      49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, \
      72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, \
      95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113,   \
      114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131,   \
      132, 133, 134, 135

#define BASED_UNPACK(...) __VA_ARGS__
#define BASED_PARENTHESES ()

// Scans its arguments again, 32 times and more: each time, what is left of the list of widths moves
// on by one.
#define BASED_SCAN(...) __VA_ARGS__
#define BASED_SCAN_4(...) BASED_SCAN(BASED_SCAN(BASED_SCAN(BASED_SCAN(__VA_ARGS__))))
#define BASED_SCAN_12(...) BASED_SCAN_4(BASED_SCAN_4(BASED_SCAN_4(__VA_ARGS__)))
#define BASED_SCAN_36(...) BASED_SCAN_12(BASED_SCAN_12(BASED_SCAN_12(__VA_ARGS__)))

#define BASED_PLACES(a, b, c, d) "%" #a ", %" #b ", %" #c ", %" #d
#define BASED_WIDTHS(statement, constraint, scale_d, places, operands, a, b, c, e, i, j, k, l, m, \
                     n, o, p, ...)                                                                \
  statement(scale_d, places BASED_PLACES(a, b, c, e),                                             \
            (BASED_UNPACK operands constraint(d[a]), constraint(d[b]), constraint(d[c]),          \
             constraint(d[e])),                                                                   \
            i, j, k, l, m, n, o, p)                                                               \
      __VA_OPT__(BASED_WIDTHS_AGAIN BASED_PARENTHESES(                                            \
          statement, constraint, scale_d, places BASED_PLACES(a, b, c, e) ", ",                   \
          (BASED_UNPACK operands constraint(d[a]), constraint(d[b]), constraint(d[c]),            \
           constraint(d[e]), ),                                                                   \
          i, j, k, l, m, n, o, p, __VA_ARGS__))
#define BASED_WIDTHS_AGAIN() BASED_WIDTHS
#define BASED_EACH_WIDTH(statement, constraint, scale_d) \
  BASED_EACH_WIDTH_OF(statement, constraint, scale_d, BASED_OPERAND_NUMBERS)
#define BASED_EACH_WIDTH_OF(statement, constraint, scale_d, ...) \
  BASED_SCAN_36(BASED_WIDTHS(statement, constraint, scale_d, , (), __VA_ARGS__))

/// D [64 x N] = A B (+ D), N being twice the accumulators of a thread. A [64 x 16] in registers;
/// B [16 x N] in shared memory by its descriptor.
/// Called by: one warpgroup
template <class T, major BMajor, mma_mode Mode, int Accumulators>
__device__ inline void wgmma(float (&d)[Accumulators], const std::uint32_t (&a)[4],
                             std::uint64_t b) {
  static_assert(is_wgmma_width(2 * Accumulators));
#define BASED_WGMMA(scale_d, places, operands, i, j, k, l, m, n, o, p)                     \
  if constexpr (Accumulators == i) {                                                       \
    asm volatile("wgmma.mma_async.sync.aligned.m64n%" #n "k16.f32%" #o "%" #o " {" places  \
                 "}, {" BASED_PLACES(i, j, k, l) "}, %" #m ", " scale_d ", 1, 1, %" #p ";" \
                 : BASED_UNPACK operands                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                     \
                   "C"(detail::decimal<2 * i>), "C"(detail::type_suffix<T>),               \
                   "n"(static_cast<int>(BMajor)));                                         \
  }
  if constexpr (Mode == mma_mode::accumulate) {
    BASED_EACH_WIDTH(BASED_WGMMA, "+f", "1")
  } else {
    BASED_EACH_WIDTH(BASED_WGMMA, "=f", "0")
  }
#undef BASED_WGMMA
}

/// D [64 x N] = A B (+ D) with A [64 x 16], too, in shared memory by its descriptor.
/// Called by: one warpgroup
template <class T, major AMajor, major BMajor, mma_mode Mode, int Accumulators>
__device__ inline void wgmma(float (&d)[Accumulators], std::uint64_t a, std::uint64_t b) {
  static_assert(is_wgmma_width(2 * Accumulators));
#define BASED_WGMMA(scale_d, places, operands, i, j, k, l, m, n, o, p)                       \
  if constexpr (Accumulators == i) {                                                         \
    asm volatile("wgmma.mma_async.sync.aligned.m64n%" #k "k16.f32%" #l "%" #l " {" places    \
                 "}, %" #i ", %" #j ", " scale_d ", 1, 1, %" #m ", %" #n ";"                 \
                 : BASED_UNPACK operands                                                     \
                 : "l"(a), "l"(b), "C"(detail::decimal<2 * i>), "C"(detail::type_suffix<T>), \
                   "n"(static_cast<int>(AMajor)), "n"(static_cast<int>(BMajor)));            \
  }
  if constexpr (Mode == mma_mode::accumulate) {
    BASED_EACH_WIDTH(BASED_WGMMA, "+f", "1")
  } else {
    BASED_EACH_WIDTH(BASED_WGMMA, "=f", "0")
  }
#undef BASED_WGMMA
}

#undef BASED_EACH_WIDTH_OF
#undef BASED_EACH_WIDTH
#undef BASED_WIDTHS_AGAIN
#undef BASED_WIDTHS
#undef BASED_PLACES
#undef BASED_SCAN_36
#undef BASED_SCAN_12
#undef BASED_SCAN_4
#undef BASED_SCAN
#undef BASED_PARENTHESES
#undef BASED_UNPACK
#undef BASED_OPERAND_NUMBERS

}  // namespace based::ptx
