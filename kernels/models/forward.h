// The forward pass of a whole model, one for all devices: T is float on the CPU, bf16 on CUDA.
//
// Between layers only the residual stream [tokens, width] lives, in fp32; what is added to it is
// added by the last product of a mixer or MLP. All other activations are T and lie in a workspace
// that every layer uses anew:
//
//   normed   [tokens, width]     what a layer reads, and then an attention's output
//   wide     [tokens, ...]       of the first product of a mixer or MLP
//   narrow   [tokens, ...]       what the last product reads
//   third    [tokens, inner]     of state spaces: steps, or the mixer's output
//   low      [tokens, ...]       of Mamba: the low-rank steps, B and C
//   last     [2, batch, width]   the normalised last and early tokens, which the head reads
//
// Mamba's activations are channel-major: its scan runs along a channel's tokens.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/core/nvtx.h"
#include "kernels/models/glue.h"
#include "kernels/models/mixers.h"
#include "kernels/models/model_prefill.h"
#include "kernels/models/products.h"
#include "kernels/models/weights.h"

namespace based::models {

/// Where the parts of the workspace begin, in bytes.
struct workspace_plan {
  std::size_t residual, normed, wide, narrow, third, low, last, mixer, product, bytes;
};

/// The elements from one channel to the next of a channel-major activation.
inline std::int64_t channel_stride(std::int64_t tokens) {
  constexpr std::int64_t alignment = 64;
  return (tokens + alignment - 1) / alignment * alignment;
}

template <class T>
workspace_plan plan_workspace(const model_prefill_problem& problem) {
  const model_configuration& model = *problem.model;
  const sequences on = {problem.batch, problem.seqlen};
  std::int64_t wide = 2 * model.mlp_inner, narrow = model.mlp_inner, third = 0, low = 0;
  std::size_t mixer_bytes = 0;
  for (const mixer_kind mixer : model.mixers) {
    wide = std::max(wide, model.projected(mixer));
    narrow = std::max(narrow, model.inner);
    if (mixer == mixer_kind::mamba2) narrow = std::max(narrow, model.inner + 2 * model.d_state);
    if (model.is_state_space()) third = model.inner;
    if (mixer == mixer_kind::mamba) low = model.dt_rank + 2 * model.d_state;
    for_each_operation(model, mixer, on, [&]<class Op>(const typename Op::problem& of_mixer) {
      const implementation<Op>& runs = mixer_for<Op, T>(of_mixer);
      mixer_bytes = std::max(mixer_bytes, runs.workspace_bytes(of_mixer));
    });
  }

  workspace_plan plan = {};
  const auto add = [&](std::size_t bytes) {
    constexpr std::size_t alignment = 256;
    const std::size_t begin = plan.bytes;
    plan.bytes += (bytes + alignment - 1) / alignment * alignment;
    return begin;
  };
  const auto add_activation = [&](std::int64_t rows, std::int64_t channels) {
    return add(static_cast<std::size_t>(rows * channels) * sizeof(T));
  };
  const std::int64_t tokens = channel_stride(on.tokens());
  plan.residual = add(static_cast<std::size_t>(tokens * model.width) * sizeof(float));
  plan.normed = add_activation(tokens, model.width);
  plan.wide = add_activation(tokens, wide);
  plan.narrow = add_activation(tokens, narrow);
  plan.third = add_activation(tokens, third);
  plan.low = add_activation(tokens, low);
  plan.last = add_activation(2 * on.batch, model.width);
  plan.mixer = add(mixer_bytes);
  plan.product = add(product_workspace_bytes<T>());
  return plan;
}

template <class T>
class forward_pass {
 public:
  /// Of valid arguments, with a large enough workspace.
  forward_pass(const model_prefill_args<T>& args, const workspace_plan& plan, cuda_stream stream)
      : args_(args),
        model_(*args.problem.model),
        weights_(weights_of(model_)),
        on_{args.problem.batch, args.problem.seqlen},
        tokens_(on_.tokens()),
        stride_(channel_stride(tokens_)),
        plan_(plan),
        residual_(at<float>(plan.residual)),
        normed_(at<T>(plan.normed)),
        wide_(at<T>(plan.wide)),
        narrow_(at<T>(plan.narrow)),
        third_(at<T>(plan.third)),
        low_(at<T>(plan.low)),
        last_(at<T>(plan.last)),
        stream_(stream) {}

  void run() {
    {
      const nvtx_range range("glue");
      embed<T>({args_.ids.data(), matrix(weights_.embedding()), model_.vocabulary, tokens_,
                model_.width, residual_},
               stream_);
    }
    for (std::int64_t layer = 0; layer < model_.layers(); ++layer) {
      const std::string prefix = weights_.layer(layer);
      const bool has_mlp = model_.mlp_inner > 0;
      normalize_tokens(prefix + (has_mlp ? "norm1.weight" : "norm.weight"));
      mix(model_.mixers[static_cast<std::size_t>(layer)], prefix + "mixer.");
      if (!has_mlp) continue;
      normalize_tokens(prefix + "norm2.weight");
      mlp(prefix + "mlp.");
    }
    head(on_.seqlen - 1, last_, args_.logits.data());
    head(args_.problem.early_token(), last_ + on_.batch * model_.width, args_.early_logits.data());
  }

 private:
  void mix(mixer_kind mixer, const std::string& prefix) {
    switch (mixer) {
      case mixer_kind::base_conv:
        return base_conv(prefix);
      case mixer_kind::linear_attention:
        return linear_attention(prefix);
      case mixer_kind::window_attention:
      case mixer_kind::attention:
        return softmax_attention(mixer, prefix);
      case mixer_kind::mamba:
        return mamba(prefix);
      case mixer_kind::mamba2:
        return mamba2(prefix);
    }
  }

  void base_conv(const std::string& prefix) {
    const std::int64_t inner = model_.inner;
    project(prefix + "in_proj.weight", normed_, model_.width, wide_, 2 * inner);
    {
      const nvtx_range range("mixers");
      gated_conv<T>({.u = wide_,
                     .bias = other(prefix + "in_proj.bias"),
                     .weight = other(prefix + "conv.conv.weight"),
                     .batch = on_.batch,
                     .seqlen = on_.seqlen,
                     .channels = inner,
                     .taps = model_.taps,
                     .out = narrow_},
                    stream_);
    }
    add_projection(prefix + "out_proj.weight", token_major(narrow_, inner), inner,
                   other(prefix + "out_proj.bias"));
  }

  void linear_attention(const std::string& prefix) {
    const std::int64_t heads = model_.heads, width = model_.width;
    const std::int64_t features = heads * feature_dim, row = 2 * features + width;
    // The three projections lie side by side: one product.
    project(prefix + "proj_q.weight", normed_, width, wide_, row);
    run_mixer<based_prefill>({.problem = linear_attention_problem(model_, on_),
                              .q = heads_of(wide_, row, feature_dim),
                              .k = heads_of(wide_ + features, row, feature_dim),
                              .v = heads_of(wide_ + 2 * features, row, value_dim),
                              .o = heads_of(normed_, width, value_dim)});
    if (model_.head_norm) {
      const nvtx_range range("glue");
      normalize_gated<T>({.x = normed_,
                          .rows = tokens_ * heads,
                          .width = value_dim,
                          .weight = other(prefix + "g_norm.weight"),
                          .eps = model_.eps},
                         stream_);
    }
    add_projection(prefix + "out_proj.weight", token_major(normed_, width), width);
  }

  void softmax_attention(mixer_kind mixer, const std::string& prefix) {
    const std::int64_t width = model_.width;
    constexpr int dim = model_configuration::head_dim;
    project(prefix + "Wqkv.weight", normed_, width, wide_, 3 * width);
    {
      const nvtx_range range("glue");
      rotate<T>({.x = wide_,
                 .token_stride = 3 * width,
                 .tokens = tokens_,
                 .seqlen = on_.seqlen,
                 .heads = 2 * model_.heads,
                 .head_dim = dim,
                 .rotated = model_.rotated,
                 .base = model_.rotary_base},
                stream_);
    }
    run_mixer<attention>({.problem = softmax_problem(model_, mixer, on_),
                          .q = heads_of(wide_, 3 * width, dim),
                          .k = heads_of(wide_ + width, 3 * width, dim),
                          .v = heads_of(wide_ + 2 * width, 3 * width, dim),
                          .o = heads_of(normed_, width, dim)});
    add_projection(prefix + "out_proj.weight", token_major(normed_, width), width);
  }

  void mamba(const std::string& prefix) {
    const std::int64_t inner = model_.inner, rank = model_.dt_rank, state = model_.d_state;
    T* const x = wide_;                    // [inner, tokens], and then the scan's output
    T* const z = wide_ + inner * stride_;  // [inner, tokens]
    T* const u = narrow_;                  // [inner, tokens]
    T* const delta = third_;               // [inner, tokens]
    multiply_by(prefix + "in_proj.weight", token_major(normed_, model_.width), model_.width,
                channel_major(wide_), 2 * inner);
    {
      const nvtx_range range("mixers");
      conv_along_time<T>({.x = x,
                          .channel_stride = stride_,
                          .weight = other(prefix + "conv1d.weight"),
                          .bias = other(prefix + "conv1d.bias"),
                          .batch = on_.batch,
                          .seqlen = on_.seqlen,
                          .channels = inner,
                          .taps = model_.taps,
                          .out = u},
                         stream_);
    }
    multiply_by(prefix + "x_proj.weight", channel_major(u), inner, channel_major(low_),
                rank + 2 * state);
    multiply_by(prefix + "dt_proj.weight", channel_major(low_), rank, channel_major(delta), inner);
    run_mixer<selective_scan>(
        {.problem = scan_problem(model_, on_),
         .operands = {.u = channels_of(u),
                      .delta = channels_of(delta),
                      .a = {other(prefix + "A_log"), static_cast<std::size_t>(inner * state)},
                      .b = channels_of(low_ + rank * stride_),
                      .c = channels_of(low_ + (rank + state) * stride_),
                      .d = {other(prefix + "D"), static_cast<std::size_t>(inner)},
                      .bias = {other(prefix + "dt_proj.bias"), static_cast<std::size_t>(inner)},
                      .z = channels_of(z),
                      .y = channels_of(x)}});
    add_projection(prefix + "out_proj.weight", channel_major(x), inner);
  }

  void mamba2(const std::string& prefix) {
    const std::int64_t inner = model_.inner, state = model_.d_state, heads = model_.ssd_heads();
    const std::int64_t row = model_.projected(mixer_kind::mamba2), convolved = inner + 2 * state;
    constexpr int dim = model_configuration::head_dim;
    T* const z = wide_;  // of a token: z, then x, B and C, then dt
    T* const xbc = wide_ + inner;
    T* const dt = wide_ + inner + convolved;
    T* const y = third_;
    project(prefix + "in_proj.weight", normed_, model_.width, wide_, row);
    run_mixer<causal_conv>(
        {.problem = convolution_problem(model_, on_),
         .x = heads_of(xbc, row, 0),
         .weight = {other(prefix + "conv1d.weight"),
                    static_cast<std::size_t>(model_.taps * convolved)},
         .y = heads_of(narrow_, convolved, 0),
         .bias = {other(prefix + "conv1d.bias"), static_cast<std::size_t>(convolved)}});
    run_mixer<ssd>({.problem = state_space_problem(model_, on_),
                    .x = heads_of(narrow_, convolved, dim),
                    .dt = heads_of(dt, row, 1),
                    .a = {other(prefix + "A_log"), static_cast<std::size_t>(heads)},
                    .b = heads_of(narrow_ + inner, convolved, 0),
                    .c = heads_of(narrow_ + inner + state, convolved, 0),
                    .y = heads_of(y, inner, dim),
                    .dt_bias = {other(prefix + "dt_bias"), static_cast<std::size_t>(heads)},
                    .d = {other(prefix + "D"), static_cast<std::size_t>(heads)}});
    {
      const nvtx_range range("glue");
      normalize_gated<T>({.x = y,
                          .gate = z,
                          .gate_stride = row,
                          .rows = tokens_,
                          .width = inner,
                          .weight = other(prefix + "norm.weight"),
                          .eps = model_.eps},
                         stream_);
    }
    add_projection(prefix + "out_proj.weight", token_major(y, inner), inner);
  }

  void mlp(const std::string& prefix) {
    const std::int64_t inner = model_.mlp_inner;
    project(prefix + "fc1.weight", normed_, model_.width, wide_, 2 * inner);
    {
      const nvtx_range range("glue");
      swiglu<T>({wide_, tokens_, inner, narrow_}, stream_);
    }
    add_projection(prefix + "fc2.weight", token_major(narrow_, inner), inner);
  }

  /// Logits [batch, vocabulary] of a token of each sequence. `rows` [batch, width] are overwritten.
  void head(std::int64_t token, T* rows, float* logits) {
    {
      const nvtx_range range("glue");
      normalize<T>({.x = residual_ + token * model_.width,
                    .row_stride = on_.seqlen * model_.width,
                    .rows = on_.batch,
                    .width = model_.width,
                    .weight = other(weights_.final_norm()),
                    .eps = model_.eps,
                    .out = rows},
                   stream_);
    }
    const nvtx_range range("products");
    multiply<T>({.tokens = on_.batch,
                 .inputs = model_.width,
                 .outputs = model_.vocabulary,
                 .x = token_major(rows, model_.width),
                 .weight = matrix(weights_.embedding()),
                 .sum = logits},
                at<void>(plan_.product), stream_);
  }

  void normalize_tokens(const std::string& weight) {
    const nvtx_range range("glue");
    normalize<T>({.x = residual_,
                  .row_stride = model_.width,
                  .rows = tokens_,
                  .width = model_.width,
                  .weight = other(weight),
                  .eps = model_.eps,
                  .out = normed_},
                 stream_);
  }

  // Products.

  void multiply_by(const std::string& weight, activation<const T> x, std::int64_t inputs,
                   activation<T> y, std::int64_t outputs) {
    const nvtx_range range("products");
    multiply<T>({.tokens = tokens_,
                 .inputs = inputs,
                 .outputs = outputs,
                 .x = x,
                 .weight = matrix(weight),
                 .y = y},
                at<void>(plan_.product), stream_);
  }
  /// y [tokens, outputs] = x [tokens, inputs] W^T.
  void project(const std::string& weight, const T* x, std::int64_t inputs, T* y,
               std::int64_t outputs) {
    multiply_by(weight, token_major(x, inputs), inputs, {y, outputs}, outputs);
  }
  /// Adds x W^T + bias to the residual stream.
  void add_projection(const std::string& weight, activation<const T> x, std::int64_t inputs,
                      const float* bias = nullptr) {
    const nvtx_range range("products");
    multiply<T>({.tokens = tokens_,
                 .inputs = inputs,
                 .outputs = model_.width,
                 .x = x,
                 .weight = matrix(weight),
                 .sum = residual_,
                 .accumulates = true,
                 .bias = bias},
                at<void>(plan_.product), stream_);
  }

  // Mixers.

  template <class Op>
  void run_mixer(typename Op::template args<T> call) {
    const nvtx_range range("mixers");
    const implementation<Op>& runs = mixer_for<Op, T>(call.problem);
    call.workspace = at<void>(plan_.mixer);
    call.workspace_bytes = plan_.product - plan_.mixer;
    runs(call, stream_);
  }

  /// Heads of `dim` elements, side by side in a token's `row` elements. A single head has no dim.
  sequence_view<T> heads_of(T* data, std::int64_t row, std::int64_t dim) const {
    return {data, on_.seqlen * row, dim, row};
  }
  /// Channels whose tokens lie side by side.
  sequence_view<T> channels_of(T* data) const { return {data, on_.seqlen, stride_, 1}; }

  activation<const T> token_major(const T* data, std::int64_t channels) const {
    return {data, channels, activation_order::token_major};
  }
  template <class Element>
  activation<Element> channel_major(Element* data) const {
    return {data, stride_, activation_order::channel_major};
  }

  // Memory.

  template <class Element>
  Element* at(std::size_t offset) const {
    return reinterpret_cast<Element*>(static_cast<std::byte*>(args_.workspace) + offset);
  }
  const T* matrix(const std::string& key) const {
    return args_.matrices.data() + weights_.at(key).offset;
  }
  const float* other(const std::string& key) const {
    return args_.others.data() + weights_.at(key).offset;
  }

  const model_prefill_args<T>& args_;
  const model_configuration& model_;
  const weight_table& weights_;
  sequences on_;
  std::int64_t tokens_, stride_;
  workspace_plan plan_;
  float* residual_;
  T *normed_, *wide_, *narrow_, *third_, *low_, *last_;
  cuda_stream stream_;
};

/// Why the model's mixers or products cannot run; empty: they can.
template <class T>
unsupported_reason cannot_forward(const model_prefill_problem& problem) {
  validate(problem);
  if (unsupported_reason reason = products_unavailable<T>()) return reason;
  unsupported_reason reason;
  for (const mixer_kind mixer : problem.model->mixers) {
    for_each_operation(*problem.model, mixer, {problem.batch, problem.seqlen},
                       [&]<class Op>(const typename Op::problem& of_mixer) {
                         const auto choice = choose_mixer<Op, T>(of_mixer);
                         if (choice.chosen != nullptr || reason) return;
                         reason = std::string(Op::name) + ": " + choice.reason;
                       });
  }
  return reason;
}

/// What the products execute, the early token's head too, and the mixers.
template <class T>
double executed_forward_flops(const model_prefill_problem& problem) {
  double flops = product_flops(problem) + head_flops(problem);
  for (const mixer_kind mixer : problem.model->mixers) {
    for_each_operation(*problem.model, mixer, {problem.batch, problem.seqlen},
                       [&]<class Op>(const typename Op::problem& of_mixer) {
                         flops += mixer_for<Op, T>(of_mixer).executed_flops(of_mixer);
                       });
  }
  return flops;
}

template <class T>
void run_forward(const model_prefill_args<T>& args, cuda_stream stream) {
  validate(args.problem);
  const workspace_plan plan = plan_workspace<T>(args.problem);
  validate(args, plan.bytes);
  forward_pass<T>(args, plan, stream).run();
}

/// Called model_prefill/forward: the products and mixers of this project, layer after layer.
template <class T, class Run>
implementation<model_prefill> forward_implementation(std::string_view summary, double tolerance,
                                                     Run* run) {
  return {
      .name = "forward",
      .summary = summary,
      .role = implementation_role::ours,
      .tolerance = tolerance,
      .unsupported = cannot_forward<T>,
      .workspace_bytes = [](const model_prefill_problem& p) { return plan_workspace<T>(p).bytes; },
      .executed_flops = executed_forward_flops<T>,
      .run = run};
}

}  // namespace based::models
