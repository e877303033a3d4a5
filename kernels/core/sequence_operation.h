// What the descriptions (operation.h) of operations on sequences share: their axes of sizes, and
// the tensors q, k, v and o.
#pragma once

#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/head_dims.h"
#include "kernels/core/operation.h"

namespace based {

/// The batch sizes and the lengths of an operation on whole sequences, with default sweeps.
/// access(problem) has the members batch and seqlen.
template <class Problem, class Access = std::identity>
axis<Problem> batch_axis(Access access = {}) {
  return number_axis<Problem>(
      {.flag = "batch", .label = "B", .help = "Batch sizes", .cpu = "1", .cuda = "1,4,16"},
      [access](auto& p) -> auto& { return access(p).batch; });
}
template <class Problem, class Access = std::identity>
axis<Problem> seqlen_axis(Access access = {},
                          std::string_view tested = "1,63,64,65,640,1000,4097") {
  return number_axis<Problem>(
      {.flag = "seqlen",
       .label = "N",
       .help = "Sequence lengths",
       .cpu = "256:4096:*2",
       .cuda = "1024:32768:*2",
       .tested = tested},
      [access](auto& p) -> auto& { return access(p).seqlen; });
}

/// The axes of sizes of an operation on whole sequences. access(problem) has the members batch,
/// heads and seqlen. `others` follow.
template <class Problem, class Access>
std::vector<axis<Problem>> sequence_axes(Access access, std::vector<axis<Problem>> others) {
  std::vector<axis<Problem>> all = {
      batch_axis<Problem>(access),
      number_axis<Problem>(
          {.flag = "heads", .label = "H", .help = "Numbers of heads", .cpu = "4", .cuda = "16"},
          [access](auto& p) -> auto& { return access(p).heads; }),
      seqlen_axis<Problem>(access)};
  std::ranges::move(others, std::back_inserter(all));
  return all;
}

/// The batch sizes of an operation on one token of each sequence, with default sweeps. The problem
/// has the member batch.
template <class Problem>
axis<Problem> token_batch_axis() {
  return number_axis<Problem>(
      {.flag = "batch",
       .label = "B",
       .help = "Batch sizes",
       .cpu = "1,8,32",
       .cuda = "1,8,16,32,64,128,256"},
      [](auto& p) -> auto& { return p.batch; });
}

/// The axes of sizes of an operation on one token of each sequence. The problem has the members
/// batch and heads, a GPU's sweep `cuda_heads`. `others` follow.
template <class Problem>
std::vector<axis<Problem>> token_axes(std::vector<axis<Problem>> others,
                                      std::string_view cuda_heads = "16") {
  std::vector<axis<Problem>> all = {token_batch_axis<Problem>(),
                                    number_axis<Problem>(
                                        {.flag = "heads",
                                         .label = "H",
                                         .help = "Numbers of heads",
                                         .cpu = "4",
                                         .cuda = cuda_heads},
                                        [](auto& p) -> auto& { return p.heads; })};
  std::ranges::move(others, std::back_inserter(all));
  return all;
}

/// The axis of head dimensions (head_dims.h). The problem has the member head_dim.
template <class Problem>
axis<Problem> head_dim_axis(axis_info info) {
  std::vector<std::pair<std::string, int>> values;
  for (const int dim : head_dims) values.emplace_back(std::to_string(dim), dim);
  return choice_axis<Problem, int>(
      info, values, [](auto& p) -> auto& { return p.head_dim; });
}

/// The arguments of a call, of type Args, with the problem and with q, k, v and o by these names,
/// whose elements have type T.
template <class Args, class T, class Problem>
Args bind_sequences(const Problem& problem, const placed_tensors& tensors) {
  Args call = {};
  call.problem = problem;
  call.q = tensors.sequence<const T>("q");
  call.k = tensors.sequence<const T>("k");
  call.v = tensors.sequence<const T>("v");
  call.o = tensors.sequence<T>("o");
  return call;
}

}  // namespace based
