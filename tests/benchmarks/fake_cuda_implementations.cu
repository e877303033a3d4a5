// The CUDA side of fake_implementations.cpp: implementations that behave in one known way each.
#include <cuda_bf16.h>

#include <cstdlib>

#include "kernels/based/prefill.h"
#include "kernels/core/cuda_check.h"

namespace based {
namespace {

/// The definition: a thread an output element, a block an output row. The first block does not end
/// before `least_cycles` clock cycles.
__global__ void right_kernel(prefill_args<bf16> args, std::int64_t least_cycles = 0) {
  const std::int64_t start = clock64();
  const std::int64_t seqlen = args.problem.shape.seqlen;
  const std::int64_t i = blockIdx.x, h = blockIdx.y, b = blockIdx.z;
  const bf16* q = args.q.token(b, h, i);
  float sum = 0;
  for (std::int64_t j = 0; j <= i && j < seqlen; ++j) {
    const bf16* k = args.k.token(b, h, j);
    float s = 0;
    for (int d = 0; d < feature_dim; ++d) s += to_float(q[d]) * to_float(k[d]);
    s *= args.problem.options.scale;
    sum += (1 + s + s * s / 2) * to_float(args.v.token(b, h, j)[threadIdx.x]);
  }
  args.o.token(b, h, i)[threadIdx.x] = to_bf16(sum);
  if (i + h + b > 0) return;
  while (clock64() - start < least_cycles) {
  }
}

__global__ void corrupt_kernel(bf16* element) {
  *element = to_bf16(1e3f);
}

__global__ void illegal_address_kernel() {
  *reinterpret_cast<volatile int*>(16) = 1;
}

void launch_right(const prefill_args<bf16>& args, std::int64_t least_cycles, cuda_stream stream) {
  const auto& [batch, heads, seqlen] = args.problem.shape;
  const dim3 grid(static_cast<unsigned>(seqlen), static_cast<unsigned>(heads),
                  static_cast<unsigned>(batch));
  right_kernel<<<grid, value_dim, 0, stream>>>(args, least_cycles);
  BASED_CUDA_LAUNCHED();
}

void right(const prefill_args<bf16>& args, cuda_stream stream) {
  launch_right(args, 0, stream);
}

/// Right, and as slow as 40000 cycles a sequence make it, to which the environment can add a known
/// part: a slow-down that a comparison has to find. For shapes whose sums take less.
void spins(const prefill_args<bf16>& args, cuda_stream stream) {
  const char* slower = std::getenv("BASED_FAKE_SLOWER_PCT");
  const double percent = slower == nullptr ? 0 : std::atof(slower);
  const double cycles = 40000.0 * static_cast<double>(args.problem.shape.batch);
  launch_right(args, static_cast<std::int64_t>(cycles * (1 + percent / 100)), stream);
}

void corrupted_element(const prefill_args<bf16>& args, cuda_stream stream) {
  right(args, stream);
  corrupt_kernel<<<1, 1, 0, stream>>>(args.o.token(0, 0, 0));
  BASED_CUDA_LAUNCHED();
}

void illegal_address(const prefill_args<bf16>&, cuda_stream stream) {
  illegal_address_kernel<<<1, 1, 0, stream>>>();
  BASED_CUDA_LAUNCHED();
}

void unlaunchable(const prefill_args<bf16>&, cuda_stream stream) {
  right_kernel<<<1, 4096, 0, stream>>>({});  // more threads than a block has
  BASED_CUDA_LAUNCHED();
}

/// An implementation of the prefill that behaves as `run` does.
implementation<based_prefill> fake(
    std::string_view name, void (*run)(const prefill_args<bf16>&, cuda_stream),
    std::size_t (*workspace_bytes)(const prefill_problem&) = [](const prefill_problem&) {
      return std::size_t{0};
    }) {
  return {.name = name,
          .summary = "made for the tests of the harness",
          .role = implementation_role::baseline,
          .tolerance = 5e-3,
          .workspace_bytes = workspace_bytes,
          .executed_flops = [](const prefill_problem&) { return 0.0; },
          .run = run};
}

// In the order of their names, which is the order in which they run.
const registration<based_prefill> registered[] = {
    registration<based_prefill>(fake("corrupted_element", corrupted_element)),
    registration<based_prefill>(
        fake("gibibyte", right, [](const prefill_problem&) { return std::size_t{1} << 30; })),
    registration<based_prefill>(fake("illegal_address", illegal_address)),
    registration<based_prefill>(fake("right", right)),
    registration<based_prefill>(fake("spins", spins)),
    registration<based_prefill>(fake("unlaunchable", unlaunchable)),
};

}  // namespace
}  // namespace based
