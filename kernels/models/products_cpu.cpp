// Matrix products on the CPU: blocks of tokens, transposed into rows of channels, by all outputs.
#include <algorithm>
#include <vector>

#include "kernels/core/cpu_simd.h"
#include "kernels/models/products.h"

namespace based::models {
namespace {

constexpr std::int64_t block = 2 * std::int64_t{cpu::lanes};  // tokens

/// Where element (token, channel) lies.
template <class T>
T* element(const activation<T>& of, std::int64_t token, std::int64_t channel) {
  return of.order == activation_order::token_major ? of.data + token * of.stride + channel
                                                   : of.data + channel * of.stride + token;
}

void multiply_tokens(const product_args<float>& args, std::int64_t first) {
  const std::int64_t count = std::min(block, args.tokens - first);
  std::vector<float> x(static_cast<std::size_t>(args.inputs * block));   // [inputs, block]
  std::vector<float> y(static_cast<std::size_t>(args.outputs * block));  // [outputs, block]
  for (std::int64_t i = 0; i < args.inputs; ++i) {
    for (std::int64_t t = 0; t < count; ++t) {
      x[static_cast<std::size_t>(i * block + t)] = *element(args.x, first + t, i);
    }
  }
  cpu::multiply(args.outputs, block, args.inputs, {args.weight, args.inputs, 1}, x.data(), block,
                y.data(), block, false);
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t o = 0; o < args.outputs; ++o) {
      const float value = y[static_cast<std::size_t>(o * block + t)];
      if (args.sum == nullptr) {
        *element(args.y, first + t, o) = value;
        continue;
      }
      float& sum = args.sum[(first + t) * args.sum_stride + o];
      sum = value + (args.accumulates ? sum : 0) + (args.bias == nullptr ? 0 : args.bias[o]);
    }
  }
}

}  // namespace

template <>
std::size_t product_workspace_bytes<float>() {
  return 0;
}

template <>
unsupported_reason products_unavailable<float>() {
  return std::nullopt;
}

template <>
void multiply(const product_args<float>& args, void* /*workspace*/, cuda_stream /*stream*/) {
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t first = 0; first < args.tokens; first += block) multiply_tokens(args, first);
}

}  // namespace based::models
