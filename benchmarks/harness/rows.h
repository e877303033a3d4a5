// The rows that a command line asks for: of every operation, every implementation that is selected,
// at the product of the operation's axes.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite_options.h"

namespace based {

/// The rows for these devices. Throws usage_error for an implementation, variant, element type or
/// value on an axis that none of the operations has, naming those that there are.
std::vector<std::unique_ptr<row>> make_rows(const std::vector<device_kind>& devices,
                                            const suite_options& options);

/// Leaves the rows of one part of the sweep, in their order. The parts of a sweep hold each row
/// once and take about equal time. Which row goes where follows from the rows and the time cap
/// alone, so that processes which know nothing of each other agree.
void keep_shard(std::vector<std::unique_ptr<row>>& rows, const shard& part, double time_cap_s);

/// The flags of axes that the command line gave values for and no operation of these rows has.
std::vector<std::string> unused_axes(const std::vector<std::unique_ptr<row>>& rows,
                                     const suite_options& options);

/// One of the operations' axes, with the names of the operations that have it.
struct shared_axis {
  axis_info info;
  std::vector<std::string> operations;
};

/// The axes of all operations, one a flag, in the order of the operations; a flag's choices are
/// those of all operations that have it.
std::vector<shared_axis> all_axes();

/// The operations, their axes and their implementations, as JSON.
std::string description();

}  // namespace based
