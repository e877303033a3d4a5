// What a model does between its products for one token of each sequence: attention over a cache of
// keys and values, and the choice of the next token. Positions are read, and counted on, on the
// device, so that one captured graph serves all tokens. As glue.h has it, T is float on the CPU and
// bf16 on CUDA, and a function throws invalid_argument for sizes that it does not take.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/implementation.h"
#include "kernels/core/random.h"
#include "kernels/core/tensor_view.h"

namespace based::models {

/// Puts the keys and values of a sequence's last tokens into its cache: token n into slot
/// n mod slots, of as many tokens as there are slots.
template <class T>
struct fill_cache_args {
  sequence_view<const T> k;  ///< [batch, heads, seqlen, head_dim]
  sequence_view<const T> v;  ///< as k
  std::int64_t batch, heads, seqlen;
  int head_dim;
  std::int64_t slots;
  T* k_cache;  ///< [batch, heads, slots, head_dim]
  T* v_cache;  ///< as k_cache
};
template <class T>
void fill_cache(const fill_cache_args<T>& args, cuda_stream stream);

/// Attention of one token of each sequence over its cache, which takes up the token first: its key
/// and value go to slot position mod slots, and its query sees the min(position + 1, slots) slots
/// that are filled. So a window of W keys, the token's own included, is a cache of W slots, and a
/// whole context is one of as many slots as it may grow to. Queries and keys turn by the token's
/// position as in rotate_args; scores are scaled by 1/sqrt(head_dim). Where a position is negative
/// the output is NaN, and the cache stays as it is.
template <class T>
struct cached_attention_args {
  const T* qkv;  ///< [batch, 3 heads head_dim]: queries, keys, values
  std::int64_t batch, heads;
  int head_dim;                  ///< one of head_dims
  int rotated;                   ///< dimensions that turn, the first of a head; 0: none
  float base;                    ///< of the angles
  const std::int32_t* position;  ///< [batch], of the token, from 0
  std::int64_t slots;
  T* k_cache;  ///< [batch, heads, slots, head_dim]
  T* v_cache;  ///< as k_cache
  T* out;      ///< [batch, heads, head_dim]
  /// cached_attention_workspace() bytes: zeros before the first call, and from then on what the
  /// call before left. Calls that run at the same time have one each.
  void* workspace;
};
template <class T>
void cached_attention(const cached_attention_args<T>& args, cuda_stream stream);
std::size_t cached_attention_workspace(std::int64_t batch, std::int64_t heads, int head_dim,
                                       std::int64_t slots);

/// The next token of each row: without a temperature as argmax() has it. Else a draw of an id i,
/// with a probability in proportion to exp(logit_i / temperature), from the top_k largest logits
/// and those equal to the last of these: the id whose
///
///   logit_i / temperature - log(-log u_i)
///
/// is the largest, with u_i = draw_uniform(). A logit that is NaN is never chosen; where all are,
/// the id is 0.
struct choose_args {
  const float* logits;  ///< [batch, vocabulary], a row every row_stride elements
  std::int64_t row_stride;
  std::int64_t batch, vocabulary;
  float temperature = 0;
  int top_k = 0;  ///< 0: all
  std::uint64_t seed = 0;
  std::int32_t* position = nullptr;  ///< [batch], counted on by 1; null: 0
  std::int32_t* ids;                 ///< [batch]
};
/// On CUDA.
void choose(const choose_args& args, cuda_stream stream);
/// On the CPU.
void choose_on_cpu(const choose_args& args);

/// What both devices ask of their arguments.
template <class T>
void require_cache(const fill_cache_args<T>& args);
template <class T>
void require_cache(const cached_attention_args<T>& args);
void require_choice(const choose_args& args);

/// Names the draws of one row at one position.
BASED_HOST_DEVICE constexpr std::uint64_t draw_key(std::uint64_t seed, std::int64_t row,
                                                   std::int32_t position) {
  return mix64(mix64(seed ^ mix64(static_cast<std::uint64_t>(row))) +
               static_cast<std::uint64_t>(position));
}
/// The number of id i: one of 2^23 values u in (0, 1) for which log(u) and log(-log(u)) are finite
/// in fp32.
BASED_HOST_DEVICE constexpr float draw_uniform(std::uint64_t key, std::int64_t i) {
  const std::uint64_t bits = mix64(key + static_cast<std::uint64_t>(i)) >> 41;
  return (static_cast<float>(bits) + 0.5f) * 0x1p-23f;
}

}  // namespace based::models
