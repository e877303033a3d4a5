// What a model does between its matrix products and its mixers, each in one pass over memory: the
// kernels of the GPU stand in glue/*.cu, the loops of the CPU in glue_cpu.cpp.
//
// T is float on the CPU, where the stream is ignored, and bf16 on CUDA. Sums and functions are
// fp32. Tensors are contiguous but where a stride is named; pointers are aligned to 16 bytes, and
// widths, channels and strides of T are multiples of 8. On CUDA every function only enqueues on the
// stream, allocates nothing and can be captured. Indices of elements need 64 bits.
#pragma once

#include <cstdint>

#include "kernels/core/implementation.h"

namespace based::models {

/// residual[t, :] = table[ids[t], :]. Of an id outside the vocabulary all values are NaN, and
/// nothing is read.
template <class T>
struct embed_args {
  const std::int32_t* ids;  ///< [tokens]
  const T* table;           ///< [vocabulary, width]
  std::int64_t vocabulary;
  std::int64_t tokens;
  std::int64_t width;
  float* residual;  ///< [tokens, width]
};
template <class T>
void embed(const embed_args<T>& args, cuda_stream stream);

/// RMSNorm of rows of the residual stream: out = x / sqrt(mean(x^2) + eps) * weight.
template <class T>
struct normalize_args {
  const float* x;  ///< [rows, width], a row every row_stride elements
  std::int64_t row_stride;
  std::int64_t rows;
  std::int64_t width;
  const float* weight;  ///< [width]
  float eps;
  T* out;  ///< [rows, width]
};
template <class T>
void normalize(const normalize_args<T>& args, cuda_stream stream);

/// RMSNorm of rows of an activation, in place, gated before it where there is a gate:
/// x = g / sqrt(mean(g^2) + eps) * weight, g = x silu(gate).
/// A row is a token of Mamba-2, or one head of a token of Based's normalised linear attention.
template <class T>
struct normalize_gated_args {
  T* x;                     ///< [rows, width]
  const T* gate = nullptr;  ///< [rows, width], a row every gate_stride elements; null: none
  std::int64_t gate_stride = 0;
  std::int64_t rows;
  std::int64_t width;
  const float* weight;  ///< [width]
  float eps;
};
template <class T>
void normalize_gated(const normalize_gated_args<T>& args, cuda_stream stream);

/// SwiGLU: out[t, i] = x[t, i] silu(x[t, inner + i]).
template <class T>
struct swiglu_args {
  const T* x;  ///< [tokens, 2 inner]
  std::int64_t tokens;
  std::int64_t inner;
  T* out;  ///< [tokens, inner]
};
template <class T>
void swiglu(const swiglu_args<T>& args, cuda_stream stream);

/// Based's BaseConv between its two products, of one sequence, with v = u + bias:
///
///   out[n, c] = silu(sum_k weight[k, c] v[n - taps + 1 + k, c]) v[n, channels + c]
///
/// where v[n, :] of n < 0 is the initial state's, or 0 (not the bias) where there is none.
template <class T>
struct gated_conv_args {
  const T* u;           ///< [batch, seqlen, 2 channels]
  const float* bias;    ///< [2 channels]
  const float* weight;  ///< [taps, channels]
  std::int64_t batch, seqlen, channels;
  int taps;  ///< 3
  T* out;    ///< [batch, seqlen, channels]
  /// The v of the last taps - 1 tokens, [batch, taps - 1, channels], the latest last; null: none is
  /// given, or wanted. Both may be one memory.
  const T* initial_state = nullptr;
  T* final_state = nullptr;
};
template <class T>
void gated_conv(const gated_conv_args<T>& args, cuda_stream stream);

/// Mamba's short convolution on channels whose tokens lie one after the other:
///
///   out[c, b, n] = silu(bias[c] + sum_k weight[k, c] x[c, b, n - taps + 1 + k]),  0 before token 0
///
/// A channel's row starts at a multiple of 8 elements; inside it a sequence starts anywhere.
template <class T>
struct conv_along_time_args {
  const T* x;  ///< [channels, batch, seqlen], a channel every channel_stride elements
  std::int64_t channel_stride;  ///< of x and out
  const float* weight;          ///< [taps, channels]
  const float* bias;            ///< [channels]
  std::int64_t batch, seqlen, channels;
  int taps;  ///< 4
  T* out;    ///< as x
  T* final_state =
      nullptr;  ///< the last taps - 1 inputs, [batch, taps - 1, channels]; null: unwanted
};
template <class T>
void conv_along_time(const conv_along_time_args<T>& args, cuda_stream stream);

/// Rotary position embedding, in place: of each head the pairs (i, i + rotated/2), i < rotated/2,
/// turn by the angle position * base^(-2 i / rotated). Token t has the position t % seqlen.
template <class T>
struct rotate_args {
  T* x;  ///< [tokens, heads, head_dim], a token every token_stride elements
  std::int64_t token_stride;
  std::int64_t tokens, seqlen;
  std::int64_t heads;  ///< those of queries and keys together, which lie side by side
  int head_dim;        ///< 64
  int rotated;         ///< dimensions that turn, a head's first: a multiple of 16, at most head_dim
  float base;          ///< 10000
};
template <class T>
void rotate(const rotate_args<T>& args, cuda_stream stream);

}  // namespace based::models
