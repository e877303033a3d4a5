// The CUDA implementation "forward_sm90" of attention: what runs each of its variants (plan.h), and
// the registration.
#include <vector>

#include "kernels/attention/forward_sm90/forward_sm90.h"
#include "kernels/attention/redone.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"

namespace based::attention_sm90 {
namespace {

template <class T>
void launch(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream) {
  if (plan.is_band) return launch_band(args, plan, stream);
  switch (plan.block_queries) {
    case 256:
      return launch_blocks_256(args, plan, stream);
    case 192:
      return launch_blocks_192(args, plan, stream);
    case 128:
      return launch_blocks_128(args, plan, stream);
    default:
      return launch_split_keys(args, plan, stream);
  }
}

using forward_variant = variant<attention, card, forward_plan, bf16, fp16>;

struct forward_dispatch {
  using operation = attention;
  static card current_device() { return current_card(); }
  static std::span<const forward_variant> table() {
    static const std::vector<forward_variant> variants = [] {
      std::vector<forward_variant> all;
      for (const forward_rule& rule : forward_rules()) {
        all.push_back({rule,
                       [](const attention_problem& problem, const forward_plan& plan) {
                         return layout_of(plan, problem.head_dim).bytes;
                       },
                       executed_flops,
                       {launch<bf16>, launch<fp16>}});
      }
      return all;
    }();
    return variants;
  }
};
using dispatch = dispatcher<forward_dispatch>;

const registration<attention> registered{{
    .name = "forward_sm90",
    .summary = "wgmma with a speculative maximum, persistent CTAs (Hopper)",
    .role = implementation_role::ours,
    .tolerance = 4e-3,  // weights are rounded once; a short sequence averages over few
    .unsupported = dispatch::unsupported,
    .workspace_bytes = dispatch::workspace_bytes,
    .executed_flops = dispatch::executed_flops,
    .run = {dispatch::run<bf16>, dispatch::run<fp16>},
    .variant = dispatch::label,
    .variants = dispatch::names(),
    .take_counts = attention_counts::take,
}};

}  // namespace

workspace_layout layout_of(const forward_plan& plan, int head_dim) {
  if (!plan.has_counters()) return {};
  if (plan.by_tickets) return {1, 0, 16};
  const int meetings = plan.ctas * (plan.block_queries / group_queries);
  const std::size_t met_begin = (sizeof(int) * meetings + 255) / 256 * 256;
  return {meetings, met_begin, met_begin + meetings * met_bytes(head_dim)};
}

}  // namespace based::attention_sm90
