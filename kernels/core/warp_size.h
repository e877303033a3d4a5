// The size of a warp.
#pragma once

namespace based {

/// Threads of a warp, on every device that CUDA runs on.
inline constexpr int warp_size = 32;

}  // namespace based
