// The forward pass of a whole model over sequences, or over one token of each with the states that
// the tokens before left: one text for all devices. T is float on the CPU, bf16 on CUDA.
//
// Between layers only the residual stream [tokens, width] lives, in fp32; what is added to it is
// added by the last product of a mixer or MLP. All other activations are T and lie in a workspace
// that every layer uses anew:
//
//   normed   [tokens, width]     what a layer reads, and then an attention's output
//   wide     [tokens, ...]       of the first product of a mixer or MLP
//   narrow   [tokens, ...]       what the last product reads
//   third    [tokens, inner]     of state spaces: steps, or the mixer's output, or in a step both
//   low      [tokens, ...]       of Mamba: the low-rank steps, B and C
//   cache    counters of attention over a cache: zeros before a call, and zeros again after it
//
// Mamba's activations are channel-major: its scan runs along a channel's tokens. In a step, of one
// token a sequence, they are token-major as all others.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/models/glue.h"
#include "kernels/models/glue/decode.h"
#include "kernels/models/glue/step_product.h"
#include "kernels/models/mixers.h"
#include "kernels/models/part_times.h"
#include "kernels/models/products.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"

namespace based::models {

/// What a forward pass reads and leaves, on the device.
template <class T>
struct forward_args {
  const model_configuration& model;
  sequences on;
  const std::int32_t* ids;  ///< [batch, seqlen]
  const T* matrices;        ///< as weights_of(model) has them
  const float* others;
  /// As state_table(model, batch, slots) has them; null where none are left or continued.
  std::int64_t slots = 0;
  float* recurrent = nullptr;
  T* cached = nullptr;
  const std::int32_t* positions = nullptr;  ///< [batch], of a step's tokens, from 0
  bool has_step_products = false;           ///< step_product() runs on this device
  std::byte* workspace;
};

/// Some of the tokens of all sequences: `count`, a token every `step` from the first one on.
struct token_set {
  std::int64_t first, step, count;
};

/// Where the parts of the workspace begin, in bytes.
struct workspace_plan {
  std::size_t residual, normed, wide, narrow, third, low, mixer, cache, product, bytes;
};

/// The elements from one channel to the next of a channel-major activation.
inline std::int64_t channel_stride(std::int64_t tokens) {
  constexpr std::int64_t alignment = 64;
  return (tokens + alignment - 1) / alignment * alignment;
}

template <class T>
workspace_plan plan_workspace(const model_configuration& model, const sequences& on,
                              std::int64_t slots) {
  std::int64_t wide = 2 * model.mlp_inner, narrow = model.mlp_inner, third = 0, low = 0;
  std::size_t mixer_bytes = 0, cache_bytes = 0;
  for (const mixer_kind mixer : model.mixers) {
    wide = std::max(wide, model.projected(mixer));
    narrow = std::max(narrow, model.inner + (mixer == mixer_kind::mamba2 ? 2 * model.d_state : 0));
    if (model.is_state_space()) third = model.inner * (on.continues ? 2 : 1);
    if (mixer == mixer_kind::mamba) low = model.dt_rank + 2 * model.d_state;
    for_each_operation(model, mixer, on, [&]<class Op>(const typename Op::problem& of_mixer) {
      const implementation<Op>& runs = mixer_for<Op, T>(of_mixer);
      mixer_bytes = std::max(mixer_bytes, runs.workspace_bytes(of_mixer));
    });
    if (on.continues && (mixer == mixer_kind::window_attention || mixer == mixer_kind::attention)) {
      cache_bytes = std::max(cache_bytes, cached_attention_workspace(
                                              on.batch, model.heads, model_configuration::head_dim,
                                              cache_slots(model, mixer, slots)));
    }
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
  plan.mixer = add(mixer_bytes);
  plan.cache = add(cache_bytes);
  plan.product = add(product_workspace_bytes<T>());
  return plan;
}

template <class T>
class forward_pass {
 public:
  /// Takes valid arguments and a large enough workspace.
  forward_pass(const forward_args<T>& args, const workspace_plan& plan, cuda_stream stream)
      : args_(args),
        model_(args.model),
        weights_(weights_of(model_)),
        states_(model_, args.on.batch, args.slots),
        on_(args.on),
        tokens_(on_.tokens()),
        stride_(channel_stride(tokens_)),
        plan_(plan),
        residual_(at<float>(plan.residual)),
        normed_(at<T>(plan.normed)),
        wide_(at<T>(plan.wide)),
        narrow_(at<T>(plan.narrow)),
        third_(at<T>(plan.third)),
        low_(at<T>(plan.low)),
        stream_(stream) {}

  /// From ids to the residual stream behind the last layer, of which only those tokens of each
  /// sequence are made: what follows the last mixer does not ask for others.
  void run_layers(std::initializer_list<std::int64_t> wanted) {
    part_times<T>::current().start_pass(stream_);
    {
      const part_range<T> range(pass_part::glue, stream_);
      embed<T>({args_.ids, matrix(weights_.embedding()), model_.vocabulary, tokens_, model_.width,
                residual_},
               stream_);
    }
    for (layer_ = 0; layer_ < model_.layers(); ++layer_) {
      const bool is_last = layer_ + 1 == model_.layers();
      const bool has_mlp = model_.mlp_inner > 0;
      kept_ = {all_tokens()};
      norm_ = other(has_mlp ? "norm1.weight" : "norm.weight");
      if (is_last) {
        kept_.clear();
        for (const std::int64_t token : std::set<std::int64_t>(wanted)) {
          kept_.push_back(of_each_sequence(token));
        }
      }
      mix(model_.mixers[static_cast<std::size_t>(layer_)]);
      for (const token_set& tokens : kept_) {
        if (has_mlp) mlp(tokens);
      }
    }
  }

  /// The logits [batch, vocabulary] behind a token of each sequence.
  void head(std::int64_t token, float* logits) {
    norm_ = args_.others + weights_.at(weights_.final_norm()).offset;
    if (in_few_rows()) {
      step_product_args step = read_stream(matrix(weights_.embedding()), model_.vocabulary);
      step.output = product_output::logits;
      step.sums = logits;
      return multiply_few_rows(step);
    }
    normalize_rows(norm_, of_each_sequence(token));
    const part_range<T> range(pass_part::products, stream_);
    multiply<T>({.tokens = on_.batch,
                 .inputs = model_.width,
                 .outputs = model_.vocabulary,
                 .x = {normed_, model_.width},
                 .weight = matrix(weights_.embedding()),
                 .sum = logits,
                 .sum_stride = model_.vocabulary},
                at<void>(plan_.product), stream_);
  }

 private:
  void mix(mixer_kind mixer) {
    switch (mixer) {
      case mixer_kind::base_conv:
        return base_conv();
      case mixer_kind::linear_attention:
        return linear_attention();
      case mixer_kind::window_attention:
      case mixer_kind::attention:
        return softmax_attention(mixer);
      case mixer_kind::mamba:
        return mamba();
      case mixer_kind::mamba2:
        return mamba2();
    }
  }

  void base_conv() {
    const std::int64_t inner = model_.inner;
    if (in_few_rows()) {
      step_product_args step = read_stream("mixer.in_proj.weight", 2 * inner);
      step.bias = other("mixer.in_proj.bias");
      step.output = product_output::gated_conv;
      step.out = as_bf16(narrow_);
      step.conv_weight = other("mixer.conv.conv.weight");
      step.state = as_bf16(cached("conv"));
      multiply_few_rows(step);
    } else {
      project_stream("mixer.in_proj.weight", row(wide_, 2 * inner), 2 * inner);
      const part_range<T> range(pass_part::mixers, stream_);
      gated_conv<T>({.u = wide_,
                     .bias = other("mixer.in_proj.bias"),
                     .weight = other("mixer.conv.conv.weight"),
                     .batch = on_.batch,
                     .seqlen = on_.seqlen,
                     .channels = inner,
                     .taps = model_.taps,
                     .out = narrow_,
                     .initial_state = on_.continues ? cached("conv") : nullptr,
                     .final_state = cached("conv")},
                    stream_);
    }
    add_projection("mixer.out_proj.weight", row(narrow_, inner), inner,
                   other("mixer.out_proj.bias"));
  }

  void linear_attention() {
    const std::int64_t heads = model_.heads, width = model_.width;
    const std::int64_t features = heads * feature_dim, all = 2 * features + width;
    // The three projections lie side by side: one product.
    project_stream("mixer.proj_q.weight", row(wide_, all), all);
    const auto q = heads_of(wide_, all, feature_dim);
    const auto k = heads_of(wide_ + features, all, feature_dim);
    const auto v = heads_of(wide_ + 2 * features, all, value_dim);
    const auto o = heads_of(normed_, width, value_dim);
    if (on_.continues) {
      const decode_problem problem = linear_attention_step(model_, on_);
      run_mixer<based_decode>({.problem = problem,
                               .q = q,
                               .k = k,
                               .v = v,
                               .o = o,
                               .kv = recurrent("kv").data(),
                               .kv_bytes = problem.kv_bytes(),
                               .z = recurrent("z").data(),
                               .z_bytes = problem.z_bytes()});
    } else {
      run_mixer<based_prefill>({.problem = linear_attention_problem(model_, on_),
                                .q = q,
                                .k = k,
                                .v = v,
                                .o = o,
                                .final_state = {recurrent("kv"), recurrent("z")}});
    }
    if (model_.head_norm) {
      const part_range<T> range(pass_part::glue, stream_);
      normalize_gated<T>({.x = normed_,
                          .rows = tokens_ * heads,
                          .width = value_dim,
                          .weight = other("mixer.g_norm.weight"),
                          .eps = model_.eps},
                         stream_);
    }
    add_projection("mixer.out_proj.weight", row(normed_, width), width);
  }

  void softmax_attention(mixer_kind mixer) {
    const std::int64_t width = model_.width;
    constexpr int dim = model_configuration::head_dim;
    project_stream("mixer.Wqkv.weight", row(wide_, 3 * width), 3 * width);
    if (on_.continues) {
      const part_range<T> range(pass_part::mixers, stream_);
      cached_attention<T>({.qkv = wide_,
                           .batch = on_.batch,
                           .heads = model_.heads,
                           .head_dim = dim,
                           .rotated = model_.rotated,
                           .base = model_.rotary_base,
                           .position = args_.positions,
                           .slots = cache_slots(model_, mixer, args_.slots),
                           .k_cache = cached("k"),
                           .v_cache = cached("v"),
                           .out = normed_,
                           .workspace = at<void>(plan_.cache)},
                          stream_);
    } else {
      attend(mixer);
    }
    add_projection("mixer.out_proj.weight", row(normed_, width), width);
  }

  /// Softmax attention over sequences whose q, k and v are in `wide`.
  void attend(mixer_kind mixer) {
    const std::int64_t width = model_.width, all = 3 * width;
    constexpr int dim = model_configuration::head_dim;
    {
      const part_range<T> range(pass_part::glue, stream_);
      rotate<T>({.x = wide_,
                 .token_stride = all,
                 .tokens = tokens_,
                 .seqlen = on_.seqlen,
                 .heads = 2 * model_.heads,
                 .head_dim = dim,
                 .rotated = model_.rotated,
                 .base = model_.rotary_base},
                stream_);
    }
    const auto k = heads_of(wide_ + width, all, dim), v = heads_of(wide_ + 2 * width, all, dim);
    if (on_.leaves_states) {
      const part_range<T> range(pass_part::glue, stream_);
      fill_cache<T>({.k = k,
                     .v = v,
                     .batch = on_.batch,
                     .heads = model_.heads,
                     .seqlen = on_.seqlen,
                     .head_dim = dim,
                     .slots = cache_slots(model_, mixer, args_.slots),
                     .k_cache = cached("k"),
                     .v_cache = cached("v")},
                    stream_);
    }
    run_mixer<attention>({.problem = softmax_problem(model_, mixer, on_),
                          .q = heads_of(wide_, all, dim),
                          .k = k,
                          .v = v,
                          .o = heads_of(normed_, width, dim)});
  }

  void mamba() {
    const std::int64_t inner = model_.inner, rank = model_.dt_rank, state = model_.d_state;
    const std::int64_t lows = rank + 2 * state;
    const activation<T> xz = channels(wide_, 2 * inner), u = channels(narrow_, inner);
    const activation<T> low = channels(low_, lows), delta = channels(third_, inner);
    const activation<T> x = xz, z = from_channel(xz, inner);
    // Where the convolution has read x, there is room for the scan's output; but not between
    // tokens.
    const activation<T> y = on_.continues ? channels(third_ + tokens_ * inner, inner) : x;
    project_stream("mixer.in_proj.weight", xz, 2 * inner);
    if (on_.continues) {
      convolve(mixer_kind::mamba, x, u);
    } else {
      const part_range<T> range(pass_part::mixers, stream_);
      conv_along_time<T>({.x = x.data,
                          .channel_stride = stride_,
                          .weight = other("mixer.conv1d.weight"),
                          .bias = other("mixer.conv1d.bias"),
                          .batch = on_.batch,
                          .seqlen = on_.seqlen,
                          .channels = inner,
                          .taps = model_.taps,
                          .out = u.data,
                          .final_state = cached("conv")},
                         stream_);
    }
    project("mixer.x_proj.weight", u, inner, low, lows);
    project("mixer.dt_proj.weight", low, rank, delta, inner);
    const scan_operands<T> operands = {.u = along_time(u),
                                       .delta = along_time(delta),
                                       .a = others("mixer.A_log"),
                                       .b = along_time(from_channel(low, rank)),
                                       .c = along_time(from_channel(low, rank + state)),
                                       .d = others("mixer.D"),
                                       .bias = others("mixer.dt_proj.bias"),
                                       .z = along_time(z),
                                       .y = along_time(y)};
    if (on_.continues) {
      run_mixer<selective_scan_decode>(
          {.problem = scan_step(model_, on_), .operands = operands, .state = recurrent("state")});
    } else {
      run_mixer<selective_scan>({.problem = scan_problem(model_, on_),
                                 .operands = operands,
                                 .final_state = recurrent("state")});
    }
    add_projection("mixer.out_proj.weight", y, inner);
  }

  void mamba2() {
    const std::int64_t inner = model_.inner, state = model_.d_state;
    const std::int64_t all = model_.projected(mixer_kind::mamba2), convolved = inner + 2 * state;
    constexpr int dim = model_configuration::head_dim;
    T* const z = wide_;  // of a token: z, then x, B and C, then dt
    T* const y = third_;
    project_stream("mixer.in_proj.weight", row(wide_, all), all);
    convolve(mixer_kind::mamba2, row(wide_ + inner, all), row(narrow_, convolved));
    const auto x = heads_of(narrow_, convolved, dim);
    const auto dt = heads_of(wide_ + inner + convolved, all, 1);
    const auto b = heads_of(narrow_ + inner, convolved, 0);
    const auto c = heads_of(narrow_ + inner + state, convolved, 0);
    const auto a = others("mixer.A_log"), dt_bias = others("mixer.dt_bias"), d = others("mixer.D");
    if (on_.continues) {
      run_mixer<ssd_decode>({.problem = state_space_step(model_, on_),
                             .x = x,
                             .dt = dt,
                             .b = b,
                             .c = c,
                             .y = heads_of(y, inner, dim),
                             .a = a,
                             .dt_bias = dt_bias,
                             .d = d,
                             .state = recurrent("state")});
    } else {
      run_mixer<ssd>({.problem = state_space_problem(model_, on_),
                      .x = x,
                      .dt = dt,
                      .a = a,
                      .b = b,
                      .c = c,
                      .y = heads_of(y, inner, dim),
                      .dt_bias = dt_bias,
                      .d = d,
                      .final_state = recurrent("state")});
    }
    {
      const part_range<T> range(pass_part::glue, stream_);
      normalize_gated<T>({.x = y,
                          .gate = z,
                          .gate_stride = all,
                          .rows = tokens_,
                          .width = inner,
                          .weight = other("mixer.norm.weight"),
                          .eps = model_.eps},
                         stream_);
    }
    add_projection("mixer.out_proj.weight", row(y, inner), inner);
  }

  /// The short convolution of token-major channels.
  void convolve(mixer_kind mixer, activation<T> x, activation<T> y) {
    const std::size_t kept =
        on_.continues || on_.leaves_states
            ? static_cast<std::size_t>(convolution_problem(model_, mixer, on_).state_elements())
            : 0;
    run_mixer<causal_conv>({.problem = convolution_problem(model_, mixer, on_),
                            .x = heads_of(x.data, x.stride, 0),
                            .weight = others("mixer.conv1d.weight"),
                            .y = heads_of(y.data, y.stride, 0),
                            .bias = others("mixer.conv1d.bias"),
                            .initial_state = {cached("conv"), kept},
                            .final_state = {cached("conv"), kept}});
  }

  void mlp(const token_set& tokens) {
    const std::int64_t inner = model_.mlp_inner;
    norm_ = other("norm2.weight");
    if (in_few_rows()) {
      step_product_args step = read_stream("mlp.fc1.weight", 2 * inner);
      step.output = product_output::swiglu;
      step.out = as_bf16(narrow_);
      multiply_few_rows(step);
    } else {
      project_stream("mlp.fc1.weight", row(wide_, 2 * inner), 2 * inner, tokens);
      const part_range<T> range(pass_part::glue, stream_);
      swiglu<T>({wide_, tokens.count, inner, narrow_}, stream_);
    }
    add_projection("mlp.fc2.weight", row(narrow_, inner), inner, nullptr, tokens);
  }

  /// normed = the norm of those rows of the residual stream, one after the other.
  void normalize_rows(const float* weight, const token_set& tokens) {
    const part_range<T> range(pass_part::glue, stream_);
    normalize<T>({.x = residual_ + tokens.first * model_.width,
                  .row_stride = tokens.step * model_.width,
                  .rows = tokens.count,
                  .width = model_.width,
                  .weight = weight,
                  .eps = model_.eps,
                  .out = normed_},
                 stream_);
  }

  /// y = x W^T of all tokens.
  void project(const char* weight, activation<const T> x, std::int64_t inputs, activation<T> y,
               std::int64_t outputs) {
    project(weight, x, inputs, y, outputs, tokens_);
  }
  void project(const char* weight, activation<const T> x, std::int64_t inputs, activation<T> y,
               std::int64_t outputs, std::int64_t tokens) {
    if (in_few_rows() && x.stride == inputs) {
      return multiply_few_rows({.batch = tokens,
                                .inner = inputs,
                                .outer = outputs,
                                .x = as_bf16(x.data),
                                .weight = as_bf16(of_layer(weight)),
                                .output = product_output::activation,
                                .out = as_bf16(y.data)});
    }
    const part_range<T> range(pass_part::products, stream_);
    multiply<T>({.tokens = tokens,
                 .inputs = inputs,
                 .outputs = outputs,
                 .x = x,
                 .weight = of_layer(weight),
                 .y = y},
                at<void>(plan_.product), stream_);
  }
  /// As project(), x being the norm of the residual stream.
  void project_stream(const char* weight, activation<T> y, std::int64_t outputs) {
    project_stream(weight, y, outputs, all_tokens());
  }
  void project_stream(const char* weight, activation<T> y, std::int64_t outputs,
                      const token_set& tokens) {
    if (in_few_rows()) {
      step_product_args step = read_stream(weight, outputs);
      step.output = product_output::activation;
      step.out = as_bf16(y.data);
      return multiply_few_rows(step);
    }
    normalize_rows(norm_, tokens);
    project(weight, row(normed_, model_.width), model_.width, y, outputs, tokens.count);
  }

  /// Adds x W^T + bias to those tokens of the residual stream, x having a row for each of them.
  void add_projection(const char* weight, activation<const T> x, std::int64_t inputs,
                      const float* bias, const token_set& tokens) {
    if (in_few_rows()) {
      return multiply_few_rows({.batch = on_.batch,
                                .inner = inputs,
                                .outer = model_.width,
                                .x = as_bf16(x.data),
                                .weight = as_bf16(of_layer(weight)),
                                .bias = bias,
                                .output = product_output::residual,
                                .sums = residual_});
    }
    const part_range<T> range(pass_part::products, stream_);
    multiply<T>({.tokens = tokens.count,
                 .inputs = inputs,
                 .outputs = model_.width,
                 .x = x,
                 .weight = of_layer(weight),
                 .sum = residual_ + tokens.first * model_.width,
                 .sum_stride = tokens.step * model_.width,
                 .accumulates = true,
                 .bias = bias},
                at<void>(plan_.product), stream_);
  }
  /// Adds what a mixer made of all tokens, x, to those tokens that are kept.
  void add_projection(const char* weight, activation<const T> x, std::int64_t inputs,
                      const float* bias = nullptr) {
    if (x.order == activation_order::channel_major) {
      return add_projection(weight, x, inputs, bias, all_tokens());
    }
    for (const token_set& tokens : kept_) {
      const activation<const T> rows = {x.data + tokens.first * x.stride, tokens.step * x.stride};
      add_projection(weight, rows, inputs, bias, tokens);
    }
  }

  // Steps of few sequences on CUDA: kernels that read a weight once, and norms within them.

  bool in_few_rows() const {
    return args_.has_step_products && on_.continues && on_.batch <= most_step_rows;
  }
  step_product_args read_stream(const char* weight, std::int64_t outputs) const {
    return read_stream(of_layer(weight), outputs);
  }
  step_product_args read_stream(const T* weight, std::int64_t outputs) const {
    return {.batch = on_.batch,
            .inner = model_.width,
            .outer = outputs,
            .residual = residual_,
            .norm_weight = norm_,
            .eps = model_.eps,
            .weight = as_bf16(weight),
            .output = product_output::activation};
  }
  void multiply_few_rows(const step_product_args& step) const {
    const part_range<T> range(pass_part::products, stream_);
    if constexpr (std::is_same_v<T, bf16>) step_product(step, stream_);
  }
  /// What it is where multiply_few_rows() does anything.
  static const bf16* as_bf16(const T* data) { return reinterpret_cast<const bf16*>(data); }
  static bf16* as_bf16(T* data) { return reinterpret_cast<bf16*>(data); }

  token_set all_tokens() const { return {0, 1, tokens_}; }
  token_set of_each_sequence(std::int64_t token) const { return {token, on_.seqlen, on_.batch}; }

  template <class Op>
  void run_mixer(typename Op::template args<T> call) {
    const part_range<T> range(pass_part::mixers, stream_);
    const implementation<Op>& runs = mixer_for<Op, T>(call.problem);
    call.workspace = at<void>(plan_.mixer);
    call.workspace_bytes = plan_.cache - plan_.mixer;
    runs(call, stream_);
  }

  // Views of activations.

  /// Token-major, `width` elements a token.
  static activation<T> row(T* data, std::int64_t width) { return {data, width}; }
  /// Mamba's activation of `count` channels.
  activation<T> channels(T* data, std::int64_t count) const {
    if (on_.continues) return {data, count};
    return {data, stride_, activation_order::channel_major};
  }
  /// The channels from the one of that number on.
  static activation<T> from_channel(activation<T> all, std::int64_t first) {
    all.data += all.order == activation_order::token_major ? first : first * all.stride;
    return all;
  }
  /// Channels [batch, channels, seqlen], as scans have them.
  sequence_view<T> along_time(const activation<T>& of) const {
    if (of.order == activation_order::token_major) return {of.data, of.stride, 1, 1};
    return {of.data, on_.seqlen, of.stride, 1};
  }
  /// Heads of `dim` elements, side by side in a token's `row` elements; a single head where dim is
  /// 0.
  sequence_view<T> heads_of(T* data, std::int64_t row, std::int64_t dim) const {
    return {data, on_.seqlen * row, dim, row};
  }

  // Memory.

  template <class Element>
  Element* at(std::size_t offset) const {
    return reinterpret_cast<Element*>(args_.workspace + offset);
  }
  const T* matrix(const std::string& key) const { return args_.matrices + weights_.at(key).offset; }
  /// Those of the layer.
  const T* of_layer(const char* name) const { return matrix(weights_.layer(layer_) + name); }
  std::span<const float> others(const char* name) const {
    const weight_tensor& found = weights_.at(weights_.layer(layer_) + name);
    return {args_.others + found.offset, static_cast<std::size_t>(found.count())};
  }
  const float* other(const char* name) const { return others(name).data(); }
  std::span<float> recurrent(std::string_view name) const {
    const state_tensor* const found = states_.find(layer_, name);
    if (found == nullptr || args_.recurrent == nullptr) return {};
    return {args_.recurrent + found->offset, static_cast<std::size_t>(on_.batch * found->elements)};
  }
  T* cached(std::string_view name) const {
    return args_.cached == nullptr ? nullptr : args_.cached + states_.find(layer_, name)->offset;
  }

  const forward_args<T>& args_;
  const model_configuration& model_;
  const weight_table& weights_;
  state_table states_;
  sequences on_;
  std::int64_t tokens_, stride_;
  workspace_plan plan_;
  float* residual_;
  T *normed_, *wide_, *narrow_, *third_, *low_;
  cuda_stream stream_;
  std::int64_t layer_ = 0;       ///< the one that runs
  const float* norm_ = nullptr;  ///< the weight of the norm through which the stream is read next
  std::vector<token_set> kept_;  ///< tokens whose residual stream is wanted behind its mixer
};

/// Why a model's mixers or products cannot run; empty: they can.
template <class T>
unsupported_reason cannot_forward(const model_configuration& model, const sequences& on) {
  unsupported_reason reason = products_unavailable<T>();
  for (const mixer_kind mixer : model.mixers) {
    for_each_operation(model, mixer, on, [&]<class Op>(const typename Op::problem& of_mixer) {
      const auto choice = choose_mixer<Op, T>(of_mixer);
      if (choice.chosen != nullptr || reason) return;
      reason = std::string(Op::name) + ": " + choice.reason;
    });
  }
  return reason;
}

/// What the mixers execute.
template <class T>
double executed_mixer_flops(const model_configuration& model, const sequences& on) {
  double flops = 0;
  for (const mixer_kind mixer : model.mixers) {
    for_each_operation(model, mixer, on, [&]<class Op>(const typename Op::problem& of_mixer) {
      flops += mixer_for<Op, T>(of_mixer).executed_flops(of_mixer);
    });
  }
  return flops;
}

}  // namespace based::models
