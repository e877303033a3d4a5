// Case files of Based prefill in the form of ThunderKittens' generator for its Based kernel. Such a
// file has no header, or one that names no operation:
//
//   # based-case B=2 H=3 N=65 scale=0.25 terms=0,1,2
//
// What is left out has the generator's value: B = H = 1, N = 1024, scale 1/4, all terms. Its
// numbers are, in this order and each row-major,
//
//   q, k            [B, H, N, 16]
//   v, o            [B, H, N, 64]
//   linear state    [B, H, 64, 16]       sum_n v_n[c] k_n[i] / sqrt(sqrt(16))
//   product state   [B, H, 16, 16, 64]   sum_n k_n[i] k_n[j] v_n[c] / sqrt(2 * 16)
//
// where both states may be missing, and `terms` are the orders of 1 + s + s^2/2 that o sums. No
// implementation computes some orders only, but each computes o(s) = o_0 + s o_1 + s^2 o_2 for any
// scale s, so that weighted sums of runs at s, -s and 0 give them:
//
//   o_0 = o(0),   s o_1 = (o(s) - o(-s)) / 2,   s^2 o_2 = (o(s) + o(-s)) / 2 - o(0)
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "benchmarks/case_file.h"
#include "kernels/based/prefill.h"

namespace based {

inline constexpr std::string_view based_case_operation = based_prefill::name;
inline constexpr int polynomial_terms = 3;

/// Parses a comma-separated subset of 0, 1, 2. Throws invalid_argument.
std::array<bool, polynomial_terms> parse_terms(std::string_view text);

/// The case that a header and the numbers after it describe. Expected states are in the layout of
/// features.h; row 0, which the form lacks, is NaN. Throws invalid_argument for a count of numbers
/// other than the header's and for options, which the form cannot express.
case_file based_case(const case_header& header, std::span<const float> numbers);

}  // namespace based
