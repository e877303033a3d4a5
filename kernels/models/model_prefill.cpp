#include "kernels/models/model_prefill.h"

#include "kernels/core/validate.h"
#include "kernels/models/model_validate.h"
#include "kernels/models/work.h"

namespace based {

std::vector<axis<model_prefill_problem>> model_prefill::axes() {
  return {models::model_axis<problem>(),
          number_axis<problem>(
              {.flag = "batch",
               .label = "B",
               .help = "Batch sizes",
               .cpu = "1",
               .cuda = "4,16,32,64,128"},
              [](auto& p) -> auto& { return p.batch; }),
          number_axis<problem>(
              {.flag = "seqlen",
               .label = "N",
               .help = "Sequence lengths",
               .cpu = "256,1024",
               .cuda = "8000",
               .tested = "1,3,7,63,64,65,300,1000,4097"},
              [](auto& p) -> auto& { return p.seqlen; }),
          number_axis<problem>(
              {.flag = "slots",
               .label = "slots",
               .help = "Slots of the caches that a prompt leaves with its states; 0: neither",
               .tested = "70,300",
               .usual = std::int64_t{0},
               .domain = {.least = 0}},
              [](auto& p) -> auto& { return p.slots; })};
}

std::vector<tensor_spec> model_prefill::tensors(const problem& p, element_type io) {
  using enum tensor_role;
  const std::int64_t vocabulary = p.model->vocabulary;
  std::vector<tensor_spec> all = {{.name = "ids",
                                   .role = input,
                                   .type = element_type::i32,
                                   .shape = {p.batch, p.seqlen},
                                   .below = static_cast<std::int32_t>(vocabulary)}};
  for (const tensor_spec& each : models::weight_tensors(*p.model, io)) all.push_back(each);
  all.push_back({"logits", output, element_type::f32, {p.batch, vocabulary}});
  all.push_back({"early_logits", output, element_type::f32, {p.batch, vocabulary}});
  if (p.slots > 0) {
    const models::state_table states(*p.model, p.batch, p.slots);
    for (const auto& each : models::state_tensors(states, io, output)) all.push_back(each);
  }
  return all;
}

operation_work model_prefill::work(const problem& p) {
  return models::model_work(*p.model, p.on(), p.slots > 0 ? p.slots : p.seqlen);
}

void validate(const model_prefill_problem& problem) {
  models::require_model(problem.model, problem.on(), problem.slots);
}

template <class T>
void validate(const model_prefill_args<T>& args, std::size_t workspace_needed) {
  const model_prefill_problem& problem = args.problem;
  validate(problem);
  models::require_elements("ids", args.ids, problem.tokens());
  models::require_weights(*problem.model, args.matrices, args.others);
  const std::int64_t logits = problem.batch * problem.model->vocabulary;
  models::require_elements("logits", args.logits, logits);
  models::require_elements("early_logits", args.early_logits, logits);
  if (problem.slots > 0) {
    models::require_states({*problem.model, problem.batch, problem.slots}, args.recurrent,
                           args.cached);
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const model_prefill_args<float>&, std::size_t);
template void validate(const model_prefill_args<bf16>&, std::size_t);

}  // namespace based
