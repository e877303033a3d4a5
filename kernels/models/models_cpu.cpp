// Whole models on the CPU, in fp32.
#include "kernels/core/cpu_simd.h"
#include "kernels/models/run.h"

namespace based::models {
namespace {

constexpr double tolerance = 2 * cpu::tolerance;  // of several layers
constexpr std::string_view summary =
    "products by registers, glue and mixers of this project, layer after layer";

void prefill(const model_prefill_args<float>& args) {
  run_prefill(args, nullptr);
}

void decode(const model_decode_args<float>& args) {
  validate(args.problem);
  const workspace_plan plan = plan_of<float>(args.problem);
  validate(args, plan.bytes);
  run_decode(args, plan, false, nullptr);
  choose_on_cpu(greedy(args));
}

const registration<model_prefill> registered_prefill{
    forward_implementation<model_prefill, float>(summary, tolerance, prefill)};
const registration<model_decode> registered_decode{
    forward_implementation<model_decode, float>(summary, tolerance, decode)};

}  // namespace
}  // namespace based::models
