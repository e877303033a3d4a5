// The element types of tensors.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"

namespace based {

enum class element_type { f32, bf16, fp16 };

constexpr std::string_view to_string(element_type type) {
  constexpr std::string_view names[] = {"f32", "bf16", "fp16"};
  return names[static_cast<int>(type)];
}
constexpr std::size_t bytes_of(element_type type) {
  return type == element_type::f32 ? sizeof(float) : sizeof(bf16);
}

/// The enumerator of float, bf16 or fp16.
template <class T>
inline constexpr element_type element_of =
    std::is_same_v<std::remove_const_t<T>, bf16>   ? element_type::bf16
    : std::is_same_v<std::remove_const_t<T>, fp16> ? element_type::fp16
                                                   : element_type::f32;

/// Conversion from fp32 to an implementation's element type.
template <class T>
constexpr T from_float(float value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(value);
  } else if constexpr (std::is_same_v<T, fp16>) {
    return to_fp16(value);
  } else {
    return value;
  }
}

/// Calls f(std::type_identity<T>()) with the T of `type`.
template <class Function>
constexpr auto with_type_of(element_type type, Function f) {
  switch (type) {
    case element_type::bf16:
      return f(std::type_identity<bf16>());
    case element_type::fp16:
      return f(std::type_identity<fp16>());
    case element_type::f32:
      break;
  }
  return f(std::type_identity<float>());
}

}  // namespace based
