// Descriptors by which the copy engine reads and writes tiles of [B, H, N, D] tensors: host side.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/error.h"
#include "kernels/core/fp16.h"
#include "kernels/core/tensor_view.h"
#include "kernels/tile/shared_layout.h"

namespace based {

namespace detail {

/// The driver's encoder, through the runtime: nothing links the driver.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encoder = [] {
    constexpr unsigned int first_version = 12000;
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    BASED_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, first_version,
                                                cudaEnableDefault, &result));
    BASED_REQUIRE(result == cudaDriverEntryPointSuccess && function != nullptr,
                  "the driver has no tensor maps: it is older than CUDA 12.0");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return encoder;
}

constexpr CUtensorMapSwizzle tensor_map_swizzle(int row_bytes) {
  return row_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
         : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
         : row_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                           : CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace detail

/// The map of a bf16 or fp16 tensor [B, H, N, Layout::cols] cut into tiles of `Layout` along N. A
/// copy moves one panel of a tile, with coordinates (the panel's first column, n, h, b); it reads
/// zeros for tokens past `seqlen` and does not write them.
/// Throws invalid_argument where the driver refuses (a stride of 2^40 bytes or more).
template <class Layout, class T>
CUtensorMap make_tensor_map(const sequence_view<T>& view, std::int64_t batch, std::int64_t heads,
                            std::int64_t seqlen) {
  using element = std::remove_const_t<T>;
  static_assert(std::is_same_v<element, bf16> || std::is_same_v<element, fp16>);
  static_assert(Layout::rows <= 256, "a box has at most 256 rows");
  constexpr int rank = 4;
  using extents = std::array<cuuint64_t, rank>;
  const extents shape = {Layout::cols, static_cast<cuuint64_t>(seqlen),
                         static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(batch)};
  const std::array<cuuint64_t, rank - 1> stride_bytes = {
      static_cast<cuuint64_t>(view.token_stride) * sizeof(T),
      static_cast<cuuint64_t>(view.head_stride) * sizeof(T),
      static_cast<cuuint64_t>(view.batch_stride) * sizeof(T)};
  const std::array<cuuint32_t, rank> box = {Layout::panel_cols, Layout::rows, 1, 1};
  const std::array<cuuint32_t, rank> element_strides = {1, 1, 1, 1};
  constexpr CUtensorMapDataType type = std::is_same_v<element, bf16>
                                           ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                           : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  CUtensorMap map;
  const CUresult result = detail::tensor_map_encoder()(
      &map, type, rank, const_cast<void*>(static_cast<const void*>(view.data)), shape.data(),
      stride_bytes.data(), box.data(), element_strides.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      detail::tensor_map_swizzle(Layout::row_bytes), CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  BASED_REQUIRE(result == CUDA_SUCCESS,
                "the driver refused a tensor map (code " + std::to_string(result) + ") of " +
                    std::to_string(batch) + " x " + std::to_string(heads) + " x " +
                    std::to_string(seqlen) + " x " + std::to_string(Layout::cols) +
                    " with byte strides " + std::to_string(stride_bytes[2]) + ", " +
                    std::to_string(stride_bytes[1]) + ", " + std::to_string(stride_bytes[0]));
  return map;
}

}  // namespace based
