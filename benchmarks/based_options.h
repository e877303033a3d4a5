// The options of Based's operations, as the command line and the rows' names spell them.
#pragma once

#include <string>

#include "kernels/based/prefill.h"

namespace based {

/// "none", "all", or some of normalize, initial_state and final_state joined by +; throws
/// usage_error for anything else.
prefill_options parse_based_options(const std::string& text);

/// The options that are on, joined by +; empty: none is.
std::string options_text(const prefill_options& options);

}  // namespace based
