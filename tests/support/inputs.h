// Test inputs: values that bf16 holds exactly, so that one set serves every implementation.
#pragma once

#include <cstdint>
#include <vector>

namespace based::support {

/// Standard normal values times `deviation`, rounded to bf16. Element i depends on (seed, i) only.
std::vector<float> normal_values(std::int64_t count, std::uint64_t seed, float deviation = 1.0f);

}  // namespace based::support
