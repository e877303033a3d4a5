// What the launchers of ThunderKittens' kernels share. The kernels are the files of a checkout of
// https://github.com/HazyResearch/ThunderKittens, compiled as they are with the flags of its
// Makefile (CMakeLists.txt); only the launchers are this project's: they run on the caller's
// stream, take their outputs from the caller, and neither allocate nor wait, as the checkout's own
// bindings do.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
#include "kernels/core/error.h"
#include "kernels/core/tensor_view.h"

namespace based::thunderkittens {

/// The commit of the checkout that this binary was built from.
inline constexpr const char* commit = BASED_THUNDERKITTENS_COMMIT;

/// Why the current device or the kernels' grid cannot run this many heads and sequences; empty:
/// they can.
inline std::optional<std::string> unsupported_grid(std::int64_t batch, std::int64_t heads,
                                                   std::int64_t seqlen) {
  constexpr int hopper = 9;
  const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  if (major && *major != hopper) return "the kernel is built for sm_90a alone";
  constexpr std::int64_t largest_grid = std::numeric_limits<std::uint16_t>::max();
  if (batch > largest_grid || heads > largest_grid) {
    return "the original's grid takes at most 65535 batches and heads";
  }
  if (seqlen > std::numeric_limits<int>::max()) return "the original counts tokens in 32 bits";
  return std::nullopt;
}

/// Throws invalid_argument unless the tensor [B, H, N, D] has no gaps: the kernels know no strides.
template <class T>
void require_packed(const char* name, const sequence_view<T>& view, std::int64_t heads,
                    std::int64_t seqlen, int dim) {
  const auto packed = sequence_view<T>::bhnd(view.data, heads, seqlen, dim);
  BASED_REQUIRE(
      view.token_stride == packed.token_stride &&
          (heads == 1 || view.head_stride == packed.head_stride) &&
          view.batch_stride == packed.batch_stride,
      std::string(name) + " must be [B, H, N, D] without gaps: the original knows no strides");
}

/// The dimensions of a call's sequences.
struct sequence_sizes {
  std::int64_t heads, key_heads, seqlen;
  int key_dim, value_dim;  ///< of q and k, of v and o
};

/// As above, of q, k, v and o of a call.
template <class Args>
void require_packed(const Args& args, const sequence_sizes& sizes) {
  require_packed("q", args.q, sizes.heads, sizes.seqlen, sizes.key_dim);
  require_packed("k", args.k, sizes.key_heads, sizes.seqlen, sizes.key_dim);
  require_packed("v", args.v, sizes.key_heads, sizes.seqlen, sizes.value_dim);
  require_packed("o", args.o, sizes.heads, sizes.seqlen, sizes.value_dim);
}

/// The pointer as the checkout's kernels take it: they know no const.
inline kittens::bf16* theirs(const bf16* data) {
  return reinterpret_cast<kittens::bf16*>(const_cast<bf16*>(data));
}

/// Allows `kernel` its shared memory on the current device.
template <class Kernel>
void allow_shared_bytes(Kernel* kernel, std::size_t bytes) {
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
}

}  // namespace based::thunderkittens
