#include "kernels/state_space/selective_scan/launch.cuh"

namespace based::scan {

template void launch<1>(const selective_scan_args<bf16>&, const scan_plan&, cuda_stream);

}  // namespace based::scan
