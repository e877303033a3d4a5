// Which variant of the Based prefill runs a shape.
#include "kernels/based/dispatch.h"

#include <gtest/gtest.h>

#include <string>

namespace based {
namespace {

constexpr int multiprocessors = 132;
constexpr int chosen(const prefill_shape& shape, std::string_view variant = "") {
  return segments_of(shape, variant, multiprocessors);
}

TEST(dispatch, keeps_sequences_whole_where_heads_fill_the_card) {
  for (const int batch : {6, 8, 16, 128}) EXPECT_EQ(chosen({batch, 16, 8192}), 1) << batch;
  EXPECT_EQ(chosen({16, 16, 1}), 1);
}

TEST(dispatch, splits_long_sequences_of_few_heads) {
  EXPECT_EQ(chosen({2, 16, 8192}), 8);
  EXPECT_EQ(chosen({1, 16, 8192}), 8);
  EXPECT_EQ(chosen({1, 16, 131072}), 16);
}

TEST(dispatch, keeps_short_sequences_whole) {
  EXPECT_EQ(chosen({1, 1, 64}), 1);
  EXPECT_EQ(chosen({1, 16, 128}), 1);
}

TEST(dispatch, obeys_a_forced_variant) {
  EXPECT_EQ(chosen({1, 16, 8192}, variant_whole), 1);
  EXPECT_EQ(chosen({16, 16, 128}, variant_split), 2);
}

constexpr dispatch_target h200 = {.multiprocessors = multiprocessors, .is_hopper = true};
constexpr dispatch_target a100 = {.multiprocessors = 108, .is_hopper = false};

TEST(dispatch, runs_what_the_device_can) {
  const prefill_shape few = {1, 16, 8192};
  const auto on_hopper = dispatch({few}, h200);
  ASSERT_TRUE(on_hopper.has_value());
  EXPECT_EQ(on_hopper->kernel, prefill_kernel::recurrent);
  EXPECT_EQ(on_hopper->segments, 8);
  for (const prefill_shape& shape : {few, prefill_shape{1, 16, 128}}) {
    const auto elsewhere = dispatch({shape}, a100);
    ASSERT_TRUE(elsewhere.has_value());
    EXPECT_EQ(elsewhere->kernel, prefill_kernel::mma_sync);
    EXPECT_EQ(elsewhere->segments, 1);
  }
}

TEST(dispatch, takes_the_quadratic_form_for_short_sequences) {
  const auto kernel = [](const prefill_shape& shape, const prefill_options& options) {
    return dispatch({shape, options}, h200).value().kernel;
  };
  for (const bool normalize : {false, true}) {
    EXPECT_EQ(kernel({1, 16, 128}, {.normalize = normalize}), prefill_kernel::quadratic);
    EXPECT_EQ(kernel({1, 16, 8192}, {.normalize = normalize}), prefill_kernel::recurrent);
    EXPECT_EQ(kernel({128, 16, 1024}, {.normalize = normalize}), prefill_kernel::recurrent);
  }

  struct limit {
    std::int64_t heads, longest;
  };
  for (const auto& [heads, longest] : {limit{1, 1280},
                                       {11, 1280},
                                       {16, 1024},
                                       {32, 640},
                                       {66, 448},
                                       {88, 512},
                                       {89, 256},
                                       {132, 256},
                                       {133, 128}}) {
    EXPECT_EQ(kernel({1, heads, longest}, {}), prefill_kernel::quadratic) << heads;
    EXPECT_NE(kernel({1, heads, longest + 1}, {}), prefill_kernel::quadratic) << heads;
  }
  constexpr prefill_options normalize = {.normalize = true};
  for (const auto& [heads, longest] : {limit{1, 1792},
                                       {16, 1408},
                                       {32, 896},
                                       {66, 640},
                                       {88, 512},
                                       {89, 448},
                                       {132, 320},
                                       {133, 128}}) {
    EXPECT_EQ(kernel({1, heads, longest}, normalize), prefill_kernel::quadratic) << heads;
    EXPECT_NE(kernel({1, heads, longest + 1}, normalize), prefill_kernel::quadratic) << heads;
  }

  constexpr prefill_options final_state = {.final_state = true},
                            initial_state = {.initial_state = true},
                            both = {.initial_state = true, .final_state = true};
  for (const auto& [heads, longest] : {limit{1, 640},
                                       {33, 640},
                                       {34, 384},
                                       {66, 384},
                                       {67, 128},
                                       {88, 128},
                                       {89, 64},
                                       {132, 64}}) {
    EXPECT_EQ(kernel({1, heads, longest}, final_state), prefill_kernel::quadratic) << heads;
    EXPECT_NE(kernel({1, heads, longest + 1}, final_state), prefill_kernel::quadratic) << heads;
  }
  EXPECT_NE(kernel({1, 133, 1}, final_state), prefill_kernel::quadratic);
  for (const auto& [heads, longest] :
       {limit{1, 640}, {8, 640}, {9, 512}, {16, 512}, {17, 448}, {33, 448}, {66, 192}}) {
    EXPECT_EQ(kernel({1, heads, longest}, both), prefill_kernel::quadratic) << heads;
    EXPECT_NE(kernel({1, heads, longest + 1}, both), prefill_kernel::quadratic) << heads;
  }
  EXPECT_EQ(kernel({1, 66, 256}, initial_state), prefill_kernel::quadratic);
  EXPECT_NE(kernel({1, 66, 257}, initial_state), prefill_kernel::quadratic);
  EXPECT_NE(kernel({1, 67, 1}, initial_state), prefill_kernel::quadratic);
}

TEST(dispatch, recomputes_short_sequences_and_those_of_about_half_the_heads_that_fit) {
  const auto choice = [](std::int64_t heads, std::int64_t seqlen, bool state = false,
                         bool normalize = false) {
    const prefill_options options = {.normalize = normalize, .final_state = state};
    return dispatch({{1, heads, seqlen}, options}, h200).value();
  };
  constexpr std::int64_t long_seqlen = 131072;
  struct limit {
    std::int64_t heads, longest;
  };
  for (const auto& [heads, longest] :
       {limit{16, 1280}, {24, 3584}, {32, 5888}, {40, 8192}, {52, 11648}}) {
    EXPECT_EQ(choice(heads, longest).kernel, prefill_kernel::recomputing) << heads;
    EXPECT_EQ(choice(heads, longest + 1).kernel, prefill_kernel::recurrent) << heads;
  }
  for (const auto& [heads, longest] : {limit{16, 1024}, {24, 1536}, {32, 3520}, {48, 8128}}) {
    EXPECT_EQ(choice(heads, longest, true, true).kernel, prefill_kernel::recomputing) << heads;
    EXPECT_EQ(choice(heads, longest + 1, true, true).kernel, prefill_kernel::recurrent) << heads;
  }
  for (const std::int64_t heads : {53, 64, 66}) {
    EXPECT_EQ(choice(heads, long_seqlen).kernel, prefill_kernel::recomputing) << heads;
    EXPECT_EQ(choice(heads, long_seqlen).segments, 2);
  }
  EXPECT_EQ(choice(67, long_seqlen).kernel, prefill_kernel::recurrent);
  EXPECT_EQ(choice(1, 641, true).kernel, prefill_kernel::recomputing);
  EXPECT_EQ(choice(1, 769, true).kernel, prefill_kernel::recurrent);
  // Shorter ones go to the quadratic form before they come to these.
  EXPECT_TRUE(prefers_recomputing({{1, 1, 193}}, multiprocessors));
  EXPECT_FALSE(prefers_recomputing({{1, 1, 192}}, multiprocessors));

  EXPECT_EQ(choice(44, 2048).segments, 3);
  EXPECT_EQ(choice(33, 2048).segments, 4);
  EXPECT_EQ(choice(26, 2048).segments, 5);
  EXPECT_EQ(choice(16, 1152).segments, 5);
  EXPECT_EQ(recomputing_segments({1, 16, 256}, multiprocessors), 2);
}

TEST(dispatch, cuts_recomputing_segments_so_that_all_take_as_long) {
  for (int segments = 2; segments <= sm90::max_recomputing_segments; ++segments) {
    for (int chunks = segments; chunks < 3000; chunks = chunks * 5 / 4 + 1) {
      const auto begin = [&](int segment) {
        return sm90::recomputing_begin(chunks, segments, segment);
      };
      ASSERT_EQ(begin(0), 0);
      ASSERT_EQ(begin(segments), chunks);
      for (int i = 0; i < segments; ++i) {
        ASSERT_LT(begin(i), begin(i + 1)) << chunks << " in " << segments;
        // What a segment takes, in chunks of whole work; rounding, and that none may be empty,
        // aside.
        const double work = 4.0 / 9 * begin(i) + begin(i + 1) - begin(i);
        ASSERT_NEAR(work, begin(1), 2 + segments) << chunks << " in " << segments;
      }
    }
  }
  EXPECT_EQ(sm90::recomputing_begin(128, 2, 1), 82);
}

TEST(dispatch, balances_heads_that_leave_a_round_half_empty) {
  const auto places = [](std::int64_t heads, std::int64_t seqlen, std::string_view variant = "",
                         const prefill_options& options = {}) {
    const dispatch_choice choice = dispatch({{1, heads, seqlen}, options, variant}, h200).value();
    EXPECT_EQ(choice.kernel, choice.places > 0 || !variant.empty() ? prefill_kernel::balanced
                                                                   : prefill_kernel::recurrent);
    return choice.places;
  };
  constexpr int one_each = multiprocessors, two_each = 2 * multiprocessors;
  struct limit {
    std::int64_t seqlen, most_alone, most;  // heads with one CTA a multiprocessor, and with two
  };
  for (const auto& [seqlen, most_alone, most] :
       {limit{1152, 169, 348}, {2048, 198, 380}, {8192, 225, 509}}) {
    for (const bool normalize : {false, true}) {
      SCOPED_TRACE(std::to_string(seqlen) + (normalize ? ", normalised" : ""));
      const auto places_at = [&](std::int64_t heads) {
        return places(heads, seqlen, "", {.normalize = normalize});
      };
      EXPECT_EQ(places_at(132), 0);
      EXPECT_EQ(places_at(133), one_each);
      EXPECT_EQ(places_at(most_alone), one_each);
      EXPECT_EQ(places_at(most_alone + 1), 0);
      EXPECT_EQ(places_at(264), 0);
      EXPECT_EQ(places_at(265), two_each);
      EXPECT_EQ(places_at(most), two_each);
      EXPECT_EQ(places_at(most + 1), 0);
      EXPECT_EQ(places_at(528), 0);
    }
  }
  constexpr prefill_options final_state = {.final_state = true},
                            initial_state = {.initial_state = true};
  EXPECT_EQ(places(348, 1152, "", final_state), two_each);
  EXPECT_EQ(places(349, 1152, "", final_state), 0);
  EXPECT_EQ(places(462, 1152, "", initial_state), two_each);
  EXPECT_EQ(places(463, 1152, "", initial_state), 0);
  for (const std::int64_t heads : {133, 160, 272, 300, 340, 360}) {
    EXPECT_EQ(places(heads, 512), 0) << heads;
    EXPECT_EQ(places(heads, 512, "", initial_state), 0) << heads;
  }
  EXPECT_EQ(places(256, 8192), 0);
  EXPECT_EQ(places(2048, 8192), two_each);

  EXPECT_EQ(places(132, 128, variant_balanced), one_each);
  EXPECT_EQ(places(264, 128, variant_balanced), two_each);
  EXPECT_EQ(places(131, 8192, variant_balanced), 0);
  EXPECT_EQ(places(300, 64, variant_balanced), 0);
}

TEST(dispatch, hands_over_heads_of_which_both_parts_have_chunks) {
  for (int chunks = 2; chunks < 2000; chunks = chunks * 5 / 4 + 1) {
    for (const int heads : {1, 132, 264}) {
      int before = 1;
      for (int head = 0; head < heads; ++head) {
        const int chunk = sm90::handed_over_at(chunks, heads, head);
        ASSERT_GE(chunk, before);
        ASSERT_LT(chunk, chunks);
        before = chunk;
      }
    }
  }
}

TEST(dispatch, refuses_hopper_variants_elsewhere) {
  const prefill_shape shape = {16, 16, 8192};
  EXPECT_FALSE(dispatch({shape, {}, variant_whole}, a100).has_value());
  EXPECT_FALSE(dispatch({shape, {}, variant_split}, a100).has_value());
  EXPECT_FALSE(dispatch({shape, {}, variant_recompute}, a100).has_value());
  EXPECT_FALSE(dispatch({shape, {}, variant_quadratic}, a100).has_value());
  EXPECT_FALSE(dispatch({shape, {}, variant_balanced}, a100).has_value());
  for (const dispatch_target& device : {h200, a100}) {
    const auto choice = dispatch({shape, {}, variant_mma_sync}, device);
    ASSERT_TRUE(choice.has_value());
    EXPECT_EQ(choice->kernel, prefill_kernel::mma_sync);
  }
}

TEST(dispatch, gives_out_a_state_that_it_can_unscale) {
  const prefill_shape shape = {16, 16, 8192};
  for (const float scale : {0.0f, 1e-12f, -1e-12f, 0.25f, -0.25f}) {
    const bool is_tiny = scale * scale < 1e-20f;
    for (const bool final_state : {false, true}) {
      const prefill_options options = {.scale = scale, .final_state = final_state};
      const auto chosen = dispatch({shape, options}, h200);
      ASSERT_TRUE(chosen.has_value());
      EXPECT_EQ(chosen->kernel == prefill_kernel::mma_sync, final_state && is_tiny) << scale;
      const auto forced = dispatch({shape, options, variant_whole}, h200);
      EXPECT_EQ(forced.has_value(), !(final_state && is_tiny)) << scale;
    }
  }
}

TEST(dispatch, leaves_no_segment_without_a_chunk_and_no_card_overfull) {
  for (std::int64_t heads = 1; heads < 300; ++heads) {
    for (std::int64_t seqlen = 1; seqlen < 200000; seqlen = seqlen * 5 / 4 + 1) {
      const prefill_shape shape = {1, heads, seqlen};
      const int segments = chosen(shape);
      ASSERT_LE(segments, chunks_of(shape)) << heads << " x " << seqlen;
      if (segments > 1) {
        ASSERT_LE(heads * segments, 2 * multiprocessors);
      }
    }
  }
}

}  // namespace
}  // namespace based
