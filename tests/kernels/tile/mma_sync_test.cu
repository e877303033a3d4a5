// The tile layer's mma.sync side: copies, blocks as either operand, products; against plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/bf16.h"
#include "kernels/common/cuda_check.h"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/padded_tile.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "tests/support/device_bytes.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

constexpr int size = 16;
constexpr int threads = 32;  // one warp
constexpr int source_stride = 24;
constexpr int source_rows = 64;
constexpr int valid_rows = 50;    // the copies' others are zeros
constexpr int row = 16, col = 0;  // where the blocks start in their tiles
constexpr int copied = 10;        // of the block's rows, by store_rows()

/// What the kernel writes, each [16 x 16].
enum output {
  product,             // A B^T
  left_transposed,     // A^T B^T
  right_transposed,    // A B
  both_transposed,     // A^T B
  stored,              // A, through store()
  copied_rows,         // A's first rows, through store_rows()
  product_of_rounded,  // bf16(A B^T) bf16(A B^T)^T
  row_sums,            // of A, in each column
  past_the_end,        // the last sixteen of the copied rows
  outputs
};

template <class Tile>
__global__ void operations_kernel(const bf16* a_source, const bf16* b_source, float* results) {
  __shared__ Tile a, b, c;
  block::load_async<threads>(a, a_source, source_stride, valid_rows);
  block::load_async<threads>(b, b_source, source_stride, valid_rows);
  block::commit_loads();
  block::wait_loads<0>();
  __syncthreads();

  const auto write = [&](output which, const accumulator_tile<size>& tile) {
    for (int e = 0; e < tile.size; ++e) {
      const int i = warp::lane() / 4 + e % 4 / 2 * 8;
      const int j = e / 4 * 8 + 2 * (warp::lane() % 4) + e % 2;
      results[(which * size + i) * size + j] = tile.value[e];
    }
  };
  const auto multiply = [](const operand_slice& left, const right_slice& right) {
    accumulator_tile<size> d = {};
    warp::mma_ABt(d, 0, left, right);
    return d;
  };
  const auto write_operand = [&](output which, const operand_slice& x) {
    accumulator_tile<size> tile;
    for (int i = 0; i < 4; ++i) {
      tile.value[2 * i] = ptx::low_half(x.word[i]);
      tile.value[2 * i + 1] = ptx::high_half(x.word[i]);
    }
    write(which, tile);
  };

  const operand_slice left = warp::load(a, row, col);
  const operand_slice left_t = warp::load_transposed(a, row, col);
  const right_slice right = warp::load_right(b, row, col);
  const right_slice right_t = warp::load_transposed_right(b, row, col);
  write(product, multiply(left, right));
  write(left_transposed, multiply(left_t, right));
  write(right_transposed, multiply(left, right_t));
  write(both_transposed, multiply(left_t, right_t));

  warp::store(c, row, col, left);
  __syncwarp();
  write_operand(stored, warp::load(c, row, col));

  __shared__ alignas(16) std::uint16_t rows[source_rows * size];
  for (int i = warp::lane(); i < source_rows * size; i += threads) rows[i] = 0;
  __syncwarp();
  warp::store_rows(rows, size, row + copied, a, row);
  __syncwarp();
  for (int i = warp::lane(); i < size * size; i += threads) {
    results[copied_rows * size * size + i] = ptx::low_half(rows[row * size + i]);
  }

  const operand_slice rounded = to_bf16(multiply(left, right), 0);
  write(product_of_rounded, multiply(rounded, warp::as_right(rounded)));

  float sums[2] = {0, 0};
  warp::add_rows(sums, left);
  const float upper = warp::sum_of_row(sums[0]), lower = warp::sum_of_row(sums[1]);
  write(row_sums, {{upper, upper, lower, lower, upper, upper, lower, lower}});
  write_operand(past_the_end, warp::load(a, source_rows - size, col));
}

class mma_sync_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
    run_all<padded_tile<source_rows, size>>(padded_);
    run_all<shared_tile<source_rows, size, swizzle::bytes32>>(swizzled_);
  }

  double a(int i, int j) const { return a_[(row + i) * source_stride + col + j]; }
  double b(int i, int j) const { return b_[(row + i) * source_stride + col + j]; }

  /// One tile's output is expected(i, j), up to the rounding of fp32 sums.
  template <class Expected>
  static void check(const std::vector<float>& results, output which, Expected expected) {
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) {
        const double wanted = expected(i, j);
        EXPECT_NEAR(at(results, which, i, j), wanted, 1e-5 * std::max(1.0, std::abs(wanted)))
            << "row " << i << ", column " << j;
      }
    }
  }
  template <class Expected>
  void check(output which, Expected expected) const {
    check(padded_, which, expected);
    check(swizzled_, which, expected);
  }
  static float at(const std::vector<float>& results, output which, int i, int j) {
    return results[(which * size + i) * size + j];
  }

  std::vector<float> padded_, swizzled_;  // the kernel's outputs

 private:
  template <class Tile>
  void run_all(std::vector<float>& results) {
    results.resize(outputs * size * size);
    const std::vector<bf16> a_bits = bits(a_), b_bits = bits(b_);
    const auto a_bytes = std::as_bytes(std::span(a_bits)),
               b_bytes = std::as_bytes(std::span(b_bits));
    support::device_bytes a(device_kind::cuda, a_bytes.size());
    support::device_bytes b(device_kind::cuda, b_bytes.size());
    support::device_bytes d(device_kind::cuda, results.size() * sizeof(float));
    a.write(0, a_bytes);
    b.write(0, b_bytes);
    d.fill(0, d.size(), std::byte{0xff});
    operations_kernel<Tile><<<1, threads>>>(reinterpret_cast<const bf16*>(a.data()),
                                            reinterpret_cast<const bf16*>(b.data()),
                                            reinterpret_cast<float*>(d.data()));
    BASED_CUDA_LAUNCHED();
    d.read(0, std::as_writable_bytes(std::span(results)));
  }
  static std::vector<bf16> bits(const std::vector<float>& values) {
    std::vector<bf16> result;
    for (const float value : values) result.push_back(to_bf16(value));
    return result;
  }

  std::vector<float> a_ = support::normal_values(source_rows * source_stride, 1);
  std::vector<float> b_ = support::normal_values(source_rows * source_stride, 2);
};

template <class Term>
double sum(Term term) {
  double total = 0;
  for (int k = 0; k < size; ++k) total += term(k);
  return total;
}

TEST_F(mma_sync_test, multiplies) {
  check(product, [&](int i, int j) { return sum([&](int k) { return a(i, k) * b(j, k); }); });
  check(left_transposed,
        [&](int i, int j) { return sum([&](int k) { return a(k, i) * b(j, k); }); });
  check(right_transposed,
        [&](int i, int j) { return sum([&](int k) { return a(i, k) * b(k, j); }); });
  check(both_transposed,
        [&](int i, int j) { return sum([&](int k) { return a(k, i) * b(k, j); }); });
}

TEST_F(mma_sync_test, takes_rounded_results_as_operands) {
  for (const auto& results : {padded_, swizzled_}) {
    const auto rounded = [&](int i, int k) -> double {
      return to_float(to_bf16(at(results, product, i, k)));
    };
    check(results, product_of_rounded,
          [&](int i, int j) { return sum([&](int k) { return rounded(i, k) * rounded(j, k); }); });
  }
}

TEST_F(mma_sync_test, stores_and_scales) {
  check(stored, [&](int i, int j) { return a(i, j); });
}

TEST_F(mma_sync_test, stores_rows_up_to_the_end) {
  check(copied_rows, [&](int i, int j) { return i < copied ? a(i, j) : 0.0; });
}

TEST_F(mma_sync_test, sums_rows) {
  check(row_sums, [&](int i, int) { return sum([&](int k) { return a(i, k); }); });
}

TEST_F(mma_sync_test, fills_rows_past_the_end_with_zeros) {
  check(past_the_end, [&](int i, int j) {
    const int source_row = source_rows - size + i;
    return source_row < valid_rows ? a(source_row - row, j) : 0.0;
  });
}

}  // namespace
}  // namespace based
