// What the studies share: filled tensors, calls of an implementation, the sampled comparison.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite.h"
#include "benchmarks/harness/verify.h"
#include "kernels/common/prefill.h"

namespace based {

/// The registered implementations of Op on a device that the command line selects, `based` first
/// and the others by name.
template <class Op>
std::vector<implementation<Op>> implementations_of(device_kind device,
                                                   const std::vector<std::string>& names) {
  std::vector<implementation<Op>> chosen;
  for (const implementation<Op>& each : registry<Op>()) {
    if (each.device() == device && selected(each.name, names)) chosen.push_back(each);
  }
  std::sort(chosen.begin(), chosen.end(), [](const auto& a, const auto& b) {
    return std::pair(a.name != "based", a.name) < std::pair(b.name != "based", b.name);
  });
  return chosen;
}

/// The product of a sweep's axes, the sequence length running fastest.
inline std::vector<prefill_shape> shapes_of(const sweep& axes) {
  std::vector<prefill_shape> shapes;
  for (std::int64_t batch : axes.batch) {
    for (std::int64_t heads : axes.heads) {
      for (std::int64_t seqlen : axes.seqlen) shapes.push_back({batch, heads, seqlen});
    }
  }
  return shapes;
}

/// Calls an implementation for element type T on the backend's stream.
template <class T, class Op>
void call(const implementation<Op>& called, const typename Op::template args<T>& args,
          const backend& device) {
  if constexpr (std::is_same_v<T, float>) {
    std::get<typename implementation<Op>::cpu_function>(called.run)(args);
  } else {
    std::get<typename implementation<Op>::cuda_function>(called.run)(args, device.stream());
  }
}

/// The tensors' random streams: which input is which.
enum class tensor_id : std::uint64_t { q = 1, k, v, initial_kv, initial_z };

template <class T>
memory random_tensor(backend& device, std::int64_t count, std::uint64_t seed, tensor_id id,
                     float stddev) {
  memory tensor = device.allocate(static_cast<std::size_t>(count) * sizeof(T));
  device.fill(tensor.data(), element_of<T>, count,
              random_stream(seed, static_cast<std::uint64_t>(id), stddev));
  return tensor;
}

/// A copy of a device tensor, on the same device.
inline memory duplicate(backend& device, const memory& tensor) {
  memory copy = device.allocate(tensor.bytes());
  if (tensor.bytes() > 0) device.copy(copy.data(), tensor.data(), tensor.bytes());
  return copy;
}

/// `count` elements of a device tensor from `offset`, as fp32 on the host.
template <class T>
std::vector<float> fetch(backend& device, const T* tensor, std::int64_t offset,
                         std::int64_t count) {
  std::vector<T> raw(static_cast<std::size_t>(count));
  device.download(raw.data(), tensor + offset, raw.size() * sizeof(T));
  std::vector<float> values(raw.size());
  std::transform(raw.begin(), raw.end(), values.begin(), [](T value) { return to_float(value); });
  return values;
}

}  // namespace based
