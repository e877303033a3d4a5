// Into how many pieces cached_attention cuts each head's cache, and what merging them needs. Known
// without a device, so that a workspace can be sized anywhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace based::models {

struct cache_pieces {
  std::int64_t heads;                        ///< of all sequences
  int count;                                 ///< of a head
  std::size_t counter_bytes, partial_bytes;  ///< of the workspace, one after the other

  cache_pieces(std::int64_t batch, std::int64_t heads_of_one, int head_dim, std::int64_t slots)
      : heads(batch * heads_of_one) {
    constexpr std::int64_t enough_blocks = 1024;  // on a large GPU
    constexpr std::int64_t most = 32;             // so that merging them stays short
    const std::int64_t steps = (slots * head_dim + step_elements - 1) / step_elements;
    count =
        static_cast<int>(std::clamp<std::int64_t>(enough_blocks / heads, 1, std::min(steps, most)));
    counter_bytes = partial_bytes = 0;
    if (count == 1) return;
    const auto rounded = [](std::int64_t bytes) {
      return static_cast<std::size_t>((bytes + 15) / 16 * 16);
    };
    counter_bytes = rounded(heads * std::int64_t{sizeof(unsigned)});
    partial_bytes = rounded(heads * count * (head_dim + 2) * std::int64_t{sizeof(float)});
  }

  static constexpr std::int64_t step_elements = 4096;  // of K that a block reads at a time
};

}  // namespace based::models
