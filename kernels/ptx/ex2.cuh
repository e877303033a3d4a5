// The fast base-2 exponential of the special function unit.
// PTX ISA, "Floating Point Instructions: ex2".
#pragma once

namespace based::ptx {

/// 2^x with a relative error of about 2^-22; denormals are zero, 2^-inf is +0.
/// Called by: one thread
__device__ inline float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace based::ptx
