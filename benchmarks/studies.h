// The studies: each makes its rows for one device from what the command line asks for.
#pragma once

#include <memory>
#include <vector>

#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite_options.h"

namespace based {

/// Every registered Based prefill, at the product of the sweep's axes, --options and --variant.
std::vector<std::unique_ptr<row>> based_prefill_rows(device_kind device,
                                                     const suite_options& options);

/// Every registered softmax attention, at the product of the sweep's axes, --head-dim and --causal.
std::vector<std::unique_ptr<row>> softmax_attention_rows(device_kind device,
                                                         const suite_options& options);

/// Every registered Based decode, at the product of batch, heads, --state and --options (of which a
/// decode step has normalize), each on the state's layout that it takes.
std::vector<std::unique_ptr<row>> based_decode_rows(device_kind device,
                                                    const suite_options& options);

/// Every registered sliding window, at the product of batch, heads, --window, --head-dim and
/// --append, with a full window.
std::vector<std::unique_ptr<row>> sliding_window_rows(device_kind device,
                                                      const suite_options& options);

}  // namespace based
