// ThunderKittens' kernel of softmax attention on Hopper (its
// kernels/attention/mha_h100/mha_h100.cu).
//
//   grid (ceil(N / 192), H, B), 512 threads: a block has 3 x 64 queries, key tiles of 128
//   q, o [B, H, N, Dh], k, v [B, Hkv, N, Dh], Dh = 64 or 128, bf16, without gaps
//   l [B, H, N] fp32, in the workspace: its log-sum-exp times -sqrt(Dh), for its backward pass
//
// One thing differs from the original's launcher, the kernel does not: its grid is N / 192 rounded
// down, so that it leaves the last queries out wherever N is no multiple of 192 (its issue 123).
// Rounded up, the copy engine reads zeros past the end and writes nothing there.
#include <mha_h100.cu>  // of the checkout

#include "baselines/thunderkittens/thunderkittens.h"
#include "kernels/attention/attention.h"
#include "kernels/core/implementation.h"

namespace based::thunderkittens {
namespace {

constexpr std::int64_t query_tile = fwd_attend_ker_tile_dims<64>::qo_height;
constexpr std::int64_t key_tile = fwd_attend_ker_tile_dims<64>::kv_height;
constexpr std::int64_t block_queries = CONSUMER_WARPGROUPS * query_tile;
/// What the original asks for.
constexpr std::size_t shared_bytes = kittens::MAX_SHARED_MEMORY - 1024;

constexpr std::int64_t blocks_of(std::int64_t seqlen) {
  return (seqlen + block_queries - 1) / block_queries;
}

unsupported_reason unsupported(const attention_problem& problem) {
  if (problem.keys() != problem.seqlen) return "the original has as many keys as queries";
  if (problem.window != 0) return "the original has no window";
  if (problem.lse) return "the original's log-sum-exp is scaled, for its backward pass";
  if (problem.scale != 0) return "the original's scale is 1/sqrt(Dh)";
  if (problem.causal && problem.seqlen % query_tile != 0) {
    return "the original takes multiples of 64 tokens alone";
  }
  if (!problem.causal && problem.seqlen % key_tile != 0) {
    return "the original takes multiples of 128 tokens alone where it is not causal";
  }
  return unsupported_grid(problem.batch, problem.heads, problem.seqlen);
}

std::size_t workspace_bytes(const attention_problem& problem) {
  return static_cast<std::size_t>(problem.batch * problem.heads * problem.seqlen) * sizeof(float);
}

/// Two products of a block's queries with each key tile that it visits.
double executed_flops(const attention_problem& problem) {
  double tiles = 0;
  for (std::int64_t block = 0; block < blocks_of(problem.seqlen); ++block) {
    tiles += static_cast<double>(problem.causal ? ((block + 1) * block_queries - 16) / key_tile + 1
                                                : problem.seqlen / key_tile);
  }
  return static_cast<double>(problem.batch * problem.heads) * tiles * 4.0 * block_queries *
         key_tile * problem.head_dim;
}

template <int HeadDim, bool Causal>
void launch(const attention_args<bf16>& args, cuda_stream stream) {
  using globals = fwd_globals<HeadDim>;
  const attention_problem& problem = args.problem;
  const auto batch = static_cast<unsigned>(problem.batch);
  const auto heads = static_cast<unsigned>(problem.heads);
  const auto key_heads = static_cast<unsigned>(problem.key_heads());
  const auto seqlen = static_cast<unsigned>(problem.seqlen);
  constexpr auto dim = static_cast<unsigned>(HeadDim);
  const globals given = {
      typename globals::q_gl(theirs(args.q.data), batch, heads, seqlen, dim),
      typename globals::k_gl(theirs(args.k.data), batch, key_heads, seqlen, dim),
      typename globals::v_gl(theirs(args.v.data), batch, key_heads, seqlen, dim),
      typename globals::l_gl(static_cast<float*>(args.workspace), batch, heads, 1u, seqlen),
      typename globals::o_gl(theirs(args.o.data), batch, heads, seqlen, dim),
      static_cast<int>(seqlen),
      static_cast<int>(heads / key_heads)};
  allow_shared_bytes(fwd_attend_ker<HeadDim, Causal>, shared_bytes);
  const dim3 grid(static_cast<unsigned>(blocks_of(problem.seqlen)), heads, batch);
  fwd_attend_ker<HeadDim, Causal>
      <<<grid, NUM_WORKERS * kittens::WARP_THREADS, shared_bytes, stream>>>(given);
  BASED_CUDA_LAUNCHED();
}

void run(const attention_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const attention_problem& problem = args.problem;
  require_packed(args, {.heads = problem.heads,
                        .key_heads = problem.key_heads(),
                        .seqlen = problem.seqlen,
                        .key_dim = problem.head_dim,
                        .value_dim = problem.head_dim});
  if (problem.head_dim == 64) {
    problem.causal ? launch<64, true>(args, stream) : launch<64, false>(args, stream);
  } else {
    problem.causal ? launch<128, true>(args, stream) : launch<128, false>(args, stream);
  }
}

const registration<attention> registered{
    {.name = "thunderkittens",
     .summary = "ThunderKittens' kernels/attention/mha_h100, as it is (Hopper)",
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
