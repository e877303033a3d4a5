// Whole models on CUDA, in bf16 with an fp32 residual stream.
#include <cuda_runtime_api.h>

#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
#include "kernels/models/run.h"

namespace based::models {
namespace {

// What rounding activations to bf16 costs, and no more: the CPU's pass with its activations rounded
// has errors of 9e-3 (based-360m), 3.0e-2 (mamba-360m) and 2.8e-2 (mamba2-370m) in its logits, for
// layers that multiply activations with each other enlarge what they are given. Models of three
// layers have 4e-3 to 1e-2, which a test of their own holds.
constexpr double tolerance = 5e-2;
constexpr std::string_view summary =
    "products by cuBLASLt, fused glue and mixers of this project, layer after layer";

void prefill(const model_prefill_args<bf16>& args, cuda_stream stream) {
  run_prefill(args, stream);
}

void decode(const model_decode_args<bf16>& args, cuda_stream stream) {
  validate(args.problem);
  const workspace_plan plan = plan_of<bf16>(args.problem);
  validate(args, plan.bytes);
  BASED_CUDA(cudaMemsetAsync(static_cast<std::byte*>(args.workspace) + plan.cache, 0,
                             plan.product - plan.cache, stream));
  constexpr int hopper = 9;
  const bool has_step_products = current_card().major >= hopper;
  run_decode(args, plan, has_step_products, stream);
  choose(greedy(args), stream);
}

const registration<model_prefill> registered_prefill{
    forward_implementation<model_prefill, bf16>(summary, tolerance, prefill)};
const registration<model_decode> registered_decode{
    forward_implementation<model_decode, bf16>(summary, tolerance, decode)};

}  // namespace
}  // namespace based::models
