#include "baselines/reference/model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>

#include "baselines/reference/attention.h"
#include "baselines/reference/comparison.h"
#include "baselines/reference/prefill.h"
#include "baselines/reference/selective_scan.h"
#include "baselines/reference/ssd.h"
#include "kernels/based/decode.h"
#include "kernels/core/error.h"
#include "kernels/models/model_decode.h"
#include "kernels/models/model_prefill.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"

namespace based::reference {
namespace {

using models::mixer_kind;
using models::model_configuration;

double silu(double x) {
  return x / (1 + std::exp(-x));
}

/// [rows, columns]; rows are tokens.
struct table {
  table(std::int64_t rows_, std::int64_t columns_)
      : rows(rows_),
        columns(columns_),
        values(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(columns_)) {}

  double& operator()(std::int64_t row, std::int64_t column) {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
  double operator()(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row * columns + column)];
  }

  std::int64_t rows, columns;
  std::vector<double> values;
};

/// Columns first .. first + count - 1, in fp32: what the references of mixers take.
std::vector<float> columns_of(const table& from, std::int64_t first, std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t n = 0; n < from.rows; ++n) {
    for (std::int64_t c = 0; c < count; ++c) {
      values.push_back(static_cast<float>(from(n, first + c)));
    }
  }
  return values;
}

class model_reference {
 public:
  model_reference(const model_configuration& model, std::span<const float> matrices,
                  std::span<const float> others, const earlier_tokens* earlier)
      : model_(model),
        weights_(models::weights_of(model)),
        matrices_(matrices),
        others_(others),
        earlier_(earlier) {}

  std::vector<double> logits(std::span<const std::int32_t> ids) {
    const auto seqlen = static_cast<std::int64_t>(ids.size());
    const std::span<const float> embedding = tensor(weights_.embedding());
    table residual(seqlen, model_.width);
    for (std::int64_t n = 0; n < seqlen; ++n) {
      for (std::int64_t i = 0; i < model_.width; ++i) {
        residual(n, i) = embedding[static_cast<std::size_t>(
            std::int64_t{ids[static_cast<std::size_t>(n)]} * model_.width + i)];
      }
    }
    for (layer_ = 0; layer_ < model_.layers(); ++layer_) {
      const std::string prefix = weights_.layer(layer_);
      const bool has_mlp = model_.mlp_inner > 0;
      const table x = normalized(residual, prefix + (has_mlp ? "norm1.weight" : "norm.weight"));
      add(residual, mixed(model_.mixers[static_cast<std::size_t>(layer_)], prefix + "mixer.", x));
      if (has_mlp)
        add(residual, mlp(prefix + "mlp.", normalized(residual, prefix + "norm2.weight")));
    }
    table last(1, model_.width);
    std::copy_n(&residual(seqlen - 1, 0), model_.width, last.values.begin());
    return product(normalized(last, weights_.final_norm()), embedding).values;
  }

 private:
  /// What earlier tokens left the layer, or nothing.
  std::vector<float> left(std::string_view name) const {
    return earlier_ == nullptr ? std::vector<float>() : earlier_->state(layer_, name);
  }

  static void add(table& to, const table& what) {
    for (std::size_t i = 0; i < to.values.size(); ++i) to.values[i] += what.values[i];
  }

  std::span<const float> tensor(const std::string& key) const {
    const models::weight_tensor& found = weights_.at(key);
    return (found.is_matrix() ? matrices_ : others_)
        .subspan(static_cast<std::size_t>(found.offset), static_cast<std::size_t>(found.count()));
  }

  /// y = x W^T, W [outputs, inputs]. The sums of several tokens run side by side.
  static table product(const table& x, std::span<const float> weight) {
    constexpr std::int64_t together = 8;
    const std::int64_t inputs = x.columns;
    const std::int64_t outputs = static_cast<std::int64_t>(weight.size()) / inputs;
    table y(x.rows, outputs);
    for (std::int64_t first = 0; first < x.rows; first += together) {
      const std::int64_t tokens = std::min(together, x.rows - first);
      std::vector<double> across(static_cast<std::size_t>(inputs * together));  // [inputs, tokens]
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t i = 0; i < inputs; ++i) {
          across[static_cast<std::size_t>(i * together + t)] = x(first + t, i);
        }
      }
#pragma omp parallel for
      for (std::int64_t o = 0; o < outputs; ++o) {
        double sums[together] = {};
        const float* const row = weight.data() + o * inputs;
        for (std::int64_t i = 0; i < inputs; ++i) {
          const double* const at = across.data() + i * together;
          for (std::int64_t t = 0; t < together; ++t) sums[t] += row[i] * at[t];
        }
        for (std::int64_t t = 0; t < tokens; ++t) y(first + t, o) = sums[t];
      }
    }
    return y;
  }

  /// RMSNorm of runs of as many columns as the norm has weights.
  table normalized(table x, const std::string& key) const {
    const std::span<const float> weight = tensor(key);
    const auto width = static_cast<std::int64_t>(weight.size());
    for (std::int64_t n = 0; n < x.rows; ++n) {
      for (std::int64_t first = 0; first < x.columns; first += width) {
        double* const row = &x(n, first);
        const double square = std::inner_product(row, row + width, row, 0.0);
        const double rms = std::sqrt(square / static_cast<double>(width) + double{model_.eps});
        for (std::int64_t i = 0; i < width; ++i) {
          row[i] *= weight[static_cast<std::size_t>(i)] / rms;
        }
      }
    }
    return x;
  }

  table mlp(const std::string& prefix, const table& x) const {
    const table h = product(x, tensor(prefix + "fc1.weight"));
    table gated(x.rows, model_.mlp_inner);
    for (std::int64_t n = 0; n < x.rows; ++n) {
      for (std::int64_t i = 0; i < model_.mlp_inner; ++i) {
        gated(n, i) = h(n, i) * silu(h(n, model_.mlp_inner + i));
      }
    }
    return product(gated, tensor(prefix + "fc2.weight"));
  }

  table mixed(mixer_kind mixer, const std::string& prefix, const table& x) const {
    switch (mixer) {
      case mixer_kind::base_conv:
        return base_conv(prefix, x);
      case mixer_kind::linear_attention:
        return linear_attention(prefix, x);
      case mixer_kind::window_attention:
      case mixer_kind::attention:
        return softmax_attention(mixer, prefix, x);
      case mixer_kind::mamba:
        return mamba(prefix, x);
      case mixer_kind::mamba2:
        break;
    }
    return mamba2(prefix, x);
  }

  table with_bias(table y, const std::string& key) const {
    const std::span<const float> bias = tensor(key);
    for (std::int64_t n = 0; n < y.rows; ++n) {
      for (std::int64_t i = 0; i < y.columns; ++i) y(n, i) += bias[static_cast<std::size_t>(i)];
    }
    return y;
  }

  /// silu of a causal convolution, with a bias where there is one, of columns first, first + 1, ...
  table convolved(const table& x, std::int64_t first, const std::string& weight_key,
                  const std::string& bias_key) const {
    const models::weight_tensor& shape = weights_.at(weight_key);  // [taps, channels]
    const std::span<const float> weight = tensor(weight_key);
    const std::int64_t taps = shape.shape[0], channels = shape.shape[1];
    const std::vector<float> before = left("conv");  // [taps - 1, channels]
    const auto input = [&](std::int64_t n, std::int64_t c) {
      if (n >= 0) return x(n, first + c);
      return before.empty() ? 0.0 : before[static_cast<std::size_t>((n + taps - 1) * channels + c)];
    };
    table y(x.rows, channels);
    for (std::int64_t n = 0; n < x.rows; ++n) {
      for (std::int64_t c = 0; c < channels; ++c) {
        double sum = bias_key.empty() ? 0.0 : double{tensor(bias_key)[static_cast<std::size_t>(c)]};
        for (std::int64_t k = 0; k < taps; ++k) {
          sum += double{weight[static_cast<std::size_t>(k * channels + c)]} *
                 input(n - taps + 1 + k, c);
        }
        y(n, c) = silu(sum);
      }
    }
    return y;
  }

  table base_conv(const std::string& prefix, const table& x) const {
    const table u =
        with_bias(product(x, tensor(prefix + "in_proj.weight")), prefix + "in_proj.bias");
    table gated = convolved(u, 0, prefix + "conv.conv.weight", "");
    for (std::int64_t n = 0; n < x.rows; ++n) {
      for (std::int64_t c = 0; c < model_.inner; ++c) gated(n, c) *= u(n, model_.inner + c);
    }
    return with_bias(product(gated, tensor(prefix + "out_proj.weight")), prefix + "out_proj.bias");
  }

  /// Calls rows(head, o) for each head, which fills its outputs [N, 64], and puts them together.
  template <class Function>
  table heads_of(std::int64_t seqlen, std::int64_t heads, Function rows) const {
    constexpr std::int64_t dim = model_configuration::head_dim;
    table o(seqlen, heads * dim);
    std::vector<double> of_head(static_cast<std::size_t>(seqlen * dim));
    for (std::int64_t head = 0; head < heads; ++head) {
      rows(head, of_head);
      for (std::int64_t n = 0; n < seqlen; ++n) {
        std::copy_n(of_head.begin() + n * dim, dim, &o(n, head * dim));
      }
    }
    return o;
  }

  static std::vector<std::int64_t> all_rows(std::int64_t seqlen) {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(seqlen));
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    return rows;
  }

  table linear_attention(const std::string& prefix, const table& x) const {
    const table q = product(x, tensor(prefix + "proj_q.weight"));
    const table k = product(x, tensor(prefix + "proj_k.weight"));
    const table v = product(x, tensor(prefix + "proj_v.weight"));
    constexpr std::int64_t features = model_configuration::feature_dim;
    const std::vector<float> kv = left("kv"), z = left("z");
    const bool continues = earlier_ != nullptr;
    table o = heads_of(x.rows, model_.heads, [&](std::int64_t head, std::vector<double>& out) {
      const std::vector<float> of_q = columns_of(q, head * features, features);
      const std::vector<float> of_k = columns_of(k, head * features, features);
      const std::vector<float> of_v = columns_of(v, head * model_.head_dim, model_.head_dim);
      prefill_rows({.seqlen = x.rows,
                    .q = of_q.data(),
                    .k = of_k.data(),
                    .v = of_v.data(),
                    .initial_kv = kv.data() + (continues ? head * compact_features * value_dim : 0),
                    .initial_z = z.data() + (z.empty() ? 0 : head * compact_features)},
                   {.normalize = !model_.head_norm, .initial_state = continues}, all_rows(x.rows),
                   out);
    });
    if (model_.head_norm) o = normalized(o, prefix + "g_norm.weight");
    return product(o, tensor(prefix + "out_proj.weight"));
  }

  /// The columns of a head, its first pairs turned by their token's number.
  std::vector<float> rotated(const table& qkv, std::int64_t first) const {
    const int half = model_.rotated / 2;
    table head(qkv.rows, model_.head_dim);
    for (std::int64_t n = 0; n < qkv.rows; ++n) {
      std::copy_n(&qkv.values[static_cast<std::size_t>(n * qkv.columns + first)], model_.head_dim,
                  &head(n, 0));
      const std::int64_t position = n + (earlier_ == nullptr ? 0 : earlier_->count);
      for (int i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) *
                             std::pow(double{model_.rotary_base}, -2.0 * i / model_.rotated);
        const double a = head(n, i), b = head(n, i + half);
        head(n, i) = a * std::cos(angle) - b * std::sin(angle);
        head(n, i + half) = a * std::sin(angle) + b * std::cos(angle);
      }
    }
    return columns_of(head, 0, model_.head_dim);
  }

  /// The filled slots of a head's cache, with a token in its place.
  std::vector<float> with_cache(const std::vector<float>& cache, std::int64_t head,
                                std::int64_t slots, const std::vector<float>& token) const {
    const std::int64_t dim = model_.head_dim, filled = std::min(earlier_->count + 1, slots);
    const auto begin = cache.begin() + head * slots * dim;
    std::vector<float> all(begin, begin + filled * dim);
    std::ranges::copy(token, all.begin() + earlier_->count % slots * dim);
    return all;
  }

  table softmax_attention(mixer_kind mixer, const std::string& prefix, const table& x) const {
    const table qkv = product(x, tensor(prefix + "Wqkv.weight"));
    attention_problem problem = {
        .seqlen = x.rows,
        .head_dim = model_configuration::head_dim,
        .window = mixer == mixer_kind::window_attention ? model_.window : 0};
    const std::vector<float> k_cache = left("k"), v_cache = left("v");  // [heads, slots, head_dim]
    const std::int64_t dim = model_.head_dim;
    const table o =
        heads_of(x.rows, model_.heads, [&](std::int64_t head, std::vector<double>& out) {
          const std::int64_t first = head * dim;
          const std::vector<float> q = rotated(qkv, first);
          std::vector<float> k = rotated(qkv, model_.width + first);
          std::vector<float> v = columns_of(qkv, 2 * model_.width + first, dim);
          if (earlier_ != nullptr) {
            const std::int64_t slots = models::cache_slots(model_, mixer, earlier_->slots);
            k = with_cache(k_cache, head, slots, k);
            v = with_cache(v_cache, head, slots, v);
            // Softmax takes the filled slots in any order.
            problem.causal = false;
            problem.window = 0;
            problem.kv_seqlen = static_cast<std::int64_t>(k.size()) / dim;
          }
          attention_rows({problem, q.data(), k.data(), v.data()}, all_rows(x.rows), out);
        });
    return product(o, tensor(prefix + "out_proj.weight"));
  }

  table mamba(const std::string& prefix, const table& x) const {
    const std::int64_t seqlen = x.rows, inner = model_.inner, states = model_.d_state;
    const table xz = product(x, tensor(prefix + "in_proj.weight"));
    const table u = convolved(xz, 0, prefix + "conv1d.weight", prefix + "conv1d.bias");
    const table low = product(u, tensor(prefix + "x_proj.weight"));
    table low_steps(seqlen, model_.dt_rank);
    for (std::int64_t n = 0; n < seqlen; ++n) {
      std::copy_n(&low.values[static_cast<std::size_t>(n * low.columns)], model_.dt_rank,
                  &low_steps(n, 0));
    }
    const table delta = product(low_steps, tensor(prefix + "dt_proj.weight"));
    const auto along_time = [&](std::int64_t first) {  // [states, N]
      std::vector<float> values;
      for (std::int64_t s = 0; s < states; ++s) {
        const std::vector<float> one = columns_of(low, first + s, 1);
        values.insert(values.end(), one.begin(), one.end());
      }
      return values;
    };
    const std::vector<float> b = along_time(model_.dt_rank);
    const std::vector<float> c = along_time(model_.dt_rank + states);
    scan_channels options;
    options.d_inner = inner;
    options.d_state = states;
    options.softplus = options.bias = options.skip = options.gate = true;
    const std::span<const float> a = tensor(prefix + "A_log");
    const std::span<const float> d = tensor(prefix + "D"), bias = tensor(prefix + "dt_proj.bias");
    const std::vector<float> before = left("state");
    table y(seqlen, inner);
#pragma omp parallel for
    for (std::int64_t channel = 0; channel < inner; ++channel) {
      const auto at = static_cast<std::size_t>(channel);
      const std::vector<float> of_u = columns_of(u, channel, 1);
      const std::vector<float> of_delta = columns_of(delta, channel, 1);
      const std::vector<float> z = columns_of(xz, inner + channel, 1);
      std::vector<double> state(static_cast<std::size_t>(states)), out(of_u.size());
      if (!before.empty()) {
        std::copy_n(before.begin() + channel * states, states, state.begin());
      }
      scan({.options = options,
            .u = of_u,
            .delta = of_delta,
            .a = a.subspan(at * static_cast<std::size_t>(states), static_cast<std::size_t>(states)),
            .b = b,
            .c = c,
            .z = z,
            .skip = double{d[at]},
            .bias = double{bias[at]}},
           state, out);
      for (std::int64_t n = 0; n < seqlen; ++n) y(n, channel) = out[static_cast<std::size_t>(n)];
    }
    return product(y, tensor(prefix + "out_proj.weight"));
  }

  table mamba2(const std::string& prefix, const table& x) const {
    const std::int64_t inner = model_.inner, states = model_.d_state;
    constexpr std::int64_t dim = model_configuration::head_dim;
    const table all = product(x, tensor(prefix + "in_proj.weight"));  // z, then x, B and C, then dt
    const table xbc = convolved(all, inner, prefix + "conv1d.weight", prefix + "conv1d.bias");
    const std::vector<float> b = columns_of(xbc, inner, states);
    const std::vector<float> c = columns_of(xbc, inner + states, states);
    const ssd_problem problem = {.seqlen = x.rows,
                                 .head_dim = static_cast<int>(dim),
                                 .state_dim = static_cast<int>(states),
                                 .softplus = true,
                                 .bias = true,
                                 .skip = true,
                                 .initial_state = earlier_ != nullptr};
    const std::vector<float> before = left("state");  // [heads, head_dim, states]
    table y =
        heads_of(x.rows, model_.ssd_heads(), [&](std::int64_t head, std::vector<double>& out) {
          const auto at = static_cast<std::size_t>(head);
          const std::vector<float> of_x = columns_of(xbc, head * dim, dim);
          const std::vector<float> dt = columns_of(all, 2 * inner + 2 * states + head, 1);
          ssd_channels(
              {.problem = problem,
               .x = of_x.data(),
               .dt = dt.data(),
               .b = b.data(),
               .c = c.data(),
               .a = tensor(prefix + "A_log")[at],
               .dt_bias = tensor(prefix + "dt_bias")[at],
               .d = tensor(prefix + "D")[at],
               .initial_state = before.data() + (before.empty() ? 0 : head * dim * states)},
              all_rows(dim), out, {});
        });
    for (std::int64_t n = 0; n < y.rows; ++n) {
      for (std::int64_t i = 0; i < inner; ++i) y(n, i) *= silu(all(n, i));
    }
    return product(normalized(y, prefix + "norm.weight"), tensor(prefix + "out_proj.weight"));
  }

  const model_configuration& model_;
  const models::weight_table& weights_;
  std::span<const float> matrices_, others_;
  const earlier_tokens* earlier_;
  std::int64_t layer_ = 0;  ///< the one that is computed
};

}  // namespace

std::vector<double> model_logits(const model_configuration& model,
                                 std::span<const std::int32_t> ids, std::span<const float> matrices,
                                 std::span<const float> others, const earlier_tokens* earlier) {
  BASED_REQUIRE(!ids.empty() && (earlier == nullptr || ids.size() == 1),
                "want ids, one where there are earlier tokens");
  return model_reference(model, matrices, others, earlier).logits(ids);
}

}  // namespace based::reference

namespace based {

void model_prefill::arrange(const model_prefill_problem& p, tensor_access& tensors) {
  models::arrange_weights(*p.model, tensors);
}

void model_decode::arrange(const model_decode_problem& p, tensor_access& tensors) {
  models::arrange_weights(*p.model, tensors);
  const std::vector<float> positions(static_cast<std::size_t>(p.batch),
                                     static_cast<float>(p.context - 1));
  tensors.put("positions", 0, positions);
  // A sum of weights counts the tokens before: it must not be near 0.
  const models::state_table states(*p.model, p.batch, p.cache_slots());
  for (const models::state_tensor& each : states.tensors()) {
    if (each.name != "z") continue;
    for (std::int64_t head = 0; head < p.batch * p.model->heads; ++head) {
      tensors.put("recurrent", each.offset + head * compact_features,
                  {&based_decode::earlier_tokens, 1});
    }
  }
}

/// The early logits of some sequences, and the last ones of those for which that is affordable: of
/// all sequences where a test asks for it, else of one of a small problem.
verification model_prefill::compare(const model_prefill_problem& p, const tensor_access& tensors,
                                    const sampling& sampled) {
  const models::weight_table& weights = models::weights_of(*p.model);
  const auto matrices = tensors.get("matrices", 0, weights.matrix_elements());
  const auto others = tensors.get("others", 0, weights.other_elements());
  const std::int64_t vocabulary = p.model->vocabulary;
  const bool thorough = sampled.row_step > 0;
  const double sequence_flops = work(p).nominal_flops / static_cast<double>(p.batch);
  const auto affordable = static_cast<std::int64_t>(
      std::min(sampled.flops_budget / sequence_flops, static_cast<double>(p.batch)));
  constexpr std::int64_t enough = 3;  // sequences of a test
  const std::vector<std::int64_t> marks = {0, p.batch - 1};
  const std::vector<std::int64_t> some = scatter(
      p.batch, thorough ? enough : std::max<std::int64_t>(affordable, 1), sampled.seed, marks);
  worst_error worst;
  for (const std::int64_t b : some) {
    const auto judge = [&](const std::string& name, std::int64_t tokens) {
      const auto given = tensors.get("ids", b * p.seqlen, tokens);
      const std::vector<std::int32_t> ids(given.begin(), given.end());
      worst[name].add_all(tensors.get(name, b * vocabulary, vocabulary),
                          reference::model_logits(*p.model, ids, matrices, others));
    };
    judge("early_logits", p.early_token() + 1);
    if (thorough || affordable > 0) judge("logits", p.seqlen);
  }
  return worst.found();
}

/// The logits of some sequences, and the choice among them of all.
verification model_decode::compare(const model_decode_problem& p, const tensor_access& tensors,
                                   const sampling& sampled) {
  const models::weight_table& weights = models::weights_of(*p.model);
  const auto matrices = tensors.get("matrices", 0, weights.matrix_elements());
  const auto others = tensors.get("others", 0, weights.other_elements());
  const std::int64_t vocabulary = p.model->vocabulary;
  const models::state_table states(*p.model, p.batch, p.cache_slots());
  worst_error worst;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::vector<float> logits = tensors.get("logits", b * vocabulary, vocabulary);
    const auto largest = std::ranges::max_element(logits) - logits.begin();
    worst["next"].add(tensors.get("next", b, 1).front() == static_cast<float>(largest) ? 1 : 0, 1);
  }
  constexpr std::int64_t enough = 3;  // sequences
  const std::vector<std::int64_t> marks = {0, p.batch - 1};
  for (const std::int64_t b : scatter(p.batch, enough, sampled.seed, marks)) {
    const reference::earlier_tokens earlier = {
        .count = p.context - 1,
        .slots = p.cache_slots(),
        .state = [&](std::int64_t layer, std::string_view name) {
          const models::state_tensor* const found = states.find(layer, name);
          if (found == nullptr) return std::vector<float>();
          return tensors.before(found->is_recurrent ? "recurrent" : "cached",
                                found->offset + b * found->elements, found->elements);
        }};
    const std::int32_t id[] = {static_cast<std::int32_t>(tensors.get("ids", b, 1).front())};
    worst["logits"].add_all(tensors.get("logits", b * vocabulary, vocabulary),
                            reference::model_logits(*p.model, id, matrices, others, &earlier));
  }
  return worst.found();
}

namespace {
const operation_registration<model_prefill> registered;
const operation_registration<model_decode> registered_step;
}  // namespace

}  // namespace based
