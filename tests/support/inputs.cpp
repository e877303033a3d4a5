#include "tests/support/inputs.h"

#include <cmath>
#include <numbers>

#include "kernels/core/bf16.h"

namespace based::support {
namespace {

/// The finaliser of SplitMix64: a counter in, 64 well-mixed bits out.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// In (0, 1], from the upper 32 bits or the lower.
double unit(std::uint32_t bits) {
  return (bits + 1.0) * 0x1p-32;
}

}  // namespace

std::vector<float> normal_values(std::int64_t count, std::uint64_t seed, float deviation) {
  std::vector<float> values(count);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t bits = mix(mix(seed + 1) + static_cast<std::uint64_t>(i));
    const double radius = std::sqrt(-2 * std::log(unit(static_cast<std::uint32_t>(bits >> 32))));
    const double angle = 2 * std::numbers::pi * unit(static_cast<std::uint32_t>(bits));
    const auto normal = static_cast<float>(radius * std::cos(angle));
    values[i] = to_float(to_bf16(deviation * normal));
  }
  return values;
}

}  // namespace based::support
