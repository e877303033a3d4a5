// The selective scan and its step on the CPU, in fp32: a register holds one state of as many
// channels as it has lanes, and takes the tokens in order.
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
//
// u, delta, z and y have their tokens side by side; a block of them is turned so that its channels
// are, scanned, and turned back.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"
#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/selective_scan_decode.h"

namespace based {
namespace {

using cpu::lanes;
using cpu::vec;

constexpr int block = 64;  // tokens
constexpr auto log2e = std::numbers::log2e_v<float>;

vec magnitude(vec x) {
  return x < 0.0f ? -x : x;
}
/// exp(-|x|).
vec exp_of_minus(vec x) {
  return cpu::exp2_nonpositive(-log2e * magnitude(x));
}

/// log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|): the logarithm is e times a polynomial
/// with a relative error of 2e-7, for in 1 + e a small e would lose its digits.
vec softplus(vec x) {
  constexpr float coefficients[] = {-8.539209726e-03f, 4.408963552e-02f,  -1.076817176e-01f,
                                    1.774524170e-01f,  -2.449546289e-01f, 3.327547978e-01f,
                                    -4.999740540e-01f, 9.999998057e-01f};
  const vec e = exp_of_minus(x);
  vec sum = {};
  for (const float coefficient : coefficients) sum = sum * e + coefficient;
  return sum * e + (x > 0.0f ? x : vec{});
}

vec silu(vec z) {
  const vec e = exp_of_minus(z);
  return z / (1.0f + e) * (z < 0.0f ? e : vec{} + 1.0f);
}

/// Channels [first, first + count) of one sequence, at most a register of them.
class channel_block {
 public:
  channel_block(const scan_channels& p, const scan_operands<float>& given, std::int64_t batch,
                std::int64_t first, std::int64_t count)
      : p_(p), given_(given), batch_(batch), first_(first), count_(count) {
    shared_row_ = first / p.group_channels() * p.d_state;
    bias_ = of_channels(p.bias ? given.bias.data() : nullptr, 1, 0);
    skip_ = of_channels(p.skip ? given.d.data() : nullptr, 1, 0);
    for (std::int64_t n = 0; n < p.d_state; ++n) {
      a_[n] = log2e * of_channels(given.a.data(), p.d_state, n);
    }
  }

  /// x [d_state] of the first channel, the others' following.
  void load_state(const float* from) {
    for (std::int64_t n = 0; n < p_.d_state; ++n) {
      x_[n] = vec{};
      for (std::int64_t c = 0; from != nullptr && c < count_; ++c) {
        x_[n][c] = from[c * p_.d_state + n];
      }
    }
  }
  void store_state(float* to) const {
    for (std::int64_t n = 0; n < p_.d_state; ++n) {
      for (std::int64_t c = 0; c < count_; ++c) to[c * p_.d_state + n] = x_[n][c];
    }
  }

  /// `tokens`: at most `block`.
  void scan(std::int64_t token, std::int64_t tokens) {
    vec u[block], dt[block], y[block];
    turn_in(given_.u, token, tokens, u);
    turn_in(given_.delta, token, tokens, dt);
    for (std::int64_t t = 0; t < tokens; ++t) {
      dt[t] += bias_;
      if (p_.softplus) dt[t] = softplus(dt[t]);
      y[t] = skip_ * u[t];
      u[t] *= dt[t];
    }
    for (std::int64_t n = 0; n < p_.d_state; ++n) {
      const float* b = given_.b.token(batch_, shared_row_ + n, token);
      const float* c = given_.c.token(batch_, shared_row_ + n, token);
      vec x = x_[n];
      for (std::int64_t t = 0; t < tokens; ++t) {
        x = cpu::exp2_nonpositive(dt[t] * a_[n]) * x + u[t] * b[t];
        y[t] += c[t] * x;
      }
      x_[n] = x;
    }
    if (p_.gate) {
      turn_in(given_.z, token, tokens, u);
      for (std::int64_t t = 0; t < tokens; ++t) y[t] *= silu(u[t]);
    }
    for (std::int64_t c = 0; c < count_; ++c) {
      float* to = given_.y.token(batch_, first_ + c, token);
      for (std::int64_t t = 0; t < tokens; ++t) to[t] = y[t][c];
    }
  }

 private:
  vec of_channels(const float* from, std::int64_t stride, std::int64_t at) const {
    vec values = {};
    for (std::int64_t c = 0; from != nullptr && c < count_; ++c) {
      values[c] = from[(first_ + c) * stride + at];
    }
    return values;
  }
  void turn_in(const sequence_view<const float>& from, std::int64_t token, std::int64_t tokens,
               vec* to) const {
    std::fill_n(to, tokens, vec{});
    for (std::int64_t c = 0; c < count_; ++c) {
      const float* row = from.token(batch_, first_ + c, token);
      for (std::int64_t t = 0; t < tokens; ++t) to[t][c] = row[t];
    }
  }

  const scan_channels& p_;
  const scan_operands<float>& given_;
  std::int64_t batch_, first_, count_, shared_row_;
  vec bias_, skip_;
  vec a_[largest_scan_state];  // A log2(e)
  vec x_[largest_scan_state];
};

/// Calls f(channels, row of the first one in [B, d_inner]) for blocks of channels of one group.
template <class Function>
void for_each_block(const scan_channels& p, const scan_operands<float>& given, Function f) {
  const std::int64_t blocks = (p.group_channels() + lanes - 1) / lanes;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t g = 0; g < p.groups; ++g) {
      for (std::int64_t i = 0; i < blocks; ++i) {
        const std::int64_t first = g * p.group_channels() + i * lanes;
        const std::int64_t end = (g + 1) * p.group_channels();
        channel_block channels(p, given, b, first, std::min<std::int64_t>(lanes, end - first));
        f(channels, b * p.d_inner + first);
      }
    }
  }
}

void run(const selective_scan_args<float>& args) {
  validate(args, 0);
  const selective_scan_problem& p = args.problem;
  for_each_block(p, args.operands, [&](channel_block& channels, std::int64_t row) {
    channels.load_state(p.initial_state ? args.initial_state.data() + row * p.d_state : nullptr);
    for (std::int64_t token = 0; token < p.seqlen; token += block) {
      channels.scan(token, std::min<std::int64_t>(block, p.seqlen - token));
    }
    if (p.final_state) channels.store_state(args.final_state.data() + row * p.d_state);
  });
}

void run_step(const selective_scan_decode_args<float>& args) {
  validate(args, 0);
  const selective_scan_decode_problem& p = args.problem;
  for_each_block(p, args.operands, [&](channel_block& channels, std::int64_t row) {
    float* state = args.state.data() + row * p.d_state;
    channels.load_state(state);
    channels.scan(0, 1);
    channels.store_state(state);
  });
}

/// Lanes without a channel compute too.
double executed_flops(const scan_channels& p, std::int64_t seqlen) {
  scan_channels padded = p;
  padded.d_inner = p.groups * ((p.group_channels() + lanes - 1) / lanes * lanes);
  return scan_flops(padded, seqlen);
}

const registration<selective_scan> registered{{
    .name = "register_scan",
    .summary = "channels side by side in registers, tokens in order",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .executed_flops = [](const selective_scan_problem& p) { return executed_flops(p, p.seqlen); },
    .run = run,
}};

const registration<selective_scan_decode> registered_step{{
    .name = "register_scan",
    .summary = "channels side by side in registers",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .executed_flops = [](const selective_scan_decode_problem& p) { return executed_flops(p, 1); },
    .run = run_step,
}};

}  // namespace
}  // namespace based
