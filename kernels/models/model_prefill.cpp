#include "kernels/models/model_prefill.h"

#include <algorithm>

#include "kernels/core/validate.h"
#include "kernels/models/mixers.h"
#include "kernels/models/weights.h"

namespace based {
namespace {

using models::mixer_kind;
using models::model_configuration;

/// The names on the axis of models: those of the papers, or the tiny ones of tests.
std::string names_of_models(bool tiny) {
  std::string names;
  for (const model_configuration& each : models::known_models()) {
    if (each.name.starts_with("tiny-") != tiny) continue;
    names += (names.empty() ? "" : ",") + each.name;
  }
  return names;
}

/// What a sequence leaves for the tokens after it: states in fp32, inputs of convolutions and keys
/// and values in bf16.
double state_bytes(const model_configuration& model, std::int64_t seqlen) {
  const models::sequences one = {1, seqlen};
  double bytes = 0;
  for (const mixer_kind mixer : model.mixers) {
    if (mixer == mixer_kind::base_conv || mixer == mixer_kind::mamba) {
      bytes += static_cast<double>((model.taps - 1) * model.inner) * sizeof(bf16);
    }
    models::for_each_operation(model, mixer, one, [&]<class Op>(const typename Op::problem& p) {
      bytes += Op::work(p).state_bytes;
    });
  }
  return bytes;
}

}  // namespace

double product_flops(const model_prefill_problem& problem) {
  double weights = 0;
  for (const models::weight_tensor& each : models::weights_of(*problem.model).tensors()) {
    if (each.is_matrix()) weights += static_cast<double>(each.count());
  }
  weights -= static_cast<double>(problem.model->vocabulary * problem.model->width);
  return 2 * weights * static_cast<double>(problem.tokens());
}

double head_flops(const model_prefill_problem& problem) {
  return 2.0 * static_cast<double>(problem.batch) *
         static_cast<double>(problem.model->vocabulary * problem.model->width);
}

std::vector<axis<model_prefill_problem>> model_prefill::axes() {
  static const std::string papers = names_of_models(false), tiny = names_of_models(true);
  std::vector<std::pair<std::string, const model_configuration*>> all;
  for (const model_configuration& each : models::known_models()) all.emplace_back(each.name, &each);
  return {choice_axis<problem, const model_configuration*>(
              {.flag = "model",
               .label = "model",
               .help = "Models",
               .cpu = tiny,
               .cuda = papers,
               .tested = tiny},
              all, [](auto& p) -> auto& { return p.model; }),
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
               .tested = "1,2,3,7,63,64,65,300,1000"},
              [](auto& p) -> auto& { return p.seqlen; })};
}

std::vector<tensor_spec> model_prefill::tensors(const problem& p, element_type io) {
  using enum tensor_role;
  const models::weight_table& weights = models::weights_of(*p.model);
  const std::int64_t vocabulary = p.model->vocabulary;
  return {
      {.name = "ids",
       .role = input,
       .type = element_type::i32,
       .shape = {p.batch, p.seqlen},
       .below = static_cast<std::int32_t>(vocabulary)},
      {.name = "matrices",
       .role = input,
       .type = io,
       .shape = {weights.matrix_elements()},
       .stddev = models::matrix_stddev(*p.model)},
      {.name = "others",
       .role = input,
       .type = element_type::f32,
       .shape = {weights.other_elements()},
       .stddev = 1},
      {.name = "logits", .role = output, .type = element_type::f32, .shape = {p.batch, vocabulary}},
      {.name = "early_logits",
       .role = output,
       .type = element_type::f32,
       .shape = {p.batch, vocabulary}}};
}

operation_work model_prefill::work(const problem& p) {
  const double products = product_flops(p) + head_flops(p);
  operation_work all = {.nominal_flops = products,
                        .least_flops = products,
                        .tokens = static_cast<double>(p.tokens()),
                        .state_bytes = state_bytes(*p.model, p.seqlen)};
  for (const mixer_kind mixer : p.model->mixers) {
    models::for_each_operation(*p.model, mixer, {p.batch, p.seqlen},
                               [&]<class Op>(const typename Op::problem& of_mixer) {
                                 const operation_work one = Op::work(of_mixer);
                                 all.nominal_flops += one.nominal_flops;
                                 all.least_flops += one.least_flops;
                               });
  }
  return all;
}

void validate(const model_prefill_problem& problem) {
  BASED_REQUIRE(problem.model != nullptr, "model is null");
  models::validate(*problem.model);
  require_size("batch", problem.batch);
  require_size("seqlen", problem.seqlen);
  constexpr std::int64_t widest = 8;  // activations of a token, in widths
  require_addressable(problem.batch, 1, problem.seqlen,
                      static_cast<int>(widest * (problem.model->width + problem.model->inner)));
}

template <class T>
void validate(const model_prefill_args<T>& args, std::size_t workspace_needed) {
  const model_prefill_problem& problem = args.problem;
  validate(problem);
  const models::weight_table& weights = models::weights_of(*problem.model);
  const auto require = [](const char* name, const auto& given, std::int64_t elements) {
    require_state(name, given.data(), given.size_bytes(),
                  static_cast<std::size_t>(elements) * sizeof(given[0]));
  };
  require("ids", args.ids, problem.tokens());
  require("matrices", args.matrices, weights.matrix_elements());
  require("others", args.others, weights.other_elements());
  require("logits", args.logits, problem.batch * problem.model->vocabulary);
  require("early_logits", args.early_logits, problem.batch * problem.model->vocabulary);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const model_prefill_args<float>&, std::size_t);
template void validate(const model_prefill_args<bf16>&, std::size_t);

}  // namespace based
