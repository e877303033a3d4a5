// The warpgroup's products at every width, with A in registers and in shared memory, all majors,
// both element types and all swizzles, against a plain loop.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"
#include "kernels/tile/warpgroup.cuh"
#include "tests/kernels/tile/tile_values.cuh"
#include "tests/support/inputs.h"

namespace based {
namespace {

constexpr int named_barrier = 1;

class products_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = needs_hopper()) GTEST_SKIP() << *reason;
  }
};

/// D [64 x N] = A [64 x K] B [K x N], and the operands both ways round.
template <int N, int K, swizzle Swizzle, class Element>
struct product {
  static constexpr int n = N, k = K;
  static constexpr int panel_cols = static_cast<int>(Swizzle) / sizeof(Element);
  /// Columns of B in shared memory: whole panels.
  static constexpr int b_cols = (N + panel_cols - 1) / panel_cols * panel_cols;
  using element = Element;

  struct storage {
    shared_tile<64, K, Swizzle, Element> a;
    shared_tile<K, 64, Swizzle, Element> a_transposed;
    shared_tile<K, b_cols, Swizzle, Element> b;
    shared_tile<N, K, Swizzle, Element> b_transposed;
  };
};
struct product_operands {
  const bits *a, *a_transposed, *b, *b_transposed;
};

constexpr int forms = 6;  // of a product, in the order of the kernel

/// Each form's 2 A B, one behind the other: A B in place of NaN, and once more added to it.
template <class Product>
__global__ void __launch_bounds__(warpgroup::threads)
    products_kernel(product_operands from, float* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  auto& shared = *reinterpret_cast<typename Product::storage*>(shared_bytes);
  write_elements(shared.a, from.a);
  write_elements(shared.a_transposed, from.a_transposed);
  write_elements(shared.b, from.b);
  write_elements(shared.b_transposed, from.b_transposed);
  ptx::fence_proxy_async();
  warpgroup::sync<named_barrier>();

  using warpgroup::mma_mode;
  const auto multiply_twice = [&](auto multiply) {
    accumulator_tile<Product::n> d;
#pragma unroll
    for (int i = 0; i < d.size; ++i) d.value[i] = __uint_as_float(~0u);
    warpgroup::mma_fence();
    multiply.template operator()<mma_mode::overwrite>(d);
    multiply.template operator()<mma_mode::accumulate>(d);
    warpgroup::mma_commit();
    warpgroup::mma_wait<0>(d);
    drain(d, destination);
    destination += 64 * Product::n;
  };
  const operand_tile<Product::k> a = warpgroup::load(shared.a);
  multiply_twice([&]<mma_mode Mode>(auto& d) { warpgroup::mma_AB<Mode>(d, a, shared.b); });
  multiply_twice([&]<mma_mode Mode>(auto& d) { warpgroup::mma_AB<Mode>(d, shared.a, shared.b); });
  multiply_twice(
      [&]<mma_mode Mode>(auto& d) { warpgroup::mma_ABt<Mode>(d, a, shared.b_transposed); });
  multiply_twice(
      [&]<mma_mode Mode>(auto& d) { warpgroup::mma_ABt<Mode>(d, shared.a, shared.b_transposed); });
  multiply_twice(
      [&]<mma_mode Mode>(auto& d) { warpgroup::mma_AtB<Mode>(d, shared.a_transposed, shared.b); });
  multiply_twice([&]<mma_mode Mode>(auto& d) {
    warpgroup::mma_AtBt<Mode>(d, shared.a_transposed, shared.b_transposed);
  });
}

/// A product's shape and kernel, without its types.
struct product_case {
  int n, k, b_cols, panel_bytes;
  bits (*bits_of)(float);
  void (*kernel)(product_operands, float*);
  std::size_t shared_bytes;
};

template <int N, int K, swizzle Swizzle, class Element>
product_case make_case() {
  using product = product<N, K, Swizzle, Element>;
  const auto bits_of = [](float value) {
    if constexpr (std::is_same_v<Element, fp16>) {
      return to_fp16(value).bits;
    } else {
      return to_bf16(value).bits;
    }
  };
  return {N,
          K,
          product::b_cols,
          static_cast<int>(Swizzle),
          bits_of,
          products_kernel<product>,
          sizeof(typename product::storage)};
}

/// The bits of value(row, col) [rows x cols].
template <class Value>
std::vector<bits> matrix_bits(const product_case& of, int rows, int cols, Value value) {
  std::vector<bits> result;
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < cols; ++col) result.push_back(of.bits_of(value(row, col)));
  }
  return result;
}

void check_products(const product_case& tested) {
  SCOPED_TRACE("N = " + std::to_string(tested.n) + ", K = " + std::to_string(tested.k) +
               ", panels of " + std::to_string(tested.panel_bytes) + " bytes");
  const int depth = tested.k, width = tested.n, size = warpgroup::rows * tested.n;
  const auto a = support::normal_values(warpgroup::rows * depth, 1);
  const auto b = support::normal_values(depth * width, 2);
  const auto a_at = [&](int m, int k) { return a[m * depth + k]; };
  const auto b_at = [&](int k, int n) { return n < width ? b[k * width + n] : NAN; };
  const auto turned = [](auto at) { return [=](int row, int col) { return at(col, row); }; };
  device_array<bits> device_a(matrix_bits(tested, warpgroup::rows, depth, a_at)),
      a_transposed(matrix_bits(tested, depth, warpgroup::rows, turned(a_at))),
      device_b(matrix_bits(tested, depth, tested.b_cols, b_at)),
      b_transposed(matrix_bits(tested, width, depth, turned(b_at)));
  device_array<float> d(forms * size);
  launch(
      tested.kernel, tested.shared_bytes,
      product_operands{device_a.data(), a_transposed.data(), device_b.data(), b_transposed.data()},
      d.data());

  std::vector<double> expected(size);
  for (int row = 0; row < warpgroup::rows; ++row) {
    for (int col = 0; col < width; ++col) {
      for (int k = 0; k < depth; ++k) {
        expected[row * width + col] += 2.0 * a_at(row, k) * b_at(k, col);
      }
    }
  }
  const std::vector<float> results = d.read();
  const char* const names[forms] = {
      "A B, A in registers", "A B", "A B^T, A in registers", "A B^T", "A^T B", "A^T B^T"};
  for (int form = 0; form < forms; ++form) {
    const auto first = results.begin() + form * size;
    EXPECT_LT(worst_error({first, first + size}, warpgroup::rows, width,
                          [&](int row, int col) { return expected[row * width + col]; }),
              rounding)
        << names[form];
  }
}

/// Widths 8, 16, ... 256.
template <class Element, int... Eights>
void check_all_widths(std::integer_sequence<int, Eights...>) {
  (check_products(make_case<8 * (Eights + 1), 64, swizzle::bytes128, Element>()), ...);
}

TEST_F(products_test, multiplies_bf16_at_every_width) {
  check_all_widths<bf16>(std::make_integer_sequence<int, 32>());
}
TEST_F(products_test, multiplies_fp16_at_every_width) {
  check_all_widths<fp16>(std::make_integer_sequence<int, 32>());
}

/// Widths of one panel, of part of one, of several and of several and a part.
template <swizzle Swizzle>
void check_swizzle() {
  check_products(make_case<8, 32, Swizzle, bf16>());
  check_products(make_case<64, 64, Swizzle, bf16>());
  check_products(make_case<72, 96, Swizzle, bf16>());
  check_products(make_case<152, 32, Swizzle, bf16>());
}

TEST_F(products_test, multiplies_tiles_without_a_swizzle) {
  check_swizzle<swizzle::none>();
}
TEST_F(products_test, multiplies_tiles_of_32_byte_panels) {
  check_swizzle<swizzle::bytes32>();
}
TEST_F(products_test, multiplies_tiles_of_64_byte_panels) {
  check_swizzle<swizzle::bytes64>();
}

/// K steps that cross panels, as the scores and outputs of attention have them at a head's
/// dimension of 128: Q [64 x 128] K^T, K [64 x 128] or [128 x 128]; P [64 x 128] V, V [128 x 128].
TEST_F(products_test, multiplies_tiles_of_several_panels) {
  check_products(make_case<64, 128, swizzle::bytes128, bf16>());
  check_products(make_case<128, 128, swizzle::bytes128, bf16>());
  check_products(make_case<128, 192, swizzle::bytes128, fp16>());
}

}  // namespace
}  // namespace based
