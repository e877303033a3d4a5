// The head dimensions that operations on queries, keys and values may have. Axes, validation and
// instantiations follow from the one list.
#pragma once

#include <cstddef>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace based {

inline constexpr int head_dims[] = {64, 128};

/// Calls f.operator()<Dim>() with Dim the head dimension, which is one of head_dims: the problem
/// was validated.
template <class Function>
void with_head_dim(int head_dim, Function f) {
  const auto call_its = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return ((head_dim == head_dims[I] && (f.template operator()<head_dims[I]>(), true)) || ...);
  };
  if (!call_its(std::make_index_sequence<std::size(head_dims)>())) {
    throw std::logic_error("a head dimension that was not validated");
  }
}

}  // namespace based
