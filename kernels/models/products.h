// A model's matrix products: y = x W^T, fp32 sums. On CUDA they are cuBLASLt's (products_cuda.cpp),
// on the CPU a register-blocked product (products_cpu.cpp).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "kernels/core/implementation.h"

namespace based::models {

/// Which elements of an activation lie side by side: a token's, or a channel's.
enum class activation_order { token_major, channel_major };

template <class T>
struct activation {
  T* data = nullptr;
  std::int64_t stride = 0;  ///< elements from one token, or channel, to the next
  activation_order order = activation_order::token_major;

  template <std::same_as<const T> Const>
  constexpr operator activation<Const>() const {
    return {data, stride, order};
  }
};

/// T is float on the CPU, bf16 on CUDA.
template <class T>
struct product_args {
  std::int64_t tokens, inputs, outputs;
  activation<const T> x;
  const T* weight;  ///< [outputs, inputs]
  /// One of the two: y in T, or fp32 numbers [tokens, outputs], to which the product is added where
  /// `accumulates`.
  activation<T> y = {};
  float* sum = nullptr;
  std::int64_t sum_stride = 0;  ///< elements from one token's to the next
  bool accumulates = false;
  const float* bias = nullptr;  ///< [outputs], of a sum; null: none
};

/// Device memory that a product may use; any two products on one stream may share it.
template <class T>
std::size_t product_workspace_bytes();

/// Why no product can be made: the library is missing. Empty: they can.
template <class T>
unsupported_reason products_unavailable();

/// Only enqueues, except that the first call of a shape asks the library which algorithm to use.
/// Throws std::runtime_error for what the library cannot do.
template <class T>
void multiply(const product_args<T>& args, void* workspace, cuda_stream stream);

}  // namespace based::models
