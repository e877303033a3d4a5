// Which way a matrix operand lies in memory. Host-includable.
#pragma once

namespace based::ptx {

/// Which dimension of a wgmma operand is contiguous in shared memory: K, or M (of A) or N (of B).
enum class major { k = 0, mn = 1 };

}  // namespace based::ptx
