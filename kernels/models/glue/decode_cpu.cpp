// The functions of decode.h on the CPU, in fp32, and what both devices ask of their arguments.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/core/validate.h"
#include "kernels/models/glue/cache_pieces.h"
#include "kernels/models/glue/decode.h"

namespace based::models {

template <class T>
void require_cache(const fill_cache_args<T>& args) {
  require_size("batch", args.batch);
  require_size("heads", args.heads);
  require_size("seqlen", args.seqlen);
  require_size("slots", args.slots);
  BASED_REQUIRE(args.head_dim >= 8 && args.head_dim % 8 == 0,
                fmt::format("head_dim is {}, must be a multiple of 8", args.head_dim));
  require_view("k", args.k, args.head_dim);
  require_view("v", args.v, args.head_dim);
  require_pointer("k_cache", args.k_cache);
  require_pointer("v_cache", args.v_cache);
}
template void require_cache(const fill_cache_args<float>&);
template void require_cache(const fill_cache_args<bf16>&);

template <class T>
void require_cache(const cached_attention_args<T>& args) {
  require_size("batch", args.batch);
  require_size("heads", args.heads);
  require_head_dim(args.head_dim);
  BASED_REQUIRE(args.slots >= 1 && args.slots <= std::numeric_limits<std::int32_t>::max(),
                fmt::format("{} slots, must be from 1 to 2^31 - 1, as positions are", args.slots));
  BASED_REQUIRE(args.rotated >= 0 && args.rotated % 16 == 0 && args.rotated <= args.head_dim,
                fmt::format("{} dimensions turn, must be a multiple of 16 up to {}", args.rotated,
                            args.head_dim));
  require_pointer("qkv", args.qkv);
  require_pointer("position", args.position);
  require_pointer("k_cache", args.k_cache);
  require_pointer("v_cache", args.v_cache);
  require_pointer("out", args.out);
}
template void require_cache(const cached_attention_args<float>&);
template void require_cache(const cached_attention_args<bf16>&);

void require_choice(const choose_args& args) {
  require_size("batch", args.batch);
  BASED_REQUIRE(args.vocabulary >= 1 && args.vocabulary <= std::numeric_limits<std::int32_t>::max(),
                fmt::format("{} ids, must be from 1 to 2^31 - 1", args.vocabulary));
  BASED_REQUIRE(args.temperature >= 0,
                fmt::format("temperature is {}, must not be negative", args.temperature));
  BASED_REQUIRE(args.top_k >= 0 && args.top_k <= args.vocabulary,
                fmt::format("top_k is {}, must be from 0 to {}", args.top_k, args.vocabulary));
  require_pointer("logits", args.logits);
  require_pointer("ids", args.ids);
}

std::size_t cached_attention_workspace(std::int64_t batch, std::int64_t heads, int head_dim,
                                       std::int64_t slots) {
  const cache_pieces pieces(batch, heads, head_dim, slots);
  return pieces.counter_bytes + pieces.partial_bytes;
}

template <>
void fill_cache<float>(const fill_cache_args<float>& args, cuda_stream) {
  require_cache(args);
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < args.batch; ++b) {
    for (std::int64_t h = 0; h < args.heads; ++h) {
      for (std::int64_t n = std::max<std::int64_t>(args.seqlen - args.slots, 0); n < args.seqlen;
           ++n) {
        const std::int64_t to =
            ((b * args.heads + h) * args.slots + n % args.slots) * args.head_dim;
        std::copy_n(args.k.token(b, h, n), args.head_dim, args.k_cache + to);
        std::copy_n(args.v.token(b, h, n), args.head_dim, args.v_cache + to);
      }
    }
  }
}

namespace {

/// A head of a query or key, turned by its position.
void copy_turned(const float* head, const cached_attention_args<float>& args, std::int32_t position,
                 float* to) {
  std::copy_n(head, args.head_dim, to);
  const int half = args.rotated / 2;
  for (int i = 0; i < half; ++i) {
    const double angle =
        position * std::pow(static_cast<double>(args.base), -2.0 * i / args.rotated);
    const auto sine = static_cast<float>(std::sin(angle));
    const auto cosine = static_cast<float>(std::cos(angle));
    to[i] = head[i] * cosine - head[i + half] * sine;
    to[i + half] = head[i] * sine + head[i + half] * cosine;
  }
}

void attend(const cached_attention_args<float>& args, std::int64_t b, std::int64_t h) {
  const int dim = args.head_dim;
  const std::int64_t width = args.heads * dim;
  const std::int32_t position = args.position[b];
  const float* const q = args.qkv + b * 3 * width + h * dim;
  float* const out = args.out + b * width + h * dim;
  if (position < 0) {
    std::fill_n(out, dim, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const std::int64_t cache = (b * args.heads + h) * args.slots * dim;
  float* const keys = args.k_cache + cache;
  float* const values = args.v_cache + cache;
  const std::int64_t appended = position % args.slots * dim;
  copy_turned(q + width, args, position, keys + appended);
  std::copy_n(q + 2 * width, dim, values + appended);

  std::vector<float> query(static_cast<std::size_t>(dim));
  copy_turned(q, args, position, query.data());
  std::vector<float> weights(
      static_cast<std::size_t>(std::min<std::int64_t>(std::int64_t{position} + 1, args.slots)));
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  for (std::size_t j = 0; j < weights.size(); ++j) {
    const float* const key = keys + static_cast<std::int64_t>(j) * dim;
    float dot = 0;
    for (int i = 0; i < dim; ++i) dot += query[static_cast<std::size_t>(i)] * key[i];
    weights[j] = scale * dot;
  }
  const float maximum = *std::ranges::max_element(weights);
  float sum = 0;
  std::fill_n(out, dim, 0.0f);
  for (std::size_t j = 0; j < weights.size(); ++j) {
    const float weight = std::exp(weights[j] - maximum);
    const float* const value = values + static_cast<std::int64_t>(j) * dim;
    sum += weight;
    for (int i = 0; i < dim; ++i) out[i] += weight * value[i];
  }
  for (int i = 0; i < dim; ++i) out[i] /= sum;
}

}  // namespace

template <>
void cached_attention<float>(const cached_attention_args<float>& args, cuda_stream) {
  require_cache(args);
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < args.batch; ++b) {
    for (std::int64_t h = 0; h < args.heads; ++h) attend(args, b, h);
  }
}

void choose_on_cpu(const choose_args& args) {
  require_choice(args);
  for (std::int64_t row = 0; row < args.batch; ++row) {
    const float* const logits = args.logits + row * args.row_stride;
    float least = -std::numeric_limits<float>::infinity();
    if (args.temperature > 0 && args.top_k > 0) {
      std::vector<float> sorted(logits, logits + args.vocabulary);
      std::erase_if(sorted, [](float logit) { return std::isnan(logit); });
      const auto last = std::min<std::size_t>(static_cast<std::size_t>(args.top_k), sorted.size());
      if (last > 0) {
        const auto wanted = sorted.begin() + static_cast<std::ptrdiff_t>(last) - 1;
        std::nth_element(sorted.begin(), wanted, sorted.end(), std::greater());
        least = *wanted;
      }
    }
    const std::uint64_t key =
        draw_key(args.seed, row, args.position == nullptr ? 0 : args.position[row]);
    float best = 0;
    std::int32_t id = -1;
    for (std::int32_t i = 0; i < args.vocabulary; ++i) {
      float score = logits[i];
      if (args.temperature > 0) {
        if (!(score >= least)) continue;
        score = score / args.temperature - std::log(-std::log(draw_uniform(key, i)));
      }
      if (id < 0 ? !std::isnan(score) : score > best) best = score, id = i;
    }
    args.ids[row] = std::max(id, 0);
    if (args.position != nullptr) ++args.position[row];
  }
}

}  // namespace based::models
