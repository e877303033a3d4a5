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
#include "kernels/based/decode.h"
#include "kernels/based/prefill.h"
#include "kernels/models/configuration.h"
#include "kernels/models/sequences.h"
#include "kernels/state_space/causal_conv.h"
#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/selective_scan_decode.h"
#include "kernels/state_space/ssd.h"
#include "kernels/state_space/ssd_decode.h"

namespace based::models {

static_assert(model_configuration::feature_dim == feature_dim);
static_assert(model_configuration::head_dim == value_dim);

inline prefill_problem linear_attention_problem(const model_configuration& model,
                                                const sequences& on) {
  return {.shape = {.batch = on.batch, .heads = model.heads, .seqlen = on.seqlen},
          .options = {.normalize = !model.head_norm, .final_state = on.leaves_states}};
}

inline decode_problem linear_attention_step(const model_configuration& model, const sequences& on) {
  return {.batch = on.batch, .heads = model.heads, .normalize = !model.head_norm};
}

/// The problem of a layer of window_attention, or of attention. (That of a step reads a cache:
/// glue/decode.h.)
inline attention_problem softmax_problem(const model_configuration& model, mixer_kind mixer,
                                         const sequences& on) {
  const bool has_window = mixer == mixer_kind::window_attention && model.window < on.seqlen;
  return {.batch = on.batch,
          .heads = model.heads,
          .seqlen = on.seqlen,
          .head_dim = model_configuration::head_dim,
          .window = has_window ? model.window : 0};
}

namespace detail {

template <class Problem>
Problem scan_problem(const model_configuration& model, const sequences& on) {
  Problem problem;
  problem.batch = on.batch;
  problem.d_inner = model.inner;
  problem.d_state = model.d_state;
  problem.softplus = problem.bias = problem.skip = problem.gate = true;
  return problem;
}

template <class Problem>
Problem state_space_problem(const model_configuration& model, const sequences& on) {
  Problem problem;
  problem.batch = on.batch;
  problem.heads = model.ssd_heads();
  problem.head_dim = model_configuration::head_dim;
  problem.state_dim = static_cast<int>(model.d_state);
  problem.softplus = problem.bias = problem.skip = true;
  return problem;
}

}  // namespace detail

inline selective_scan_problem scan_problem(const model_configuration& model, const sequences& on) {
  auto problem = detail::scan_problem<selective_scan_problem>(model, on);
  problem.seqlen = on.seqlen;
  problem.final_state = on.leaves_states;
  return problem;
}

inline selective_scan_decode_problem scan_step(const model_configuration& model,
                                               const sequences& on) {
  return detail::scan_problem<selective_scan_decode_problem>(model, on);
}

inline ssd_problem state_space_problem(const model_configuration& model, const sequences& on) {
  auto problem = detail::state_space_problem<ssd_problem>(model, on);
  problem.seqlen = on.seqlen;
  problem.final_state = on.leaves_states;
  return problem;
}

inline ssd_decode_problem state_space_step(const model_configuration& model, const sequences& on) {
  return detail::state_space_problem<ssd_decode_problem>(model, on);
}

/// The convolution of token-major channels: mamba2's x, B and C, and mamba's x in a step. (That of
/// base_conv has a gate, and mamba's over a sequence runs along channels: glue.h.)
inline conv_problem convolution_problem(const model_configuration& model, mixer_kind mixer,
                                        const sequences& on) {
  return {.batch = on.batch,
          .seqlen = on.seqlen,
          .channels = model.inner + (mixer == mixer_kind::mamba2 ? 2 * model.d_state : 0),
          .taps = model.taps,
          .bias = true,
          .silu = true,
          .initial_state = on.continues,
          .final_state = on.continues || on.leaves_states};
}

/// Calls f.operator()<Op>(problem) with each operation that a layer consists of.
template <class Function>
void for_each_operation(const model_configuration& model, mixer_kind mixer, const sequences& on,
                        Function f) {
  switch (mixer) {
    case mixer_kind::base_conv:
      return;
    case mixer_kind::linear_attention:
      if (!on.continues) {
        return f.template operator()<based_prefill>(linear_attention_problem(model, on));
      }
      return f.template operator()<based_decode>(linear_attention_step(model, on));
    case mixer_kind::window_attention:
    case mixer_kind::attention:
      if (on.continues) return;
      return f.template operator()<attention>(softmax_problem(model, mixer, on));
    case mixer_kind::mamba:
      if (!on.continues) return f.template operator()<selective_scan>(scan_problem(model, on));
      f.template operator()<causal_conv>(convolution_problem(model, mixer, on));
      return f.template operator()<selective_scan_decode>(scan_step(model, on));
    case mixer_kind::mamba2:
      f.template operator()<causal_conv>(convolution_problem(model, mixer, on));
      if (!on.continues) return f.template operator()<ssd>(state_space_problem(model, on));
      return f.template operator()<ssd_decode>(state_space_step(model, on));
  }
}

/// The implementations that models run, by operation, the fastest first: the first one that
/// supports a problem runs it.
inline constexpr std::string_view preferred_mixers[] = {
    "based",         "based_sm80",                         // linear attention
    "forward_sm90",  "forward_sm80", "softmax_attention",  // softmax attention
    "register_scan",                                       // selective_scan and its step
    "fused_chunked", "ssd_sm80",     "chunked_ssd",        // ssd
    "ssd_decode",                                          // its step
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
