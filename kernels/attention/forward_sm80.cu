// Softmax attention on mma.sync: host code and instances of forward_sm80.cuh.
#include "kernels/attention/forward_sm80.h"

#include <algorithm>
#include <limits>
#include <numbers>
#include <string>

#include "kernels/attention/forward_sm80.cuh"
#include "kernels/attention/redone.h"
#include "kernels/core/device_attribute.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/launch.h"

namespace based::attention_sm80 {
namespace {

constexpr std::int64_t largest_grid = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t widest_grid = 65535;  // in its second and third dimension
// Queries are counted past the last one to the end of a tile, and keys past that by their offset.
constexpr std::int64_t most_tokens = largest_grid / 2 - query_tile;

constexpr std::int64_t query_tiles(const attention_problem& problem) {
  return (problem.seqlen + query_tile - 1) / query_tile;
}

template <class T, int HeadDim>
void launch(const attention_args<T>& args, cuda_stream stream) {
  const attention_problem& problem = args.problem;
  const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
  const std::int64_t window =
      problem.window == 0 ? problem.keys() : std::min(problem.window, problem.keys());
  const parameters<T> p = {.q = args.q,
                           .k = args.k,
                           .v = args.v,
                           .o = args.o,
                           .lse = problem.lse ? args.lse.data() : nullptr,
                           .redone = attention_counts::redone(),
                           .seqlen = narrow(problem.seqlen),
                           .keys = narrow(problem.keys()),
                           .window = narrow(window),
                           .heads = narrow(problem.heads),
                           .group = narrow(problem.heads / problem.key_heads()),
                           .log2_scale = problem.softmax_scale() * std::numbers::log2e_v<float>,
                           .causal = problem.causal};
  const dim3 blocks(static_cast<unsigned>(query_tiles(problem)),
                    static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.batch));
  launch_kernel(forward_kernel<T, HeadDim>,
                {.grid = blocks, .block = threads, .shared_bytes = sizeof(shared_storage<HeadDim>)},
                stream, p);
}

}  // namespace

template <class T>
void launch_forward(const attention_args<T>& args, cuda_stream stream) {
  with_head_dim(args.problem.head_dim, [&]<int Dim>() { launch<T, Dim>(args, stream); });
}
template void launch_forward(const attention_args<bf16>&, cuda_stream);
template void launch_forward(const attention_args<fp16>&, cuda_stream);

double executed_flops(const attention_problem& problem) {
  double pairs = 0;  // of a warp's queries and a tile's keys
  for (std::int64_t query = 0; query < problem.seqlen; query += warp_queries) {
    // Rows past the end work with the others.
    const std::int64_t last =
        problem.causal ? problem.last_key(query + warp_queries - 1) : problem.last_key(0);
    const std::int64_t end = std::min(last / key_tile, (problem.keys() - 1) / key_tile) + 1;
    if (last >= 0) pairs += static_cast<double>(end - problem.first_key(query) / key_tile);
  }
  return static_cast<double>(problem.batch * problem.heads) * pairs * warp_queries * key_tile * 4 *
         problem.head_dim;
}

unsupported_reason unsupported(const attention_problem& problem) {
  validate(problem);
  if (const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor); major && *major < 8) {
    return "the device has compute capability " + std::to_string(*major) +
           ".x, this kernel needs 8.0 (Ampere)";
  }
  if (problem.seqlen > most_tokens || problem.keys() > most_tokens) {
    return "more than " + std::to_string(most_tokens) + " tokens";
  }
  if (std::max(problem.heads, problem.batch) > widest_grid) {
    return "more heads or sequences than " + std::to_string(widest_grid);
  }
  return std::nullopt;
}

namespace {

template <class T>
void run(const attention_args<T>& args, cuda_stream stream) {
  validate(args, 0);
  launch_forward(args, stream);
}

const registration<attention> registered{
    {.name = "forward_sm80",
     .summary = "mma.sync with a speculative maximum (Ampere and later)",
     .role = implementation_role::ours,
     .tolerance = 5e-3,
     .unsupported = unsupported,
     .executed_flops = executed_flops,
     .run = {run<bf16>, run<fp16>},
     .take_counts = attention_counts::take}};

}  // namespace
}  // namespace based::attention_sm80
