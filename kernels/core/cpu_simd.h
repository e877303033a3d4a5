// What the CPU implementations are built of: vectors of floats, one register-blocked matrix product
// and an exponential. In the compiler's vector extension, so that one source serves AVX-512, AVX2
// and narrower machines.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace based::cpu {

/// Largest relative error accepted of an fp32 implementation.
inline constexpr double tolerance = 1e-5;

#if defined(__AVX512F__)
inline constexpr int lanes = 16;
inline constexpr int block_rows = 8;  // times two vectors: 16 of 32 registers accumulate
#elif defined(__AVX__)
inline constexpr int lanes = 8;
inline constexpr int block_rows = 6;  // times two vectors: 12 of 16 registers accumulate
#else
inline constexpr int lanes = 4;
inline constexpr int block_rows = 6;
#endif

/// A register of floats; arithmetic, comparison and ?: work on each element.
typedef float vec __attribute__((vector_size(lanes * sizeof(float))));
typedef std::int32_t int_vec __attribute__((vector_size(lanes * sizeof(float))));
typedef float unaligned_vec
    __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline vec load(const float* from) {
  return *reinterpret_cast<const unaligned_vec*>(from);
}
inline void store(float* to, vec value) {
  *reinterpret_cast<unaligned_vec*>(to) = value;
}

/// A matrix anywhere in memory: element (i, j) is data[i * row + j * column].
struct strided_matrix {
  const float* data;
  std::int64_t row;
  std::int64_t column;
};

namespace detail {

template <int Rows, int Vectors>
void multiply_block(std::int64_t depth, strided_matrix a, const float* b, std::int64_t b_row,
                    float* c, std::int64_t c_row, bool accumulate) {
  vec sum[Rows][Vectors] = {};
  for (std::int64_t l = 0; l < depth; ++l) {
    vec b_l[Vectors];
    for (int v = 0; v < Vectors; ++v) b_l[v] = load(b + l * b_row + v * lanes);
    for (int i = 0; i < Rows; ++i) {
      const float a_il = a.data[i * a.row + l * a.column];
      for (int v = 0; v < Vectors; ++v) sum[i][v] += a_il * b_l[v];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Vectors; ++v) {
      // Added last: rounding grows with the depth and the number of calls, not with their product.
      float* at = c + i * c_row + v * lanes;
      store(at, accumulate ? load(at) + sum[i][v] : sum[i][v]);
    }
  }
}

/// All rows of one panel of columns: blocks of `Rows`, then what is left in blocks of half.
template <int Rows, int Vectors>
void multiply_panel(std::int64_t count, std::int64_t depth, strided_matrix a, const float* b,
                    std::int64_t b_row, float* c, std::int64_t c_row, bool accumulate) {
  for (; count >= Rows; count -= Rows) {
    multiply_block<Rows, Vectors>(depth, a, b, b_row, c, c_row, accumulate);
    a.data += Rows * a.row;
    c += Rows * c_row;
  }
  if constexpr (Rows > 1) {
    if (count > 0) {
      multiply_panel<Rows / 2, Vectors>(count, depth, a, b, b_row, c, c_row, accumulate);
    }
  }
}

}  // namespace detail

/// c = a b, or c += a b where accumulating: a [rows, depth] with any strides, b [depth, columns]
/// and c [rows, columns] with contiguous rows. `columns` must be a multiple of `lanes`.
inline void multiply(std::int64_t rows, std::int64_t columns, std::int64_t depth, strided_matrix a,
                     const float* b, std::int64_t b_row, float* c, std::int64_t c_row,
                     bool accumulate) {
  constexpr int panel = 2 * lanes;
  std::int64_t at = 0;
  for (; at + panel <= columns; at += panel) {
    detail::multiply_panel<block_rows, 2>(rows, depth, a, b + at, b_row, c + at, c_row, accumulate);
  }
  if (at < columns) {
    detail::multiply_panel<block_rows, 1>(rows, depth, a, b + at, b_row, c + at, c_row, accumulate);
  }
}

/// x[d][t] = factor * token t's element d, zero for t >= count.
template <int Tokens, int Dim>
void load_transposed(const float* from, std::int64_t token_stride, std::int64_t count, float factor,
                     float (&x)[Dim][Tokens]) {
  for (int d = 0; d < Dim; ++d) std::fill_n(x[d], Tokens, 0.0f);
  for (std::int64_t t = 0; t < count; ++t) {
    for (int d = 0; d < Dim; ++d) x[d][t] = factor * from[t * token_stride + d];
  }
}

/// 2^x for x <= 0, to about one unit in the last place; 0 below the smallest normal number, -inf
/// included. (std::exp keeps the compiler from vectorising a loop.)
inline vec exp2_nonpositive(vec x) {
  constexpr float smallest = -126;               // 2^x is a normal number from here on
  constexpr float round_to_integer = 0x1.8p23f;  // adding it leaves no fraction bits
  constexpr float ln2 = 0.693147180559945309f;
  // 1/k! of exp(r) = sum_k r^k/k!; |r| <= ln2/2, so r^8/8! is below half a unit in the last place.
  constexpr float inverse_factorial[] = {1.0f,      1.0f,       1.0f / 2,   1.0f / 6,
                                         1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
  constexpr int degree = 7;
  constexpr int mantissa_bits = 23;

  const vec clamped = x < smallest ? vec{} + smallest : x;
  const vec whole = (clamped + round_to_integer) - round_to_integer;
  const vec r = (clamped - whole) * ln2;
  vec sum = vec{} + inverse_factorial[degree];
  for (int k = degree - 1; k >= 0; --k) sum = sum * r + inverse_factorial[k];
  const int_vec exponent = __builtin_convertvector(whole, int_vec) << mantissa_bits;
  const vec result = std::bit_cast<vec>(std::bit_cast<int_vec>(sum) + exponent);
  return x < smallest ? vec{} : result;
}

}  // namespace based::cpu
