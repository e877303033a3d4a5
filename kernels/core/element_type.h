// The element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"

namespace based {

/// i32 is of indices alone, as token ids; an implementation computes in one of the others.
enum class element_type { f32, bf16, fp16, i32 };

constexpr std::string_view to_string(element_type type) {
  constexpr std::string_view names[] = {"f32", "bf16", "fp16", "i32"};
  return names[static_cast<int>(type)];
}
constexpr std::size_t bytes_of(element_type type) {
  constexpr std::size_t bytes[] = {sizeof(float), sizeof(bf16), sizeof(fp16), sizeof(std::int32_t)};
  return bytes[static_cast<int>(type)];
}

/// The enumerator of float, bf16 or fp16.
template <class T>
inline constexpr element_type element_of =
    std::is_same_v<std::remove_const_t<T>, bf16>   ? element_type::bf16
    : std::is_same_v<std::remove_const_t<T>, fp16> ? element_type::fp16
                                                   : element_type::f32;

/// Conversion from fp32 to an element of a tensor. NaN is the least of all indices, which is none.
template <class T>
constexpr T from_float(float value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(value);
  } else if constexpr (std::is_same_v<T, fp16>) {
    return to_fp16(value);
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return value != value ? std::numeric_limits<T>::min() : static_cast<T>(value);
  } else {
    return value;
  }
}
/// Exact for indices below 2^24.
constexpr float to_float(std::int32_t index) {
  return static_cast<float>(index);
}

/// Calls f(std::type_identity<T>()) with the T of `type`, in which an implementation computes.
template <class Function>
constexpr auto with_real_type_of(element_type type, Function f) {
  switch (type) {
    case element_type::bf16:
      return f(std::type_identity<bf16>());
    case element_type::fp16:
      return f(std::type_identity<fp16>());
    default:
      return f(std::type_identity<float>());
  }
}

/// As with_real_type_of, with the T of any tensor's elements.
template <class Function>
constexpr auto with_type_of(element_type type, Function f) {
  if (type == element_type::i32) return f(std::type_identity<std::int32_t>());
  return with_real_type_of(type, f);
}

}  // namespace based
