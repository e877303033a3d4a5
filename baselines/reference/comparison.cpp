#include "baselines/reference/comparison.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/core/error.h"
#include "kernels/core/random.h"

namespace based {
namespace {

constexpr std::int64_t sampled_heads = 4;
constexpr std::int64_t fewest_rows = 64;

}  // namespace

std::vector<std::int64_t> scatter(std::int64_t size, std::int64_t count, std::uint64_t seed,
                                  const std::vector<std::int64_t>& marks) {
  std::vector<std::int64_t> chosen;
  if (count >= size) {
    chosen.resize(static_cast<std::size_t>(size));
    std::iota(chosen.begin(), chosen.end(), std::int64_t{0});
    return chosen;
  }
  std::set<std::int64_t> unique;
  for (std::int64_t mark : marks) {
    if (mark >= 0 && mark < size && static_cast<std::int64_t>(unique.size()) < count) {
      unique.insert(mark);
    }
  }
  for (std::uint64_t i = 0; static_cast<std::int64_t>(unique.size()) < count; ++i) {
    unique.insert(static_cast<std::int64_t>(mix64(seed + i) % static_cast<std::uint64_t>(size)));
  }
  chosen.assign(unique.begin(), unique.end());
  return chosen;
}

sampled_part sample_part(std::int64_t heads, std::int64_t seqlen, double flops_per_pair,
                         const sampling& sampled) {
  if (sampled.row_step > 0) {
    constexpr std::int64_t short_seqlen = 256;
    const std::int64_t step = seqlen <= short_seqlen ? 1 : sampled.row_step;
    sampled_part part = {.heads = scatter(heads, heads, sampled.seed, {}), .rows = {}};
    for (std::int64_t row = 0; row < seqlen; row += step) part.rows.push_back(row);
    if (part.rows.back() != seqlen - 1) part.rows.push_back(seqlen - 1);
    return part;
  }
  const double row_flops = static_cast<double>(seqlen + 1) / 2 * flops_per_pair;
  const auto affordable =
      static_cast<std::int64_t>(std::min(sampled.flops_budget / row_flops, 9e18));
  const std::int64_t some_heads = heads * seqlen <= affordable ? heads : sampled_heads;
  const std::vector<std::int64_t> head_marks = {0, heads - 1};
  const std::vector<std::int64_t> row_marks = {0,   seqlen - 1, 1,          15,         16,  31,
                                               32,  63,         64,         65,         127, 128,
                                               129, seqlen / 2, seqlen - 2, seqlen - 64};
  sampled_part part;
  part.heads = scatter(heads, some_heads, sampled.seed, head_marks);
  const auto compared = static_cast<std::int64_t>(part.heads.size());
  part.rows =
      scatter(seqlen, std::max(affordable / compared, fewest_rows), ~sampled.seed, row_marks);
  return part;
}

void error_norm::add_all(std::span<const float> values, std::span<const double> reference,
                         std::span<const double> terms) {
  BASED_REQUIRE(values.size() == reference.size(), "output and reference differ in size");
  BASED_REQUIRE(terms.empty() || terms.size() == values.size(), "output and terms differ in size");
  error_norm row;
  for (std::size_t i = 0; i < values.size(); ++i) row.add(values[i], reference[i]);
  difference_ += row.difference_;
  reference_ += row.reference_;
  row.reference_ = std::max(row.reference_, std::accumulate(terms.begin(), terms.end(), 0.0));
  // Not "less": a NaN is the worst of all.
  if (!(row.relative() <= worst_row_)) worst_row_ = row.relative();
}

void error_norm::add_rows(std::span<const float> values, std::span<const double> reference,
                          std::span<const std::int64_t> rows, int dim,
                          std::span<const double> terms) {
  const auto width = static_cast<std::size_t>(dim);
  BASED_REQUIRE(reference.size() == rows.size() * width, "reference has not these rows");
  for (std::size_t r = 0; r < rows.size(); ++r) {
    add_all(values.subspan(static_cast<std::size_t>(rows[r]) * width, width),
            reference.subspan(r * width, width),
            terms.empty() ? terms : terms.subspan(r * width, width));
  }
}

verification worst_error::found() const {
  verification worst = {.relative_error = 0, .nonfinite = 0, .where = "nothing"};
  double worst_row = 0;
  for (const auto& [output, error] : errors_) {
    if (!(error.worst_row() <= worst_row)) worst_row = error.worst_row();
    // Not "greater": a NaN is the worst of all.
    if (!(error.relative() < worst.relative_error)) worst = {error.relative(), 0, output};
    if (std::isnan(worst.relative_error)) break;
  }
  worst.worst_row_error = worst_row;
  return worst;
}

}  // namespace based
