// The CPU form of chunked_ssd.h: a task is one head, whose state goes from chunk to chunk.
//
//   y_l = exp(cs_l) S_before c_l + sum_{m <= l} exp(cs_l - cs_m) dt'_m (c_l . b_m) x_m
//   S   = exp(cs_e) S_before + sum_l exp(cs_e - cs_l) dt'_l x_l b_l^T
//
// The sums cs are float64: their differences are exact to fp32 however strong the decay is. The
// weights of a chunk are kept transposed, [m][l], and so is the state, [S][P]: all products are
// then vertical.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numbers>

#include "baselines/state_space/chunked_ssd.h"
#include "baselines/state_space/step_cpu.h"
#include "kernels/core/cpu_simd.h"

namespace based::chunked_ssd {
namespace {

using cpu::lanes;
using cpu::vec;

constexpr int chunk = 64;  // tokens
static_assert(chunk % lanes == 0);
constexpr auto log2e = std::numbers::log2e_v<float>;
constexpr int largest_head_dim = 128;

/// What a task keeps: 256 KB at P = 128, S = 256.
template <int StateDim>
struct scratch {
  alignas(64) float state[StateDim][largest_head_dim];  // rows of head_dim
  alignas(64) float c[StateDim][chunk];                 // transposed
  alignas(64) float weights[chunk][chunk];              // [m][l]
  alignas(64) float x[chunk][largest_head_dim];         // weighted for the state
  alignas(64) float y[chunk][largest_head_dim];
  float steps[chunk];
  double sums[chunk];  // of dt' a log2(e), the token's own included
};

/// The sum of all `count` tokens; later ones are as the last.
template <int StateDim>
double sum_steps(const ssd_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t first,
                 std::int64_t count, scratch<StateDim>& s) {
  const double rate = args.a[static_cast<std::size_t>(h)] * std::numbers::log2e;
  double sum = 0;
  for (std::int64_t l = 0; l < chunk; ++l) {
    s.steps[l] = l < count ? ssd_step(args, b, h, first + l) : 0;
    if (l < count) sum += rate * s.steps[l];
    s.sums[l] = sum;
  }
  return sum;
}

/// The chunk's scores c_l . b_m become weights: with their decay and step, none before m.
template <int StateDim>
void weigh(std::int64_t count, scratch<StateDim>& s) {
  for (std::int64_t m = 0; m < count; ++m) {
    alignas(64) float exponents[chunk];
    for (int l = 0; l < chunk; ++l) exponents[l] = static_cast<float>(s.sums[l] - s.sums[m]);
    std::fill_n(s.weights[m], m, 0.0f);
    for (auto t = static_cast<int>(m / lanes * lanes); t < chunk; t += lanes) {
      // Before m the sums are larger: the exponential is then of no use, and not used.
      const vec decay = cpu::exp2_nonpositive(cpu::load(exponents + t));
      const vec weight = cpu::load(&s.weights[m][t]) * decay * s.steps[m];
      for (int l = 0; l < lanes; ++l) s.weights[m][t + l] = t + l < m ? 0.0f : weight[l];
    }
  }
}

/// z / (1 + exp(-z)).
vec silu(vec z) {
  const vec small = cpu::exp2_nonpositive((z < 0.0f ? z : -z) * log2e);
  return z * (z < 0.0f ? small : vec{} + 1.0f) / (1.0f + small);
}

/// Tokens [first, first + count) of one head.
template <int StateDim>
void add_chunk(const ssd_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t first,
               std::int64_t count, scratch<StateDim>& s) {
  const ssd_problem& problem = args.problem;
  const int dim = problem.head_dim;
  const std::int64_t group = problem.group_of(h);
  const float *x = args.x.token(b, h, first), *in = args.b.token(b, group, first),
              *out = args.c.token(b, group, first);
  const double end = sum_steps(args, b, h, first, count, s);

  cpu::load_transposed(out, args.c.token_stride, count, 1.0f, s.c);
  cpu::multiply(count, chunk, StateDim, {in, args.b.token_stride, 1}, s.c[0], chunk, s.weights[0],
                chunk, false);
  weigh(count, s);
  cpu::multiply(count, dim, StateDim, {out, args.c.token_stride, 1}, s.state[0], largest_head_dim,
                s.y[0], largest_head_dim, false);
  for (std::int64_t l = 0; l < count; ++l) {
    const auto decay = static_cast<float>(std::exp2(s.sums[l]));
    for (int p = 0; p < dim; ++p) s.y[l][p] *= decay;
  }
  cpu::multiply(count, dim, count, {s.weights[0], 1, chunk}, x, args.x.token_stride, s.y[0],
                largest_head_dim, true);

  const float skip = problem.skip ? args.d[static_cast<std::size_t>(h)] : 0.0f;
  for (std::int64_t l = 0; l < count; ++l) {
    const auto weight = static_cast<float>(std::exp2(end - s.sums[l]) * s.steps[l]);
    for (int p = 0; p < dim; p += lanes) {
      const vec of_x = cpu::load(x + l * args.x.token_stride + p);
      cpu::store(&s.x[l][p], weight * of_x);
      vec y = cpu::load(&s.y[l][p]);
      if (problem.skip) y += skip * of_x;
      if (problem.gate) y *= silu(cpu::load(args.z.token(b, h, first + l) + p));
      cpu::store(args.y.token(b, h, first + l) + p, y);
    }
  }
  const auto decay = static_cast<float>(std::exp2(end));
  for (auto& row : s.state) {
    for (int p = 0; p < dim; ++p) row[p] *= decay;
  }
  cpu::multiply(StateDim, dim, count, {in, 1, args.b.token_stride}, s.x[0], largest_head_dim,
                s.state[0], largest_head_dim, true);
}

template <int StateDim>
void run_heads(const ssd_args<float>& args) {
  const ssd_problem& problem = args.problem;
  const int dim = problem.head_dim;
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.heads; ++h) {
      const auto s = std::make_unique<scratch<StateDim>>();
      const std::int64_t of_state = (b * problem.heads + h) * dim * StateDim;
      const auto for_each_element = [&](auto f) {
        for (int p = 0; p < dim; ++p) {
          for (int k = 0; k < StateDim; ++k) {
            f(s->state[k][p], static_cast<std::size_t>(of_state + p * StateDim + k));
          }
        }
      };
      if (problem.initial_state) {
        for_each_element([&](float& held, std::size_t i) { held = args.initial_state[i]; });
      }
      for (std::int64_t n = 0; n < problem.seqlen; n += chunk) {
        add_chunk(args, b, h, n, std::min<std::int64_t>(chunk, problem.seqlen - n), *s);
      }
      if (problem.final_state) {
        for_each_element([&](float& held, std::size_t i) { args.final_state[i] = held; });
      }
    }
  }
}

void run(const ssd_args<float>& args) {
  validate(args, 0);
  if (args.problem.state_dim == 64) run_heads<64>(args);
  if (args.problem.state_dim == 128) run_heads<128>(args);
  if (args.problem.state_dim == 256) run_heads<256>(args);
}

double executed_flops(const ssd_problem& problem) {
  constexpr double a_weight = 20;   // an exponential and two products
  constexpr double an_output = 24;  // decays and the options
  const auto tokens = static_cast<double>(problem.batch_heads() * problem.seqlen);
  const auto pairs = static_cast<double>(std::min<std::int64_t>(chunk, problem.seqlen));
  return tokens * (4.0 * problem.head_dim * problem.state_dim +
                   chunk * (2.0 * problem.state_dim + a_weight) +
                   problem.head_dim * (2 * pairs + an_output));
}

const registration<ssd> registered{{.name = "chunked_ssd",
                                    .summary = "chunks of 64 tokens, a head's state between them",
                                    .role = implementation_role::baseline,
                                    .tolerance = cpu::tolerance,
                                    .executed_flops = executed_flops,
                                    .run = run}};

}  // namespace
}  // namespace based::chunked_ssd
