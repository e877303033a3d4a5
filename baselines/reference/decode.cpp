#include "baselines/reference/decode.h"

#include <algorithm>
#include <string>

#include "baselines/reference/comparison.h"

namespace based::reference {
namespace {

/// The 153 features of features.h.
std::vector<double> compact_map(const float* x, double linear, double square, double product) {
  std::vector<double> phi(compact_features);
  phi[0] = 1;
  for (int i = 0; i < feature_dim; ++i) {
    phi[first_linear_row + i] = linear * x[i];
    for (int j = i; j < feature_dim; ++j) {
      phi[product_row(i, j)] = (i == j ? square : product) * x[i] * x[j];
    }
  }
  return phi;
}

std::vector<double> features_of(const decode_problem& problem, const float* x, bool query) {
  if (problem.layout == decode_layout::padded) return {x, x + padded_features};
  if (!query) return compact_map(x, 1, 1, 1);
  const double scale = problem.scale;
  return compact_map(x, scale, scale * scale / 2, scale * scale);
}

std::vector<float> padded_map(const float* x, float linear, float product) {
  std::vector<float> phi(padded_features);
  phi[0] = 1;
  for (int i = 0; i < feature_dim; ++i) {
    phi[first_linear_row + i] = linear * x[i];
    for (int j = 0; j < feature_dim; ++j) {
      phi[first_product_row + i * feature_dim + j] = product * x[i] * x[j];
    }
  }
  return phi;
}

}  // namespace

decode_result decode_step(const decode_problem& problem, const decode_head& head) {
  const int rows = state_rows(problem.layout);
  const std::vector<double> phi_q = features_of(problem, head.q, true);
  const std::vector<double> phi_k = features_of(problem, head.k, false);
  decode_result result{.o = std::vector<double>(value_dim),
                       .kv = std::vector<double>(head.kv, head.kv + rows * value_dim),
                       .z = {}};
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < value_dim; ++c) {
      double& state = result.kv[r * value_dim + c];
      state += phi_k[r] * head.v[c];
      result.o[c] += phi_q[r] * state;
    }
  }
  if (!problem.normalize) return result;
  result.z.assign(head.z, head.z + rows);
  double normalizer = problem.eps;
  for (int r = 0; r < rows; ++r) {
    result.z[r] += phi_k[r];
    normalizer += phi_q[r] * result.z[r];
  }
  for (double& o : result.o) o /= normalizer;
  return result;
}

std::vector<float> padded_query_features(const float* x, float scale) {
  return padded_map(x, scale, scale * scale / 2);
}
std::vector<float> padded_key_features(const float* x) {
  return padded_map(x, 1, 1);
}

}  // namespace based::reference

namespace based {

void based_decode::arrange(const decode_problem& p, tensor_access& tensors) {
  const std::int64_t heads = p.batch_heads();
  for (std::int64_t head = 0; p.normalize && head < heads; ++head) {
    tensors.put("z", head * state_rows(p.layout), {&earlier_tokens, 1});
  }
  if (p.layout == decode_layout::compact) return;
  const auto map = [&](std::string_view name, auto features) {
    std::vector<float> rows = tensors.get(name, 0, heads * padded_features);
    for (auto row = rows.begin(); row != rows.end(); row += padded_features) {
      const std::vector<float> mapped = features(&*row);
      std::copy(mapped.begin(), mapped.end(), row);
    }
    tensors.put(name, 0, rows);
  };
  map("q", [&](const float* x) { return reference::padded_query_features(x, p.scale); });
  map("k", [](const float* x) { return reference::padded_key_features(x); });
}

verification based_decode::compare(const decode_problem& p, const tensor_access& tensors,
                                   const sampling& sampled) {
  const int rows = state_rows(p.layout), dim = query_dim(p.layout);
  const std::int64_t per_state = std::int64_t{rows} * value_dim;
  const sampled_part part =
      sample_part(p.batch_heads(), 1, 4.0 * static_cast<double>(per_state), sampled);
  worst_error worst;
  for (const std::int64_t head : part.heads) {
    const auto q = tensors.get("q", head * dim, dim), k = tensors.get("k", head * dim, dim);
    const auto v = tensors.get("v", head * value_dim, value_dim);
    const auto kv = tensors.before("kv", head * per_state, per_state);
    const auto z = tensors.before("z", head * rows, rows);
    const reference::decode_result step = reference::decode_step(
        p, {q.data(), k.data(), v.data(), kv.data(), p.normalize ? z.data() : nullptr});
    worst["o"].add_all(tensors.get("o", head * value_dim, value_dim), step.o);
    worst["kv"].add_all(tensors.get("kv", head * per_state, per_state), step.kv);
    if (p.normalize) worst["z"].add_all(tensors.get("z", head * rows, rows), step.z);
  }
  return worst.found();
}

namespace {
const operation_registration<based_decode> registered;
}  // namespace

}  // namespace based
