// The CUDA implementation "fused_chunked" of ssd: what runs each of its variants (plan.h), and the
// registration.
#include <span>
#include <vector>

#include "kernels/core/device_attribute.h"
#include "kernels/state_space/ssd_sm90/ssd_sm90.h"

namespace based::ssd_sm90 {
namespace {

using ssd_variant = variant<ssd, card, ssd_plan, bf16>;

void launch_any(const ssd_args<bf16>& args, const ssd_plan& plan, cuda_stream stream) {
  args.problem.state_dim == 128 ? launch<128>(args, plan, stream) : launch<256>(args, plan, stream);
}

struct ssd_dispatch {
  using operation = ssd;
  static card current_device() { return current_card(); }
  static std::span<const ssd_variant> table() {
    static const std::vector<ssd_variant> all = [] {
      std::vector<ssd_variant> found;
      for (const ssd_rule& rule : ssd_rules()) {
        found.push_back({rule, workspace_bytes, executed_flops, launch_any});
      }
      return found;
    }();
    return all;
  }
};
using dispatch = dispatcher<ssd_dispatch>;

const registration<ssd> registered{{
    .name = "fused_chunked",
    .summary = "one kernel, states in registers, scores shared by the heads of a CTA (Hopper)",
    .role = implementation_role::ours,
    .tolerance = 3.5e-3,
    .unsupported = dispatch::unsupported,
    .workspace_bytes = dispatch::workspace_bytes,
    .executed_flops = dispatch::executed_flops,
    .run = dispatch::run<bf16>,
    .variant = dispatch::label,
    .variants = dispatch::names(),
}};

}  // namespace
}  // namespace based::ssd_sm90
