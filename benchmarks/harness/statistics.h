// Order statistics of timing samples: no assumption on their distribution.
#pragma once

#include <vector>

namespace based {

struct summary {
  double median;
  double low;  ///< 95 % confidence interval of the median, from order statistics
  double high;
  double cv;  ///< standard deviation over mean

  /// Half the interval's width over the median.
  double relative_half_width() const { return (high - low) / 2 / median; }
};

/// The summary of at least one sample. With fewer than six samples no 95 % interval of order
/// statistics exists; the interval is then the whole range.
summary summarize(std::vector<double> samples);

/// The median, of at least one sample.
double median(std::vector<double> samples);

}  // namespace based
