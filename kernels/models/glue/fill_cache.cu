// Keys and values of a sequence's last tokens on their way into its cache.
//
// Grid: a thread has one 16-byte word of K and the same of V; neighbours have neighbouring columns,
// then heads, then tokens, as they lie in the output of their product.
//
//   k, v [B, H, N, Dh]   k_cache, v_cache [B, H, S, Dh]
#include <algorithm>
#include <cstdint>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/models/glue/decode.h"
#include "kernels/models/glue/word.cuh"

namespace based::models {
namespace {

constexpr int threads = 256;

__global__ __launch_bounds__(threads) void fill_cache_kernel(
    const __grid_constant__ fill_cache_args<bf16> p, std::int64_t kept) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const int words = p.head_dim / unit;
  const std::int64_t column = at % words * unit, h = at / words % p.heads;
  const std::int64_t token = at / words / p.heads, b = token / kept;
  if (b >= p.batch) return;
  const std::int64_t n = p.seqlen - kept + token % kept;
  const uint4 key = load_word(p.k.token(b, h, n) + column);
  const uint4 value = load_word(p.v.token(b, h, n) + column);
  const std::int64_t to = ((b * p.heads + h) * p.slots + n % p.slots) * p.head_dim + column;
  store_word(p.k_cache + to, key);
  store_word(p.v_cache + to, value);
}

}  // namespace

template <>
void fill_cache<bf16>(const fill_cache_args<bf16>& args, cuda_stream stream) {
  require_cache(args);
  const std::int64_t kept = std::min(args.seqlen, args.slots);
  const std::int64_t items = args.batch * kept * args.heads * (args.head_dim / unit);
  launch_kernel(fill_cache_kernel, {blocks_for(items, threads), threads}, stream, args, kept);
}

}  // namespace based::models
