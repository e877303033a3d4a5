// What every implementation of attention asks of its arguments.
#include <fmt/format.h>

#include "kernels/attention/attention.h"
#include "kernels/core/validate.h"

namespace based {

void validate(const attention_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("seqlen", problem.seqlen);
  require_head_dim(problem.head_dim);
  require_addressable(problem.batch, problem.heads, problem.seqlen, problem.head_dim);
}

template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed) {
  const attention_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, problem.head_dim);
  require_view("k", args.k, problem.head_dim);
  require_view("v", args.v, problem.head_dim);
  require_output("o", args.o, problem.batch, problem.heads, problem.seqlen, problem.head_dim);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const attention_args<float>&, std::size_t);
template void validate(const attention_args<bf16>&, std::size_t);

}  // namespace based
