#include "kernels/attention/forward_sm90/split_keys.cuh"

#include "kernels/attention/forward_sm90/launch.cuh"

namespace based::attention_sm90 {
namespace {

template <class Config, class T>
void launch_splits(const attention_args<T>& args, const forward_plan& plan, cuda_stream stream) {
  using storage = split_storage<Config, T>;
  launch_kernel(split_keys_kernel<Config, T>,
                {.grid = static_cast<unsigned>(plan.order.items()),
                 .block = Config::threads,
                 .shared_bytes = sizeof(storage)},
                stream, make_parameters<typename storage::tile::layout>(args, plan), args.o);
}

}  // namespace

template <class T>
void launch_split_keys(const attention_args<T>& args, const forward_plan& plan,
                       cuda_stream stream) {
  args.problem.head_dim == 128 ? launch_splits<split_keys<128>>(args, plan, stream)
                               : launch_splits<split_keys<64>>(args, plan, stream);
}
template void launch_split_keys(const attention_args<bf16>&, const forward_plan&, cuda_stream);
template void launch_split_keys(const attention_args<fp16>&, const forward_plan&, cuda_stream);

}  // namespace based::attention_sm90
