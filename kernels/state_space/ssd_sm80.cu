// Mamba-2's state space duality on mma.sync: host code and instances of ssd_sm80.cuh.
#include "kernels/state_space/ssd_sm80.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/core/device_attribute.h"
#include "kernels/core/launch.h"
#include "kernels/state_space/ssd_sm80.cuh"

namespace based::ssd_sm80 {
namespace {

constexpr std::int64_t largest_grid = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t most_tokens = largest_grid - 2 * chunk_tokens;  // counted to a chunk's end

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Calls f(the head dimension, the state dimension), both constants.
template <class Function>
auto with_dims(const ssd_problem& problem, Function f) {
  const auto with_state = [&]<int HeadDim>(std::integral_constant<int, HeadDim> head_dim) {
    if (problem.state_dim == 64) return f(head_dim, std::integral_constant<int, 64>());
    if (problem.state_dim == 128) return f(head_dim, std::integral_constant<int, 128>());
    return f(head_dim, std::integral_constant<int, 256>());
  };
  if (problem.head_dim == 64) return with_state(std::integral_constant<int, 64>());
  return with_state(std::integral_constant<int, 128>());
}

// The ways to run it, by name, as the user forces them.
constexpr std::string_view one_barrier = "one_barrier", two_barriers = "two_barriers";
constexpr std::string_view variant_names[] = {one_barrier, two_barriers};

std::int64_t shared_bytes(const ssd_problem& problem, std::string_view variant) {
  return with_dims(problem, [&](auto head_dim, auto state_dim) -> std::int64_t {
    return variant == one_barrier ? sizeof(shared_storage<head_dim(), state_dim(), true>)
                                  : sizeof(shared_storage<head_dim(), state_dim(), false>);
  });
}

/// Shared memory that a block may have; as much as it likes where there is no device.
std::int64_t shared_limit() {
  return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)
      .value_or(std::numeric_limits<int>::max());
}

/// One barrier a chunk where the card has the memory for it, unless the problem asks for either.
std::string_view variant_of(const ssd_problem& problem) {
  if (!problem.variant.empty()) return problem.variant;
  return shared_bytes(problem, one_barrier) <= shared_limit() ? one_barrier : two_barriers;
}

/// CTAs of a group of heads.
std::int64_t head_sets(const ssd_problem& problem) {
  const int heads = with_dims(problem, [](auto head_dim, auto state_dim) {
    return config<head_dim(), state_dim()>::heads;
  });
  return ceil_div(problem.heads / problem.groups, heads);
}

/// How a sequence is cut: into `count` segments of `chunks` chunks, the last one of as many or
/// fewer.
struct segmentation {
  std::int64_t count, chunks;
};

/// The segments with the least expected time, in chunks: that of the longest ones in as many waves
/// of CTAs as it takes; of several, more for their states, which are found first and go through
/// memory.
segmentation segments_of(const ssd_problem& problem) {
  constexpr double states_share = 0.5;   // of a chunk's time that its part of the state takes
  constexpr double memory_chunks = 4;    // what a CTA's states take, written and read twice
  constexpr double launches_chunks = 3;  // what two more launches take
  constexpr std::int64_t fewest_chunks = 4, most_segments = 64;
  const std::int64_t chunks = ceil_div(problem.seqlen, chunk_tokens);
  const std::int64_t ctas = problem.batch * problem.groups * head_sets(problem);
  const std::int64_t multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount).value_or(1);
  const auto waves = [&](std::int64_t segments) {
    return static_cast<double>(ceil_div(ctas * segments, multiprocessors));
  };
  segmentation best = {1, chunks};
  double least = waves(1) * static_cast<double>(chunks);
  for (std::int64_t count = 2; count <= std::min(chunks / fewest_chunks, most_segments); ++count) {
    const std::int64_t length = ceil_div(chunks, count);
    const segmentation tried = {ceil_div(chunks, length), length};
    const double of_segment = static_cast<double>(length) * (1 + states_share) + memory_chunks;
    const double time = waves(tried.count) * of_segment + launches_chunks;
    if (time < least) {
      least = time;
      best = tried;
    }
  }
  return best;
}

/// The segments' states become the states before them, in place: a thread four elements, segment
/// after segment.
__global__ void pass_states_kernel(float* states, const float* decays, const float* initial,
                                   int segments, int head_words) {
  const std::int64_t word = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t head = word / head_words;
  auto* to = reinterpret_cast<float4*>(states) + head * segments * head_words + word % head_words;
  float4 state = initial == nullptr ? float4{} : reinterpret_cast<const float4*>(initial)[word];
  for (int segment = 0; segment < segments; ++segment, to += head_words) {
    const float4 own = segment + 1 < segments ? *to : float4{};
    *to = state;
    if (segment + 1 == segments) return;
    const float decay = ptx::ex2(decays[head * segments + segment]);
    state = {fmaf(decay, state.x, own.x), fmaf(decay, state.y, own.y), fmaf(decay, state.z, own.z),
             fmaf(decay, state.w, own.w)};
  }
}

template <int HeadDim, int StateDim>
void launch(const ssd_args<bf16>& args, cuda_stream stream) {
  const ssd_problem& problem = args.problem;
  const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
  const segmentation segments = segments_of(problem);
  const bool is_cut = segments.count > 1;
  auto* const states = static_cast<float*>(args.workspace);
  const std::int64_t head_state = std::int64_t{HeadDim} * StateDim;
  const float* const initial = problem.initial_state ? args.initial_state.data() : nullptr;
  const parameters p = {
      .x = args.x,
      .dt = args.dt,
      .b = args.b,
      .c = args.c,
      .z = args.z,
      .y = args.y,
      .a = args.a.data(),
      .dt_bias = problem.bias ? args.dt_bias.data() : nullptr,
      .d = problem.skip ? args.d.data() : nullptr,
      .start = is_cut ? states : initial,
      .end = problem.final_state ? args.final_state.data() : nullptr,
      .segment_states = states,
      .segment_decays =
          is_cut ? states + problem.batch_heads() * segments.count * head_state : nullptr,
      .seqlen = narrow(problem.seqlen),
      .segments = narrow(segments.count),
      .segment_chunks = narrow(segments.chunks),
      .heads = narrow(problem.heads),
      .groups = narrow(problem.groups),
      .head_sets = narrow(head_sets(problem)),
      .softplus = problem.softplus,
      .gate = problem.gate};
  const auto ctas =
      static_cast<unsigned>(problem.batch * problem.groups * head_sets(problem) * segments.count);
  if (is_cut) {
    launch_kernel(
        segment_states_kernel<HeadDim, StateDim>,
        {.grid = ctas, .block = threads, .shared_bytes = sizeof(states_storage<HeadDim, StateDim>)},
        stream, p);
    const std::int64_t words = problem.batch_heads() * head_state / 4;
    launch_kernel(pass_states_kernel,
                  {.grid = static_cast<unsigned>(words / threads), .block = threads}, stream,
                  states, p.segment_decays, initial, p.segments, narrow(head_state / 4));
  }
  const std::string_view variant = variant_of(problem);
  launch_kernel(variant == one_barrier ? forward_kernel<HeadDim, StateDim, true>
                                       : forward_kernel<HeadDim, StateDim, false>,
                {.grid = ctas,
                 .block = threads,
                 .shared_bytes = static_cast<std::size_t>(shared_bytes(problem, variant))},
                stream, p);
}

}  // namespace

void launch_forward(const ssd_args<bf16>& args, cuda_stream stream) {
  with_dims(args.problem,
            [&](auto head_dim, auto state_dim) { launch<head_dim(), state_dim()>(args, stream); });
}

std::size_t workspace_bytes(const ssd_problem& problem) {
  const segmentation segments = segments_of(problem);
  if (segments.count == 1) return 0;
  const std::int64_t head_floats = std::int64_t{problem.head_dim} * problem.state_dim + 1;
  return static_cast<std::size_t>(problem.batch_heads() * segments.count * head_floats) *
         sizeof(float);
}

double executed_flops(const ssd_problem& problem) {
  const segmentation segments = segments_of(problem);
  const double head_chunk = 2.0 * chunk_tokens * problem.head_dim;  // FLOPs of a column
  constexpr double seen_share = 0.75;                               // of the blocks of C B^T and W
  const double heads_of_cta = with_dims(problem, [](auto head_dim, auto state_dim) {
    return config<head_dim(), state_dim()>::heads;
  });
  const double per_cta =
      2.0 * seen_share * chunk_tokens * chunk_tokens * problem.state_dim +
      heads_of_cta * head_chunk * (2.0 * problem.state_dim + seen_share * chunk_tokens);
  const double states = heads_of_cta * head_chunk * problem.state_dim;
  const auto chunks = static_cast<double>(ceil_div(problem.seqlen, chunk_tokens));
  const double states_chunks = static_cast<double>((segments.count - 1) * segments.chunks);
  return static_cast<double>(problem.batch * problem.groups * head_sets(problem)) *
         (chunks * per_cta + states_chunks * states);
}

unsupported_reason unsupported(const ssd_problem& problem) {
  validate(problem);
  if (const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor); major && *major < 8) {
    return "the device has compute capability " + std::to_string(*major) +
           ".x, this kernel needs 8.0 (Ampere)";
  }
  const std::int64_t bytes = shared_bytes(problem, variant_of(problem)), limit = shared_limit();
  if (bytes > limit) {
    return "needs " + std::to_string(bytes) + " bytes of shared memory, the device has " +
           std::to_string(limit);
  }
  if (problem.seqlen > most_tokens) return "more than " + std::to_string(most_tokens) + " tokens";
  if (problem.heads > largest_grid / problem.batch ||
      segments_of(problem).count > largest_grid / problem.batch_heads()) {
    return "too many heads for one grid";
  }
  return std::nullopt;
}

namespace {

void run(const ssd_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  launch_forward(args, stream);
}

const registration<ssd> registered{
    {.name = "ssd_sm80",
     .summary = "one fused kernel on mma.sync (Ampere and later)",
     .role = implementation_role::ours,
     .tolerance = 5e-3,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes,
     .executed_flops = executed_flops,
     .run = run,
     .variant = [](const ssd_problem& problem) { return std::string(variant_of(problem)); },
     .variants = variant_names}};

}  // namespace
}  // namespace based::ssd_sm80
