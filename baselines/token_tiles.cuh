// The tokens of all heads, cut into tiles of one head each: one tile a thread block.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/based/prefill.h"
#include "kernels/core/error.h"

namespace based {

/// Maps a one-dimensional grid onto tiles of at most `tokens_per_tile` consecutive tokens.
struct token_tiles {
  std::int64_t seqlen;
  int tokens_per_tile;
  std::uint32_t heads;
  std::uint32_t tiles_per_head;
  std::uint32_t count;  ///< of thread blocks

  token_tiles(const prefill_shape& shape, int tokens)
      : seqlen(shape.seqlen), tokens_per_tile(tokens) {
    const std::int64_t tiles = (shape.seqlen + tokens - 1) / tokens;
    constexpr std::int64_t largest_grid = std::numeric_limits<std::int32_t>::max();
    BASED_REQUIRE(tiles <= largest_grid / shape.batch_heads(), "too many tokens for one grid");
    heads = static_cast<std::uint32_t>(shape.heads);
    tiles_per_head = static_cast<std::uint32_t>(tiles);
    count = static_cast<std::uint32_t>(tiles * shape.batch_heads());
  }

  struct tile {
    std::int64_t batch;
    std::int64_t head;
    std::int64_t first;  ///< its first token within the sequence
    std::int64_t row;    ///< the same token's index within a contiguous [B, H, N]
    int tokens;
  };

  __device__ tile locate(std::uint32_t block) const {
    const std::uint32_t batch_head = block / tiles_per_head;
    const std::int64_t first =
        static_cast<std::int64_t>(block - batch_head * tiles_per_head) * tokens_per_tile;
    const std::int64_t left = seqlen - first;
    return {.batch = batch_head / heads,
            .head = batch_head % heads,
            .first = first,
            .row = batch_head * seqlen + first,
            .tokens = left < tokens_per_tile ? static_cast<int>(left) : tokens_per_tile};
  }
};

}  // namespace based
