// NVTX ranges, for Nsight; nothing where the toolkit's header is absent.
#pragma once

#include <string>

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define BASED_HAS_NVTX 1
#endif

namespace based {

/// A push/pop range on this thread.
class nvtx_range {
 public:
#ifdef BASED_HAS_NVTX
  explicit nvtx_range(const std::string& name) {
    nvtxRangePushA(name.c_str());
  }
  ~nvtx_range() {
    nvtxRangePop();
  }
#else
  explicit nvtx_range(const std::string&) {}
#endif
  nvtx_range(const nvtx_range&) = delete;
  nvtx_range& operator=(const nvtx_range&) = delete;
};

}  // namespace based
