#include "kernels/state_space/ssd_sm90/launch.cuh"

namespace based::ssd_sm90 {

template void launch<128>(const ssd_args<bf16>&, const ssd_plan&, cuda_stream);

}  // namespace based::ssd_sm90
