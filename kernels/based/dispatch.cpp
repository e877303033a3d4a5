// The operation's CUDA implementation "based": checks, choice of a variant, registration.
#include "kernels/based/dispatch.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/based/prefill_sm80.h"
#include "kernels/core/device_attribute.h"

namespace based {
namespace {

/// The current device; an H200 where there is none, so that shapes can be asked about.
dispatch_target current_target() {
  constexpr dispatch_target h200 = {.multiprocessors = 132, .is_hopper = true};
  const auto multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  if (!multiprocessors) return h200;
  return {.multiprocessors = *multiprocessors,
          .is_hopper = device_attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
                       device_attribute(cudaDevAttrComputeCapabilityMinor) == 0};
}

/// Of a supported problem. Throws invalid_argument for one that nothing supports.
dispatch_choice choose(const prefill_problem& problem) {
  validate(problem);
  return dispatch(problem, current_target()).value();
}

unsupported_reason unsupported(const prefill_problem& problem) {
  validate(problem);
  const prefill_shape& shape = problem.shape;
  const dispatch_target target = current_target();
  const auto choice = dispatch(problem, target);
  if (!choice && !target.is_hopper) {
    return "variant " + std::string(problem.variant) +
           " runs on compute capability 9.0 (Hopper) only";
  }
  if (!choice) {
    return "variant " + std::string(problem.variant) + " gives out no state at scale " +
           std::to_string(problem.options.scale) + ": its size is to be 2^-32 or more";
  }
  if (choice->kernel == prefill_kernel::mma_sync) return sm80::unsupported(problem);
  if (shape.seqlen > max_seqlen) {
    return "seqlen " + std::to_string(shape.seqlen) + " is more than " + std::to_string(max_seqlen);
  }
  if (shape.batch > max_ctas || shape.heads > max_ctas || shape.batch_heads() > max_ctas ||
      shape.batch_heads() * choice->segments + choice->places > max_ctas) {
    return "batch x heads (x segments) is more than " + std::to_string(max_ctas);
  }
  if (choice->kernel == prefill_kernel::balanced && choice->places == 0) {
    return "variant " + std::string(variant_balanced) +
           " takes no fewer heads than multiprocessors, " + std::to_string(target.multiprocessors) +
           ", and no sequences of a single chunk";
  }
  if (chunks_of(shape) < choice->segments) {
    return "a sequence of one chunk cannot be split";
  }
  if (choice->kernel == prefill_kernel::quadratic &&
      chunks_of(shape) > sm90::max_quadratic_chunks) {
    return "variant " + std::string(variant_quadratic) + " takes a seqlen of at most " +
           std::to_string(sm90::max_quadratic_chunks * sm90::chunk_tokens) + ", not " +
           std::to_string(shape.seqlen);
  }
  return std::nullopt;
}

std::size_t workspace_bytes(const prefill_problem& problem) {
  const dispatch_choice choice = choose(problem);
  if (choice.kernel == prefill_kernel::balanced) {
    return sm90::balanced_workspace_bytes(choice.places);
  }
  if (choice.kernel != prefill_kernel::recurrent) return 0;
  return sm90::workspace_bytes(problem.shape, choice.segments);
}

double executed_flops(const prefill_problem& problem) {
  const dispatch_choice choice = choose(problem);
  switch (choice.kernel) {
    case prefill_kernel::balanced:
    case prefill_kernel::recurrent:
      return sm90::executed_flops(problem, choice.segments);
    case prefill_kernel::recomputing:
      return sm90::recomputing_flops(problem, choice.segments);
    case prefill_kernel::quadratic:
      return sm90::quadratic_flops(problem);
    case prefill_kernel::mma_sync:
      break;
  }
  return sm80::executed_flops(problem);
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const dispatch_choice choice = choose(args.problem);
  switch (choice.kernel) {
    case prefill_kernel::recurrent:
      return sm90::launch_prefill(args, choice.segments, stream);
    case prefill_kernel::recomputing:
      return sm90::launch_recomputing(args, choice.segments, stream);
    case prefill_kernel::balanced:
      return sm90::launch_balanced(args, choice.places, stream);
    case prefill_kernel::quadratic:
      return sm90::launch_quadratic(args, stream);
    case prefill_kernel::mma_sync:
      return sm80::launch_prefill(args, stream);
  }
}

std::string_view name_of(const dispatch_choice& choice) {
  switch (choice.kernel) {
    case prefill_kernel::recurrent:
      return choice.segments > 1 ? variant_split : variant_whole;
    case prefill_kernel::recomputing:
      return variant_recompute;
    case prefill_kernel::balanced:
      return variant_balanced;
    case prefill_kernel::quadratic:
      return variant_quadratic;
    case prefill_kernel::mma_sync:
      break;
  }
  return variant_mma_sync;
}

std::string variant(const prefill_problem& problem) {
  const dispatch_choice choice = choose(problem);
  std::string text(name_of(choice));
  if (choice.segments > 1) text += " in " + std::to_string(choice.segments);
  if (choice.places > 0) text += " in " + std::to_string(choice.places);
  return text;
}

const registration<based_prefill> registered{{
    .name = "based",
    .summary = "wgmma over the 153 distinct features, state in registers (Hopper; else based_sm80)",
    .role = implementation_role::ours,
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
