// The CUDA prefill "based" against the float64 reference, beyond what the tests of all operations
// (tests/operations) do: to a tighter tolerance, at shapes where its variants differ, and what its
// variants promise each other.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/based/prefill_variants.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device_bytes.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"
#include "tests/support/occupied_multiprocessors.h"
#include "tests/support/source_folder.h"

namespace based {
namespace {

using support::guarded_buffer;
using support::layout;
using support::sequence_buffer;

constexpr device_kind device = device_kind::cuda;
constexpr float small_deviation = 0.25f;  // of q and k

/// The tolerance of a head's error against float64, q and k being normally distributed. A head of
/// few tokens averages over little, but the quadratic form, which is dispatched for it, rounds
/// less; so only a forced variant may be off by more.
constexpr double tolerance_at(float deviation, std::int64_t seqlen, std::string_view variant) {
  constexpr std::int64_t few_tokens = 100;
  const bool averages_over_little = seqlen < few_tokens && !variant.empty();
  return deviation > small_deviation || averages_over_little ? 3e-3 : 2.5e-3;
}

const implementation<based_prefill>& based_cuda() {
  for (const auto& entry : registry<based_prefill>()) {
    if (entry.name == "based" && entry.device() == device) return entry;
  }
  throw std::logic_error("based is not registered for CUDA");
}

std::string describe(const prefill_problem& problem) {
  const auto& [shape, options, variant] = problem;
  std::string text = std::to_string(shape.batch) + " x " + std::to_string(shape.heads) + " x " +
                     std::to_string(shape.seqlen) + " " + std::string(variant);
  text += " scale " + std::to_string(options.scale);
  if (options.normalize) text += " normalize";
  if (options.initial_state) text += " initial_state";
  if (options.final_state) text += " final_state";
  return text;
}

/// Everything of a call: inputs on the host and on the device, guarded and poisoned outputs.
class prefill_case {
 public:
  explicit prefill_case(const prefill_problem& problem, float deviation = small_deviation)
      : problem_(problem),
        deviation_(deviation),
        q_host_(support::normal_values(tokens() * feature_dim, 1, deviation)),
        k_host_(support::normal_values(tokens() * feature_dim, 2, deviation)),
        v_host_(support::normal_values(tokens() * value_dim, 3)),
        q_(make<feature_dim>()),
        k_(make<feature_dim>()),
        v_(make<value_dim>()),
        o_(make<value_dim>()),
        initial_kv_(device, kv_size()),
        initial_z_(device, z_size()),
        final_kv_(device, kv_size()),
        final_z_(device, z_size()) {
    q_.write(q_host_);
    k_.write(k_host_);
    v_.write(v_host_);
    make_initial_state();
    use(problem.variant);
  }

  /// From now on in this variant, outputs poisoned anew.
  void use(std::string_view variant) {
    problem_.variant = variant;
    workspace_.emplace(device, std::max<std::int64_t>(1, based_cuda().workspace_bytes(problem_)));
    poison();
  }

  prefill_args<bf16> args() {
    prefill_args<bf16> args;
    args.problem = problem_;
    args.q = q_.view();
    args.k = k_.view();
    args.v = v_.view();
    args.o = o_.view();
    if (problem_.options.initial_state) {
      args.initial_state = {initial_kv_.elements(), initial_z_.elements()};
    }
    if (problem_.options.final_state) {
      args.final_state = {final_kv_.elements(), final_z_.elements()};
    }
    args.workspace = workspace_->data();
    args.workspace_bytes = based_cuda().workspace_bytes(problem_);
    return args;
  }

  void enqueue(cuda_stream stream = nullptr) { based_cuda()(args(), stream); }
  void run() {
    enqueue();
    support::synchronize(device);
  }
  std::vector<float> output() const { return o_.read(); }
  std::vector<float> final_kv() const { return final_kv_.read(); }
  std::vector<float> final_z() const { return final_z_.read(); }
  void poison() {
    o_.buffer().poison();
    final_kv_.poison();
    final_z_.poison();
  }

  /// Compares some heads with the reference, and all guards and elements.
  void check() {
    SCOPED_TRACE(describe(problem_));
    for (const auto* buffer : {&final_kv_, &final_z_, &initial_kv_, &initial_z_}) {
      EXPECT_EQ(buffer->guard_damage(), std::nullopt);
    }
    for (auto* tensor : {&q_, &k_, &v_, &o_}) {
      EXPECT_EQ(tensor->buffer().guard_damage(), std::nullopt);
    }
    EXPECT_EQ(workspace_->guard_damage(), std::nullopt);
    const auto o = output();
    expect_written("o", o);
    if (problem_.options.final_state) {
      expect_written("final kv", final_kv());
      if (problem_.options.normalize) expect_written("final z", final_z());
    }
    const std::int64_t heads = problem_.shape.batch_heads();
    for (const std::int64_t head : std::set<std::int64_t>{0, heads / 2, heads - 1}) {
      check_head(head, o);
    }
  }

 private:
  std::int64_t tokens() const { return problem_.shape.tokens(); }
  std::int64_t kv_size() const {
    return problem_.shape.batch_heads() * compact_features * value_dim;
  }
  std::int64_t z_size() const { return problem_.shape.batch_heads() * compact_features; }
  template <int Dim>
  sequence_buffer<bf16> make() const {
    const auto& [batch, heads, seqlen] = problem_.shape;
    return {device, layout::bhnd, batch, heads, seqlen, Dim};
  }

  /// The state after some other tokens, as the reference has it.
  void make_initial_state() {
    constexpr std::int64_t before = 40;
    const std::int64_t heads = problem_.shape.batch_heads();
    const auto k = support::normal_values(heads * before * feature_dim, 4, 0.25f);
    const auto v = support::normal_values(heads * before * value_dim, 5);
    initial_kv_host_.resize(kv_size());
    initial_z_host_.resize(z_size());
    for (std::int64_t head = 0; head < heads; ++head) {
      std::vector<double> kv(compact_features * value_dim), z(compact_features);
      const reference::prefill_head inputs{before, k.data(), &k[head * before * feature_dim],
                                           &v[head * before * value_dim]};
      reference::final_state(inputs, {}, kv, z);
      std::copy(kv.begin(), kv.end(), initial_kv_host_.begin() + head * kv.size());
      std::copy(z.begin(), z.end(), initial_z_host_.begin() + head * z.size());
    }
    initial_kv_.write(initial_kv_host_);
    initial_z_.write(initial_z_host_);
  }

  static void expect_written(const char* what, const std::vector<float>& values) {
    const auto bad = std::find_if_not(values.begin(), values.end(),
                                      [](float value) { return std::isfinite(value); });
    EXPECT_EQ(bad, values.end()) << what << ", element " << bad - values.begin();
  }

  struct expected_head {
    std::vector<double> o, kv, z;
  };
  /// The reference's, worked out once.
  const expected_head& expected(std::int64_t head) {
    const auto [place, is_new] = expected_.try_emplace(head);
    expected_head& result = place->second;
    if (!is_new) return result;
    const std::int64_t seqlen = problem_.shape.seqlen;
    const reference::prefill_head inputs{seqlen,
                                         &q_host_[head * seqlen * feature_dim],
                                         &k_host_[head * seqlen * feature_dim],
                                         &v_host_[head * seqlen * value_dim],
                                         &initial_kv_host_[head * compact_features * value_dim],
                                         &initial_z_host_[head * compact_features]};
    std::vector<std::int64_t> rows(seqlen);
    std::iota(rows.begin(), rows.end(), 0);
    result.o.resize(seqlen * value_dim);
    reference::prefill_rows(inputs, problem_.options, rows, result.o);
    if (problem_.options.final_state) {
      result.kv.resize(compact_features * value_dim);
      result.z.resize(compact_features);
      reference::final_state(inputs, problem_.options, result.kv, result.z);
    }
    return result;
  }

  void check_head(std::int64_t head, const std::vector<float>& o) {
    const auto& [expected_o, kv, z] = expected(head);
    expect_close("o", o, head, expected_o, value_dim);
    if (!problem_.options.final_state) return;
    expect_close("final kv", final_kv(), head, kv, value_dim);
    if (problem_.options.normalize) expect_close("final z", final_z(), head, z, compact_features);
  }

  void expect_close(const char* what, const std::vector<float>& of_all_heads, std::int64_t head,
                    const std::vector<double>& expected, std::int64_t row) const {
    const auto actual = std::span(of_all_heads).subspan(head * expected.size(), expected.size());
    const auto result = support::compare(actual, expected, row);
    const double tolerance = tolerance_at(deviation_, problem_.shape.seqlen, problem_.variant);
    EXPECT_TRUE(result.within(tolerance))
        << what << " of head " << head << ": " << result.message() << ", tolerance " << tolerance;
  }

  prefill_problem problem_;
  float deviation_;  // of q and k
  std::vector<float> q_host_, k_host_, v_host_, initial_kv_host_, initial_z_host_;
  sequence_buffer<bf16> q_, k_, v_, o_;
  guarded_buffer<float> initial_kv_, initial_z_, final_kv_, final_z_;
  std::optional<guarded_buffer<std::byte>> workspace_;
  std::map<std::int64_t, expected_head> expected_;  // by head
};

class prefill_cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
    int major = 0;
    BASED_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    if (major != 9) GTEST_SKIP() << "compute capability " << major << ", needs 9.0";
  }
};

int multiprocessors() {
  int count = 0;
  BASED_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
  return count;
}

/// Whether a Hopper GPU should run the problem in the variant.
bool should_run(std::string_view variant, const prefill_problem& problem) {
  if (variant == "mma_sync") return true;
  const prefill_options& options = problem.options;
  if (options.final_state && std::abs(options.scale) < 0x1p-32f) return false;
  const bool has_parts = problem.shape.seqlen > 64;
  if (variant == "split" || variant == "recompute") return has_parts;
  if (variant == "balanced") return has_parts && problem.shape.batch_heads() >= multiprocessors();
  return true;
}

/// The dispatcher's choice, which has no name, and every variant that can run the problem: those
/// that should be able to, and no others.
std::vector<std::string_view> variants(prefill_problem problem) {
  std::vector<std::string_view> runnable = {""};
  EXPECT_EQ(based_cuda().variants.size(), 6u);
  for (const std::string_view variant : based_cuda().variants) {
    problem.variant = variant;
    const bool runs = !based_cuda().unsupported(problem);
    EXPECT_EQ(runs, should_run(variant, problem)) << describe(problem);
    if (runs) runnable.push_back(variant);
  }
  return runnable;
}

/// Runs and checks the problem in each variant that can run it.
void check_each_variant(const prefill_problem& problem, float deviation = small_deviation) {
  prefill_case test(problem, deviation);
  for (const auto variant : variants(problem)) {
    test.use(variant);
    test.run();
    test.check();
  }
}

/// Normalisation, initial and final state by the bits of `mask`.
prefill_options options_of(int mask) {
  return {.normalize = (mask & 1) != 0,
          .initial_state = (mask & 2) != 0,
          .final_state = (mask & 4) != 0};
}

TEST_F(prefill_cuda, few_and_many_heads_of_each_length) {
  for (const std::int64_t seqlen : {1, 15, 63, 64, 65, 127, 128, 129, 1000, 4097}) {
    for (const prefill_shape& shape :
         {prefill_shape{1, 1, seqlen}, {1, 132, seqlen}, {20, 15, seqlen}}) {
      check_each_variant({shape});
    }
  }
}

TEST_F(prefill_cuda, options_alone_and_together) {
  for (const std::int64_t seqlen : {1, 65, 1000}) {
    for (int mask = 1; mask < 8; ++mask) check_each_variant({{2, 3, seqlen}, options_of(mask)});
  }
}

/// So many heads that no CTA of the Hopper kernel has a multiprocessor to itself, as it has in the
/// other tests: another configuration of the kernel. Small enough for compute-sanitizer.
constexpr std::int64_t many_heads = 150;

TEST_F(prefill_cuda, more_heads_than_multiprocessors) {
  for (int mask = 0; mask < 8; ++mask) {
    check_each_variant({{1, many_heads, 200}, options_of(mask)});
  }
}

TEST_F(prefill_cuda, recomputes_in_any_number_of_segments) {
  std::set<int> counts;
  for (const std::int64_t heads : {66, 44, 33, 26}) {
    for (const std::int64_t seqlen : {65, 700, 2500}) {
      for (const int mask : {0, 7}) {
        const prefill_problem problem = {{1, heads, seqlen}, options_of(mask), "recompute"};
        prefill_case test(problem);
        test.run();
        test.check();
        counts.insert(
            std::stoi(based_cuda().variant(problem).substr(std::strlen("recompute in "))));
      }
    }
  }
  EXPECT_EQ(*counts.begin(), 2);
  EXPECT_EQ(*counts.rbegin(), sm90::max_recompute_segments);
}

/// Shapes that are balanced: one CTA a multiprocessor, and two.
std::vector<prefill_shape> balanced_shapes() {
  const int count = multiprocessors();
  return {{1, count + 3, 700}, {1, 2 * count, 65}, {1, 2 * count + 5, 333}, {3, count, 129}};
}

TEST_F(prefill_cuda, balances_any_number_of_heads) {
  for (const prefill_shape& shape : balanced_shapes()) {
    for (int mask = 0; mask < 8; ++mask) {
      prefill_case test({shape, options_of(mask), "balanced"});
      test.run();
      test.check();
    }
  }
}

TEST_F(prefill_cuda, a_balanced_head_has_the_bits_of_a_whole_one) {
  constexpr int states_mask = 6;
  for (const prefill_shape& shape : balanced_shapes()) {
    prefill_problem problem = {shape, options_of(states_mask), "whole"};
    prefill_case whole(problem);
    problem.variant = "balanced";
    prefill_case balanced(problem);
    whole.run();
    balanced.run();
    EXPECT_EQ(balanced.output(), whole.output()) << shape.heads;
    EXPECT_EQ(balanced.final_kv(), whole.final_kv()) << shape.heads;
  }
}

/// However few of the CTAs are resident at a time, none waits for one that cannot start.
TEST_F(prefill_cuda, balances_where_others_hold_most_of_the_device) {
  constexpr int free_multiprocessors = 2;
  cudaStream_t stream;
  BASED_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const prefill_shape& shape : balanced_shapes()) {
    constexpr int all_options = 7;
    prefill_case test({shape, options_of(all_options), "balanced"});
    test.run();  // loads the kernels, for which the other grid would have to end
    test.poison();
    support::synchronize(device);
    support::occupied_multiprocessors others(multiprocessors() - free_multiprocessors);
    test.enqueue(stream);
    BASED_CUDA(cudaStreamSynchronize(stream));
    EXPECT_TRUE(others.are_held()) << shape.heads;
    others.release();
    test.check();
  }
  BASED_CUDA(cudaStreamDestroy(stream));
}

TEST_F(prefill_cuda, any_scale) {
  for (const float scale : {0.3f, -0.3f, 1.0f, 1e-4f, 1e-12f, 0.0f}) {
    for (const bool states : {false, true}) {
      const prefill_problem problem = {
          {1, 2, 500},
          {.scale = scale, .normalize = scale > 0, .initial_state = states, .final_state = states}};
      check_each_variant(problem);
      prefill_case dispatched(problem);
      dispatched.run();
      dispatched.check();
    }
  }
}

TEST_F(prefill_cuda, large_inputs) {
  for (const prefill_shape& shape :
       {prefill_shape{1, 2, 64}, {1, 2, 300}, {1, 2, 2000}, {1, many_heads, 300}}) {
    for (const int mask : {0, 1, 7}) {
      check_each_variant({shape, options_of(mask)}, 1.0f);
    }
  }
}

/// Two heads of every tensor more than 2^31 elements apart: offsets have 64 bits.
TEST_F(prefill_cuda, heads_far_apart) {
  constexpr std::int64_t heads = 2, seqlen = 300, far = (std::int64_t{1} << 31) + 4096;
  constexpr std::size_t bytes = (far + seqlen * value_dim) * sizeof(bf16);
  std::size_t free_bytes = 0, all_bytes = 0;
  BASED_CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));
  if (free_bytes < 5 * bytes) GTEST_SKIP() << "needs " << 4 * bytes << " bytes";
  prefill_case near(prefill_problem{{1, heads, seqlen}});
  support::device_bytes q(device, bytes), k(device, bytes), v(device, bytes), o(device, bytes);
  const auto head_of = [](support::device_bytes& tensor, std::int64_t head) {
    return reinterpret_cast<bf16*>(tensor.data()) + head * far;
  };
  prefill_args<bf16> args = near.args();
  const auto spread = [&](auto& view, support::device_bytes& tensor, int dim) {
    for (std::int64_t head = 0; head < heads; ++head) {
      BASED_CUDA(cudaMemcpy(head_of(tensor, head), view.token(0, head, 0),
                            seqlen * dim * sizeof(bf16), cudaMemcpyDeviceToDevice));
    }
    view.data = head_of(tensor, 0);
    view.head_stride = far;
    view.batch_stride = heads * far;
  };
  spread(args.q, q, feature_dim);
  spread(args.k, k, feature_dim);
  spread(args.v, v, value_dim);
  spread(args.o, o, value_dim);  // poison
  for (const std::string_view variant : variants(args.problem)) {
    near.use(variant);
    near.run();
    const auto expected = near.output();
    const prefill_args<bf16> near_args = near.args();
    args.problem = near_args.problem;
    args.workspace = near_args.workspace;
    args.workspace_bytes = near_args.workspace_bytes;
    based_cuda()(args, nullptr);
    support::synchronize(device);
    std::vector<bf16> actual(heads * seqlen * value_dim);
    for (std::int64_t head = 0; head < heads; ++head) {
      constexpr std::int64_t elements = seqlen * value_dim;
      BASED_CUDA(cudaMemcpy(&actual[head * elements], head_of(o, head), elements * sizeof(bf16),
                            cudaMemcpyDeviceToHost));
    }
    std::vector<float> values(actual.size());
    std::transform(actual.begin(), actual.end(), values.begin(),
                   [](bf16 value) { return to_float(value); });
    EXPECT_EQ(values, expected) << variant;
    o.fill(0, bytes, std::byte{0xff});
  }
}

/// What is not finite in a token reaches its own chunk and what follows in its head, no other.
TEST_F(prefill_cuda, what_is_not_finite_stays_behind_its_chunk_and_in_its_head) {
  constexpr std::int64_t seqlen = 300, poisoned_token = 130;
  constexpr std::int64_t first_reached = poisoned_token / sm90::chunk_tokens * sm90::chunk_tokens;
  constexpr bf16 nan = {0x7fff}, infinity = {0x7f80}, minus_infinity = {0xff80};
  const auto check = [&](prefill_case& test, std::int64_t heads, bf16* of_first_head, bf16 poison,
                         bool reaches_all_that_follows) {
    bf16 before;
    BASED_CUDA(cudaMemcpy(&before, of_first_head, sizeof(bf16), cudaMemcpyDeviceToHost));
    BASED_CUDA(cudaMemcpy(of_first_head, &poison, sizeof(bf16), cudaMemcpyHostToDevice));
    test.poison();
    test.run();
    BASED_CUDA(cudaMemcpy(of_first_head, &before, sizeof(bf16), cudaMemcpyHostToDevice));
    const auto o = test.output();
    const auto row_of = [&](std::int64_t token) {  // of all heads
      return std::span(o).subspan(token * value_dim, value_dim);
    };
    const auto is_finite = [&](std::int64_t token) {
      const auto row = row_of(token);
      return std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); });
    };
    EXPECT_FALSE(is_finite(poisoned_token));
    for (std::int64_t token = 0; token < heads * seqlen; ++token) {
      if (token < first_reached || token >= seqlen) {
        ASSERT_TRUE(is_finite(token)) << "token " << token;
      } else if (token >= poisoned_token && reaches_all_that_follows) {
        const auto row = row_of(token);
        ASSERT_TRUE(std::all_of(row.begin(), row.end(), [](float x) { return std::isnan(x); }))
            << "token " << token;
      }
    }
    if (!test.args().problem.options.final_state) return;
    const auto kv = test.final_kv();
    constexpr std::int64_t state = compact_features * value_dim;  // of a head
    EXPECT_TRUE(
        std::all_of(kv.begin() + state, kv.end(), [](float x) { return std::isfinite(x); }));
  };
  for (const std::int64_t heads : {std::int64_t{2}, many_heads}) {
    for (const int mask : {0, 7}) {
      prefill_case test(prefill_problem{{1, heads, seqlen}, options_of(mask)});
      const prefill_args<bf16> args = test.args();
      for (const std::string_view variant : variants(args.problem)) {
        test.use(variant);
        for (const auto& [name, tensor] : {std::pair{"q", args.q}, {"k", args.k}, {"v", args.v}}) {
          for (const bf16 poison : {nan, infinity, minus_infinity}) {
            SCOPED_TRACE(std::to_string(heads) + " heads, " + std::string(variant) + ", options " +
                         std::to_string(mask) + ", " + name + " " +
                         std::to_string(to_float(poison)));
            const bool is_key = tensor.data == args.k.data;
            check(test, heads, const_cast<bf16*>(tensor.token(0, 0, poisoned_token)), poison,
                  is_key && poison.bits == nan.bits);
          }
        }
      }
    }
  }
}

}  // namespace

// Without a device: what is refused before any launch.
namespace {

TEST(prefill_cuda_arguments, refuses_what_it_cannot_run) {
  const auto& entry = based_cuda();
  EXPECT_EQ(entry.unsupported({{16, 16, 8192}}), std::nullopt);
  EXPECT_EQ(entry.unsupported({{1, 1, 1}}), std::nullopt);
  EXPECT_NE(entry.unsupported({{1, 1, std::numeric_limits<std::int32_t>::max()}}), std::nullopt);
  EXPECT_NE(entry.unsupported({{std::int64_t{1} << 20, 1 << 12, 1}}), std::nullopt);
  for (const char* variant : {"split", "recompute"}) {
    EXPECT_NE(entry.unsupported({{1, 1, 64}, {}, variant}), std::nullopt);
    EXPECT_EQ(entry.unsupported({{1, 1, 65}, {}, variant}), std::nullopt);
  }
  EXPECT_NE(entry.unsupported({{1, 16, 8192}, {}, "balanced"}), std::nullopt);
  EXPECT_NE(entry.unsupported({{20, 16, 64}, {}, "balanced"}), std::nullopt);
  EXPECT_EQ(entry.unsupported({{20, 16, 65}, {}, "balanced"}), std::nullopt);
  for (const char* variant : {"whole", "quadratic"}) {
    const prefill_options tiny_scale = {.scale = 1e-12f, .final_state = true};
    EXPECT_NE(entry.unsupported({{1, 1, 64}, tiny_scale, variant}), std::nullopt);
  }
  constexpr std::int64_t longest = sm90::max_quadratic_chunks * std::int64_t{sm90::chunk_tokens};
  EXPECT_EQ(entry.unsupported({{1, 1, longest}, {}, "quadratic"}), std::nullopt);
  EXPECT_NE(entry.unsupported({{1, 1, longest + 1}, {}, "quadratic"}), std::nullopt);
}

TEST(prefill_cuda_arguments, asks_for_workspace_only_to_split_and_to_balance) {
  const auto& entry = based_cuda();
  EXPECT_EQ(entry.workspace_bytes({{16, 16, 8192}}), 0u);
  EXPECT_GT(entry.workspace_bytes({{1, 16, 8192}}), 0u);
  EXPECT_GT(entry.workspace_bytes({{20, 16, 8192}}), 0u);
}

/// The problem of a row's name, such as prefill/based/cuda/B:1/H:16/N:128/options:normalize.
prefill_problem problem_of(const std::string& row) {
  const auto value = [&](const std::string& key) {
    const std::size_t found = row.find("/" + key + ":");
    if (found == std::string::npos) return std::string();
    const std::size_t begin = found + key.size() + 2;
    return row.substr(begin, row.find('/', begin) - begin);
  };
  const std::string options = value("options");
  const auto has = [&](const char* option) { return options.find(option) != std::string::npos; };
  return {{std::stoll(value("B")), std::stoll(value("H")), std::stoll(value("N"))},
          {.normalize = has("normalize"),
           .initial_state = has("initial_state"),
           .final_state = has("final_state")}};
}

/// Without a device the dispatcher chooses as for an H200, the device whose counters were read.
TEST(prefill_cuda_arguments, models_the_flops_that_the_hardware_counted) {
  if (!support::cuda_unavailable()) {
    cudaDeviceProp properties;
    BASED_CUDA(cudaGetDeviceProperties(&properties, 0));
    if (std::string(properties.name) != "NVIDIA H200") GTEST_SKIP() << properties.name;
  }
  std::ifstream file(support::source_folder() / "plots/data/h200_audit.json");
  const auto audit = nlohmann::json::parse(file);
  std::map<std::string, int> checked;
  for (const auto& row : audit.at("rows")) {
    if (row.at("units") != "tensor cores") continue;
    const std::string name = row.at("row");
    for (const auto& entry : registry<based_prefill>()) {
      if (name.rfind("prefill/" + std::string(entry.name) + "/cuda/", 0) != 0) continue;
      if (entry.device() != device) continue;
      EXPECT_NEAR(entry.executed_flops(problem_of(name)),
                  1e9 * row.at("executed_GFLOP").get<double>(), 1)
          << name;
      ++checked[std::string(entry.name)];
    }
  }
  EXPECT_GE(checked["based"], 5);
  EXPECT_GE(checked["based_sm80"], 2);
}

TEST(prefill_cuda_arguments, throws_before_touching_a_device) {
  const auto& run = based_cuda();
  prefill_args<bf16> args;
  args.problem.shape = {1, 1, 64};
  EXPECT_THROW(run(args, nullptr), invalid_argument);  // null tensors
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  for (const prefill_shape& shape : {prefill_shape{1, 1, -1},
                                     {1, 1, 0},
                                     {1, 0, 64},
                                     {0, 16, 8192},
                                     {-1, 1, 64},
                                     {huge, 4, 64},
                                     {1, huge, 64},
                                     {1, 1, huge}}) {
    std::vector<std::string_view> variants = {""};
    variants.insert(variants.end(), run.variants.begin(), run.variants.end());
    for (const std::string_view variant : variants) {
      args.problem = {shape, {}, variant};
      EXPECT_THROW(run(args, nullptr), invalid_argument) << describe(args.problem);
      EXPECT_THROW(run.workspace_bytes(args.problem), invalid_argument) << describe(args.problem);
    }
  }
}

}  // namespace
}  // namespace based
