// Case files: one problem of Based prefill and its expected output, as text.
//
// The format is the one of ThunderKittens' generator for its Based kernel: numbers separated by
// white space, in this order, each row-major:
//
//   q, k            [B, H, N, 16]
//   v, o            [B, H, N, 64]
//   linear state    [B, H, 64, 16]       sum_n v_n[c] k_n[i] / sqrt(sqrt(16))         (optional,
//   product state   [B, H, 16, 16, 64]   sum_n k_n[i] k_n[j] v_n[c] / sqrt(2 * 16)     both or
//   none)
//
// Such a file does not say its shape: it has B = H = 1 and N = 1024 unless the reader is told
// otherwise. A file of ours with any other layout opens with a line that does say it:
//
//   # based-case B=2 H=3 N=65 scale=0.25 terms=0,1,2
//
// where `terms` are the orders of 1 + s + s^2/2 that o sums (what is left out has its default).
#pragma once

#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

#include "kernels/based/prefill.h"

namespace based {

inline constexpr int polynomial_terms = 3;

/// What a case file's header says, or what is assumed of a file without one.
struct case_layout {
  prefill_shape shape = {.batch = 1, .heads = 1, .seqlen = 1024};
  float scale = prefill_options{}.scale;
  std::array<bool, polynomial_terms> terms = {true, true, true};

  bool all_terms() const { return terms[0] && terms[1] && terms[2]; }
};

struct case_file {
  case_layout layout = {};
  std::vector<float> q = {}, k = {};  ///< [B, H, N, 16]
  std::vector<float> v = {}, o = {};  ///< [B, H, N, 64]
  /// [B, H, 153, 64] in the layout of features.h; row 0, which the format lacks, is NaN. Empty: the
  /// file has no states.
  std::vector<float> state = {};
};

/// Parses a comma-separated subset of 0, 1, 2. Throws invalid_argument.
std::array<bool, polynomial_terms> parse_terms(std::string_view text);

/// `headerless` is the layout of a text that opens without a header. Throws invalid_argument, in
/// one line, for a header or number that cannot be read, a number that is not finite, and a count
/// of numbers other than the layout's.
case_file parse_case(std::string_view text, const case_layout& headerless = {});

/// The same from a file, whose name then leads each message.
case_file read_case(const std::filesystem::path& path, const case_layout& headerless = {});

}  // namespace based
