// What every implementation asks of its arguments, said once.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/common/decode.h"
#include "kernels/common/error.h"
#include "kernels/common/prefill.h"
#include "kernels/common/sliding_window.h"
#include "kernels/common/softmax_attention.h"

namespace based {
namespace {

constexpr std::uintptr_t alignment = 16;  // the widest load that implementations use

void require_size(const char* name, std::int64_t value) {
  BASED_REQUIRE(value >= 1, fmt::format("{} is {}, must be at least 1", name, value));
}

void require_head_dim(int head_dim) {
  BASED_REQUIRE(head_dim == 64 || head_dim == 128,
                fmt::format("head_dim is {}, must be 64 or 128", head_dim));
}

/// The largest tensor must be addressable with int64 byte offsets.
void require_addressable(std::int64_t batch, std::int64_t heads, std::int64_t seqlen, int dim) {
  const double bytes = static_cast<double>(batch) * static_cast<double>(heads) *
                       static_cast<double>(seqlen) * dim * sizeof(float);
  BASED_REQUIRE(
      bytes < static_cast<double>(std::numeric_limits<std::int64_t>::max()),
      fmt::format("batch {} x heads {} x seqlen {} needs {:.3g} bytes a tensor, more than "
                  "2^63",
                  batch, heads, seqlen, bytes));
}

void require_pointer(const char* name, const void* pointer) {
  BASED_REQUIRE(pointer != nullptr, fmt::format("{} is null", name));
  BASED_REQUIRE(reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0,
                fmt::format("{} at {} is not aligned to {} bytes", name, pointer, alignment));
}

template <class T>
void require_view(const char* name, const sequence_view<T>& view, int dim) {
  require_pointer(name, view.data);
  BASED_REQUIRE(view.token_stride >= dim,
                fmt::format("{} has a token stride of {}, must be at least its dimension {}", name,
                            view.token_stride, dim));
  BASED_REQUIRE(view.batch_stride >= 0 && view.head_stride >= 0,
                fmt::format("{} has strides {}, {}, {}, none of which may be negative", name,
                            view.batch_stride, view.head_stride, view.token_stride));
  constexpr std::int64_t step = alignment / sizeof(T);
  BASED_REQUIRE(view.token_stride % step == 0 && view.head_stride % step == 0 &&
                    view.batch_stride % step == 0,
                fmt::format("{} has strides {}, {}, {}, which must be multiples of {} elements",
                            name, view.batch_stride, view.head_stride, view.token_stride, step));
}

/// Of [batch, heads, seqlen, dim], which are written: no two elements share a place.
template <class T>
void require_output(const char* name, const sequence_view<T>& view, std::int64_t batch,
                    std::int64_t heads, std::int64_t seqlen, int dim) {
  require_view(name, view, dim);
  struct dimension {
    std::int64_t stride, size;
  };
  std::array dimensions = {dimension{view.batch_stride, batch}, dimension{view.head_stride, heads},
                           dimension{view.token_stride, seqlen}};
  std::ranges::sort(dimensions, {}, &dimension::stride);
  double extent = dim;  // of what has been looked at
  for (const auto& [stride, size] : dimensions) {
    if (size == 1) continue;
    const auto step = static_cast<double>(stride);
    BASED_REQUIRE(step >= extent,
                  fmt::format("{} overlaps itself with strides {}, {}, {}", name, view.batch_stride,
                              view.head_stride, view.token_stride));
    extent += step * static_cast<double>(size - 1);
  }
}

void require_workspace(const void* workspace, std::size_t bytes, std::size_t needed) {
  BASED_REQUIRE(bytes >= needed, fmt::format("workspace has {} bytes, needs {}", bytes, needed));
  if (needed > 0) require_pointer("workspace", workspace);
}

void require_state(const char* name, const void* state, std::size_t bytes, std::size_t needed) {
  require_pointer(name, state);
  BASED_REQUIRE(bytes == needed, fmt::format("{} has {} bytes, must have {}", name, bytes, needed));
}

void require_state(const char* name, std::span<const float> state, std::size_t needed) {
  require_state(name, state.data(), state.size_bytes(), needed);
}

void require_apart(const char* name, std::span<const float> memory, const char* other_name,
                   std::span<const float> other) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const auto other_begin = reinterpret_cast<std::uintptr_t>(other.data());
  BASED_REQUIRE(
      begin + memory.size_bytes() <= other_begin || other_begin + other.size_bytes() <= begin,
      fmt::format("{} at {} and {} at {} overlap, {} bytes each", name, fmt::ptr(memory.data()),
                  other_name, fmt::ptr(other.data()), memory.size_bytes()));
}

}  // namespace

void validate(const prefill_problem& problem) {
  const auto& [batch, heads, seqlen] = problem.shape;
  require_size("batch", batch);
  require_size("heads", heads);
  require_size("seqlen", seqlen);
  require_addressable(batch, heads, seqlen, value_dim);
}

template <class T>
void validate(const prefill_args<T>& args, std::size_t workspace_needed) {
  validate(args.problem);
  require_view("q", args.q, feature_dim);
  require_view("k", args.k, feature_dim);
  require_view("v", args.v, value_dim);
  const auto& [batch, heads, seqlen] = args.problem.shape;
  require_output("o", args.o, batch, heads, seqlen, value_dim);
  const prefill_options& options = args.problem.options;
  const std::size_t z_bytes = batch * heads * compact_features * sizeof(float);
  const std::size_t kv_bytes = z_bytes * value_dim;
  if (options.initial_state) {
    require_state("initial_state.kv", args.initial_state.kv, kv_bytes);
    if (options.normalize) require_state("initial_state.z", args.initial_state.z, z_bytes);
  }
  if (options.final_state) {
    require_state("final_state.kv", args.final_state.kv, kv_bytes);
    if (options.normalize) require_state("final_state.z", args.final_state.z, z_bytes);
  }
  if (options.initial_state && options.final_state) {
    require_apart("initial_state.kv", args.initial_state.kv, "final_state.kv", args.final_state.kv);
    if (options.normalize) {
      require_apart("initial_state.z", args.initial_state.z, "final_state.z", args.final_state.z);
    }
  }
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

void validate(const attention_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("seqlen", problem.seqlen);
  require_head_dim(problem.head_dim);
  require_addressable(problem.batch, problem.heads, problem.seqlen, problem.head_dim);
}

template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed) {
  const attention_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, problem.head_dim);
  require_view("k", args.k, problem.head_dim);
  require_view("v", args.v, problem.head_dim);
  require_output("o", args.o, problem.batch, problem.heads, problem.seqlen, problem.head_dim);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

void validate(const window_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_size("window", problem.window);
  require_head_dim(problem.head_dim);
  BASED_REQUIRE(problem.position >= 0,
                fmt::format("position is {}, must be at least 0", problem.position));
  require_addressable(problem.batch, problem.heads, problem.window, problem.head_dim);
}

template <class T>
void validate(const window_args<T>& args, std::size_t workspace_needed) {
  const window_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, problem.head_dim);
  require_output("o", args.o, problem.batch, problem.heads, 1, problem.head_dim);
  if (problem.append) {
    require_view("k", args.k, problem.head_dim);
    require_view("v", args.v, problem.head_dim);
  }
  require_pointer("k_cache", args.k_cache);
  require_pointer("v_cache", args.v_cache);
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

void validate(const decode_problem& problem) {
  require_size("batch", problem.batch);
  require_size("heads", problem.heads);
  require_addressable(problem.batch, problem.heads, state_rows(problem.layout), value_dim);
}

template <class T>
void validate(const decode_args<T>& args, std::size_t workspace_needed) {
  const decode_problem& problem = args.problem;
  validate(problem);
  require_view("q", args.q, query_dim(problem.layout));
  require_view("k", args.k, query_dim(problem.layout));
  require_view("v", args.v, value_dim);
  require_output("o", args.o, problem.batch, problem.heads, 1, value_dim);
  require_state("kv", args.kv, args.kv_bytes, problem.kv_bytes());
  if (problem.normalize) require_state("z", args.z, args.z_bytes, problem.z_bytes());
  require_workspace(args.workspace, args.workspace_bytes, workspace_needed);
}

template void validate(const prefill_args<float>&, std::size_t);
template void validate(const prefill_args<bf16>&, std::size_t);
template void validate(const attention_args<float>&, std::size_t);
template void validate(const attention_args<bf16>&, std::size_t);
template void validate(const decode_args<float>&, std::size_t);
template void validate(const decode_args<bf16>&, std::size_t);
template void validate(const window_args<float>&, std::size_t);
template void validate(const window_args<bf16>&, std::size_t);

}  // namespace based
