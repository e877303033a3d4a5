// The fast reciprocal of the special function unit.
// PTX ISA, "Floating Point Instructions: rcp".
#pragma once

namespace based::ptx {

/// 1 / x with an error of at most 1 ulp; a denormal counts as zero, whose reciprocal is infinite.
/// Called by: one thread
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace based::ptx
