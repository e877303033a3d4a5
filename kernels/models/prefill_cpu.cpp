// Whole models on the CPU, in fp32.
#include "kernels/core/cpu_simd.h"
#include "kernels/models/forward.h"

namespace based::models {
namespace {

void run(const model_prefill_args<float>& args) {
  run_forward(args, nullptr);
}

const registration<model_prefill> registered{forward_implementation<float>(
    "products by registers, glue and mixers of this project, layer after layer", 2e-5, run)};

}  // namespace
}  // namespace based::models
