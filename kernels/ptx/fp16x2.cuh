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

}  // namespace based::ptx
