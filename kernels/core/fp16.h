// IEEE half precision on the host: the other 16-bit storage type of GPU tensors, without a CUDA
// header.
#pragma once

#include <bit>
#include <cstdint>

namespace based {

/// Bit-compatible with CUDA's __half.
struct fp16 {
  std::uint16_t bits;
};

/// Rounds to nearest, ties to even; what is too large becomes infinite; NaN stays a (quiet) NaN.
constexpr fp16 to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
  const auto make = [sign](std::uint32_t half) {
    return fp16{static_cast<std::uint16_t>(sign | half)};
  };
  if (size > 0x7f800000u) return make(0x7e00u);
  if (size >= 0x477ff000u) return make(0x7c00u);  // rounds to 2^16 or more
  // Below 2^-14 halves are multiples of 2^-24: adding 2^-1 rounds to them, with fp32's own
  // rounding.
  if (size < 0x38800000u) {
    const float rounded = std::bit_cast<float>(size) + 0.5f;
    return make(std::bit_cast<std::uint32_t>(rounded) - std::bit_cast<std::uint32_t>(0.5f));
  }
  const std::uint32_t odd = (size >> 13) & 1u;
  return make((size + 0xfffu + odd - 0x38000000u) >> 13);
}

constexpr float to_float(fp16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1fu, fraction = value.bits & 0x3ffu;
  if (exponent == 0) {
    const float size = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -size : size;
  }
  const std::uint32_t widened = exponent == 0x1fu ? 0xffu : exponent + 112;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

}  // namespace based
