// One implementation on one problem of any operation, run on poisoned tensors between guard bytes
// and compared with the float64 reference.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/operation.h"
#include "tests/support/guarded_buffer.h"

namespace based::support {

/// The tensors of a case on its device. Inputs are random, those that are sequences of vectors
/// times `factor`; all else is poisoned.
class checked_case final : public tensor_access {
 public:
  /// `solved` is supported and outlives this.
  checked_case(const operation_case& solved, device_kind device, sequence_order order,
               float factor = 1);

  /// One call. Throws what it throws.
  void run();
  /// The call, to be made on a stream. Throws what making it throws.
  std::function<void(cuda_stream)> bound();
  /// Before the first call or between two: all tensors hold what they held at first.
  void reset();
  /// What is wrong after run(), a line each: damaged guards, a changed input, an element that is
  /// not finite or was never written, an error over `tolerance` (of a single row: over
  /// comparison::row_allowance times that).
  std::vector<std::string> problems(double tolerance) const;
  /// The bytes of all tensors that a call writes.
  std::vector<std::vector<std::byte>> written() const;
  /// Whether a call has written to any of them.
  bool is_untouched() const;

  /// Elements of any tensor, in the order of its shape. What was written to one that is not an
  /// output counts from then on as what it held at first.
  void write(std::string_view name, std::int64_t offset, std::span<const float> values);

  /// The call's arguments, which a test may spoil.
  std::map<std::string, placed_tensor, std::less<>>& placed() { return placed_; }
  void* workspace() { return workspace_->data(); }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// The call on spoilt arguments.
  void run(void* workspace, std::size_t workspace_bytes);

  std::vector<float> get(std::string_view name, std::int64_t offset,
                         std::int64_t count) const override;
  /// The whole of a tensor that there is.
  std::vector<float> get(std::string_view name) const;
  std::vector<float> before(std::string_view name, std::int64_t offset,
                            std::int64_t count) const override;
  void put(std::string_view name, std::int64_t offset, std::span<const float> values) override;

 private:
  class result;
  struct tensor {
    tensor_spec spec;
    std::array<std::int64_t, most_dimensions> strides;
    std::vector<float> before;  ///< in the order of the shape; empty of an output
    std::unique_ptr<guarded_buffer<std::byte>> memory;
  };

  /// Null if there is no such tensor.
  template <class Tensors>
  static auto* find(Tensors& tensors, std::string_view name) {
    const auto found =
        std::ranges::find(tensors, name, [](const tensor& each) { return each.spec.name; });
    return found == tensors.end() ? nullptr : &*found;
  }
  /// Rounds the values, one an element, to what the tensor holds.
  static void upload(const tensor& to, std::vector<float>& values);
  static std::vector<float> download(const tensor& from);

  const operation_case& case_;
  device_kind device_;
  std::vector<tensor> tensors_;
  std::map<std::string, placed_tensor, std::less<>> placed_;
  std::size_t workspace_bytes_;
  std::unique_ptr<guarded_buffer<std::byte>> workspace_;
};

}  // namespace based::support
