// What the checks of all operations share: which rows are compared, which problems a machine runs.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/implementation.h"
#include "tests/support/device_bytes.h"

namespace based {

/// The largest workspace that a test on the host allocates.
inline constexpr std::size_t host_workspace_limit = std::size_t{512} << 20;

/// Why this machine or the implementation cannot run a problem; empty: it can.
template <class Op>
unsupported_reason cannot_run_problem(const implementation<Op>& candidate,
                                      const typename Op::problem& problem) {
  if (candidate.device() == device_kind::cuda) {
    if (auto reason = support::cuda_unavailable()) return reason;
  }
  if (auto reason = candidate.unsupported(problem)) return reason;
  const std::size_t bytes = candidate.workspace_bytes(problem);
  if (candidate.device() == device_kind::cpu && bytes > host_workspace_limit) {
    return fmt::format("needs {} bytes of workspace, more than a test allocates", bytes);
  }
  return std::nullopt;
}

/// All rows of a short sequence; of a long one the first, the last, and so many between that none
/// of its tiles of 16 goes unseen.
inline std::vector<std::int64_t> sampled_rows(std::int64_t seqlen) {
  constexpr std::int64_t all_up_to = 256;
  constexpr std::int64_t step = 13;
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < seqlen; row += seqlen <= all_up_to ? 1 : step) {
    rows.push_back(row);
  }
  if (rows.back() != seqlen - 1) rows.push_back(seqlen - 1);
  return rows;
}

/// The given rows of a [N, row_size] tensor.
inline std::vector<float> gather_rows(std::span<const float> tensor,
                                      std::span<const std::int64_t> rows, std::int64_t row_size) {
  std::vector<float> gathered;
  gathered.reserve(rows.size() * row_size);
  for (const std::int64_t row : rows) {
    const auto values = tensor.subspan(row * row_size, row_size);
    gathered.insert(gathered.end(), values.begin(), values.end());
  }
  return gathered;
}

/// The first element that is NaN or infinite; -1: none.
inline std::int64_t first_not_finite(std::span<const float> values) {
  const auto bad = std::ranges::find_if_not(values, [](float x) { return std::isfinite(x); });
  return bad == values.end() ? -1 : bad - values.begin();
}

}  // namespace based
