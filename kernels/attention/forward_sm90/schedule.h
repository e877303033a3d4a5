// Which keys a block of queries walks over, and in which order blocks are worked on: host and
// device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/tensor_view.h"

namespace based::attention_sm90 {

inline constexpr int group_queries = 64;  ///< rows of a warpgroup's tile
inline constexpr int tile_keys = 64;      ///< of a key tile

/// Whether products sum up the weights of blocks, as columns beside V: those of rounded weights,
/// which cost little only where V has 64 columns. `exact`: weights are summed before they are
/// rounded, as the log-sum-exp needs them.
constexpr bool sums_in_products(int head_dim, bool exact) {
  return head_dim == 64 && !exact;
}

/// Two CTAs that share a block's keys: the first to be done with a tile of queries writes down what
/// it has, the other puts the parts together, whichever comes first. Values of a thread of its
/// warpgroup: its part of O and of the sums beside it, two offsets and two sums.
constexpr int met_values(int head_dim) {
  return (head_dim + 8) / 2 + 4;
}
constexpr std::size_t met_bytes(int head_dim) {
  constexpr int threads = 128;
  return sizeof(float) * threads * met_values(head_dim);
}

/// What a head looks like; all heads of a call look alike.
struct head_shape {
  int queries;
  int keys;
  int window;  ///< keys that a query may see; as many as there are, or more: no limit
  bool causal;

  /// Key that the query at `query` sees last, where causal; negative: it sees none.
  BASED_HOST_DEVICE constexpr int diagonal(int query) const { return query + keys - queries; }
  BASED_HOST_DEVICE constexpr bool sees_none(int query) const {
    return causal && diagonal(query) < 0;
  }
};

/// The key tiles of a warpgroup's or a block's queries, from the last keys to the first: tile t is
/// keys first_key - 64 t and the 63 after it. Where causal, the first tile is the one in which the
/// first of its queries sees one key, the second two, ...; keys that a query may not see are
/// elsewhere only in tiles past `clean` + 1.
struct tile_walk {
  int first_key;
  int tiles;
  int clean;  ///< of the tiles after the first: those that all queries see whole, which come first
};

/// The walk of queries `query` .. `query` + 64 `groups` - 1. Its `clean` means something for one
/// group only.
BASED_HOST_DEVICE constexpr tile_walk walk_of(const head_shape& head, int query, int groups = 1) {
  if (!head.causal) {
    const int tiles = (head.keys + tile_keys - 1) / tile_keys;
    return {(tiles - 1) * tile_keys, tiles, tiles - 1};
  }
  const int own = head.diagonal(query);  // of the first query
  const int first_key = own + (groups - 1) * group_queries;
  if (first_key + tile_keys <= 0) return {first_key, 0, 0};
  const int out_of_window = own - head.window + 1;  // what the first query may see starts there
  const int lowest = out_of_window > 0 ? out_of_window : 0;
  const int tiles = (first_key - lowest + tile_keys - 1) / tile_keys + 1;
  // A tile is whole where it starts at a key, and the last query's window has not left it.
  const int seen_by_all = out_of_window + group_queries - 1;
  const int lowest_whole = seen_by_all > 0 ? seen_by_all : 0;
  const int whole = first_key < lowest_whole ? 0 : (first_key - lowest_whole) / tile_keys;
  return {first_key, tiles, whole < tiles - 1 ? whole : tiles - 1};
}

/// Windows that band.cuh takes.
inline constexpr int longest_band = 2 * tile_keys;
/// Tiles before the diagonal one that a window reaches into.
BASED_HOST_DEVICE constexpr int band_reach(const head_shape& head) {
  return (head.window + tile_keys - 1) / tile_keys;
}
/// The walk of 64 queries that see a short window: the diagonal tile and as many before it as the
/// window reaches into, or as there are.
BASED_HOST_DEVICE constexpr tile_walk band_walk(const head_shape& head, int query) {
  const int first_key = head.diagonal(query);
  const int all = first_key + tile_keys <= 0 ? 0 : (first_key + 2 * tile_keys - 1) / tile_keys;
  return {first_key, all < band_reach(head) + 1 ? all : band_reach(head) + 1, 0};
}

/// A block of queries of a head.
struct block_item {
  int batch, head, block;
};

/// The order of blocks: `head_group` heads at a time, of these all last blocks first, which are the
/// longest where causal. Position p is worked on by a CTA in turn, and every second time the CTAs
/// take their turns backwards: those that had the longest of a round have the shortest of the next.
/// Where all blocks see all keys, the tiles of the last one or two rounds of blocks may be dealt
/// out evenly, so that no CTA stands idle while others have one more block.
struct block_order {
  int heads;  ///< of a batch
  int all_heads;
  int blocks;  ///< of a head
  int head_group;
  int dealt = 0;  ///< blocks at the end whose tiles are dealt out: none, or at least one a CTA

  BASED_HOST_DEVICE constexpr int items() const { return all_heads * blocks; }
  BASED_HOST_DEVICE constexpr block_item item(int position) const {
    const int group = position / (head_group * blocks);
    const int first = group * head_group;
    const int in_group = position - first * blocks;
    const int size = all_heads - first < head_group ? all_heads - first : head_group;
    const int from_end = in_group / size;
    const int head = first + in_group - from_end * size;
    return {head / heads, head % heads, blocks - 1 - from_end};
  }
};
/// The first of the tiles of the dealt blocks, `tiles` each, that are CTA `cta`'s.
BASED_HOST_DEVICE constexpr int first_dealt_tile(const block_order& order, int tiles, int cta,
                                                 int ctas) {
  return static_cast<int>(std::int64_t{order.dealt} * tiles * cta / ctas);
}
BASED_HOST_DEVICE constexpr int position_in_round(int round, int cta, int ctas) {
  return round * ctas + (round % 2 == 0 ? cta : ctas - 1 - cta);
}

}  // namespace based::attention_sm90
