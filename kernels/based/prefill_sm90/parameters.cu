#include "kernels/based/prefill_sm90/host.h"
#include "kernels/core/device_attribute.h"
#include "kernels/tile/tensor_map.h"

namespace based::sm90 {
namespace {

void require_device() {
  const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const auto minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  BASED_REQUIRE(major && minor, "there is no CUDA device, this kernel needs one of 9.0 (Hopper)");
  BASED_REQUIRE(*major == 9 && *minor == 0,
                "the device has compute capability " + std::to_string(*major) + "." +
                    std::to_string(*minor) + ", this kernel needs 9.0 (Hopper)");
}

}  // namespace

parameters make_parameters(const prefill_args<bf16>& args, int segments) {
  require_device();
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  const auto map = [&]<class Tile, class T>(const Tile*, const sequence_view<T>& view) {
    return make_tensor_map<typename Tile::layout>(view, shape.batch, shape.heads, shape.seqlen);
  };
  constexpr const token_tile* tokens = nullptr;
  constexpr const value_tile* values = nullptr;
  constexpr const output_tile* outputs = nullptr;

  parameters p = {};
  p.q = map(tokens, args.q);
  p.k = map(tokens, args.k);
  p.v = map(values, args.v);
  p.o = map(outputs, args.o);
  if (options.initial_state) p.initial_state = args.initial_state;
  if (options.final_state) p.final_state = args.final_state;
  p.partials = static_cast<segment_state*>(args.workspace);
  p.heads = static_cast<int>(shape.heads);
  p.seqlen = static_cast<int>(shape.seqlen);
  p.chunks = static_cast<int>(chunks_of(shape));
  p.segments = segments;
  p.scale = options.scale;
  p.eps = options.eps;
  return p;
}

}  // namespace based::sm90
