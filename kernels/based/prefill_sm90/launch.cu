// Launches of the variants of the Hopper prefill that share prefill_kernel (kernel.cuh).
#include "kernels/based/prefill_sm90/launch.h"

#include <algorithm>
#include <string>

#include "kernels/based/prefill_sm90/host.h"
#include "kernels/based/prefill_sm90/kernel.cuh"
#include "kernels/core/device_attribute.h"
#include "kernels/core/launch.h"

namespace based::sm90 {
namespace {

constexpr int clearing_threads = 256;

/// Clears the tickets and flags of `balanced`. Grid: one block.
__global__ void clear_tickets_kernel(const __grid_constant__ parameters p) {
  ptx::launch_dependent_grid();
  if (threadIdx.x == 0) tickets(p) = 0;
  for (int i = threadIdx.x; i < p.handed_heads; i += blockDim.x) {
    p.handed[i].is_there = p.handed[i].moments_are_there = 0;
  }
}

/// Whether so many CTAs have a multiprocessor each, on the device that make_parameters() has found.
bool are_alone(std::int64_t ctas) {
  return ctas <= device_attribute(cudaDevAttrMultiProcessorCount).value();
}

struct launch_options {
  bool normalize;
  bool stateful;
  bool overlaps_prior_grid;
};

template <class Variant>
void enqueue(const parameters& p, dim3 grid, const launch_options& options, cuda_stream stream) {
  const auto [normalize, stateful, overlaps] = options;
  const auto kernel =
      normalize
          ? (stateful ? prefill_kernel<true, true, Variant> : prefill_kernel<true, false, Variant>)
          : (stateful ? prefill_kernel<false, true, Variant>
                      : prefill_kernel<false, false, Variant>);
  const int threads = normalize ? cta_threads<Variant, true>() : cta_threads<Variant, false>();
  launch_kernel(kernel,
                {.grid = grid,
                 .block = threads,
                 .shared_bytes = sizeof(shared_storage<Variant>),
                 .overlaps_prior_grid = overlaps},
                stream, p);
}

/// In the configuration for so many CTAs.
template <template <class> class Variant>
void enqueue_shared(std::int64_t ctas, const parameters& p, dim3 grid,
                    const launch_options& options, cuda_stream stream) {
  if (are_alone(ctas)) {
    enqueue<Variant<whole_multiprocessor>>(p, grid, options, stream);
  } else {
    enqueue<Variant<half_multiprocessor>>(p, grid, options, stream);
  }
}

void require_segments(const parameters& p, int most) {
  BASED_REQUIRE(p.segments >= 2 && p.segments <= std::min(most, p.chunks),
                std::to_string(p.chunks) + " chunks cannot be cut into " +
                    std::to_string(p.segments) + " segments");
}

dim3 grid_of(std::int64_t heads, int segments) {
  return dim3(static_cast<unsigned>(heads), segments);
}

}  // namespace

void launch_whole(const prefill_args<bf16>& args, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  const std::int64_t heads = args.problem.shape.batch_heads();
  const parameters p = make_parameters(args, 1);
  enqueue_shared<whole_or_split>(heads, p, grid_of(heads, 1),
                                 {options.normalize, has_state(options), false}, stream);
}

void launch_split(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const bool normalize = args.problem.options.normalize;
  const std::int64_t heads = args.problem.shape.batch_heads();
  const parameters p = make_parameters(args, segments);
  require_segments(p, p.chunks);
  launch_segment_states(p, heads, normalize, stream);
  enqueue_shared<whole_or_split>(heads * segments, p, grid_of(heads, segments),
                                 {normalize, true, true}, stream);
}

std::size_t split_workspace_bytes(const prefill_shape& shape, int segments) {
  return shape.batch_heads() * (segments - 1) * sizeof(segment_state);
}

void launch_recompute(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  parameters p = make_parameters(args, segments);
  require_segments(p, max_recompute_segments);
  for (int i = 0; i <= segments; ++i) {
    p.segment_begin[i] = recompute_begin(p.chunks, segments, i);
  }
  enqueue<recompute>(p, grid_of(args.problem.shape.batch_heads(), segments),
                     {options.normalize, has_state(options), false}, stream);
}

void launch_balanced(const prefill_args<bf16>& args, int places, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  const std::int64_t heads = args.problem.shape.batch_heads();
  parameters p = make_parameters(args, 1);
  BASED_REQUIRE(places >= 1 && places <= heads && p.chunks >= 2,
                std::to_string(heads) + " heads of " + std::to_string(p.chunks) +
                    " chunks cannot be balanced among " + std::to_string(places) + " CTAs");
  p.handed_heads = places;
  p.handed = static_cast<handed_state*>(args.workspace);
  launch_kernel(clear_tickets_kernel, {.grid = 1, .block = clearing_threads}, stream, p);
  enqueue_shared<balanced>(places, p, grid_of(heads + places, 1),
                           {options.normalize, has_state(options), true}, stream);
}

std::size_t balanced_workspace_bytes(int places) {
  return places * sizeof(handed_state) + sizeof(std::uint32_t);
}

}  // namespace based::sm90
