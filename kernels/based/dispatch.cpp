// The operation's CUDA implementation "based": checks, choice of a variant, registration.
#include "kernels/based/dispatch.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/common/cuda_check.h"

namespace based {
namespace {

/// Of the current device; of an H200 where there is none, so that shapes can be asked about.
int multiprocessors() {
  constexpr int multiprocessors_h200 = 132;
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    cudaGetLastError();  // clears it
    return multiprocessors_h200;
  }
  return count;
}

int segments_of(const prefill_problem& problem) {
  return segments_of(problem.shape, problem.variant, multiprocessors());
}

unsupported_reason unsupported(const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  if (shape.seqlen > max_seqlen) {
    return "seqlen " + std::to_string(shape.seqlen) + " is more than " + std::to_string(max_seqlen);
  }
  if (shape.batch > max_ctas || shape.heads > max_ctas || shape.batch_heads() > max_ctas ||
      shape.batch_heads() * segments_of(problem) > max_ctas) {
    return "batch x heads (x segments) is more than " + std::to_string(max_ctas);
  }
  if (problem.variant == variant_split && chunks_of(shape) < 2) {
    return "a sequence of one chunk cannot be split";
  }
  return std::nullopt;
}

std::size_t workspace_bytes(const prefill_problem& problem) {
  return sm90::workspace_bytes(problem.shape, segments_of(problem));
}

double executed_flops(const prefill_problem& problem) {
  return sm90::executed_flops(problem.shape, segments_of(problem));
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  // In place, a segment could read the initial state after the last one has replaced it.
  const bool in_place = args.problem.options.initial_state && args.problem.options.final_state &&
                        args.initial_state.kv == args.final_state.kv;
  sm90::launch_prefill(args, in_place ? 1 : segments_of(args.problem), stream);
}

std::string variant(const prefill_problem& problem) {
  const int segments = segments_of(problem);
  if (segments == 1) return std::string(variant_whole);
  return std::string(variant_split) + " in " + std::to_string(segments);
}

const registration<based_prefill> registered{{
    .name = "based",
    .summary = "wgmma over the 153 distinct features, state in registers (Hopper)",
    .tolerance = 5e-3,  // two roundings to bf16: a short sequence averages over none
    .unsupported = unsupported,
    .workspace_bytes = workspace_bytes,
    .executed_flops = executed_flops,
    .run = run,
    .variant = variant,
    .variants = prefill_variants,
}};

}  // namespace
}  // namespace based
