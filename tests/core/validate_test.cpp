// Every refusal names the value that is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/based/prefill.h"
#include "kernels/core/error.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/validate.h"

namespace based {
namespace {

using ::testing::HasSubstr;

// validate() looks at pointers, not behind them.
constexpr std::size_t z_elements = 2 * 3 * compact_features;
constexpr std::size_t kv_elements = z_elements * value_dim;
alignas(16) float somewhere[2 * kv_elements];
float* const somewhere_else = somewhere + kv_elements;

template <class T>
kv_state_view<T> state_at(T* elements) {
  return {{elements, kv_elements}, {elements, z_elements}};
}

template <class T>
prefill_args<T> good_prefill() {
  T* data = reinterpret_cast<T*>(somewhere);
  prefill_args<T> args;
  args.problem = {{2, 3, 100}, {.normalize = true, .initial_state = true, .final_state = true}, {}};
  args.q = sequence_view<const T>::bhnd(data, 3, 100, feature_dim);
  args.k = args.q;
  args.v = sequence_view<const T>::bhnd(data, 3, 100, value_dim);
  args.o = sequence_view<T>::bhnd(data, 3, 100, value_dim);
  args.initial_state = state_at<const float>(somewhere);
  args.final_state = state_at(somewhere_else);
  args.workspace = somewhere;
  args.workspace_bytes = 1000;
  return args;
}

template <class T>
void shorten(std::span<T>& elements) {
  elements = elements.first(elements.size() - 1);
}

struct prefill_mistake {
  std::string name;
  void (*make)(prefill_args<float>&);
  std::string message;  ///< what the error must say
};
std::ostream& operator<<(std::ostream& out, const prefill_mistake& mistake) {
  return out << mistake.name;
}

class prefill_validation : public ::testing::TestWithParam<prefill_mistake> {};

TEST_P(prefill_validation, names_the_bad_value) {
  prefill_args<float> args = good_prefill<float>();
  GetParam().make(args);
  try {
    validate(args, 1000);
    FAIL() << "was accepted";
  } catch (const invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
  }
}

using args = prefill_args<float>;
INSTANTIATE_TEST_SUITE_P(
    mistakes, prefill_validation,
    ::testing::Values(
        prefill_mistake{"batch", [](args& a) { a.problem.shape.batch = 0; }, "batch is 0"},
        prefill_mistake{"heads", [](args& a) { a.problem.shape.heads = -1; }, "heads is -1"},
        prefill_mistake{"seqlen", [](args& a) { a.problem.shape.seqlen = 0; }, "seqlen is 0"},
        prefill_mistake{
            "overflow",
            [](args& a) { a.problem.shape.batch = std::numeric_limits<std::int64_t>::max() / 2; },
            "batch 4611686018427387903"},
        prefill_mistake{"null_q", [](args& a) { a.q.data = nullptr; }, "q is null"},
        prefill_mistake{"null_k", [](args& a) { a.k.data = nullptr; }, "k is null"},
        prefill_mistake{"null_v", [](args& a) { a.v.data = nullptr; }, "v is null"},
        prefill_mistake{"null_o", [](args& a) { a.o.data = nullptr; }, "o is null"},
        prefill_mistake{"misaligned", [](args& a) { a.v.data += 1; }, "is not aligned to 16 bytes"},
        prefill_mistake{"short_stride", [](args& a) { a.k.token_stride = 12; },
                        "k has a token stride of 12"},
        prefill_mistake{"odd_stride", [](args& a) { a.o.head_stride = 6401; }, "6401"},
        prefill_mistake{"negative_stride", [](args& a) { a.q.head_stride = -1600; },
                        "q has strides 4800, -1600, 16"},
        prefill_mistake{"overlapping_heads", [](args& a) { a.o.head_stride -= 64; },
                        "o overlaps itself with strides 19200, 6336, 64"},
        prefill_mistake{"overlapping_batches", [](args& a) { a.o.batch_stride = 0; },
                        "o overlaps itself with strides 0, 6400, 64"},
        prefill_mistake{"initial_kv", [](args& a) { a.initial_state.kv = {}; },
                        "initial_state.kv is null"},
        prefill_mistake{"initial_z", [](args& a) { a.initial_state.z = {}; },
                        "initial_state.z is null"},
        prefill_mistake{"final_kv", [](args& a) { a.final_state.kv = {}; },
                        "final_state.kv is null"},
        prefill_mistake{"final_z", [](args& a) { a.final_state.z = {}; }, "final_state.z is null"},
        prefill_mistake{"small_initial_kv", [](args& a) { shorten(a.initial_state.kv); },
                        "initial_state.kv has 235004 bytes, must have 235008"},
        prefill_mistake{"small_initial_z", [](args& a) { shorten(a.initial_state.z); },
                        "initial_state.z has 3668 bytes, must have 3672"},
        prefill_mistake{"small_final_kv", [](args& a) { shorten(a.final_state.kv); },
                        "final_state.kv has 235004 bytes, must have 235008"},
        prefill_mistake{"small_final_z", [](args& a) { shorten(a.final_state.z); },
                        "final_state.z has 3668 bytes, must have 3672"},
        prefill_mistake{"misaligned_state",
                        [](args& a) {
                          a.final_state.kv = {somewhere_else - 1, kv_elements};
                        },
                        "final_state.kv at"},
        prefill_mistake{"overlapping_kv",
                        [](args& a) {
                          a.final_state.kv = {somewhere_else - 4, kv_elements};
                        },
                        "initial_state.kv at"},
        prefill_mistake{"overlapping_z",
                        [](args& a) {
                          a.final_state.z = {somewhere + 4, z_elements};
                        },
                        "overlap, 3672 and 3672 bytes"},
        prefill_mistake{"workspace_size", [](args& a) { a.workspace_bytes = 999; },
                        "workspace has 999 bytes, needs 1000"},
        prefill_mistake{"null_workspace", [](args& a) { a.workspace = nullptr; },
                        "workspace is null"}),
    [](const auto& test) { return test.param.name; });

TEST(prefill_validation, accepts_what_is_right) {
  EXPECT_NO_THROW(validate(good_prefill<float>(), 1000));
  EXPECT_NO_THROW(validate(good_prefill<bf16>(), 1000));
}

TEST(prefill_validation, asks_only_for_what_the_options_use) {
  prefill_args<float> plain = good_prefill<float>();
  plain.problem.options = {};
  plain.initial_state = {};
  plain.final_state = {};
  plain.workspace = nullptr;
  plain.workspace_bytes = 0;
  EXPECT_NO_THROW(validate(plain, 0));
  plain.problem.options.final_state = true;
  plain.final_state.kv = {somewhere, kv_elements};  // z only where normalising
  EXPECT_NO_THROW(validate(plain, 0));
}

TEST(prefill_validation, takes_any_order_of_dimensions_and_gaps_between) {
  prefill_args<float> strided = good_prefill<float>();
  strided.o = sequence_view<float>::bnhd(somewhere, 3, 100, value_dim);
  EXPECT_NO_THROW(validate(strided, 1000));
  strided.o = {somewhere, 128, 1024, 8192};  // [N, H, B]
  EXPECT_NO_THROW(validate(strided, 1000));
  strided.k.head_stride = 0;  // the same keys for all heads: only read
  EXPECT_NO_THROW(validate(strided, 1000));
}

TEST(prefill_validation, strides_are_judged_by_the_element_type) {
  prefill_args<bf16> strided = good_prefill<bf16>();
  strided.q.token_stride = 20;  // 16 bytes are eight bf16
  EXPECT_THROW(validate(strided, 0), invalid_argument);
}

TEST(attention_validation, names_the_bad_value) {
  const auto message = [](attention_problem problem) -> std::string {
    try {
      validate(problem);
    } catch (const invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({1, 1, 64, 64, true}), "accepted");
  EXPECT_EQ(message({1, 1, 64, 128, false}), "accepted");
  EXPECT_THAT(message({0, 1, 64, 64, true}), HasSubstr("batch is 0"));
  EXPECT_THAT(message({1, 0, 64, 64, true}), HasSubstr("heads is 0"));
  EXPECT_THAT(message({1, 1, -5, 64, true}), HasSubstr("seqlen is -5"));
  EXPECT_THAT(message({1, 1, 64, 96, true}), HasSubstr("head_dim is 96"));
}

TEST(attention_validation, looks_at_tensors_too) {
  attention_args<float> bad;
  bad.problem = {1, 1, 64, 64, true};
  EXPECT_THROW(validate(bad, 0), invalid_argument);
}

TEST(head_dims, are_each_called_with_their_own_type) {
  std::vector<int> called;
  for (const int dim : head_dims) {
    with_head_dim(dim, [&]<int Dim>() { called.push_back(Dim); });
    EXPECT_NO_THROW(require_head_dim(dim));
  }
  EXPECT_EQ(called, std::vector<int>(std::begin(head_dims), std::end(head_dims)));
  EXPECT_THROW(with_head_dim(96, []<int>() {}), std::logic_error);
  EXPECT_THROW(require_head_dim(96), invalid_argument);
}

}  // namespace
}  // namespace based
