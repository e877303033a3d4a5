// What every CUDA implementation owes its caller on a stream: it only enqueues there, so that its
// call can be captured into a graph and runs beside another one.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <atomic>
#include <cstddef>
#include <iterator>
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

/// Holds streams until it is opened, so that what was queued on them starts together.
class gate {
 public:
  template <class Streams>
  explicit gate(const Streams& held) {
    const auto wait = [](void* open) { static_cast<std::atomic<bool>*>(open)->wait(false); };
    BASED_CUDA(cudaLaunchHostFunc(own_, wait, &open_));
    cudaEvent_t opened = nullptr;
    BASED_CUDA(cudaEventCreateWithFlags(&opened, cudaEventDisableTiming));
    BASED_CUDA(cudaEventRecord(opened, own_));
    for (const cudaStream_t each : held) BASED_CUDA(cudaStreamWaitEvent(each, opened));
    BASED_CUDA(cudaEventDestroy(opened));
  }
  /// Opens it, and waits until that has been seen.
  ~gate() {
    open_ = true;
    open_.notify_all();
    cudaStreamSynchronize(own_);
  }
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;

 private:
  std::atomic<bool> open_ = false;
  side_stream own_;
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
    // Of other inputs, so that it shows where one reads what the other has written.
    constexpr float factors[] = {1.0f, 0.5f};
    const side_stream used[std::size(factors)];
    std::vector<std::unique_ptr<checked_case>> calls;
    std::vector<std::vector<std::vector<std::byte>>> expected;
    for (const float factor : factors) {
      calls.push_back(std::make_unique<checked_case>(solved, device, sequence_order::bhnd, factor));
      calls.back()->run();
      expected.push_back(calls.back()->written());
    }
    for (int repeat = 0; repeat < 5; ++repeat) {
      for (const auto& call : calls) call->reset();
      support::synchronize(device);
      {
        const gate together(used);
        for (std::size_t i = 0; i < calls.size(); ++i) calls[i]->bound()(used[i]);
      }
      support::synchronize(device);
      for (std::size_t i = 0; i < calls.size(); ++i) expect_done(*calls[i], expected[i]);
    }
  });
}

BASED_FOR_CANDIDATES(streams, candidates([](const candidate& each) {
                       return each.info.device == device_kind::cuda;
                     }));

}  // namespace
}  // namespace based
