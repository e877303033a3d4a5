#include "kernels/core/bf16.h"
#include "kernels/core/element_type.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace based {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float unit = 0x1p-7f;  // the distance of bf16 numbers from 1 upwards

float rounded(float value) {
  return to_float(to_bf16(value));
}

TEST(bf16, every_number_survives) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 value{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    ASSERT_EQ(to_bf16(to_float(value)).bits, bits);
  }
}

TEST(bf16, rounds_to_nearest) {
  EXPECT_EQ(rounded(1 + 0.49f * unit), 1);
  EXPECT_EQ(rounded(1 + 0.51f * unit), 1 + unit);
  EXPECT_EQ(rounded(-1 - 0.51f * unit), -1 - unit);
}

TEST(bf16, ties_go_to_even) {
  EXPECT_EQ(rounded(1 + 0.5f * unit), 1);
  EXPECT_EQ(rounded(1 + 1.5f * unit), 1 + 2 * unit);
  EXPECT_EQ(rounded(-1 - 0.5f * unit), -1);
}

TEST(bf16, overflows_to_infinity) {
  EXPECT_EQ(rounded(std::numeric_limits<float>::max()), infinity);
  EXPECT_EQ(rounded(-std::numeric_limits<float>::max()), -infinity);
  EXPECT_EQ(rounded(infinity), infinity);
}

TEST(bf16, nan_stays_nan) {
  EXPECT_TRUE(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  // A payload in the lower half alone must not turn into infinity.
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7f800001u))));
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0xffffffffu))));
}

TEST(bf16, keeps_signed_zero_and_denormals) {
  EXPECT_TRUE(std::signbit(rounded(-0.0f)));
  EXPECT_EQ(rounded(0x1p-130f), 0x1p-130f);
}

TEST(bf16, from_float_is_generic) {
  EXPECT_EQ(from_float<float>(1.001f), 1.001f);
  EXPECT_EQ(from_float<bf16>(1.001f).bits, 0x3f80);
}

}  // namespace
}  // namespace based
