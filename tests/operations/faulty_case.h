// Cases that do not do what they should, as proof that the checks find it.
#pragma once

#include "kernels/core/operation.h"

namespace based {

/// A case whose call is followed by a fault; what is expected of it is what the right case says.
class faulty_case final : public operation_case {
 public:
  using fault = std::function<void(const placed_tensors&)>;

  /// Calls `right` and then the fault.
  faulty_case(const operation_case& right, fault wrong)
      : faulty_case(right, right, std::move(wrong)) {}
  /// Calls `other`, a case of other options, where `right` is asked for.
  faulty_case(const operation_case& right, const operation_case& other)
      : faulty_case(right, other, [](const placed_tensors&) {}) {}

  operation_parameters parameters() const override { return right_.parameters(); }
  unsupported_reason unsupported() const override { return right_.unsupported(); }
  std::vector<tensor_spec> tensors() const override { return right_.tensors(); }
  operation_work work() const override { return right_.work(); }
  double executed_flops() const override { return right_.executed_flops(); }
  std::size_t workspace_bytes() const override { return called_.workspace_bytes(); }
  std::string variant() const override { return right_.variant(); }
  void arrange(tensor_access& tensors) const override { right_.arrange(tensors); }
  verification compare(const tensor_access& tensors, const sampling& sampled) const override {
    return right_.compare(tensors, sampled);
  }
  std::function<void(cuda_stream)> bind(const placed_tensors& tensors, void* workspace,
                                        std::size_t workspace_bytes) const override {
    return [call = called_.bind(tensors, workspace, workspace_bytes), wrong = wrong_,
            tensors](cuda_stream stream) {
      call(stream);
      wrong(tensors);
    };
  }

 private:
  faulty_case(const operation_case& right, const operation_case& called, fault wrong)
      : right_(right), called_(called), wrong_(std::move(wrong)) {}

  const operation_case& right_;
  const operation_case& called_;
  fault wrong_;
};

}  // namespace based
