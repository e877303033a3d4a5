#include "benchmarks/harness/backend.h"

#include <algorithm>

namespace based {

memory backend::allocate(std::size_t bytes) {
  if (bytes == 0) return {};
  void* data = allocate_raw(bytes);
  usage_.live += bytes;
  usage_.peak = std::max(usage_.peak, usage_.live);
  ++usage_.allocations;
  return {data, bytes, [this, data, bytes] {
            usage_.live -= bytes;
            free_raw(data);
          }};
}

}  // namespace based
