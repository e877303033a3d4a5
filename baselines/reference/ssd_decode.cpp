#include "baselines/reference/ssd_decode.h"

#include <cmath>

#include "baselines/reference/activations.h"
#include "baselines/reference/comparison.h"

namespace based::reference {

ssd_decode_result ssd_decode_step(const ssd_decode_problem& problem, const ssd_decode_head& head) {
  const int rows = problem.head_dim, columns = problem.state_dim;
  double dt = head.dt;
  if (problem.bias) dt += head.dt_bias;
  if (problem.softplus) dt = softplus(dt);
  const double decay = std::exp(dt * head.a);
  ssd_decode_result result{
      .y = std::vector<double>(static_cast<std::size_t>(rows)),
      .state = std::vector<double>(head.state, head.state + problem.head_state())};
  for (int p = 0; p < rows; ++p) {
    double& y = result.y[static_cast<std::size_t>(p)];
    for (int s = 0; s < columns; ++s) {
      double& state = result.state[static_cast<std::size_t>(p) * columns + s];
      state = decay * state + dt * head.x[p] * head.b[s];
      y += state * head.c[s];
    }
    if (problem.skip) y += static_cast<double>(head.d) * head.x[p];
    if (problem.gate) y *= silu(head.z[p]);
  }
  return result;
}

}  // namespace based::reference

namespace based {

verification ssd_decode::compare(const ssd_decode_problem& p, const tensor_access& tensors,
                                 const sampling& sampled) {
  const std::int64_t per_state = p.head_state();
  const sampled_part part =
      sample_part(p.batch_heads(), 1, 5.0 * static_cast<double>(per_state), sampled);
  worst_error worst;
  for (const std::int64_t head : part.heads) {
    const std::int64_t of_batch = head % p.heads;
    const std::int64_t group = head / p.heads * p.groups + p.group_of(of_batch);
    const auto of_head = [&](std::string_view name) {
      return tensors.get(name, head * p.head_dim, p.head_dim);
    };
    const auto of_group = [&](std::string_view name) {
      return tensors.get(name, group * p.state_dim, p.state_dim);
    };
    const auto scalar = [&](std::string_view name, bool is_there) {
      return is_there ? tensors.get(name, of_batch, 1)[0] : 0;
    };
    const auto x = of_head("x"), b = of_group("b"), c = of_group("c");
    const auto z = p.gate ? of_head("z") : std::vector<float>();
    const auto state = tensors.before("state", head * per_state, per_state);
    const reference::ssd_decode_result step =
        reference::ssd_decode_step(p, {.x = x.data(),
                                       .dt = tensors.get("dt", head, 1)[0],
                                       .b = b.data(),
                                       .c = c.data(),
                                       .z = z.data(),
                                       .a = scalar("a", true),
                                       .dt_bias = scalar("dt_bias", p.bias),
                                       .d = scalar("d", p.skip),
                                       .state = state.data()});
    worst["y"].add_all(of_head("y"), step.y);
    worst["state"].add_all(tensors.get("state", head * per_state, per_state), step.state);
  }
  return worst.found();
}

namespace {
const operation_registration<ssd_decode> registered;
}  // namespace

}  // namespace based
