// What a multiprocessor of Hopper has, and the card that is assumed where there is none. What more
// than one kernel's configuration is checked against stands here.
#pragma once

#include <cstddef>

namespace based::hopper {

inline constexpr int registers = 65536;                  // of 32 bits
inline constexpr std::size_t shared_bytes = 228 * 1024;  // shared memory
inline constexpr std::size_t reserved_cta_bytes = 1024;  // of it the system's, for each CTA
inline constexpr std::size_t most_cta_bytes = shared_bytes - reserved_cta_bytes;
inline constexpr int h200_multiprocessors = 132;

}  // namespace based::hopper
