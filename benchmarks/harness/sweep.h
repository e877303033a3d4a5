// Lists, ranges and durations, as the command line has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace based {

/// Parses `1,4,16`, `1024:32768:*2` (first:last:*factor) and `64:256:+64` (first:last:+step), or a
/// comma-separated mixture; the values in order, without repetition. Throws invalid_argument naming
/// `flag`, the bad part and what is allowed; every value lies in [1, 2^31), and there are at most
/// most_values.
std::vector<std::int64_t> parse_axis(std::string_view flag, std::string_view text);

/// Of a list, so that a range of a billion values is a message and not an hour.
inline constexpr std::size_t most_values = 10'000;
/// Throws invalid_argument naming `flag` where a list has more than most_values.
void refuse_too_many(std::string_view flag, std::size_t values);

/// Parses a number of seconds, 0 or more, with or without a final s. Throws invalid_argument naming
/// `flag` and the text.
double parse_seconds(std::string_view flag, std::string text);

/// Splits at commas; empty parts are kept, for the caller to refuse.
std::vector<std::string> split(std::string_view text, char separator = ',');

}  // namespace based
