#include "kernels/attention/forward_sm90/launch.cuh"

namespace based::attention_sm90 {

template <class T>
void launch_blocks_256(const attention_args<T>& args, const forward_plan& plan,
                       cuda_stream stream) {
  args.problem.lse ? launch<blocks_256<true>>(args, plan, stream)
                   : launch<blocks_256<false>>(args, plan, stream);
}
template void launch_blocks_256(const attention_args<bf16>&, const forward_plan&, cuda_stream);
template void launch_blocks_256(const attention_args<fp16>&, const forward_plan&, cuda_stream);

}  // namespace based::attention_sm90
