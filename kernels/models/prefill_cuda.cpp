// Whole models on CUDA, in bf16 with an fp32 residual stream.
#include "kernels/models/forward.h"

namespace based::models {
namespace {

// Each layer rounds what it adds to the residual stream at some six places, each time by 1.1e-3 of
// its size (bf16, root mean square), and the stream rounds nothing: sqrt(6) 1.1e-3 of a layer's
// part, independent from layer to layer, is 2.7e-3 of the stream. Layers enlarge an error that they
// are given, by a factor of 2 to 4 over a whole model.
constexpr double tolerance = 1.5e-2;

void run(const model_prefill_args<bf16>& args, cuda_stream stream) {
  run_forward(args, stream);
}

const registration<model_prefill> registered{forward_implementation<bf16>(
    "products by cuBLASLt, fused glue and mixers of this project, layer after layer", tolerance,
    run)};

}  // namespace
}  // namespace based::models
