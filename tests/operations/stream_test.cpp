// What every CUDA implementation owes its caller on a stream: it only enqueues there, so that its
// call can be captured into a graph and runs beside another one.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <memory>
#include <vector>

#include "kernels/core/cuda_check.h"
#include "tests/operations/candidates.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::IsEmpty;

constexpr device_kind device = device_kind::cuda;

/// A stream that does not wait for the default one, nor that one for it.
class side_stream {
 public:
  side_stream() { BASED_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~side_stream() { cudaStreamDestroy(stream_); }
  side_stream(const side_stream&) = delete;
  side_stream& operator=(const side_stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class streams : public candidate_test {
 protected:
  /// It has the bits of a call on the default stream, or where those vary its result is right.
  void expect_done(const checked_case& call, const std::vector<std::vector<std::byte>>& expected) {
    EXPECT_THAT(call.problems(GetParam().info.tolerance), IsEmpty());
    if (GetParam().info.deterministic) {
      EXPECT_EQ(call.written(), expected);
    }
  }
};

TEST_P(streams, replay_a_captured_call) {
  for_each_case(typical_points(GetParam()), [&](const operation_case& solved) {
    checked_case call(solved, device, sequence_order::bhnd);
    call.run();
    const auto expected = call.written();
    const auto bound = call.bound();
    const side_stream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    BASED_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    bound(stream);
    BASED_CUDA(cudaStreamEndCapture(stream, &graph));
    BASED_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (int i = 0; i < 3; ++i) {
      call.reset();
      support::synchronize(device);
      BASED_CUDA(cudaGraphLaunch(executable, stream));
      support::synchronize(device);
      expect_done(call, expected);
    }
    BASED_CUDA(cudaGraphExecDestroy(executable));
    BASED_CUDA(cudaGraphDestroy(graph));
  });
}

TEST_P(streams, run_beside_each_other) {
  for_each_case(typical_points(GetParam()), [&](const operation_case& solved) {
    constexpr int count = 2;
    const side_stream used[count];
    std::vector<std::unique_ptr<checked_case>> calls;
    for (int i = 0; i < count; ++i) {
      calls.push_back(std::make_unique<checked_case>(solved, device, sequence_order::bhnd));
    }
    calls[0]->run();
    const auto expected = calls[0]->written();
    for (int repeat = 0; repeat < 5; ++repeat) {
      for (const auto& call : calls) call->reset();
      support::synchronize(device);
      for (int i = 0; i < count; ++i) calls[i]->bound()(used[i]);
      support::synchronize(device);
      for (const auto& call : calls) expect_done(*call, expected);
    }
  });
}

BASED_FOR_CANDIDATES(streams, candidates([](const candidate& each) {
                       return each.info.device == device_kind::cuda;
                     }));

}  // namespace
}  // namespace based
