// Two bf16 in a 32-bit word: conversion and product (sm_80).
// PTX ISA, "Data Movement and Conversion Instructions: cvt" and "Half Precision Floating Point
// Instructions: fma".
#pragma once

#include <cstdint>

namespace based::ptx {

/// cvt.rn.bf16x2.f32: `low` in the lower half, both rounded to nearest even.
/// Called by: one thread
__device__ inline std::uint32_t to_bf16x2(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

/// fma.rn.bf16x2: a b + c, rounded once.
/// Called by: one thread
__device__ inline std::uint32_t fma_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  return sum;
}

/// fma.rn.bf16x2 with -0, which is mul.rn.bf16x2 without its need of sm_90.
/// Called by: one thread
__device__ inline std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t negative_zeros = 0x80008000;
  return fma_bf16x2(a, b, negative_zeros);
}

inline constexpr std::uint32_t two_halves = 0x3f003f00;  ///< {0.5, 0.5}
inline constexpr std::uint32_t two_ones = 0x3f803f80;    ///< {1, 1}

// prmt: halves of words, the lower one first.

/// {high, low} of a word.
/// Called by: one thread
__device__ inline std::uint32_t swapped_halves(std::uint32_t word) {
  return __byte_perm(word, word, 0x1032);
}
/// {low of a, low of b}.
/// Called by: one thread
__device__ inline std::uint32_t low_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
/// {high of a, high of b}.
/// Called by: one thread
__device__ inline std::uint32_t high_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}
/// {high of a, low of b}.
/// Called by: one thread
__device__ inline std::uint32_t high_then_low(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x5432);
}

/// The lower bf16 as fp32: a bf16 is the upper half of a float.
/// Called by: one thread
__device__ inline float low_half(std::uint32_t word) {
  return __uint_as_float(word << 16);
}
/// The upper bf16 as fp32.
/// Called by: one thread
__device__ inline float high_half(std::uint32_t word) {
  return __uint_as_float(word & 0xffff0000);
}

}  // namespace based::ptx
