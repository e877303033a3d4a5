// The causal convolution in float64, the oracle of its implementations: the sum of
// kernels/state_space/causal_conv.h as it is written.
#include "kernels/state_space/causal_conv.h"

#include <cmath>
#include <vector>

#include "baselines/reference/activations.h"
#include "baselines/reference/comparison.h"

namespace based {

void causal_conv::arrange(const conv_problem&, tensor_access&) {}

verification causal_conv::compare(const conv_problem& p, const tensor_access& tensors,
                                  const sampling& sampled) {
  const std::int64_t dim = p.channels, kept = p.taps - 1;
  const double row_flops = 2.0 * p.taps * static_cast<double>(dim);
  sampling chosen = sampled;
  // An earlier state reaches few rows: where many are compared, these are among them.
  if (chosen.row_step > 0) chosen.row_step = 1;
  const sampled_part part =
      sample_part(p.batch, p.seqlen, 2 * row_flops / static_cast<double>(p.seqlen + 1), chosen);
  const std::vector<float> weight = tensors.get("weight", 0, p.taps * dim);
  const std::vector<float> bias = tensors.get("bias", 0, dim);
  worst_error worst;
  std::vector<double> y(part.rows.size() * static_cast<std::size_t>(dim));
  for (const std::int64_t b : part.heads) {
    const auto x = tensors.get("x", b * p.seqlen * dim, p.seqlen * dim);
    const auto initial = tensors.get("initial_state", b * kept * dim, kept * dim);
    /// Input n, the state's from -kept on.
    const auto input = [&](std::int64_t n, std::int64_t d) -> double {
      if (n >= 0) return x[static_cast<std::size_t>(n * dim + d)];
      return p.initial_state ? initial[static_cast<std::size_t>((n + kept) * dim + d)] : 0.0f;
    };
    std::size_t at = 0;
    for (const std::int64_t n : part.rows) {
      for (std::int64_t d = 0; d < dim; ++d) {
        double sum = p.bias ? bias[static_cast<std::size_t>(d)] : 0.0f;
        for (std::int64_t k = 0; k < p.taps; ++k) {
          sum += weight[static_cast<std::size_t>(k * dim + d)] * input(n - kept + k, d);
        }
        y[at++] = p.silu ? reference::silu(sum) : sum;
      }
    }
    worst["y"].add_rows(tensors.get("y", b * p.seqlen * dim, p.seqlen * dim), y, part.rows,
                        static_cast<int>(dim));
    if (!p.final_state) continue;
    std::vector<double> last;
    for (std::int64_t n = p.seqlen - kept; n < p.seqlen; ++n) {
      for (std::int64_t d = 0; d < dim; ++d) last.push_back(input(n, d));
    }
    worst["final_state"].add_all(tensors.get("final_state", b * kept * dim, kept * dim), last);
  }
  return worst.found();
}

namespace {
const operation_registration<causal_conv> registered;
}  // namespace

}  // namespace based
