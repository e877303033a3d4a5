// IEEE half precision on the host, without a CUDA header.
#pragma once

#include <bit>
#include <cstdint>

namespace based {

/// 1 sign, 5 exponent and 10 fraction bits; bit-compatible with CUDA's __half.
struct fp16 {
  std::uint16_t bits;
};

/// Rounds to nearest, ties to even; what is too large becomes infinite, NaN stays a (quiet) NaN.
constexpr fp16 to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const auto signed_bits = [&](std::uint32_t half) {
    return fp16{static_cast<std::uint16_t>(sign | half)};
  };
  if (magnitude > 0x7f800000u) return signed_bits(0x7e00u);
  constexpr std::uint32_t overflow = 0x477ff000u;  // 65520, which rounds to infinity
  if (magnitude >= overflow) return signed_bits(0x7c00u);
  constexpr std::uint32_t smallest_normal = 0x38800000u;  // 2^-14
  if (magnitude < smallest_normal) {
    // Added to 1/2, whose last bit counts 2^-24 as a denormal's does, the sum is rounded as wanted.
    constexpr float half = 0.5f;
    return signed_bits(std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + half) -
                       std::bit_cast<std::uint32_t>(half));
  }
  constexpr std::uint32_t rebias = (127u - 15u) << 23;
  return signed_bits((magnitude - rebias + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

constexpr float to_float(fp16 value) {
  const std::uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  const auto signed_bits = [&](std::uint32_t bits) { return std::bit_cast<float>(sign | bits); };
  if (magnitude >= 0x7c00u) return signed_bits(0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return signed_bits((magnitude << 13) + ((127u - 15u) << 23));
  const float denormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign != 0 ? -denormal : denormal;
}

}  // namespace based
