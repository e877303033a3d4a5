// ThunderKittens' kernel of Based's prefill (its kernels/based/linear_attn.cu), the original that
// the papers time.
//
//   grid (H, B), 128 threads: a block a head, 64 tokens a step
//   q, k [B, H, N, 16], v, o [B, H, N, 64], bf16, without gaps
//
// It writes its final state too, always, in bf16 and in 273 rows, which nobody reads here:
//   a0 [B, H, 64], a1 [B, H, 64, 16], a2 [B, H, 256, 64]    in the workspace, one after the other
#include <linear_attn.cu>  // of the checkout

#include "baselines/thunderkittens/thunderkittens.h"
#include "kernels/based/prefill.h"
#include "kernels/core/implementation.h"

namespace based::thunderkittens {
namespace {

constexpr std::int64_t block_tokens = based_globals::q_tile::rows;
/// What the original asks for.
constexpr std::size_t shared_bytes = 98000;
constexpr std::int64_t a0_elements = value_dim;
constexpr std::int64_t a1_elements = value_dim * feature_dim;
constexpr std::int64_t a2_elements = feature_dim * feature_dim * value_dim;

unsupported_reason unsupported(const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  const prefill_options& options = problem.options;
  if (shape.seqlen % block_tokens != 0) return "the original takes multiples of 64 tokens alone";
  if (options.scale != prefill_options{}.scale) return "the original's scale is 1/4";
  if (options.normalize) return "the original has no normaliser";
  if (options.initial_state) return "the original takes no state";
  if (options.final_state) return "the original's state is another: 273 rows in bf16";
  return unsupported_grid(shape.batch, shape.heads, shape.seqlen);
}

std::size_t workspace_bytes(const prefill_problem& problem) {
  return static_cast<std::size_t>(problem.shape.batch_heads() *
                                  (a0_elements + a1_elements + a2_elements)) *
         sizeof(bf16);
}

/// Of a step of 64 tokens: scores and their product with v over the whole block, the products with
/// the state's 16 and 256 features, and the state's own update.
double executed_flops(const prefill_problem& problem) {
  constexpr double step = 2.0 * block_tokens *
                          (block_tokens * (feature_dim + value_dim) +
                           2 * (feature_dim + feature_dim * feature_dim) * value_dim);
  return static_cast<double>(problem.shape.tokens() / block_tokens) * step;
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const prefill_shape& shape = args.problem.shape;
  require_packed(args, {.heads = shape.heads,
                        .key_heads = shape.heads,
                        .seqlen = shape.seqlen,
                        .key_dim = feature_dim,
                        .value_dim = value_dim});
  auto* const a2 = static_cast<kittens::bf16*>(args.workspace);
  kittens::bf16* const a1 = a2 + shape.batch_heads() * a2_elements;
  kittens::bf16* const a0 = a1 + shape.batch_heads() * a1_elements;
  const based_globals globals =
      based_init(theirs(args.q.data), theirs(args.k.data), theirs(args.v.data), theirs(args.o.data),
                 a2, a1, a0, static_cast<int>(shape.batch), static_cast<int>(shape.heads),
                 static_cast<int>(shape.seqlen));
  allow_shared_bytes(based_linear_attention, shared_bytes);
  const dim3 grid(static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.batch));
  based_linear_attention<<<grid, NUM_THREADS, shared_bytes, stream>>>(globals);
  BASED_CUDA_LAUNCHED();
}

const registration<based_prefill> registered{
    {.name = "thunderkittens",
     .summary = "ThunderKittens' kernels/based/linear_attn.cu, as it is (Hopper)",
     .role = implementation_role::original,
     .version = commit,
     .packed_only = true,
     .tolerance = 5e-3,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::thunderkittens
