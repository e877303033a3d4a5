// The problems that a model's mixers are, as the operations on sequences describe them, and which
// implementation runs each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/attention/attention.h"
#include "kernels/based/prefill.h"
#include "kernels/models/configuration.h"
#include "kernels/state_space/causal_conv.h"
#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/ssd.h"

namespace based::models {

static_assert(model_configuration::feature_dim == feature_dim);
static_assert(model_configuration::head_dim == value_dim);

/// Sequences that a model is run on.
struct sequences {
  std::int64_t batch, seqlen;
  std::int64_t tokens() const { return batch * seqlen; }
};

inline prefill_problem linear_attention_problem(const model_configuration& model,
                                                const sequences& on) {
  return {.shape = {.batch = on.batch, .heads = model.heads, .seqlen = on.seqlen},
          .options = {.normalize = !model.head_norm}};
}

/// Of a layer of window_attention, or of attention.
inline attention_problem softmax_problem(const model_configuration& model, mixer_kind mixer,
                                         const sequences& on) {
  const bool has_window = mixer == mixer_kind::window_attention && model.window < on.seqlen;
  return {.batch = on.batch,
          .heads = model.heads,
          .seqlen = on.seqlen,
          .head_dim = model_configuration::head_dim,
          .window = has_window ? model.window : 0};
}

inline selective_scan_problem scan_problem(const model_configuration& model, const sequences& on) {
  selective_scan_problem problem;
  problem.batch = on.batch;
  problem.seqlen = on.seqlen;
  problem.d_inner = model.inner;
  problem.d_state = model.d_state;
  problem.softplus = problem.bias = problem.skip = problem.gate = true;
  return problem;
}

inline ssd_problem state_space_problem(const model_configuration& model, const sequences& on) {
  return {.batch = on.batch,
          .heads = model.ssd_heads(),
          .seqlen = on.seqlen,
          .head_dim = model_configuration::head_dim,
          .state_dim = static_cast<int>(model.d_state),
          .softplus = true,
          .bias = true,
          .skip = true};
}

/// Of mamba2, whose convolution is of x, B and C. (That of mamba runs along channels, and
/// base_conv's has a gate: glue.h.)
inline conv_problem convolution_problem(const model_configuration& model, const sequences& on) {
  return {.batch = on.batch,
          .seqlen = on.seqlen,
          .channels = model.inner + 2 * model.d_state,
          .taps = model.taps,
          .bias = true,
          .silu = true};
}

/// Calls f.operator()<Op>(problem) with each operation that a layer consists of.
template <class Function>
void for_each_operation(const model_configuration& model, mixer_kind mixer, const sequences& on,
                        Function f) {
  switch (mixer) {
    case mixer_kind::base_conv:
      return;
    case mixer_kind::linear_attention:
      return f.template operator()<based_prefill>(linear_attention_problem(model, on));
    case mixer_kind::window_attention:
    case mixer_kind::attention:
      return f.template operator()<attention>(softmax_problem(model, mixer, on));
    case mixer_kind::mamba:
      return f.template operator()<selective_scan>(scan_problem(model, on));
    case mixer_kind::mamba2:
      f.template operator()<causal_conv>(convolution_problem(model, on));
      return f.template operator()<ssd>(state_space_problem(model, on));
  }
}

/// The implementations that models run, by operation and device, the fastest first: the first one
/// that supports a problem runs it.
inline constexpr std::string_view preferred_mixers[] = {
    "based",         "based_sm80",                         // linear attention
    "forward_sm90",  "forward_sm80", "softmax_attention",  // softmax attention
    "register_scan",                                       // selective_scan
    "fused_chunked", "ssd_sm80",     "chunked_ssd",        // ssd
    "direct"};                                             // causal_conv

/// An implementation, or why there is none.
template <class Op>
struct mixer_choice {
  const implementation<Op>* chosen = nullptr;
  std::string reason = "is not built in";
};

template <class Op, class T>
mixer_choice<Op> choose_mixer(const typename Op::problem& problem) {
  mixer_choice<Op> choice;
  for (const std::string_view name : preferred_mixers) {
    for (const implementation<Op>& each : registry<Op>()) {
      const auto types = each.run.types();
      if (each.name != name || std::ranges::find(types, element_of<T>) == types.end()) continue;
      if (const unsupported_reason reason = each.unsupported(problem)) {
        choice.reason = *reason;
      } else {
        return {&each, {}};
      }
    }
  }
  return choice;
}

/// Throws invalid_argument where nothing runs the problem.
template <class Op, class T>
const implementation<Op>& mixer_for(const typename Op::problem& problem) {
  const mixer_choice<Op> choice = choose_mixer<Op, T>(problem);
  BASED_REQUIRE(choice.chosen != nullptr, std::string(Op::name) + ": " + choice.reason);
  return *choice.chosen;
}

}  // namespace based::models
