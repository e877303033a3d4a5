#include "kernels/models/model_decode.h"

#include "kernels/core/validate.h"
#include "kernels/models/model_validate.h"
#include "kernels/models/work.h"

namespace based {

std::vector<axis<model_decode_problem>> model_decode::axes() {
  return {models::model_axis<problem>(),
          number_axis<problem>(
              {.flag = "batch",
               .label = "B",
               .help = "Batch sizes",
               .cpu = "1,4",
               .cuda = "1,8,16,32,64,128,256"},
              [](auto& p) -> auto& { return p.batch; }),
          number_axis<problem>(
              {.flag = "context",
               .label = "context",
               .help = "Tokens of each sequence, the one that is decoded included",
               .cpu = "1024",
               .cuda = "2048",
               .tested = "1,2,39,40,41,300,1000"},
              [](auto& p) -> auto& { return p.context; })};
}

std::vector<tensor_spec> model_decode::tensors(const problem& p, element_type io) {
  using enum tensor_role;
  constexpr element_type i32 = element_type::i32;
  const std::int64_t vocabulary = p.model->vocabulary;
  std::vector<tensor_spec> all = {{.name = "ids",
                                   .role = input,
                                   .type = i32,
                                   .shape = {p.batch},
                                   .below = static_cast<std::int32_t>(vocabulary)},
                                  {"positions", input, i32, {p.batch}}};
  for (const tensor_spec& each : models::weight_tensors(*p.model, io)) all.push_back(each);
  all.push_back({"logits", output, element_type::f32, {p.batch, vocabulary}});
  all.push_back({"next", output, i32, {p.batch}});
  const models::state_table states(*p.model, p.batch, p.cache_slots());
  for (const auto& each : models::state_tensors(states, io, updated)) all.push_back(each);
  return all;
}

operation_work model_decode::work(const problem& p) {
  return models::model_work(*p.model, p.on(), std::min(p.context, p.cache_slots()));
}

void validate(const model_decode_problem& problem) {
  require_size("context", problem.context);
  models::require_model(problem.model, problem.on(), problem.cache_slots());
}

template <class T>
void validate(const model_decode_args<T>& args, std::size_t workspace_needed) {
  const model_decode_problem& problem = args.problem;
  validate(problem);
  models::require_elements("ids", args.ids, problem.batch);
  models::require_elements("positions", args.positions, problem.batch);
  models::require_weights(*problem.model, args.matrices, args.others);
  models::require_elements("logits", args.logits, problem.batch * problem.model->vocabulary);
  models::require_elements("next", args.next, problem.batch);
  models::require_states({*problem.model, problem.batch, problem.cache_slots()}, args.recurrent,
                         args.cached);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const model_decode_args<float>&, std::size_t);
template void validate(const model_decode_args<bf16>&, std::size_t);

}  // namespace based
