#include "baselines/reference/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "baselines/reference/comparison.h"
#include "kernels/core/error.h"
#include "kernels/sliding_window/sliding_window.h"

namespace based::reference {
namespace {

/// Writes o [Dh]; returns the log-sum-exp.
double attention_row(const attention_head& head, std::int64_t i, double* o) {
  const int dim = head.problem.head_dim;
  const std::int64_t first = head.problem.first_key(i), last = head.problem.last_key(i);
  const double scale = head.problem.scale == 0 ? 1 / std::sqrt(static_cast<double>(dim))
                                               : static_cast<double>(head.problem.scale);
  const float* q = head.q + i * dim;
  std::fill_n(o, dim, 0.0);

  std::vector<double> s;
  for (std::int64_t j = first; j <= last; ++j) {
    const float* k = head.k + j * dim;
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += static_cast<double>(q[d]) * k[d];
    s.push_back(dot * scale);
  }
  if (s.empty()) return -std::numeric_limits<double>::infinity();

  const double largest = *std::max_element(s.begin(), s.end());
  double weights = 0;
  for (std::int64_t j = first; j <= last; ++j) {
    const float* v = head.v + j * dim;
    const double weight = std::exp(s[j - first] - largest);
    for (int c = 0; c < dim; ++c) o[c] += weight * v[c];
    weights += weight;
  }
  for (int c = 0; c < dim; ++c) o[c] /= weights;
  return largest + std::log(weights);
}

}  // namespace

void attention_rows(const attention_head& head, std::span<const std::int64_t> rows,
                    std::span<double> o, std::span<double> lse) {
  const attention_problem& problem = head.problem;
  const std::size_t wanted = rows.size() * problem.head_dim;
  BASED_REQUIRE(o.size() == wanted,
                fmt::format("o has {} elements, must have {}", o.size(), wanted));
  BASED_REQUIRE(lse.empty() || lse.size() == rows.size(),
                fmt::format("lse has {} elements, must have {}", lse.size(), rows.size()));
  for (const std::int64_t row : rows) {
    BASED_REQUIRE(row >= 0 && row < problem.seqlen,
                  fmt::format("row is {}, must be in 0..{}", row, problem.seqlen - 1));
  }
#pragma omp parallel for schedule(dynamic, 16)
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double row_lse = attention_row(head, rows[r], o.data() + r * problem.head_dim);
    if (!lse.empty()) lse[r] = row_lse;
  }
}

}  // namespace based::reference

namespace based {

void attention::arrange(const attention_problem& p, tensor_access& tensors) {
  if (p.inputs == attention_inputs::normal) return;
  constexpr float largest_sink = 40, largest_growth = 16;
  const std::int64_t keys = p.inputs == attention_inputs::sink ? 1 : p.keys();
  for (std::int64_t head = 0; head < p.batch * p.key_heads(); ++head) {
    const std::int64_t first = head * p.keys() * p.head_dim;
    std::vector<float> k = tensors.get("k", first, keys * p.head_dim);
    for (std::int64_t j = 0; j < keys; ++j) {
      const float grown =
          1 + (largest_growth - 1) * static_cast<float>(j) / static_cast<float>(keys);
      const float factor = p.inputs == attention_inputs::sink ? largest_sink : grown;
      for (int d = 0; d < p.head_dim; ++d)
        k[static_cast<std::size_t>(j * p.head_dim + d)] *= factor;
    }
    tensors.put("k", first, k);
  }
}

verification attention::compare(const attention_problem& p, const tensor_access& tensors,
                                const sampling& sampled) {
  const std::int64_t of_queries = p.seqlen * p.head_dim, of_keys = p.keys() * p.head_dim;
  const double pairs_a_query = p.pairs() / static_cast<double>(p.seqlen);
  // Where a query sees all keys but itself half of them, a pair costs as much.
  const sampled_part part =
      sample_part(p.batch * p.heads, p.seqlen,
                  8.0 * p.head_dim * pairs_a_query / static_cast<double>(p.seqlen + 1), sampled);
  const std::int64_t group = p.heads / p.key_heads();
  worst_error worst;
  std::vector<double> o(part.rows.size() * static_cast<std::size_t>(p.head_dim));
  std::vector<double> lse(part.rows.size());
  for (const std::int64_t head : part.heads) {
    const std::int64_t key_head = head / p.heads * p.key_heads() + head % p.heads / group;
    const auto q = tensors.get("q", head * of_queries, of_queries);
    const auto k = tensors.get("k", key_head * of_keys, of_keys);
    const auto v = tensors.get("v", key_head * of_keys, of_keys);
    reference::attention_rows({p, q.data(), k.data(), v.data()}, part.rows, o, lse);
    worst["o"].add_rows(tensors.get("o", head * of_queries, of_queries), o, part.rows, p.head_dim);
    if (!p.lse) continue;
    const auto got = tensors.get("lse", head * p.seqlen, p.seqlen);
    for (std::size_t r = 0; r < part.rows.size(); ++r) {
      const float value = got[static_cast<std::size_t>(part.rows[r])];
      // A query without keys: minus infinity, whose difference to itself is no number.
      if (std::isinf(lse[r]) && static_cast<double>(value) == lse[r]) continue;
      worst["lse"].add(value, lse[r]);
    }
  }
  return worst.found();
}

/// Softmax takes the slots of the ring in any order: attention without a mask, over the cache as
/// it must be after the call.
verification window_decode::compare(const window_problem& p, const tensor_access& tensors,
                                    const sampling& sampled) {
  const int dim = p.head_dim;
  const std::int64_t ring = std::int64_t{p.window} * dim;
  const sampled_part part =
      sample_part(p.batch_heads(), 1, 4.0 * static_cast<double>(ring), sampled);
  const std::int64_t only_row[] = {0};
  worst_error worst;
  std::vector<double> o(static_cast<std::size_t>(dim));
  for (const std::int64_t head : part.heads) {
    const auto of_token = [&](std::string_view name) { return tensors.get(name, head * dim, dim); };
    const auto cache = [&](std::string_view name, std::string_view appended) {
      std::vector<float> slots = tensors.before(name, head * ring, ring);
      if (p.append) {
        const std::vector<float> token = of_token(appended);
        std::copy(token.begin(), token.end(), slots.begin() + p.slot() * dim);
      }
      const std::vector<double> expected(slots.begin(), slots.end());
      worst[std::string(name)].add_all(tensors.get(name, head * ring, ring), expected);
      return slots;
    };
    const std::vector<float> k = cache("k_cache", "k"), v = cache("v_cache", "v");
    const std::vector<float> q = of_token("q");
    const attention_problem of_ring = {
        .seqlen = 1, .head_dim = dim, .causal = false, .kv_seqlen = p.filled()};
    reference::attention_rows({of_ring, q.data(), k.data(), v.data()}, only_row, o);
    worst["o"].add_all(of_token("o"), o);
  }
  return worst.found();
}

namespace {
const operation_registration<attention> registered;
const operation_registration<window_decode> registered_window;
}  // namespace

}  // namespace based
