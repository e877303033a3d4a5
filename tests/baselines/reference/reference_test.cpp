// The oracle against what can be computed by hand, and against itself where two ways must agree.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "baselines/reference/attention.h"
#include "baselines/reference/prefill.h"
#include "kernels/core/error.h"
#include "tests/support/inputs.h"

namespace based::reference {
namespace {

std::vector<std::int64_t> all_rows(std::int64_t seqlen) {
  std::vector<std::int64_t> rows(seqlen);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::vector<double> prefill_all(const prefill_head& head, const prefill_options& options) {
  std::vector<double> o(head.seqlen * value_dim);
  prefill_rows(head, options, all_rows(head.seqlen), o);
  return o;
}

TEST(prefill_reference, equal_tokens_add_up) {
  // Every s is scale * 16 * 2 * 3 = 24, every weight 1 + 24 + 24^2/2 = 313.
  constexpr std::int64_t n = 5;
  const std::vector<float> q(n * feature_dim, 2.0f), k(n * feature_dim, 3.0f);
  const std::vector<float> v(n * value_dim, 0.5f);
  const std::vector<double> o = prefill_all({n, q.data(), k.data(), v.data()}, {});
  for (std::int64_t i = 0; i < n; ++i) {
    for (int c = 0; c < value_dim; ++c) {
      EXPECT_EQ(o[i * value_dim + c], 313 * 0.5 * static_cast<double>(i + 1));
    }
  }
}

TEST(prefill_reference, weights_come_from_the_pair_and_values_from_the_key) {
  // q_1 . k_0 = -4 and q_1 . k_1 = 8: weights 1 - 1 + 1/2 and 1 + 2 + 2.
  std::vector<float> q(2 * feature_dim), k(2 * feature_dim), v(2 * value_dim);
  q[feature_dim] = 4;
  k[0] = -1;
  k[feature_dim] = 2;
  v[7] = 10;
  v[value_dim + 7] = 100;
  const prefill_head head = {2, q.data(), k.data(), v.data()};
  std::vector<double> o = prefill_all(head, {});
  EXPECT_EQ(o[7], 10);  // q_0 is zero: weight 1, of its own value alone
  EXPECT_EQ(o[value_dim + 7], 0.5 * 10 + 5 * 100);
  EXPECT_EQ(o[value_dim + 8], 0);

  o = prefill_all(head, {.normalize = true, .eps = 0.5f});
  EXPECT_EQ(o[value_dim + 7], (0.5 * 10 + 5 * 100) / (0.5 + 5 + 0.5));

  o = prefill_all(head, {.scale = 0.5f});
  EXPECT_EQ(o[value_dim + 7], (1 - 2 + 2) * 10 + (1 + 4 + 8) * 100);
}

TEST(prefill_reference, a_state_stands_for_the_tokens_it_was_made_of) {
  constexpr std::int64_t n = 60, first = 25;
  const auto q = support::normal_values(n * feature_dim, 1);
  const auto k = support::normal_values(n * feature_dim, 2);
  const auto v = support::normal_values(n * value_dim, 3);
  const prefill_options options = {.scale = 0.4f, .normalize = true};
  const std::vector<double> whole = prefill_all({n, q.data(), k.data(), v.data()}, options);

  std::vector<double> kv(compact_features * value_dim), z(compact_features);
  final_state({first, q.data(), k.data(), v.data()}, options, kv, z);
  const std::vector<float> initial_kv(kv.begin(), kv.end()), initial_z(z.begin(), z.end());
  const prefill_head rest = {n - first,
                             q.data() + first * feature_dim,
                             k.data() + first * feature_dim,
                             v.data() + first * value_dim,
                             initial_kv.data(),
                             initial_z.data()};
  prefill_options continued = options;
  continued.initial_state = true;
  const std::vector<double> o = prefill_all(rest, continued);
  for (std::size_t i = 0; i < o.size(); ++i) {
    ASSERT_NEAR(o[i], whole[first * value_dim + i], 1e-6) << i;  // the state was rounded to fp32
  }

  std::vector<double> whole_kv(kv.size()), whole_z(z.size());
  final_state({n, q.data(), k.data(), v.data()}, options, whole_kv, whole_z);
  final_state(rest, continued, kv, z);
  for (std::size_t i = 0; i < kv.size(); ++i) ASSERT_NEAR(kv[i], whole_kv[i], 1e-4) << i;
  for (std::size_t i = 0; i < z.size(); ++i) ASSERT_NEAR(z[i], whole_z[i], 1e-4) << i;
}

TEST(prefill_reference, rows_come_in_the_order_asked_for) {
  const auto q = support::normal_values(9 * feature_dim, 1);
  const auto v = support::normal_values(9 * value_dim, 2);
  const prefill_head head = {9, q.data(), q.data(), v.data()};
  const std::vector<double> all = prefill_all(head, {});
  const std::vector<std::int64_t> rows = {8, 0, 3};
  std::vector<double> some(rows.size() * value_dim);
  prefill_rows(head, {}, rows, some);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (int c = 0; c < value_dim; ++c) {
      EXPECT_EQ(some[r * value_dim + c], all[rows[r] * value_dim + c]);
    }
  }
}

TEST(prefill_reference, refuses_rows_and_sizes_out_of_range) {
  const std::vector<float> x(4 * value_dim);
  const prefill_head head = {4, x.data(), x.data(), x.data()};
  std::vector<double> o(value_dim);
  const std::vector<std::int64_t> beyond = {4}, before = {-1}, two = {0, 1};
  EXPECT_THROW(prefill_rows(head, {}, beyond, o), invalid_argument);
  EXPECT_THROW(prefill_rows(head, {}, before, o), invalid_argument);
  EXPECT_THROW(prefill_rows(head, {}, two, o), invalid_argument);
  EXPECT_THROW(final_state(head, {}, o, {}), invalid_argument);
}

TEST(attention_reference, equal_scores_average) {
  constexpr std::int64_t n = 4;
  constexpr int dim = 64;
  const std::vector<float> q(n * dim), k(n * dim, 1.0f);
  std::vector<float> v(n * dim);
  for (std::int64_t i = 0; i < n; ++i) v[i * dim] = static_cast<float>(i);
  std::vector<double> o(n * dim);
  attention_rows({{.seqlen = n, .head_dim = dim, .causal = true}, q.data(), k.data(), v.data()},
                 all_rows(n), o);
  for (std::int64_t i = 0; i < n; ++i) EXPECT_DOUBLE_EQ(o[i * dim], static_cast<double>(i) / 2);
  attention_rows({{.seqlen = n, .head_dim = dim, .causal = false}, q.data(), k.data(), v.data()},
                 all_rows(n), o);
  for (std::int64_t i = 0; i < n; ++i) EXPECT_DOUBLE_EQ(o[i * dim], 1.5);
}

TEST(attention_reference, weights_are_exponentials_of_scaled_scores) {
  constexpr int dim = 64;
  std::vector<float> q(2 * dim), k(2 * dim), v(2 * dim);
  q[dim] = 8;  // 1/sqrt(64) of it is 1
  k[0] = 1001;
  k[dim] = 1000;
  v[5] = 1;
  std::vector<double> o(2 * dim);
  attention_rows({{.seqlen = 2, .head_dim = dim, .causal = true}, q.data(), k.data(), v.data()},
                 all_rows(2), o);
  EXPECT_DOUBLE_EQ(o[dim + 5], 1 / (1 + std::exp(-1.0)));  // and exp(1001) did not overflow
}

}  // namespace
}  // namespace based::reference
