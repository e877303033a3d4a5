#include "tests/baselines/prefill_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <variant>

#include "baselines/reference/prefill.h"
#include "kernels/core/error.h"
#include "tests/baselines/sampling.h"
#include "tests/support/compare.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

using support::guarded_buffer;
using support::sequence_buffer;

constexpr std::int64_t prefix_tokens = 40;  // whose state is a case's initial state
constexpr std::int64_t kv_size = std::int64_t{compact_features} * value_dim;

struct prefill_inputs {
  std::vector<float> q, k, v;                // [B, H, N, ..]
  std::vector<float> initial_kv, initial_z;  // [B, H, 153, 64], [B, H, 153]

  explicit prefill_inputs(const prefill_case& test)
      : q(support::normal_values(test.shape.tokens() * feature_dim, 1, test.deviation)),
        k(support::normal_values(test.shape.tokens() * feature_dim, 2, test.deviation)),
        v(support::normal_values(test.shape.tokens() * value_dim, 3)) {
    const auto prefix_k = support::normal_values(prefix_tokens * feature_dim, 4, test.deviation);
    const auto prefix_v = support::normal_values(prefix_tokens * value_dim, 5);
    std::vector<double> kv(kv_size);
    std::vector<double> z(compact_features);
    reference::final_state({prefix_tokens, nullptr, prefix_k.data(), prefix_v.data()}, {}, kv, z);
    for (std::int64_t head = 0; head < test.shape.batch_heads(); ++head) {
      initial_kv.insert(initial_kv.end(), kv.begin(), kv.end());
      initial_z.insert(initial_z.end(), z.begin(), z.end());
    }
  }

  reference::prefill_head head(std::int64_t index, std::int64_t seqlen) const {
    return {seqlen,
            q.data() + index * seqlen * feature_dim,
            k.data() + index * seqlen * feature_dim,
            v.data() + index * seqlen * value_dim,
            initial_kv.data() + index * kv_size,
            initial_z.data() + index * compact_features};
  }
};

/// The device's side of one case.
template <class T>
class prefill_run {
 public:
  prefill_run(const implementation<based_prefill>& candidate, const prefill_case& test,
              const prefill_inputs& inputs)
      : candidate_(candidate),
        test_(test),
        q_(tensor(feature_dim)),
        k_(tensor(feature_dim)),
        v_(tensor(value_dim)),
        o_(tensor(value_dim)),
        initial_kv_(candidate.device(), test.shape.batch_heads() * kv_size),
        initial_z_(candidate.device(), test.shape.batch_heads() * compact_features),
        final_kv_(candidate.device(), test.shape.batch_heads() * kv_size),
        final_z_(candidate.device(), test.shape.batch_heads() * compact_features) {
    q_.write(inputs.q);
    k_.write(inputs.k);
    v_.write(inputs.v);
    initial_kv_.write(inputs.initial_kv);
    initial_z_.write(inputs.initial_z);
  }

  /// Runs tokens [first, first + count) with the given options.
  void run(std::int64_t first, std::int64_t count, const prefill_options& options) {
    prefill_args<T> args = arguments(first, count, options);
    guarded_buffer<std::byte> workspace(candidate_.device(),
                                        static_cast<std::int64_t>(args.workspace_bytes));
    args.workspace = workspace.data();
    call(args);
    note_damage("workspace", workspace);
  }

  /// Whether the whole case is refused once `spoil` has changed its arguments.
  bool refuses(void (*spoil)(prefill_args<T>&)) {
    prefill_args<T> args = arguments(0, test_.shape.seqlen, test_.options);
    guarded_buffer<std::byte> workspace(candidate_.device(),
                                        static_cast<std::int64_t>(args.workspace_bytes));
    args.workspace = workspace.data();
    spoil(args);
    try {
      call(args);
    } catch (const invalid_argument&) {
      return true;
    }
    return false;
  }

  void continue_from_final_state() {
    initial_kv_.write(final_kv_.read());
    initial_z_.write(final_z_.read());
    final_kv_.poison();
    final_z_.poison();
  }

  std::vector<float> output() const { return o_.read(); }
  std::vector<float> final_kv() const { return final_kv_.read(); }
  std::vector<float> final_z() const { return final_z_.read(); }

  std::vector<std::string> damage() {
    note_damage("q", q_.buffer());
    note_damage("k", k_.buffer());
    note_damage("v", v_.buffer());
    note_damage("o", o_.buffer());
    note_damage("initial_state.kv", initial_kv_);
    note_damage("initial_state.z", initial_z_);
    note_damage("final_state.kv", final_kv_);
    note_damage("final_state.z", final_z_);
    return damage_;
  }

 private:
  /// All but the workspace.
  prefill_args<T> arguments(std::int64_t first, std::int64_t count,
                            const prefill_options& options) {
    prefill_args<T> args;
    args.problem = {{test_.shape.batch, test_.shape.heads, count}, options, test_.variant};
    args.q = from_token(q_, first);
    args.k = from_token(k_, first);
    args.v = from_token(v_, first);
    args.o = from_token(o_, first);
    args.initial_state = {initial_kv_.elements(), initial_z_.elements()};
    args.final_state = {final_kv_.elements(), final_z_.elements()};
    args.workspace_bytes = candidate_.workspace_bytes(args.problem);
    return args;
  }

  void call(const prefill_args<T>& args) {
    if constexpr (std::is_same_v<T, float>) {
      candidate_(args);
    } else {
      candidate_(args, nullptr);
    }
    support::synchronize(candidate_.device());
  }

  sequence_buffer<T> tensor(int dim) const {
    const auto& [batch, heads, seqlen] = test_.shape;
    return {candidate_.device(), test_.order, batch, heads, seqlen, dim};
  }

  static sequence_view<T> from_token(sequence_buffer<T>& tensor, std::int64_t first) {
    sequence_view<T> view = tensor.view();
    view.data += first * view.token_stride;
    return view;
  }

  template <class U>
  void note_damage(const char* name, const guarded_buffer<U>& buffer) {
    if (const auto damage = buffer.guard_damage()) {
      damage_.push_back(fmt::format("{}: {}", name, *damage));
    }
  }

  const implementation<based_prefill>& candidate_;
  const prefill_case& test_;
  sequence_buffer<T> q_, k_, v_, o_;
  guarded_buffer<float> initial_kv_, initial_z_, final_kv_, final_z_;
  std::vector<std::string> damage_;
};

/// What is wrong with the outputs of tokens [first, N) and the final state of all of them.
template <class T>
std::vector<std::string> judge(const implementation<based_prefill>& candidate,
                               const prefill_case& test, const prefill_inputs& inputs,
                               prefill_run<T>& run) {
  std::vector<std::string> wrong = run.damage();
  const auto judge_one = [&](const std::string& name, std::span<const float> actual,
                             std::span<const double> expected, std::int64_t row_size) {
    const support::comparison result = support::compare(actual, expected, row_size);
    if (!result.within(candidate.tolerance)) {
      wrong.push_back(
          fmt::format("{}: {}, tolerance {:.3g}", name, result.message(), candidate.tolerance));
    }
  };

  const std::int64_t seqlen = test.shape.seqlen;
  const std::vector<float> o = run.output();
  if (const auto bad = first_not_finite(o); bad >= 0) {
    wrong.push_back(fmt::format("o: element {} is not finite", bad));
  }
  const std::vector<std::int64_t> rows = sampled_rows(seqlen);
  std::vector<double> expected_o(rows.size() * value_dim);
  for (std::int64_t head = 0; head < test.shape.batch_heads(); ++head) {
    reference::prefill_rows(inputs.head(head, seqlen), test.options, rows, expected_o);
    judge_one(fmt::format("o of head {}, sampled rows", head),
              gather_rows(std::span(o).subspan(head * seqlen * value_dim, seqlen * value_dim), rows,
                          value_dim),
              expected_o, value_dim);
  }

  if (test.options.final_state) {
    const std::vector<float> kv = run.final_kv();
    const std::vector<float> z = run.final_z();
    std::vector<double> expected_kv(kv_size);
    std::vector<double> expected_z(compact_features);
    for (std::int64_t head = 0; head < test.shape.batch_heads(); ++head) {
      reference::final_state(inputs.head(head, seqlen), test.options, expected_kv, expected_z);
      judge_one(fmt::format("final_state.kv of head {}", head),
                std::span(kv).subspan(head * kv_size, kv_size), expected_kv, value_dim);
      if (test.options.normalize) {
        judge_one(fmt::format("final_state.z of head {}", head),
                  std::span(z).subspan(head * compact_features, compact_features), expected_z,
                  compact_features);
      }
    }
  }
  return wrong;
}

template <class T>
std::vector<std::string> verify_pieces(const implementation<based_prefill>& candidate,
                                       const prefill_case& test, std::int64_t first_piece) {
  const prefill_inputs inputs(test);
  prefill_run<T> run(candidate, test, inputs);
  if (first_piece > 0) {
    prefill_options first = test.options;
    first.final_state = true;
    run.run(0, first_piece, first);
    run.continue_from_final_state();
  }
  prefill_options last = test.options;
  last.initial_state |= first_piece > 0;
  run.run(first_piece, test.shape.seqlen - first_piece, last);
  return judge(candidate, test, inputs, run);
}

template <class T>
std::vector<float> outputs(const implementation<based_prefill>& candidate,
                           const prefill_case& test) {
  prefill_run<T> run(candidate, test, prefill_inputs(test));
  run.run(0, test.shape.seqlen, test.options);
  return run.output();
}

template <class T>
bool refuses(const implementation<based_prefill>& candidate, const prefill_case& test) {
  prefill_run<T> run(candidate, test, prefill_inputs(test));
  const bool needs_workspace = candidate.workspace_bytes(test.problem()) > 0;
  return run.refuses([](prefill_args<T>& args) { args.q.data = nullptr; }) &&
         run.refuses([](prefill_args<T>& args) { args.problem.shape.seqlen = 0; }) &&
         run.refuses([](prefill_args<T>& args) { args.problem.shape.heads = 0; }) &&
         run.refuses([](prefill_args<T>& args) { args.problem.shape.batch = -1; }) &&
         (!needs_workspace || run.refuses([](prefill_args<T>& args) { --args.workspace_bytes; }));
}

}  // namespace

std::vector<std::string> verify(const implementation<based_prefill>& candidate,
                                const prefill_case& test) {
  return verify_in_two_pieces(candidate, test, 0);
}

std::vector<std::string> verify_in_two_pieces(const implementation<based_prefill>& candidate,
                                              const prefill_case& test, std::int64_t first_piece) {
  return candidate.device() == device_kind::cpu ? verify_pieces<float>(candidate, test, first_piece)
                                                : verify_pieces<bf16>(candidate, test, first_piece);
}

bool repeats_itself(const implementation<based_prefill>& candidate, const prefill_case& test) {
  const auto once = [&] {
    return candidate.device() == device_kind::cpu ? outputs<float>(candidate, test)
                                                  : outputs<bf16>(candidate, test);
  };
  const std::vector<float> first = once();
  const std::vector<float> second = once();
  return std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
}

bool refuses_bad_arguments(const implementation<based_prefill>& candidate,
                           const prefill_case& test) {
  return candidate.device() == device_kind::cpu ? refuses<float>(candidate, test)
                                                : refuses<bf16>(candidate, test);
}

}  // namespace based
