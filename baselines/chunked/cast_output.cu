// The chunked baselines' second kernel: fp32 outputs, normalised where asked, rounded to bf16.
#include "baselines/chunked/chunked_cuda.cuh"
#include "baselines/token_tiles.cuh"

namespace based::chunked {
namespace {

constexpr int threads = 256;
constexpr int columns_a_thread = 8;  // one 16-byte store
constexpr int threads_a_token = value_dim / columns_a_thread;
constexpr int tokens_a_block = threads / threads_a_token;

struct cast_params {
  fp32_output in;
  sequence_view<bf16> o;  // [B, H, N, 64]
  token_tiles tiles;
  float eps;
};

__global__ __launch_bounds__(threads) void cast_output_kernel(
    const __grid_constant__ cast_params p) {
  const token_tiles::tile tile = p.tiles.locate(blockIdx.x);
  const int token = threadIdx.x / threads_a_token;
  const int column = threadIdx.x % threads_a_token * columns_a_thread;
  if (token >= tile.tokens) return;

  const std::int64_t row = tile.row + token;
  const auto* const source = reinterpret_cast<const float4*>(p.in.o + row * value_dim + column);
  const float4 low = source[0];
  const float4 high = source[1];
  const float weight = p.in.z == nullptr ? 1.0f : 1.0f / (p.in.z[row] + p.eps);
  const uint4 packed = {ptx::to_bf16x2(low.x * weight, low.y * weight),
                        ptx::to_bf16x2(low.z * weight, low.w * weight),
                        ptx::to_bf16x2(high.x * weight, high.y * weight),
                        ptx::to_bf16x2(high.z * weight, high.w * weight)};
  bf16* const target = p.o.token(tile.batch, tile.head, tile.first + token) + column;
  *reinterpret_cast<uint4*>(target) = packed;
}

}  // namespace

void cast_output(const prefill_args<bf16>& args, cuda_stream stream) {
  const token_tiles tiles(args.problem.shape, tokens_a_block);
  cast_output_kernel<<<tiles.count, threads, 0, stream>>>(
      {place_output(args), args.o, tiles, args.problem.options.eps});
  BASED_CUDA_LAUNCHED();
}

}  // namespace based::chunked
