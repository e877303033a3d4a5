// What softmax attention on CUDA has to stand beyond the points that all operations are tested at:
// every way in which a mask can cross a tile, rows that see no key, inputs on which a guessed
// maximum is wrong, and values that are not finite. Of each implementation of ours, in each variant
// and element type.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "baselines/reference/attention.h"
#include "kernels/attention/attention.h"
#include "kernels/core/element_type.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

using support::guarded_buffer;
using support::layout;
using support::sequence_buffer;
using ::testing::IsEmpty;

struct candidate {
  const implementation<attention>* tested;
  std::string_view variant;
  element_type type;

  std::string name() const {
    return fmt::format("{}{}{}_{}", tested->name, variant.empty() ? "" : "_", variant,
                       to_string(type));
  }
};
std::ostream& operator<<(std::ostream& out, const candidate& each) {
  return out << each.name();
}

std::vector<candidate> candidates() {
  std::vector<candidate> all;
  for (const implementation<attention>& each : registry<attention>()) {
    if (each.device() != device_kind::cuda || each.role != implementation_role::ours) continue;
    std::vector<std::string_view> variants = {""};
    variants.insert(variants.end(), each.variants.begin(), each.variants.end());
    for (const std::string_view variant : variants) {
      for (const element_type type : each.run.types()) all.push_back({&each, variant, type});
    }
  }
  return all;
}

/// A problem's inputs, [B, H, N, Dh] each, as the element type holds them.
struct inputs {
  std::vector<float> q, k, v;
};

template <class T>
void round_to(std::vector<float>& values) {
  for (float& value : values) value = to_float(from_float<T>(value));
}

inputs normal_inputs(const attention_problem& p) {
  const std::int64_t queries = p.batch * p.heads * p.seqlen * p.head_dim;
  const std::int64_t keys = p.batch * p.key_heads() * p.keys() * p.head_dim;
  return {support::normal_values(queries, 1), support::normal_values(keys, 2),
          support::normal_values(keys, 3)};
}

struct outputs {
  std::vector<float> o, lse;
  std::vector<std::string> wrong;  ///< guards that were overwritten
};

/// A call with its tensors on the device.
template <class T>
class prepared_call {
 public:
  prepared_call(const candidate& by, attention_problem p, const inputs& given, layout order)
      : by_(by),
        problem_(p),
        q_(cuda, order, p.batch, p.heads, p.seqlen, p.head_dim),
        k_(cuda, order, p.batch, p.key_heads(), p.keys(), p.head_dim),
        v_(cuda, order, p.batch, p.key_heads(), p.keys(), p.head_dim),
        o_(cuda, order, p.batch, p.heads, p.seqlen, p.head_dim),
        lse_(cuda, p.batch * p.heads * p.seqlen),
        workspace_(cuda, static_cast<std::int64_t>(workspace_bytes())) {
    q_.write(given.q);
    k_.write(given.k);
    v_.write(given.v);
  }

  void run() {
    (*by_.tested)(attention_args<T>{.problem = with_variant(),
                                    .q = q_.view(),
                                    .k = k_.view(),
                                    .v = v_.view(),
                                    .o = o_.view(),
                                    .workspace = workspace_.data(),
                                    .workspace_bytes = workspace_bytes(),
                                    .lse = lse_.elements()},
                  nullptr);
    support::synchronize(cuda);
  }
  /// The output's elements as they lie in memory, which are forgotten then.
  std::vector<T> take_output() {
    std::vector<T> elements = o_.buffer().read();
    o_.buffer().poison();
    return elements;
  }
  outputs read() {
    outputs found = {o_.read(), lse_.read(), {}};
    const auto check = [&](const auto& buffer, std::string_view name) {
      if (const auto damage = buffer.guard_damage()) {
        found.wrong.push_back(fmt::format("{}: {}", name, *damage));
      }
    };
    check(q_.buffer(), "q");
    check(k_.buffer(), "k");
    check(v_.buffer(), "v");
    check(o_.buffer(), "o");
    check(lse_, "lse");
    check(workspace_, "workspace");
    return found;
  }

 private:
  static constexpr auto cuda = device_kind::cuda;

  attention_problem with_variant() const {
    attention_problem p = problem_;
    p.variant = by_.variant;
    return p;
  }
  std::size_t workspace_bytes() const { return by_.tested->workspace_bytes(with_variant()); }

  candidate by_;
  attention_problem problem_;
  sequence_buffer<T> q_, k_, v_, o_;
  guarded_buffer<float> lse_;
  guarded_buffer<std::byte> workspace_;
};

/// Calls `use` with a prepared_call of the candidate's element type, and rounds `given` to it.
template <class Use>
auto with_call(const candidate& by, const attention_problem& p, inputs& given, layout order,
               Use use) {
  const auto prepare = [&]<class T>(std::type_identity<T>) {
    for (auto* each : {&given.q, &given.k, &given.v}) round_to<T>(*each);
    return use(prepared_call<T>(by, p, given, order));
  };
  return by.type == element_type::fp16 ? prepare(std::type_identity<fp16>())
                                       : prepare(std::type_identity<bf16>());
}

outputs run(const candidate& by, const attention_problem& p, inputs& given,
            layout order = layout::bhnd) {
  return with_call(by, p, given, order, [](auto call) {
    call.run();
    return call.read();
  });
}

/// What is wrong, a line each.
std::vector<std::string> verify(const candidate& by, const attention_problem& p, inputs given,
                                double tolerance, layout order = layout::bhnd) {
  outputs found = run(by, p, given, order);
  std::vector<std::int64_t> rows(p.seqlen);
  for (std::int64_t i = 0; i < p.seqlen; ++i) rows[i] = i;
  std::vector<double> expected_o, expected_lse;
  for (std::int64_t head = 0; head < p.batch * p.heads; ++head) {
    const std::int64_t key_head =
        head / p.heads * p.key_heads() + head % p.heads / (p.heads / p.key_heads());
    const std::int64_t at = head * p.seqlen * p.head_dim;
    const std::int64_t key_at = key_head * p.keys() * p.head_dim;
    std::vector<double> o(p.seqlen * p.head_dim), lse(p.seqlen);
    reference::attention_rows(
        {p, given.q.data() + at, given.k.data() + key_at, given.v.data() + key_at}, rows, o, lse);
    expected_o.insert(expected_o.end(), o.begin(), o.end());
    expected_lse.insert(expected_lse.end(), lse.begin(), lse.end());
  }
  std::vector<std::string> wrong = found.wrong;
  const auto o = support::compare(found.o, expected_o, p.head_dim);
  if (!o.within(tolerance)) wrong.push_back("o: " + o.message());
  for (std::size_t i = 0; i < expected_lse.size() && p.lse; ++i) {
    const double want = expected_lse[i], got = found.lse[i];
    const bool same = std::isfinite(want) ? std::abs(got - want) <= 1e-4 * (1 + std::abs(want))
                      : std::isnan(want)  ? std::isnan(got)
                                          : got == want;
    if (!same) {
      wrong.push_back(fmt::format("lse of row {}: {}, expected {}", i, got, want));
      break;
    }
  }
  return wrong;
}

class attention_on_cuda : public ::testing::TestWithParam<candidate> {
 protected:
  static constexpr double tolerance = 4e-3;

  void SetUp() override {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
  /// Whether the candidate runs a problem.
  bool runs(attention_problem p) const {
    p.variant = GetParam().variant;
    return !GetParam().tested->unsupported(p);
  }
  void expect_right(const attention_problem& p, const inputs& given,
                    double allowed = tolerance) const {
    if (!runs(p)) return;
    EXPECT_THAT(verify(GetParam(), p, given, allowed), IsEmpty())
        << fmt::format("D{} B{} H{}/{} N{} Nkv{} causal{} window{}", p.head_dim, p.batch, p.heads,
                       p.key_heads(), p.seqlen, p.keys(), p.causal, p.window);
  }
  static std::vector<attention_problem> of_both_dims(attention_problem p) {
    std::vector<attention_problem> both = {p, p};
    both[1].head_dim = 128;
    return both;
  }
};

TEST_P(attention_on_cuda, masks_the_diagonal_at_every_place_in_a_tile) {
  for (const std::int64_t queries : {1, 64, 65, 321}) {
    for (const std::int64_t keys : {1, 63, 64, 65, 100, 128, 193, 257}) {
      for (attention_problem p : of_both_dims({.heads = 2, .seqlen = queries})) {
        p.kv_seqlen = keys;
        p.lse = true;
        expect_right(p, normal_inputs(p));
      }
    }
  }
}

TEST_P(attention_on_cuda, masks_the_end_at_every_place_in_a_tile) {
  for (const auto& [queries, keys] :
       {std::pair{65, 1}, std::pair{200, 2}, std::pair{1, 63}, std::pair{130, 64},
        std::pair{64, 65}, std::pair{321, 100}, std::pair{63, 127}, std::pair{1, 128},
        std::pair{200, 129}, std::pair{65, 257}}) {
    for (attention_problem p : of_both_dims({.heads = 2, .seqlen = queries})) {
      p.kv_seqlen = keys;
      p.causal = false;
      p.lse = true;
      expect_right(p, normal_inputs(p));
    }
  }
}

TEST_P(attention_on_cuda, masks_a_window_at_every_place_in_a_tile) {
  for (const std::int64_t window : {1, 31, 63, 64, 65, 128, 191, 1000}) {
    for (const auto& [queries, keys] : {std::pair{1, 1}, std::pair{333, 333}, std::pair{333, 410},
                                        std::pair{333, 283}, std::pair{7, 300}}) {
      for (attention_problem p : of_both_dims({.heads = 2, .seqlen = queries})) {
        p.kv_seqlen = keys;
        p.window = window;
        p.lse = true;
        expect_right(p, normal_inputs(p));
      }
    }
  }
}

/// More blocks than multiprocessors, so that each goes from block to block and from head to head,
/// past an infinity that the rows of one head see.
TEST_P(attention_on_cuda, walks_along_heads_with_a_window) {
  for (const std::int64_t window : {50, 64, 100, 128}) {
    for (attention_problem p : of_both_dims({.batch = 2, .heads = 30, .seqlen = 1210})) {
      p.kv_heads = 10;
      p.kv_seqlen = 1250;
      p.window = window;
      p.lse = true;
      if (!runs(p)) continue;
      inputs given = normal_inputs(p);
      given.v[(7 * p.keys() + 333) * p.head_dim + 5] = std::numeric_limits<float>::infinity();
      expect_right(p, given);
    }
  }
}

TEST_P(attention_on_cuda, shares_keys_among_grouped_heads) {
  for (const auto& [heads, key_heads] : {std::pair{6, 2}, std::pair{4, 1}, std::pair{3, 3}}) {
    for (attention_problem p : of_both_dims({.batch = 2, .heads = heads, .seqlen = 150})) {
      p.kv_heads = key_heads;
      p.scale = 0.3f;
      for (const layout order : {layout::bhnd, layout::bnhd}) {
        if (!runs(p)) continue;
        EXPECT_THAT(verify(GetParam(), p, normal_inputs(p), tolerance, order), IsEmpty());
      }
    }
  }
}

TEST_P(attention_on_cuda, gives_zero_to_a_query_that_sees_no_key) {
  for (attention_problem p : of_both_dims({.heads = 2, .seqlen = 300})) {
    p.kv_seqlen = 70;
    p.lse = true;
    if (!runs(p)) continue;
    inputs given = normal_inputs(p);
    const outputs found = run(GetParam(), p, given);
    for (std::int64_t i = 0; i < 230 * p.head_dim; ++i) ASSERT_EQ(found.o[i], 0);
    for (std::int64_t i = 0; i < 230; ++i) {
      ASSERT_EQ(found.lse[i], -std::numeric_limits<float>::infinity());
    }
  }
}

TEST_P(attention_on_cuda, averages_over_equal_keys) {
  for (attention_problem p : of_both_dims({.heads = 2, .seqlen = 300})) {
    inputs given = normal_inputs(p);
    for (std::size_t i = 0; i < given.k.size(); ++i) {
      given.k[i] = static_cast<float>(i % p.head_dim) / 64;
    }
    expect_right(p, given);
  }
}

TEST_P(attention_on_cuda, stands_scores_at_the_ends_of_fp16) {
  for (attention_problem p : of_both_dims({.heads = 2, .seqlen = 300})) {
    p.scale = 1;
    inputs given = normal_inputs(p);
    for (auto* each : {&given.q, &given.k}) std::ranges::fill(*each, 0.0f);
    for (std::int64_t row = 0; row < 2 * p.seqlen; ++row) {
      given.q[row * p.head_dim] = 245;
      given.k[row * p.head_dim] = row % 3 == 0 ? 245.0f : -245.0f;  // scores of +-60025
      given.k[row * p.head_dim + 1] = static_cast<float>(row % 7);
      given.q[row * p.head_dim + 1] = 0.25f;
    }
    expect_right(p, given);
    p.causal = false;
    expect_right(p, given);
  }
}

/// Keys of which one is much larger, or which grow towards the ones that are met last: a maximum
/// that is guessed from the keys that are met first is far too small.
inputs misleading_inputs(const attention_problem& p, bool grow) {
  inputs given = normal_inputs(p);
  for (std::int64_t row = 0; row < p.batch * p.key_heads() * p.keys(); ++row) {
    const std::int64_t key = row % p.keys();
    const float factor =
        grow ? 1 + 60 * static_cast<float>(p.keys() - key) / static_cast<float>(p.keys())
             : (key == 7 ? 40.0f : 1.0f);
    for (int d = 0; d < p.head_dim; ++d) given.k[row * p.head_dim + d] *= factor;
  }
  return given;
}

TEST_P(attention_on_cuda, is_as_exact_where_a_guessed_maximum_is_wrong) {
  constexpr double allowed = 3e-3;
  for (const bool causal : {true, false}) {
    for (attention_problem p : of_both_dims({.heads = 3, .seqlen = 700})) {
      p.causal = causal;
      p.lse = true;
      for (const bool grow : {false, true}) expect_right(p, misleading_inputs(p, grow), allowed);
      p.window = causal ? 200 : 0;
      expect_right(p, misleading_inputs(p, true), allowed);
    }
  }
}

/// A value in V of the first head, in K of the second and in Q of the third; the last has none.
TEST_P(attention_on_cuda, keeps_what_is_not_finite_to_rows_that_see_it) {
  constexpr float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                           std::numeric_limits<float>::infinity()};
  for (attention_problem p : of_both_dims({.heads = 4, .seqlen = 300})) {
    for (const auto& [causal, window] :
         {std::pair{true, 0}, std::pair{true, 90}, std::pair{false, 0}}) {
      p.causal = causal;
      p.window = window;
      for (const float value : bad) {
        for (const std::int64_t row : {std::int64_t{0}, std::int64_t{100}, p.seqlen - 1}) {
          inputs given = normal_inputs(p);
          const auto element = [&](std::int64_t head) {
            return (head * p.seqlen + row) * p.head_dim + 5;
          };
          given.v[element(0)] = value;
          given.k[element(1)] = value;
          given.q[element(2)] = value;
          expect_right(p, given);
        }
      }
    }
  }
}

/// Multiplies the queries of one tile of 64 of every third head, another tile a head, so that
/// scores of some tiles of queries grow far above those of the first keys, beside tiles that have
/// none.
void mislead_some(const attention_problem& p, inputs& given) {
  const std::int64_t tiles = (p.seqlen + 63) / 64;
  for (std::int64_t head = 0; head < p.batch * p.heads; head += 3) {
    const std::int64_t tile = head / 3 % tiles;
    for (std::int64_t row = 64 * tile; row < std::min(p.seqlen, 64 * tile + 64); ++row) {
      for (int d = 0; d < p.head_dim; ++d) given.q[(head * p.seqlen + row) * p.head_dim + d] *= 90;
    }
  }
}

TEST_P(attention_on_cuda, repeats_itself_bit_for_bit_where_some_blocks_are_redone) {
  for (const auto& [heads, seqlen, causal] :
       {std::tuple{300, 130, true}, std::tuple{40, 1000, true}, std::tuple{45, 260, false},
        std::tuple{70, 260, false}}) {
    for (attention_problem p : of_both_dims({.heads = heads, .seqlen = seqlen})) {
      p.causal = causal;
      if (!causal) p.kv_seqlen = 1000;  // two multiprocessors share a block
      if (!runs(p)) continue;
      inputs given = normal_inputs(p);
      mislead_some(p, given);
      with_call(GetParam(), p, given, layout::bhnd, [](auto call) {
        call.run();
        const auto first = call.take_output();
        for (int repeat = 1; repeat < 60; ++repeat) {
          call.run();
          const auto again = call.take_output();
          ASSERT_EQ(std::memcmp(again.data(), first.data(), first.size() * sizeof first[0]), 0)
              << "repeat " << repeat;
        }
      });
    }
  }
}

TEST_P(attention_on_cuda, redoes_some_tiles_of_a_block) {
  for (const attention_problem& p : of_both_dims({.heads = 300, .seqlen = 130})) {
    inputs given = normal_inputs(p);
    mislead_some(p, given);
    expect_right(p, given);
  }
}

/// A few more blocks than multiprocessors, so that two share a block: blocks of 128 queries with
/// the fewer heads, larger ones with the others. Some are redone, and one head has a value that is
/// not finite.
TEST_P(attention_on_cuda, puts_together_what_two_multiprocessors_share) {
  for (const std::int64_t heads : {45, 70}) {
    for (attention_problem p : of_both_dims({.heads = heads, .seqlen = 260})) {
      p.kv_seqlen = 1000;
      p.causal = false;
      p.lse = true;
      inputs given = normal_inputs(p);
      mislead_some(p, given);
      given.v[(7 * p.keys() + 200) * p.head_dim + 5] = std::numeric_limits<float>::infinity();
      expect_right(p, given);
    }
  }
}

TEST_P(attention_on_cuda, counts_what_it_redoes) {
  const auto take = GetParam().tested->take_counts;
  ASSERT_NE(take, nullptr);
  const auto redone = [&] { return take().at(0).value; };
  for (attention_problem p : of_both_dims({.heads = 300, .seqlen = 200})) {
    if (!runs(p)) continue;
    inputs given = normal_inputs(p);
    redone();
    run(GetParam(), p, given);
    EXPECT_EQ(redone(), 0);
    mislead_some(p, given);
    run(GetParam(), p, given);
    const double found = redone();
    if (GetParam().variant == "split_keys") {  // it does not guess
      EXPECT_EQ(found, 0);
    } else {
      EXPECT_GE(found, 50);
      EXPECT_LE(found, 200);  // of 100 tiles of 64 queries; a block may have two
    }
    EXPECT_EQ(redone(), 0) << "counting starts anew";
  }
}

/// More blocks a multiprocessor than a CTA lists at once, some of which are redone.
TEST_P(attention_on_cuda, goes_on_after_a_full_list) {
  attention_problem p = {.batch = 150, .heads = 64, .seqlen = 5};
  p.kv_heads = 1;
  p.kv_seqlen = 70;
  if (!runs(p)) GTEST_SKIP() << "not at this head dimension";
  inputs given = normal_inputs(p);
  for (std::int64_t batch = 0; batch < p.batch; batch += 5) {
    for (std::int64_t i = 0; i < p.head_dim; ++i) given.k[batch * p.keys() * p.head_dim + i] *= 100;
  }
  expect_right(p, given);
}

INSTANTIATE_TEST_SUITE_P(registry, attention_on_cuda, ::testing::ValuesIn(candidates()),
                         [](const auto& each) { return each.param.name(); });

}  // namespace
}  // namespace based
