// The shapes that the command line asks for: lists and ranges of batch, heads and sequence length.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/implementation.h"

namespace based {

/// Parses `1,4,16`, `1024:32768:*2` (first:last:*factor) and `64:256:+64` (first:last:+step), or a
/// comma-separated mixture; the values in order, without repetition. Throws invalid_argument naming
/// `flag`, the bad part and what is allowed; every value lies in [1, 2^31).
std::vector<std::int64_t> parse_axis(std::string_view flag, std::string_view text);

/// Splits at commas; empty parts are kept, for the caller to refuse.
std::vector<std::string> split(std::string_view text, char separator = ',');

struct sweep {
  std::vector<std::int64_t> batch, heads, seqlen;
};

/// What an operation works on: whole sequences, or the next token of each.
enum class phase { prefill, decode };

/// What a device's sweep is where the command line names none: the papers' shapes on a GPU, sizes
/// that a few CPU cores finish on the CPU. A decode step has no sequence length; its axis is {1}.
sweep default_sweep(device_kind device, phase of);

}  // namespace based
