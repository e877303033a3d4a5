// bfloat16 on the host: the storage type of every GPU tensor, without a CUDA header.
#pragma once

#include <bit>
#include <cstdint>

namespace based {

/// The upper half of an fp32; bit-compatible with CUDA's __nv_bfloat16.
struct bf16 {
  std::uint16_t bits;
};

/// Rounds to nearest, ties to even; NaN stays a (quiet) NaN.
constexpr bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

constexpr float to_float(bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
constexpr float to_float(float value) {
  return value;
}

}  // namespace based
