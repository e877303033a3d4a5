// Verification of one implementation of Based prefill on one problem, against the float64
// reference.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/based/prefill.h"
#include "kernels/core/implementation.h"
#include "tests/support/guarded_buffer.h"

namespace based {

struct prefill_case {
  std::string name;
  prefill_shape shape;
  prefill_options options = {};
  support::layout order = support::layout::bhnd;
  float deviation = 1.0f;         ///< of queries and keys
  std::string_view variant = {};  ///< of a dispatching implementation; empty: it chooses

  prefill_problem problem() const { return {shape, options, variant}; }
};
inline std::ostream& operator<<(std::ostream& out, const prefill_case& test) {
  return out << test.name;
}

/// Runs the case on poisoned, guarded buffers. Returns what is wrong, a line each: unwritten or
/// misplaced values, error above the implementation's tolerance, damaged guards; none: it passed.
/// Outputs are compared on rows that hit every tile of 16, all of them checked to be finite.
std::vector<std::string> verify(const implementation<based_prefill>& candidate,
                                const prefill_case& test);

/// The same of a run in two pieces, the second continuing from the first one's final state.
std::vector<std::string> verify_in_two_pieces(const implementation<based_prefill>& candidate,
                                              const prefill_case& test, std::int64_t first_piece);

/// Whether two runs give the same bits.
bool repeats_itself(const implementation<based_prefill>& candidate, const prefill_case& test);

/// Whether a null input, a length of 0 and a workspace one byte short are each refused with
/// invalid_argument.
bool refuses_bad_arguments(const implementation<based_prefill>& candidate,
                           const prefill_case& test);

}  // namespace based
