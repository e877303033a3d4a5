#include "kernels/attention/forward_sm90/band.cuh"

#include "kernels/attention/forward_sm90/launch.cuh"

namespace based::attention_sm90 {
namespace {

template <class Config, class T>
void launch_config(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream) {
  using storage = band_storage<Config, T>;
  launch_kernel(band_kernel<Config, T>,
                {.grid = static_cast<unsigned>(plan.ctas),
                 .block = cta_threads<Config>,
                 .shared_bytes = sizeof(storage)},
                stream, make_parameters<typename storage::tile::layout>(args, plan));
}

}  // namespace

template <class T>
void launch_band(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream) {
  args.problem.head_dim == 128 ? launch_config<band<128>>(args, plan, stream)
                               : launch_config<band<64>>(args, plan, stream);
}
template void launch_band(const attention_args<bf16>&, const forward_plan&, cuda_stream);
template void launch_band(const attention_args<fp16>&, const forward_plan&, cuda_stream);

}  // namespace based::attention_sm90
