// Shared-memory layouts and descriptors, against the ISA's patterns written out by hand.
#include "kernels/tile/shared_layout.h"

#include <gtest/gtest.h>

#include <set>

namespace based {
namespace {

using tokens = shared_layout<64, 16, swizzle::bytes32>;
using values = shared_layout<64, 64, swizzle::bytes128>;
using features = shared_layout<64, 160, swizzle::bytes32>;
using state = shared_layout<160, 64, swizzle::bytes128>;

template <class Layout>
class layout_test : public ::testing::Test {};
using layouts =
    ::testing::Types<tokens, values, features, state, shared_layout<16, 64, swizzle::bytes128>,
                     shared_layout<8, 64, swizzle::bytes64>, shared_layout<16, 48, swizzle::none>>;
TYPED_TEST_SUITE(layout_test, layouts);

TYPED_TEST(layout_test, holds_each_element_once) {
  std::set<int> offsets;
  for (int row = 0; row < TypeParam::rows; ++row) {
    for (int col = 0; col < TypeParam::cols; ++col) offsets.insert(TypeParam::offset(row, col));
  }
  EXPECT_EQ(static_cast<int>(offsets.size()), TypeParam::rows * TypeParam::cols);
  EXPECT_EQ(*offsets.begin(), 0);
  EXPECT_EQ(*offsets.rbegin(), TypeParam::bytes - TypeParam::element_bytes);
}

TYPED_TEST(layout_test, keeps_sixteen_byte_units_whole) {
  for (int row = 0; row < TypeParam::rows; ++row) {
    for (int col = 0; col < TypeParam::cols; col += 8) {
      for (int i = 1; i < 8; ++i) {
        ASSERT_EQ(TypeParam::offset(row, col + i), TypeParam::offset(row, col) + 2 * i);
      }
    }
  }
}

TYPED_TEST(layout_test, spreads_a_column_of_units_over_the_banks) {
  constexpr int bank_bytes = 128;
  constexpr int rows_a_line = bank_bytes / TypeParam::row_bytes;
  for (int col = 0; col < TypeParam::cols; col += 8) {
    std::set<int> units;
    for (int row = 0; row < 8; ++row) units.insert(TypeParam::offset(row, col) % bank_bytes / 16);
    ASSERT_EQ(static_cast<int>(units.size()), 8 / rows_a_line * rows_a_line) << "column " << col;
  }
}

TEST(swizzle, follows_the_isa_tables) {
  // 128 bytes: unit u of row r is at u ^ r; 64: at u ^ (r / 2); 32: at u ^ (r / 4), all modulo.
  EXPECT_EQ(values::offset(0, 8), 16);
  EXPECT_EQ(values::offset(1, 0), 128 + 16);
  EXPECT_EQ(values::offset(5, 24), 5 * 128 + (3 ^ 5) * 16);
  EXPECT_EQ(values::offset(9, 0), 9 * 128 + 16);
  EXPECT_EQ(tokens::offset(3, 8), 3 * 32 + 16);
  EXPECT_EQ(tokens::offset(4, 8), 4 * 32);
  EXPECT_EQ(tokens::offset(7, 0), 7 * 32 + 16);
  EXPECT_EQ(tokens::offset(8, 0), 8 * 32);
  EXPECT_EQ(features::offset(4, 16), 2048 + 4 * 32 + 16);
  // None: core matrices of eight rows of 16 bytes, one under the other, then the next eight
  // columns.
  EXPECT_EQ((shared_layout<16, 48, swizzle::none>::offset(9, 11)), 256 + 9 * 16 + 3 * 2);
}

TEST(descriptor, encodes_strides_and_mode) {
  const auto field = [](std::uint64_t descriptor, int first) {
    return static_cast<int>(descriptor >> first & 0x3fff) << 4;
  };
  constexpr std::uint64_t phi = descriptor_template<features, ptx::major::mn>();
  EXPECT_EQ(field(phi, 16), 2048);
  EXPECT_EQ(field(phi, 32), 256);
  EXPECT_EQ(phi >> 62, 3u);
  constexpr std::uint64_t v = descriptor_template<values, ptx::major::mn>();
  EXPECT_EQ(field(v, 32), 1024);
  EXPECT_EQ(v >> 62, 1u);
  EXPECT_EQ(v & 0x3fff, 0u);
  constexpr std::uint64_t plain =
      descriptor_template<shared_layout<16, 48, swizzle::none>, ptx::major::k>();
  EXPECT_EQ(field(plain, 16), 256);
  EXPECT_EQ(field(plain, 32), 128);
  EXPECT_EQ(plain >> 62, 0u);
}

/// Where wgmma finds element (mn, k) of the operand of K indices 16 step .. 16 step + 15, by the
/// strides of a descriptor: the ISA's canonical layouts, written out as sums over the bits of mn
/// and k. A tile starts at 0, so that its offsets are addresses.
template <class Layout>
int canonical_offset(std::uint64_t fields, ptx::major major, int start, int mn, int k) {
  const auto field = [&](int first) { return static_cast<int>(fields >> first & 0x3fff) << 4; };
  const int leading = field(16), stride = field(32);
  constexpr int units = Layout::row_bytes / 16;  // 16-byte units of a swizzled row
  int linear = start;
  if (major == ptx::major::k) {
    linear += mn / 8 * stride + mn % 8 * Layout::row_bytes + k % 8 * 2;
    linear += units == 1 ? k / 8 * leading : k / 8 * 16;
  } else if (units == 1) {
    linear += mn / 8 * stride + k / 8 * leading + k % 8 * 16 + mn % 8 * 2;
  } else {
    linear += mn / (8 * units) * leading + k / 8 * stride + k % 8 * Layout::row_bytes;
    linear += mn % (8 * units) * 2;
  }
  // The swizzle is one of addresses: it XORs bits 4 .. with bits 7 .., as many as the units need.
  return linear ^ ((linear >> 3) & ((units - 1) << 4));
}

/// Whether an operand's descriptor leads to the elements of its tile, at every K step.
template <class Layout, ptx::major Major>
void check_operand() {
  constexpr bool by_rows = Major == ptx::major::k;
  constexpr int mns = by_rows ? Layout::rows : Layout::cols;
  constexpr int depth = by_rows ? Layout::cols : Layout::rows;
  constexpr std::uint64_t fields = descriptor_template<Layout, Major>();
  for (int step = 0; step < depth / 16; ++step) {
    const int start = Layout::operand_offset(Major, step);
    ASSERT_EQ(start % 16, 0);
    for (int mn = 0; mn < mns; ++mn) {
      for (int k = 0; k < 16; ++k) {
        const int expected =
            by_rows ? Layout::offset(mn, 16 * step + k) : Layout::offset(16 * step + k, mn);
        ASSERT_EQ(canonical_offset<Layout>(fields, Major, start, mn, k), expected)
            << "step " << step << ", row or column " << mn << ", K index " << k;
      }
    }
  }
}

template <class Layout>
class operand_test : public ::testing::Test {};
// Tiles of attention at a head's dimensions of 64 and 128, Based's, and one of each swizzle whose
// columns and rows are both several panels and K steps.
using operand_layouts = ::testing::Types<
    shared_layout<64, 64, swizzle::bytes128>, shared_layout<64, 128, swizzle::bytes128>,
    shared_layout<128, 128, swizzle::bytes128>, shared_layout<192, 64, swizzle::bytes128>, tokens,
    features, state, shared_layout<48, 96, swizzle::bytes64>,
    shared_layout<48, 96, swizzle::bytes32>, shared_layout<48, 96, swizzle::none>>;
TYPED_TEST_SUITE(operand_test, operand_layouts);

TYPED_TEST(operand_test, is_found_k_major) {
  check_operand<TypeParam, ptx::major::k>();
}
TYPED_TEST(operand_test, is_found_mn_major) {
  check_operand<TypeParam, ptx::major::mn>();
}

}  // namespace
}  // namespace based
