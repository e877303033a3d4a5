// The prefill study: Based prefill and softmax attention over whole sequences.
#pragma once

#include <memory>
#include <vector>

#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite_options.h"

namespace based {

/// Every registered Based prefill of the device, at the product of the sweep's axes, options and
/// variants.
std::vector<std::unique_ptr<row>> based_prefill_rows(device_kind device,
                                                     const suite_options& options);

/// Every registered softmax attention of the device, at the product of the sweep's axes, head
/// dimensions and masks.
std::vector<std::unique_ptr<row>> softmax_attention_rows(device_kind device,
                                                         const suite_options& options);

}  // namespace based
