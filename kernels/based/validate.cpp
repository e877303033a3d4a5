// What every implementation of Based's operations asks of its arguments.
#include <fmt/format.h>

#include "kernels/based/decode.h"
#include "kernels/based/prefill.h"
#include "kernels/core/validate.h"

namespace based {

void validate(const prefill_problem& problem) {
  const auto& [batch, heads, seqlen] = problem.shape;
  require_size("batch", batch);
  require_size("heads", heads);
  require_size("seqlen", seqlen);
  require_addressable(batch, heads, seqlen, value_dim);
}

template <class T>
void validate(const prefill_args<T>& args, std::size_t workspace_needed) {
  validate(args.problem);
  require_view("q", args.q, feature_dim);
  require_view("k", args.k, feature_dim);
  require_view("v", args.v, value_dim);
  const auto& [batch, heads, seqlen] = args.problem.shape;
  require_output("o", args.o, batch, heads, seqlen, value_dim);
  const prefill_options& options = args.problem.options;
  const std::size_t z_bytes = batch * heads * compact_features * sizeof(float);
  const std::size_t kv_bytes = z_bytes * value_dim;
  if (options.initial_state) {
    require_state("initial_state.kv", args.initial_state.kv, kv_bytes);
    if (options.normalize) require_state("initial_state.z", args.initial_state.z, z_bytes);
  }
  if (options.final_state) {
    require_state("final_state.kv", args.final_state.kv, kv_bytes);
    if (options.normalize) require_state("final_state.z", args.final_state.z, z_bytes);
  }
  if (options.initial_state && options.final_state) {
    require_apart("initial_state.kv", args.initial_state.kv, "final_state.kv", args.final_state.kv);
    if (options.normalize) {
      require_apart("initial_state.z", args.initial_state.z, "final_state.z", args.final_state.z);
    }
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

void validate(const decode_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_addressable(problem.batch, problem.heads, state_rows(problem.layout), value_dim);
}

template <class T>
void validate(const decode_args<T>& args, std::size_t workspace_needed) {
  const decode_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, query_dim(problem.layout));
  require_view("k", args.k, query_dim(problem.layout));
  require_view("v", args.v, value_dim);
  require_output("o", args.o, problem.batch, problem.heads, 1, value_dim);
  require_state("kv", args.kv, args.kv_bytes, problem.kv_bytes());
  if (problem.normalize) require_state("z", args.z, args.z_bytes, problem.z_bytes());
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const prefill_args<float>&, std::size_t);
template void validate(const prefill_args<bf16>&, std::size_t);
template void validate(const decode_args<float>&, std::size_t);
template void validate(const decode_args<bf16>&, std::size_t);

}  // namespace based
