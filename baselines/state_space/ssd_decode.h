// Baselines of Mamba-2's decode step (kernels/state_space/ssd_decode.h).
#pragma once

#include "kernels/state_space/ssd_decode.h"

namespace based::ssd_decode_baselines {

// naive: the definition, a pass over all heads for each operation: the state's update, its
// contraction with C, then skip and gate; in fp32, on the CPU.
//
// selective_state_update: the algorithm of Mamba's Triton kernel of that name, as it is called for
// Mamba-2, where A and dt have one value a head. A block takes a few rows of one head's state, 4
// (S = 128, 256) or 8 (S = 64), so that each thread of 4 warps (8 where S = 256) holds one 16-byte
// word; it decays and writes them and contracts them with C. It differs in one point: the
// exponential of the decay is the accurate one.

/// Exact but for the rounding of y.
inline constexpr double tolerance = 5e-3;

}  // namespace based::ssd_decode_baselines
