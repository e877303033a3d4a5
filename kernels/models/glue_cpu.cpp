// What stands between products and mixers, on the CPU: plain loops in fp32 over rows.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/models/glue.h"

namespace based::models {
namespace {

float silu(float x) {
  return x / (1 + std::exp(-x));
}

/// 1 / sqrt(mean(x^2) + eps).
float inverse_rms(const float* x, std::int64_t width, float eps) {
  double sum = 0;
  for (std::int64_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1 / std::sqrt(sum / static_cast<double>(width) + eps));
}

/// Input n of a sequence's convolution, the state's where n < 0.
float conv_input(const gated_conv_args<float>& args, std::int64_t b, std::int64_t n,
                 std::int64_t c) {
  if (n >= 0) return args.u[(b * args.seqlen + n) * 2 * args.channels + c] + args.bias[c];
  if (args.initial_state == nullptr) return 0;
  return args.initial_state[(b * (args.taps - 1) + n + args.taps - 1) * args.channels + c];
}

}  // namespace

template <>
void embed(const embed_args<float>& args, cuda_stream /*stream*/) {
#pragma omp parallel for
  for (std::int64_t t = 0; t < args.tokens; ++t) {
    const std::int64_t id = args.ids[t];
    float* const to = args.residual + t * args.width;
    if (id < 0 || id >= args.vocabulary) {
      std::fill_n(to, args.width, std::numeric_limits<float>::quiet_NaN());
    } else {
      std::copy_n(args.table + id * args.width, args.width, to);
    }
  }
}

template <>
void normalize(const normalize_args<float>& args, cuda_stream /*stream*/) {
#pragma omp parallel for
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const float* const x = args.x + row * args.row_stride;
    float* const out = args.out + row * args.width;
    const float factor = inverse_rms(x, args.width, args.eps);
    for (std::int64_t i = 0; i < args.width; ++i) out[i] = x[i] * factor * args.weight[i];
  }
}

template <>
void normalize_gated(const normalize_gated_args<float>& args, cuda_stream /*stream*/) {
#pragma omp parallel for
  for (std::int64_t row = 0; row < args.rows; ++row) {
    float* const x = args.x + row * args.width;
    if (args.gate != nullptr) {
      const float* const gate = args.gate + row * args.gate_stride;
      for (std::int64_t i = 0; i < args.width; ++i) x[i] *= silu(gate[i]);
    }
    const float factor = inverse_rms(x, args.width, args.eps);
    for (std::int64_t i = 0; i < args.width; ++i) x[i] *= factor * args.weight[i];
  }
}

template <>
void swiglu(const swiglu_args<float>& args, cuda_stream /*stream*/) {
#pragma omp parallel for
  for (std::int64_t t = 0; t < args.tokens; ++t) {
    const float* const x = args.x + t * 2 * args.inner;
    for (std::int64_t i = 0; i < args.inner; ++i) {
      args.out[t * args.inner + i] = x[i] * silu(x[args.inner + i]);
    }
  }
}

template <>
void gated_conv(const gated_conv_args<float>& args, cuda_stream /*stream*/) {
  const std::int64_t channels = args.channels;
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < args.batch; ++b) {
    for (std::int64_t n = 0; n < args.seqlen; ++n) {
      const std::int64_t token = b * args.seqlen + n;
      for (std::int64_t c = 0; c < channels; ++c) {
        float sum = 0;
        for (int k = 0; k < args.taps; ++k) {
          sum += args.weight[k * channels + c] * conv_input(args, b, n - args.taps + 1 + k, c);
        }
        const std::int64_t gate = channels + c;
        args.out[token * channels + c] =
            silu(sum) * (args.u[token * 2 * channels + gate] + args.bias[gate]);
      }
    }
  }
  if (args.final_state == nullptr) return;
  for (std::int64_t b = 0; b < args.batch; ++b) {
    for (int k = 0; k < args.taps - 1; ++k) {  // each slot's input is its own or a later one
      for (std::int64_t c = 0; c < channels; ++c) {
        args.final_state[(b * (args.taps - 1) + k) * channels + c] =
            conv_input(args, b, args.seqlen - args.taps + 1 + k, c);
      }
    }
  }
}

template <>
void conv_along_time(const conv_along_time_args<float>& args, cuda_stream /*stream*/) {
#pragma omp parallel for collapse(2)
  for (std::int64_t c = 0; c < args.channels; ++c) {
    for (std::int64_t b = 0; b < args.batch; ++b) {
      const std::int64_t row = c * args.channel_stride + b * args.seqlen;
      const float* const x = args.x + row;
      const auto input = [&](std::int64_t n) { return n < 0 ? 0.0f : x[n]; };
      for (std::int64_t n = 0; n < args.seqlen; ++n) {
        float sum = args.bias[c];
        for (int k = 0; k < args.taps; ++k) {
          sum += args.weight[k * args.channels + c] * input(n - args.taps + 1 + k);
        }
        args.out[row + n] = silu(sum);
      }
      if (args.final_state == nullptr) continue;
      for (int k = 0; k < args.taps - 1; ++k) {
        args.final_state[(b * (args.taps - 1) + k) * args.channels + c] =
            input(args.seqlen - args.taps + 1 + k);
      }
    }
  }
}

template <>
void rotate(const rotate_args<float>& args, cuda_stream /*stream*/) {
  const int half = args.rotated / 2;
#pragma omp parallel for
  for (std::int64_t t = 0; t < args.tokens; ++t) {
    const auto position = static_cast<double>(t % args.seqlen);
    for (int i = 0; i < half; ++i) {
      const double angle =
          position * std::pow(static_cast<double>(args.base), -2.0 * i / args.rotated);
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      for (std::int64_t h = 0; h < args.heads; ++h) {
        float* const first = args.x + t * args.token_stride + h * args.head_dim + i;
        float* const second = first + half;
        const float a = *first, b = *second;
        *first = a * cosine - b * sine;
        *second = b * cosine + a * sine;
      }
    }
  }
}

}  // namespace based::models
