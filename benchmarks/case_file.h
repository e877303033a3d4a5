// Case files: one problem of an operation and its expected output, as text. A file opens with a
// header, for example
//
//   # based-case operation=attention B=2 H=3 N=65 Dh=64 causal=1 layout=bnhd
//
// which names the operation, values of its axes by their labels (an axis that is left out has the
// problem's default), and the order of the dimensions of its sequences (layout, default bhnd). Then
// come numbers separated by white space: all tensors that a call reads, in the order of the
// operation's description, then all that it writes. A tensor that a call updates stands in both
// groups, as it is before and after.
//
// A file without a header is described by its reader. A file that names no operation is one of
// Based prefill in the form of ThunderKittens' generator (based_case.h).
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/operation.h"

namespace based {

/// What a header says, or what the reader says of a file without one.
struct case_header {
  std::string operation = {};  ///< empty: Based prefill as in based_case.h
  axis_values values = {};
  sequence_order order = sequence_order::bhnd;
  std::string terms = {};     ///< as in based_case.h; empty: not given
  std::string given_by = {};  ///< an option that says so of a file without a header; empty: none
};

/// The numbers of tensors, by name; sequences in the file's order of dimensions.
using tensor_numbers = std::map<std::string, std::vector<float>, std::less<>>;

/// One call's share in what a part of a case expects.
struct case_run {
  axis_values values;
  double weight = 1;
};

/// What is judged at once: outputs, each the weighted sum of the outputs of some runs.
struct case_part {
  std::vector<case_run> runs;
  tensor_numbers expected;  ///< NaN: this element is not known
  /// What errors are relative to where the expected numbers are smaller: a weighted sum may be much
  /// smaller than what it sums.
  double least_norm = 0;
};

struct case_file {
  std::string operation = {};
  sequence_order order = sequence_order::bhnd;
  tensor_numbers given = {};          ///< what calls read
  std::vector<case_part> parts = {};  ///< one at least
};

/// The registered operation of this name. Throws invalid_argument, naming those that there are.
const operation& operation_named(std::string_view name);

/// "bhnd" or "bnhd". Throws invalid_argument for anything else.
sequence_order parse_order(std::string_view text);

/// `headerless` describes a text that opens without a header. Throws invalid_argument, in one line,
/// for a header or number that cannot be read, a number that is not finite, and a count of numbers
/// other than the header's.
case_file parse_case(std::string_view text, const case_header& headerless = {});

/// As parse_case(), from a file, whose name then leads each message. Throws invalid_argument too
/// for a folder, an empty file, and one that cannot be read.
case_file read_case(const std::filesystem::path& path, const case_header& headerless = {});

/// How many numbers the tensors hold whose role is `in` the group; a double, for a header may claim
/// any shape.
double count_numbers(const std::vector<tensor_spec>& tensors, bool (*in)(tensor_role));
constexpr bool is_read(tensor_role role) {
  return role != tensor_role::output;
}
constexpr bool is_written(tensor_role role) {
  return role != tensor_role::input;
}

/// Takes the numbers of the tensors whose role is `in` the group off the front of `numbers`.
tensor_numbers take_numbers(const std::vector<tensor_spec>& tensors, bool (*in)(tensor_role),
                            std::span<const float>& numbers);

}  // namespace based
