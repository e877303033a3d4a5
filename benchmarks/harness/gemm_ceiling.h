// The arithmetic ceiling: a bf16 matrix product through cuBLAS.
#pragma once

#include <string>
#include <variant>

#include "benchmarks/harness/backend.h"

namespace based {

/// FLOP/s of a bf16 8192^3 product with fp32 accumulation on random data, or why there is none.
/// cuBLAS is loaded at run time, so that the binary starts without it.
std::variant<double, std::string> measure_gemm(backend& device);

}  // namespace based
