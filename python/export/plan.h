// What calls from Python of one kind share: an operation with its options, the names of the tensors
// in the order of the calls, and, by their sizes, the cases that were met already.
#pragma once

#include <dlpack/dlpack.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/operation.h"

namespace based::python {

/// A tensor of a type that is not taken: Python's TypeError.
class wrong_type : public invalid_argument {
 public:
  using invalid_argument::invalid_argument;
};

struct plan_request {
  std::string operation;
  std::string implementation;  ///< empty: the first that takes the problem, ours before others
  std::string variant;         ///< one of the implementation's; empty: it chooses
  /// Values of axes, as the command line takes them, by flag. What the tensors' sizes tell is left
  /// out; all else that is left out has the operation's default.
  std::map<std::string, std::string> axes;
  std::vector<std::string> tensors;  ///< their names, in the order of the calls
  sequence_order order = sequence_order::bhnd;
};

using given_tensors = std::span<const DLTensor* const>;

/// A tensor as a case wants it.
struct expected_tensor {
  std::string name;
  tensor_role role;
  element_type type;
  std::vector<std::int64_t> shape;                 ///< in the order of the description
  std::array<std::size_t, most_dimensions> where;  ///< of each dimension: its place in the caller's
  bool is_sequence;
  std::array<std::int64_t, most_dimensions> packed;
};

/// One problem on one device, ready to run on tensors of its sizes.
class resolved_case {
 public:
  /// Throws invalid_argument, naming the tensor, for a shape, element type or layout that the case
  /// does not take, and for memory that is written and also belongs to another tensor.
  void require(given_tensors tensors) const;
  /// Device memory that run() needs beside the tensors.
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// The call, on tensors that require() took.
  void run(given_tensors tensors, void* workspace, cuda_stream stream) const;
  /// Why run() has nothing to do: all that it would write is empty.
  bool empty() const { return solved_ == nullptr; }
  std::string implementation() const { return implementation_; }
  std::string variant() const { return empty() ? "" : solved_->variant(); }

 private:
  friend class plan;
  std::vector<expected_tensor> expected_;
  std::string sizes_;  ///< what was read from the tensors: "batch 2 of q"
  std::string implementation_;
  std::unique_ptr<operation_case> solved_;
  std::size_t workspace_bytes_ = 0;
};

class plan {
 public:
  /// Throws invalid_argument for an operation, axis, value or tensor that there is not, naming
  /// those that there are.
  explicit plan(plan_request request);

  /// The case of these tensors, made where none of their sizes was met before. Safe from any
  /// thread. Throws invalid_argument where no implementation takes the problem, saying why each
  /// does not.
  std::shared_ptr<const resolved_case> resolve(given_tensors tensors);

  const std::string& name(std::size_t tensor) const { return request_.tensors[tensor]; }

 private:
  /// An axis whose value is the size of a tensor.
  struct bound_axis {
    axis_info axis;
    std::size_t tensor;
    std::size_t dimension;  ///< of the caller's tensor
  };
  /// Device, element type, and the sizes of the bound axes.
  static constexpr std::size_t most_key_parts = 16;
  using key = std::array<std::int64_t, most_key_parts>;
  struct key_hash {
    std::size_t operator()(const key& hashed) const;
  };

  std::vector<tensor_spec> specs(const axis_values& values, element_type io) const;
  void bind_axes();
  key key_of(given_tensors tensors) const;
  axis_values values_of(given_tensors tensors) const;
  std::vector<expected_tensor> expect(const std::vector<tensor_spec>& specs) const;
  std::shared_ptr<const resolved_case> make(given_tensors tensors) const;
  void choose_implementation(const axis_values& values, device_kind device, element_type io,
                             resolved_case& made) const;

  const plan_request request_;
  const operation& operation_;
  axis_values fixed_;
  std::vector<bound_axis> bound_;
  std::vector<int> ranks_;     ///< of each tensor
  std::size_t io_tensor_ = 0;  ///< the one whose element type is that of inputs and output
  std::mutex mutex_;
  std::unordered_map<key, std::shared_ptr<const resolved_case>, key_hash> met_;
};

/// "q: bfloat16 [2, 16, 100, 16] on cuda:0, strides [..] at 0x..", for messages.
std::string text_of(std::string_view name, const DLTensor& tensor);
/// cpu or cuda; throws invalid_argument, naming the tensor, for other devices.
device_kind device_of(std::string_view name, const DLTensor& tensor);

}  // namespace based::python
