// The CUDA implementation "register_scan" of the selective scan: what runs each of its variants
// (plan.h), and the registration.
#include <cuda_runtime_api.h>

#include <span>
#include <vector>

#include "kernels/core/device_attribute.h"
#include "kernels/state_space/selective_scan/launch.h"

namespace based::scan {
namespace {

using scan_variant = variant<selective_scan, card, scan_plan, bf16>;

void launch_any(const selective_scan_args<bf16>& args, const scan_plan& plan, cuda_stream stream) {
  plan.lanes == 1   ? launch<1>(args, plan, stream)
  : plan.lanes == 2 ? launch<2>(args, plan, stream)
                    : launch<4>(args, plan, stream);
}

struct scan_dispatch {
  using operation = selective_scan;

  static card current_device() { return current_card(); }

  static std::span<const scan_variant> table() {
    static const std::vector<scan_variant> all = [] {
      std::vector<scan_variant> found;
      for (const scan_rule& rule : scan_rules()) {
        found.push_back({rule, workspace_bytes, executed_flops, launch_any});
      }
      return found;
    }();
    return all;
  }
};
using dispatch = dispatcher<scan_dispatch>;

const registration<selective_scan> registered{{
    .name = "register_scan",
    .summary = "states in registers, tokens in order, B and C shared by the channels of a CTA",
    .role = implementation_role::ours,
    .tolerance = 2.5e-3,
    .unsupported = dispatch::unsupported,
    .workspace_bytes = dispatch::workspace_bytes,
    .executed_flops = dispatch::executed_flops,
    .run = dispatch::run<bf16>,
    .variant = dispatch::label,
    .variants = dispatch::names(),
}};

}  // namespace
}  // namespace based::scan
