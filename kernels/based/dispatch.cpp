// The CUDA implementation "based" of the Based prefill: a table of its variants
// (prefill_variants.h) with what runs each, and the registration.
#include <cuda_runtime_api.h>

#include <array>
#include <vector>

#include "kernels/based/prefill_sm80.h"
#include "kernels/based/prefill_sm90/launch.h"
#include "kernels/based/prefill_variants.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/hopper.h"

namespace based {
namespace {

/// All devices, as the variants see them; without one an H200, so that shapes can be asked about.
std::vector<prefill_device> find_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    count = 0;
  }
  std::vector<prefill_device> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    BASED_CUDA(cudaGetDeviceProperties(&properties, i));
    const int multiprocessors = properties.multiProcessorCount;
    devices.push_back({{multiprocessors, properties.major, properties.minor},
                       constants_of(properties.name, multiprocessors)});
  }
  if (devices.empty()) {
    devices.push_back({h200, constants_of("NVIDIA H200", h200.multiprocessors)});
  }
  return devices;
}

using prefill_variant = variant<based_prefill, prefill_device, prefill_plan, bf16>;
using args = prefill_args<bf16>;

std::size_t no_workspace(const prefill_problem&, const prefill_plan&) {
  return 0;
}

const std::array variants = {
    prefill_variant{whole_rule, no_workspace,
                    [](const prefill_problem& problem, const prefill_plan&) {
                      return sm90::whole_flops(problem);
                    },
                    [](const args& call, const prefill_plan&, cuda_stream stream) {
                      sm90::launch_whole(call, stream);
                    }},
    prefill_variant{split_rule,
                    [](const prefill_problem& problem, const prefill_plan& plan) {
                      return sm90::split_workspace_bytes(problem.shape, plan.parts);
                    },
                    [](const prefill_problem& problem, const prefill_plan& plan) {
                      return sm90::split_flops(problem, plan.parts);
                    },
                    [](const args& call, const prefill_plan& plan, cuda_stream stream) {
                      sm90::launch_split(call, plan.parts, stream);
                    }},
    prefill_variant{recompute_rule, no_workspace,
                    [](const prefill_problem& problem, const prefill_plan& plan) {
                      return sm90::recompute_flops(problem, plan.parts);
                    },
                    [](const args& call, const prefill_plan& plan, cuda_stream stream) {
                      sm90::launch_recompute(call, plan.parts, stream);
                    }},
    prefill_variant{balanced_rule,
                    [](const prefill_problem&, const prefill_plan& plan) {
                      return sm90::balanced_workspace_bytes(plan.parts);
                    },
                    [](const prefill_problem& problem, const prefill_plan&) {
                      return sm90::balanced_flops(problem);
                    },
                    [](const args& call, const prefill_plan& plan, cuda_stream stream) {
                      sm90::launch_balanced(call, plan.parts, stream);
                    }},
    prefill_variant{quadratic_rule, no_workspace,
                    [](const prefill_problem& problem, const prefill_plan&) {
                      return sm90::quadratic_flops(problem);
                    },
                    [](const args& call, const prefill_plan&, cuda_stream stream) {
                      sm90::launch_quadratic(call, stream);
                    }},
    prefill_variant{mma_sync_rule, no_workspace,
                    [](const prefill_problem& problem, const prefill_plan&) {
                      return sm80::executed_flops(problem);
                    },
                    [](const args& call, const prefill_plan&, cuda_stream stream) {
                      sm80::launch_prefill(call, stream);
                    }},
};

struct prefill_dispatch {
  using operation = based_prefill;
  static const prefill_device& current_device() {
    static const std::vector<prefill_device> devices = find_devices();
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      device = 0;
    }
    return devices[static_cast<std::size_t>(device)];
  }
  static std::span<const prefill_variant> table() { return variants; }
};
using dispatch = dispatcher<prefill_dispatch>;

const registration<based_prefill> registered{{
    .name = "based",
    .summary = "wgmma over the 153 distinct features, state in registers (Hopper; else based_sm80)",
    .role = implementation_role::ours,
    .tolerance = 5e-3,  // two roundings to bf16: a short sequence averages over none
    .unsupported = dispatch::unsupported,
    .workspace_bytes = dispatch::workspace_bytes,
    .executed_flops = dispatch::executed_flops,
    .run = dispatch::run<bf16>,
    .variant = dispatch::label,
    .variants = dispatch::names(),
}};

}  // namespace
}  // namespace based
