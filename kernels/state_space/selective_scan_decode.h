// The operation "selective_scan_decode": one token advances the state of every channel and reads
// it. A step of the recurrence in selective_scan.h, from the fp32 state that a scan left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/core/operation.h"
#include "kernels/state_space/selective_scan.h"

namespace based {

struct selective_scan_decode_problem : scan_channels {};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device.
template <class T>
struct selective_scan_decode_args {
  selective_scan_decode_problem problem;
  scan_operands<T> operands;  ///< with N = 1
  std::span<float> state;     ///< [B, d_inner, d_state], updated in place
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct selective_scan_decode {
  static constexpr std::string_view name = "selective_scan_decode";
  using problem = selective_scan_decode_problem;
  template <class T>
  using args = selective_scan_decode_args<T>;

  static std::vector<axis<problem>> axes() {
    std::vector<axis<problem>> all = {token_batch_axis<problem>()};
    std::ranges::move(detail::scan_axes<problem>(), std::back_inserter(all));
    all.push_back(options_axis<problem>(
        {.flag = "options", .label = "options", .help = "What the recurrence has beyond A, B, C"},
        detail::scan_switches<problem>()));
    return all;
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io);
  static operation_work work(const problem& p) { return detail::scan_work(p, 1); }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .operands = detail::bind_scan<T>(tensors),
            .state = tensors.elements<float>("state")};
  }

  static void arrange(const problem&, tensor_access&) {}
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of selective_scan.h.
template <class T>
void validate(const selective_scan_decode_args<T>& args, std::size_t workspace_needed);
void validate(const selective_scan_decode_problem& problem);

}  // namespace based
