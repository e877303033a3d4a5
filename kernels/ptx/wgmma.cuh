// wgmma: a warpgroup's asynchronous matrix multiply, bf16 operands, fp32 accumulators.
// PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
//
// Accumulators of m64nN: d[4 i + e] of lane l, warp w is row 16 w + l / 4 + 8 (e / 2), column
// 8 i + 2 (l % 4) + e % 2. A register operand's words are the same positions, two columns a word.
#pragma once

#include <cstdint>

namespace based::ptx {

/// Which dimension of an operand is contiguous in shared memory: K, or M (of A) or N (of B).
enum class major { k = 0, mn = 1 };

/// wgmma.fence: orders register accesses before the wgmmas that follow.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// wgmma.commit_group
__device__ inline void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// wgmma.wait_group: until at most `Pending` of this thread's groups are in flight.
template <int Pending>
__device__ inline void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Accumulators as asm operands, eight and eighty at a time; `constraint` is "=f" or "+f".
#define BASED_ACCUMULATORS_8(constraint, i)                                           \
  constraint(d[i]), constraint(d[i + 1]), constraint(d[i + 2]), constraint(d[i + 3]), \
      constraint(d[i + 4]), constraint(d[i + 5]), constraint(d[i + 6]), constraint(d[i + 7])
#define BASED_ACCUMULATORS_32(constraint, i)                                    \
  BASED_ACCUMULATORS_8(constraint, i), BASED_ACCUMULATORS_8(constraint, i + 8), \
      BASED_ACCUMULATORS_8(constraint, i + 16), BASED_ACCUMULATORS_8(constraint, i + 24)
#define BASED_ACCUMULATORS_80(constraint)                                      \
  BASED_ACCUMULATORS_32(constraint, 0), BASED_ACCUMULATORS_32(constraint, 32), \
      BASED_ACCUMULATORS_8(constraint, 64), BASED_ACCUMULATORS_8(constraint, 72)

/// m64n8k16, D = A B (+ D): A in registers, B in shared memory.
template <major BMajor, bool Accumulate>
__device__ inline void wgmma_m64n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint64_t b) {
#define BASED_WGMMA(constraint)                                                   \
  asm volatile(                                                                   \
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %9, 0;\n"               \
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "                      \
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, accumulate, 1, 1, %10;\n}\n"       \
      : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3])    \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{Accumulate}), \
        "n"(static_cast<int>(BMajor)))
  if constexpr (Accumulate) {
    BASED_WGMMA("+f");
  } else {
    BASED_WGMMA("=f");
  }
#undef BASED_WGMMA
}

/// m64n16k16, D = A B (+ D): A in registers, B in shared memory.
template <major BMajor, bool Accumulate>
__device__ inline void wgmma_m64n16k16(float (&d)[8], const std::uint32_t (&a)[4],
                                       std::uint64_t b) {
#define BASED_WGMMA(constraint)                                                   \
  asm volatile(                                                                   \
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %13, 0;\n"              \
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "                     \
      "{%0, %1, %2, %3, %4, %5, %6, %7}, "                                        \
      "{%8, %9, %10, %11}, %12, accumulate, 1, 1, %14;\n}\n"                      \
      : BASED_ACCUMULATORS_8(constraint, 0)                                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{Accumulate}), \
        "n"(static_cast<int>(BMajor)))
  if constexpr (Accumulate) {
    BASED_WGMMA("+f");
  } else {
    BASED_WGMMA("=f");
  }
#undef BASED_WGMMA
}

/// m64n64k16, D = A B (+ D): A in registers, B in shared memory.
template <major BMajor, bool Accumulate>
__device__ inline void wgmma_m64n64k16(float (&d)[32], const std::uint32_t (&a)[4],
                                       std::uint64_t b) {
#define BASED_WGMMA(constraint)                                                           \
  asm volatile(                                                                           \
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %37, 0;\n"                      \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "                             \
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " \
      "{%32, %33, %34, %35}, %36, accumulate, 1, 1, %38;\n}\n"                            \
      : BASED_ACCUMULATORS_32(constraint, 0)                                              \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{Accumulate}),         \
        "n"(static_cast<int>(BMajor)))
  if constexpr (Accumulate) {
    BASED_WGMMA("+f");
  } else {
    BASED_WGMMA("=f");
  }
#undef BASED_WGMMA
}

/// m64n72k16, D = A B + D: A in registers, B in shared memory.
template <major BMajor>
__device__ inline void wgmma_m64n72k16(float (&d)[36], const std::uint32_t (&a)[4],
                                       std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n72k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35}, {%36, %37, %38, %39}, %40, 1, 1, 1, %41;\n"
      : BASED_ACCUMULATORS_32("+f", 0), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(BMajor)));
}

/// m64n160k16, D = A B + D: both operands in shared memory.
template <major AMajor, major BMajor>
__device__ inline void wgmma_m64n160k16(float (&d)[80], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n160k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79}, "
      "%80, %81, 1, 1, 1, %82, %83;\n"
      : BASED_ACCUMULATORS_80("+f")
      : "l"(a), "l"(b), "n"(static_cast<int>(AMajor)), "n"(static_cast<int>(BMajor)));
}

#undef BASED_ACCUMULATORS_80
#undef BASED_ACCUMULATORS_32
#undef BASED_ACCUMULATORS_8

}  // namespace based::ptx
