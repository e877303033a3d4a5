// Proof that verify() can fail: implementations that are right but for one fault each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/based/prefill.h"
#include "tests/baselines/prefill_check.h"
#include "tests/baselines/sampling.h"

namespace based {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using prefill_function = void (*)(const prefill_args<float>&);

constexpr double tolerance = 4e-3;  // of bf16: the loosest in use

/// A correct implementation in the plainest way: token after token, state and normaliser.
void recurrence(const prefill_args<float>& args) {
  validate(args, 0);
  const prefill_options& options = args.problem.options;
  const auto& [batch, heads, seqlen] = args.problem.shape;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t head = b * heads + h;
      std::vector<float> kv(compact_features * value_dim);
      std::vector<float> z(compact_features);
      if (options.initial_state) {
        std::copy_n(args.initial_state.kv_head(head), kv.size(), kv.begin());
        std::copy_n(args.initial_state.z_head(head), z.size(), z.begin());
      }
      for (std::int64_t n = 0; n < seqlen; ++n) {
        const float* q = args.q.token(b, h, n);
        const float* k = args.k.token(b, h, n);
        const float* v = args.v.token(b, h, n);
        float sums[value_dim] = {};
        float weights = options.eps;
        const auto add_feature = [&](int r, float phi_k, float phi_q) {
          z[r] += phi_k;
          weights += phi_q * z[r];
          for (int c = 0; c < value_dim; ++c) {
            kv[r * value_dim + c] += phi_k * v[c];
            sums[c] += phi_q * kv[r * value_dim + c];
          }
        };
        add_feature(0, 1, 1);
        for (int i = 0; i < feature_dim; ++i) {
          add_feature(first_linear_row + i, k[i], options.scale * q[i]);
          for (int j = i; j < feature_dim; ++j) {
            add_feature(product_row(i, j), k[i] * k[j],
                        options.scale * options.scale * q[i] * q[j] * (i == j ? 0.5f : 1.0f));
          }
        }
        for (int c = 0; c < value_dim; ++c) {
          args.o.token(b, h, n)[c] = options.normalize ? sums[c] / weights : sums[c];
        }
      }
      if (options.final_state) {
        std::copy(kv.begin(), kv.end(), args.final_state.kv_head(head));
        std::copy(z.begin(), z.end(), args.final_state.z_head(head));
      }
    }
  }
}

constexpr std::int64_t tile = 16;

void zero_tile(const prefill_args<float>& args) {
  recurrence(args);
  for (std::int64_t n = 64; n < 64 + tile; ++n) {
    std::fill_n(args.o.token(0, 1, n), value_dim, 0.0f);
  }
}

void tile_of_another_head(const prefill_args<float>& args) {
  recurrence(args);
  for (std::int64_t n = 64; n < 64 + tile; ++n) {
    std::copy_n(args.o.token(0, 0, n), value_dim, args.o.token(0, 1, n));
  }
}

void tile_one_token_late(const prefill_args<float>& args) {
  recurrence(args);
  for (std::int64_t n = 64 + tile; n > 64; --n) {
    std::copy_n(args.o.token(0, 0, n - 1), value_dim, args.o.token(0, 0, n));
  }
}

void unwritten_row(const prefill_args<float>& args) {
  const float unwritten = *args.o.token(0, 0, 70);  // the poison
  recurrence(args);
  std::fill_n(args.o.token(0, 0, 70), value_dim, unwritten);
}

void one_nan(const prefill_args<float>& args) {
  recurrence(args);
  args.o.token(1, 2, 150)[63] = std::numeric_limits<float>::quiet_NaN();
}

void write_past_the_end(const prefill_args<float>& args) {
  recurrence(args);
  const auto& [batch, heads, seqlen] = args.problem.shape;
  args.o.token(batch - 1, heads - 1, seqlen - 1)[value_dim] = 1;
}

void write_before_the_state(const prefill_args<float>& args) {
  recurrence(args);
  args.final_state.kv.data()[-1] = 0;
}

void not_causal(const prefill_args<float>& args) {
  recurrence(args);
  // The last token's value leaks into the one before.
  const std::int64_t last = args.problem.shape.seqlen - 1;
  for (int c = 0; c < value_dim; ++c) {
    args.o.token(0, 0, last - 1)[c] += args.v.token(0, 0, last)[c];
  }
}

template <auto option>
void ignores(const prefill_args<float>& args) {
  prefill_args<float> other = args;
  other.problem.options.*option = prefill_options{}.*option;  // the default, whatever was asked
  recurrence(other);
}

void state_without_last_token(const prefill_args<float>& args) {
  recurrence(args);
  prefill_args<float> shorter = args;
  --shorter.problem.shape.seqlen;
  recurrence(shorter);
}

implementation<based_prefill> with(prefill_function run) {
  return {.name = "faulty",
          .summary = "right but for one fault",
          .tolerance = tolerance,
          .unsupported = [](const prefill_problem&) -> unsupported_reason { return std::nullopt; },
          .workspace_bytes = [](const prefill_problem&) -> std::size_t { return 0; },
          .executed_flops = [](const prefill_problem&) { return 1.0; },
          .run = run};
}

const prefill_case all_options = {
    .name = "all options",
    .shape = {2, 3, 200},
    .options = {
        .scale = 0.5f, .normalize = true, .eps = 5.0f, .initial_state = true, .final_state = true}};

TEST(prefill_check, accepts_what_is_right) {
  EXPECT_THAT(verify(with(recurrence), all_options), IsEmpty());
  EXPECT_THAT(verify_in_two_pieces(with(recurrence), all_options, 77), IsEmpty());
  EXPECT_TRUE(repeats_itself(with(recurrence), all_options));
  EXPECT_TRUE(refuses_bad_arguments(with(recurrence), all_options));
}

class prefill_fault : public ::testing::TestWithParam<prefill_function> {};

TEST_P(prefill_fault, is_detected) {
  EXPECT_THAT(verify(with(GetParam()), all_options), Not(IsEmpty()));
}

constexpr prefill_function faults[] = {zero_tile,
                                       tile_of_another_head,
                                       tile_one_token_late,
                                       unwritten_row,
                                       one_nan,
                                       write_past_the_end,
                                       write_before_the_state,
                                       not_causal,
                                       state_without_last_token,
                                       ignores<&prefill_options::scale>,
                                       ignores<&prefill_options::normalize>,
                                       ignores<&prefill_options::eps>,
                                       ignores<&prefill_options::initial_state>,
                                       ignores<&prefill_options::final_state>};
INSTANTIATE_TEST_SUITE_P(all, prefill_fault, ::testing::ValuesIn(faults));

TEST(prefill_check, names_what_is_wrong) {
  EXPECT_THAT(verify(with(zero_tile), all_options), ElementsAre(HasSubstr("o of head 1")));
  EXPECT_THAT(verify(with(write_past_the_end), all_options),
              ElementsAre("o: 0 bytes overwritten before the buffer, 4 after it"));
}

TEST(prefill_check, finds_an_unwritten_row_between_the_sampled_ones) {
  const prefill_case test = {.name = "long", .shape = {1, 1, 300}};
  EXPECT_THAT(sampled_rows(300), Not(Contains(70)));
  EXPECT_THAT(verify(with(unwritten_row), test), Contains(HasSubstr("not finite")));
}

TEST(prefill_check, detects_a_state_that_is_not_carried) {
  constexpr auto forgetful = ignores<&prefill_options::initial_state>;
  prefill_case test = all_options;
  test.options.initial_state = false;
  EXPECT_THAT(verify(with(forgetful), test), IsEmpty());
  EXPECT_THAT(verify_in_two_pieces(with(forgetful), test, 77), Not(IsEmpty()));
}

TEST(prefill_check, detects_an_output_that_varies) {
  const auto varies = [](const prefill_args<float>& args) {
    static int calls = 0;
    recurrence(args);
    *args.o.token(0, 0, 0) += static_cast<float>(++calls);
  };
  EXPECT_FALSE(repeats_itself(with(varies), all_options));
}

TEST(prefill_check, detects_arguments_that_are_not_checked) {
  const auto credulous = [](const prefill_args<float>&) {};
  EXPECT_FALSE(refuses_bad_arguments(with(credulous), all_options));
}

}  // namespace
}  // namespace based
