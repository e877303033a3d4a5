// How the operations on whole models run, on any device: their arguments as a forward pass has
// them.
#pragma once

#include <type_traits>

#include "kernels/models/forward.h"
#include "kernels/models/model_decode.h"
#include "kernels/models/model_prefill.h"
#include "kernels/models/work.h"

namespace based::models {

template <class T>
workspace_plan plan_of(const model_prefill_problem& p) {
  return plan_workspace<T>(*p.model, p.on(), p.slots);
}
template <class T>
workspace_plan plan_of(const model_decode_problem& p) {
  return plan_workspace<T>(*p.model, p.on(), p.cache_slots());
}

template <class T>
void run_prefill(const model_prefill_args<T>& args, cuda_stream stream) {
  const model_prefill_problem& p = args.problem;
  validate(p);
  const workspace_plan plan = plan_of<T>(p);
  validate(args, plan.bytes);
  const forward_args<T> given = {.model = *p.model,
                                 .on = p.on(),
                                 .ids = args.ids.data(),
                                 .matrices = args.matrices.data(),
                                 .others = args.others.data(),
                                 .slots = p.slots,
                                 .recurrent = args.recurrent.data(),
                                 .cached = args.cached.data(),
                                 .workspace = static_cast<std::byte*>(args.workspace)};
  forward_pass<T> pass(given, plan, stream);
  const std::int64_t last = p.seqlen - 1, early = p.early_token();
  pass.run_layers({last, early});
  pass.head(last, args.logits.data());
  pass.head(early, args.early_logits.data());
}

/// Without the choice of the next token.
template <class T>
void run_decode(const model_decode_args<T>& args, const workspace_plan& plan,
                bool has_step_products, cuda_stream stream) {
  const model_decode_problem& p = args.problem;
  const forward_args<T> given = {.model = *p.model,
                                 .on = p.on(),
                                 .ids = args.ids.data(),
                                 .matrices = args.matrices.data(),
                                 .others = args.others.data(),
                                 .slots = p.cache_slots(),
                                 .recurrent = args.recurrent.data(),
                                 .cached = args.cached.data(),
                                 .positions = args.positions.data(),
                                 .has_step_products = has_step_products,
                                 .workspace = static_cast<std::byte*>(args.workspace)};
  forward_pass<T> pass(given, plan, stream);
  pass.run_layers({0});
  pass.head(0, args.logits.data());
}

/// The greedy choice among the logits.
template <class T>
choose_args greedy(const model_decode_args<T>& args) {
  const std::int64_t vocabulary = args.problem.model->vocabulary;
  return {.logits = args.logits.data(),
          .row_stride = vocabulary,
          .batch = args.problem.batch,
          .vocabulary = vocabulary,
          .ids = args.next.data()};
}

/// The early token's head is one more.
template <class T>
double executed_flops(const model_prefill_problem& p) {
  return product_flops(*p.model, p.on()) + 2 * head_flops(*p.model, p.batch) +
         executed_mixer_flops<T>(*p.model, p.on());
}
template <class T>
double executed_flops(const model_decode_problem& p) {
  return product_flops(*p.model, p.on()) + head_flops(*p.model, p.batch) +
         cached_attention_flops(*p.model, p.batch, p.cache_slots()) +
         executed_mixer_flops<T>(*p.model, p.on());
}

/// The products and mixers of this project, layer after layer. `Op` is model_prefill or
/// model_decode.
template <class Op, class T, class Run>
implementation<Op> forward_implementation(std::string_view summary, double tolerance, Run* run) {
  using problem = typename Op::problem;
  // Between the many short launches of a step stand gaps, unless it is replayed, and then no part
  // is timed by itself.
  constexpr bool has_shares = std::is_same_v<Op, model_prefill>;
  return {.name = "forward",
          .summary = summary,
          .role = implementation_role::ours,
          .tolerance = tolerance,
          .unsupported =
              [](const problem& p) {
                validate(p);
                return cannot_forward<T>(*p.model, p.on());
              },
          .workspace_bytes = [](const problem& p) { return plan_of<T>(p).bytes; },
          .executed_flops = [](const problem& p) { return executed_flops<T>(p); },
          .run = run,
          .take_counts = has_shares ? &part_times<T>::take_shares : nullptr};
}

}  // namespace based::models
