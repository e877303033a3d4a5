// Two fp16 in a 32-bit word: conversion (sm_80).
// PTX ISA, "Data Movement and Conversion Instructions: cvt".
#pragma once

#include <cstdint>

namespace based::ptx {

/// cvt.rn.f16x2.f32: `low` in the lower half, both rounded to nearest even.
/// Called by: one thread
__device__ inline std::uint32_t to_fp16x2(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

inline constexpr std::uint32_t two_fp16_ones = 0x3c003c00;  ///< {1, 1}

/// cvt.f32.f16 of the lower half of a word.
/// Called by: one thread
__device__ inline float fp16_low_half(std::uint32_t word) {
  float value;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}\n"
      : "=f"(value)
      : "r"(word));
  return value;
}
/// cvt.f32.f16 of the upper half of a word.
/// Called by: one thread
__device__ inline float fp16_high_half(std::uint32_t word) {
  return fp16_low_half(word >> 16);
}

}  // namespace based::ptx
