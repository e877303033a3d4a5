// The hyperbolic tangent of the special function unit (sm_75).
// PTX ISA, "Floating Point Instructions: tanh".
#pragma once

namespace based::ptx {

/// tanh x with a relative error of about 2^-11.
/// Called by: one thread
__device__ inline float tanh(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace based::ptx
