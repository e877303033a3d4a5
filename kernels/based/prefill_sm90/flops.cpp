// What the variants of the Hopper prefill execute on the tensor cores.
#include "kernels/based/prefill_sm90/launch.h"
#include "kernels/based/quad_map.h"

namespace based::sm90 {
namespace {

/// Floating-point operations of a chunk, padding included.
struct chunk_flops {
  double within;   ///< Q K^T, W V; normalised, the sums of W's rows
  double earlier;  ///< phi(Q) S; normalised, [Q 1/4] moments and the sums of its rows
  double state;    ///< phi(K)^T V
  double moments;  ///< normalised: K^T [K 1]
};

constexpr chunk_flops flops_of_chunk(bool normalize) {
  constexpr int sums = 8;  // columns that hold the sums of rows
  const auto product = [](int m, int n, int k) { return 2.0 * m * n * k; };
  chunk_flops flops = {.within = product(chunk_tokens, chunk_tokens, feature_dim) +
                                 product(chunk_tokens, value_dim, chunk_tokens),
                       .earlier = product(chunk_tokens, value_dim, quad::slots),
                       .state = product(quad::slots, value_dim, chunk_tokens),
                       .moments = 0};
  if (normalize) {
    flops.within += product(chunk_tokens, sums, chunk_tokens);
    flops.earlier += product(chunk_tokens, feature_dim, 2 * feature_dim) +
                     product(chunk_tokens, sums, feature_dim);
    flops.moments = product(feature_dim, feature_dim + sums, chunk_tokens);
  }
  return flops;
}

/// The work of a prefill that walks through all chunks of each head with a state. Some chunks of a
/// head, `added_twice` in number, are added to a state once more, and `never_added` to none.
double recurrent_flops(const prefill_problem& problem, std::int64_t added_twice,
                       std::int64_t never_added) {
  const chunk_flops chunk = flops_of_chunk(problem.options.normalize);
  const auto chunks = static_cast<double>(chunks_of(problem.shape));
  const auto twice = static_cast<double>(added_twice), never = static_cast<double>(never_added);
  return static_cast<double>(problem.shape.batch_heads()) *
         (chunks * (chunk.within + chunk.earlier) + (chunks + twice - never) * chunk.state +
          (chunks + twice) * chunk.moments);
}

}  // namespace

double whole_flops(const prefill_problem& problem) {
  return recurrent_flops(problem, 0, has_state(problem.options) ? 0 : 1);
}

double split_flops(const prefill_problem& problem, int segments) {
  return recurrent_flops(problem, chunks_of(problem.shape) * (segments - 1) / segments, 0);
}

double recompute_flops(const prefill_problem& problem, int segments) {
  const int chunks = static_cast<int>(chunks_of(problem.shape));
  int passed = 0;
  for (int i = 0; i < segments; ++i) passed += recompute_begin(chunks, segments, i);
  return recurrent_flops(problem, passed, has_state(problem.options) ? 0 : segments);
}

double balanced_flops(const prefill_problem& problem) {
  return whole_flops(problem);
}

double quadratic_flops(const prefill_problem& problem) {
  const prefill_options& options = problem.options;
  const chunk_flops chunk = flops_of_chunk(options.normalize);
  const auto chunks = static_cast<double>(chunks_of(problem.shape));
  double flops = chunks * (chunks + 1) / 2 * chunk.within;
  if (options.initial_state) flops += chunks * chunk.earlier;
  if (options.final_state) flops += chunks * (chunk.state + chunk.moments);
  return static_cast<double>(problem.shape.batch_heads()) * flops;
}

}  // namespace based::sm90
