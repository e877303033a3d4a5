// A view of the recurrent state of Based.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include "kernels/based/features.h"
#include "kernels/core/tensor_view.h"

namespace based {

/// The state after some tokens: per (b, h), kv[r][c] = sum_n phi_k(k_n)[r] v_n[c] and
/// z[r] = sum_n phi_k(k_n)[r], rows in the compact order of features.h, fp32, contiguous.
template <class T>
struct kv_state_view {
  std::span<T> kv = {};  ///< [B, H, 153, 64]
  std::span<T> z = {};   ///< [B, H, 153]; needed with normalisation only

  BASED_HOST_DEVICE constexpr T* kv_head(std::int64_t head) const {
    return kv.data() + head * compact_features * value_dim;
  }
  BASED_HOST_DEVICE constexpr T* z_head(std::int64_t head) const {
    return z.empty() ? nullptr : z.data() + head * compact_features;
  }

  template <std::same_as<const T> Const>
  constexpr operator kv_state_view<Const>() const {
    return {kv, z};
  }
};

}  // namespace based
