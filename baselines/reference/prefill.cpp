#include "baselines/reference/prefill.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "baselines/reference/comparison.h"
#include "kernels/based/features.h"
#include "kernels/core/error.h"

namespace based::reference {
namespace {

/// phi_k of features.h.
std::array<double, compact_features> key_features(const float* k) {
  std::array<double, compact_features> phi{};
  phi[0] = 1;
  for (int i = 0; i < feature_dim; ++i) phi[first_linear_row + i] = k[i];
  for (int i = 0; i < feature_dim; ++i) {
    for (int j = i; j < feature_dim; ++j) {
      phi[product_row(i, j)] = static_cast<double>(k[i]) * k[j];
    }
  }
  return phi;
}

/// phi_q of features.h.
std::array<double, compact_features> query_features(const float* q, double scale) {
  std::array<double, compact_features> phi = key_features(q);
  for (int i = 0; i < feature_dim; ++i) {
    phi[first_linear_row + i] *= scale;
    for (int j = i; j < feature_dim; ++j) {
      phi[product_row(i, j)] *= i == j ? scale * scale / 2 : scale * scale;
    }
  }
  return phi;
}

void prefill_row(const prefill_head& head, const prefill_options& options, std::int64_t i,
                 double* o) {
  const double scale = options.scale;
  const float* q = head.q + i * feature_dim;
  std::fill_n(o, value_dim, 0.0);
  double weights = 0;

  if (options.initial_state) {
    const std::array<double, compact_features> phi = query_features(q, scale);
    for (int r = 0; r < compact_features; ++r) {
      for (int c = 0; c < value_dim; ++c) o[c] += phi[r] * head.initial_kv[r * value_dim + c];
      if (options.normalize) weights += phi[r] * head.initial_z[r];
    }
  }

  for (std::int64_t j = 0; j <= i; ++j) {
    const float* k = head.k + j * feature_dim;
    const float* v = head.v + j * value_dim;
    double dot = 0;
    for (int d = 0; d < feature_dim; ++d) dot += static_cast<double>(q[d]) * k[d];
    const double s = scale * dot;
    const double weight = 1 + s + s * s / 2;
    for (int c = 0; c < value_dim; ++c) o[c] += weight * v[c];
    weights += weight;
  }

  if (options.normalize) {
    for (int c = 0; c < value_dim; ++c) o[c] /= weights + static_cast<double>(options.eps);
  }
}

void require_size(const char* name, std::size_t size, std::size_t wanted) {
  BASED_REQUIRE(size == wanted,
                fmt::format("{} has {} elements, must have {}", name, size, wanted));
}

}  // namespace

void prefill_rows(const prefill_head& head, const prefill_options& options,
                  std::span<const std::int64_t> rows, std::span<double> o) {
  require_size("o", o.size(), rows.size() * value_dim);
  for (const std::int64_t row : rows) {
    BASED_REQUIRE(row >= 0 && row < head.seqlen,
                  fmt::format("row is {}, must be in 0..{}", row, head.seqlen - 1));
  }
#pragma omp parallel for schedule(dynamic, 16)
  for (std::size_t r = 0; r < rows.size(); ++r) {
    prefill_row(head, options, rows[r], o.data() + r * value_dim);
  }
}

void final_state(const prefill_head& head, const prefill_options& options, std::span<double> kv,
                 std::span<double> z) {
  require_size("kv", kv.size(), std::size_t{compact_features} * value_dim);
  if (!z.empty()) require_size("z", z.size(), compact_features);
  std::fill(kv.begin(), kv.end(), 0.0);
  std::fill(z.begin(), z.end(), 0.0);
  if (options.initial_state) {
    std::copy_n(head.initial_kv, kv.size(), kv.begin());
    if (!z.empty()) std::copy_n(head.initial_z, z.size(), z.begin());
  }
  for (std::int64_t n = 0; n < head.seqlen; ++n) {
    const std::array<double, compact_features> phi = key_features(head.k + n * feature_dim);
    const float* v = head.v + n * value_dim;
    for (int r = 0; r < compact_features; ++r) {
      for (int c = 0; c < value_dim; ++c) kv[r * value_dim + c] += phi[r] * v[c];
      if (!z.empty()) z[r] += phi[r];
    }
  }
}

}  // namespace based::reference

namespace based {

void based_prefill::arrange(const prefill_problem& p, tensor_access& tensors) {
  if (!p.options.initial_state || !p.options.normalize) return;
  for (std::int64_t head = 0; head < p.shape.batch_heads(); ++head) {
    tensors.put("initial_state.z", head * compact_features, {&earlier_tokens, 1});
  }
}

verification based_prefill::compare(const prefill_problem& p, const tensor_access& tensors,
                                    const sampling& sampled) {
  const prefill_options& options = p.options;
  const std::int64_t seqlen = p.shape.seqlen;
  const sampled_part part = sample_part(p.shape.batch_heads(), seqlen, pair_flops, sampled);
  worst_error worst;
  error_norm &o_error = worst["o"], &kv_error = worst["final_state.kv"],
             &z_error = worst["final_state.z"];
  std::vector<double> o(part.rows.size() * value_dim);
  std::vector<double> kv(compact_features * value_dim);
  std::vector<double> z(options.normalize ? compact_features : 0);
  for (const std::int64_t head : part.heads) {
    const auto of_head = [&](std::string_view name, std::int64_t per_head) {
      return tensors.get(name, head * per_head, per_head);
    };
    const auto q = of_head("q", seqlen * feature_dim), k = of_head("k", seqlen * feature_dim);
    const auto v = of_head("v", seqlen * value_dim), got = of_head("o", seqlen * value_dim);
    const auto initial_kv = of_head("initial_state.kv", compact_features * value_dim);
    const auto initial_z = of_head("initial_state.z", compact_features);
    const reference::prefill_head inputs = {.seqlen = seqlen,
                                            .q = q.data(),
                                            .k = k.data(),
                                            .v = v.data(),
                                            .initial_kv = initial_kv.data(),
                                            .initial_z = initial_z.data()};
    reference::prefill_rows(inputs, options, part.rows, o);
    o_error.add_rows(got, o, part.rows, value_dim);
    if (!options.final_state) continue;
    reference::final_state(inputs, options, kv, z);
    kv_error.add_all(of_head("final_state.kv", compact_features * value_dim), kv);
    if (options.normalize) z_error.add_all(of_head("final_state.z", compact_features), z);
  }
  return worst.found();
}

namespace {
const operation_registration<based_prefill> registered;
}  // namespace

}  // namespace based
