"""Is B faster or slower than A? The statistics of every comparison, of two files or of two builds.

Processes of one binary differ by more than the samples of one process show: clocks, placement and
temperature are drawn anew with each process. So where several processes of each side ran, the unit
is the process: its median is one number, and `compare_processes` has an exact rank interval over
these numbers, which assumes no distribution and does not follow one process that was disturbed.
Where one process of each side ran, `compare_samples` knows its samples alone, and what processes
differ by has to come from elsewhere.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_RESAMPLES = 2000

# Relative difference that two processes of one binary may show though nothing has changed. Measured
# on an H200, five processes compared pairwise: single rows differed by so much at most. A CPU that
# other programs use as well differs by more.
BURST, SHORT_BURST, STEADY, POWER_CAPPED, CPU = 0.007, 0.01, 0.01, 0.033, 0.05
SHORT_US = 100.0  # a burst shorter than this repeats less well


@dataclass(frozen=True)
class Interval:
    """The ratio of B's time to A's, and its confidence interval; an end that the data do not bound
    is 0 or infinite."""

    ratio: float
    low: float
    high: float

    def verdict(self, margin: float) -> str:
        """SLOWER or FASTER where the whole interval lies beyond a relative `margin` of equality,
        SAME where it lies inside, UNDECIDED where it lies across."""
        most = 1 + margin
        if self.low > most:
            return "SLOWER"
        if self.high < 1 / most:
            return "FASTER"
        return "SAME" if 1 / most <= self.low and self.high <= most else "UNDECIDED"

    def widened(self, margin: float) -> "Interval":
        return Interval(self.ratio, self.low / (1 + margin), self.high * (1 + margin))

    def __str__(self) -> str:
        if math.isnan(self.ratio):
            return "–"
        if self.low <= 0 or math.isinf(self.high) or math.isnan(self.low):
            return f"{self.ratio:.3f}"
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def compare_processes(a: Sequence[float], b: Sequence[float]) -> Interval:
    """From the medians of processes of A and of B, at least one each.

    The ratio is the median of all quotients of a B by an A (the Hodges-Lehmann estimate on a
    logarithmic scale); the interval leaves out as many of the smallest and of the largest quotients
    as the exact distribution of the Mann-Whitney statistic allows. It exists from four processes a
    side."""
    quotients = np.sort(np.divide.outer(np.asarray(b, float), np.asarray(a, float)).ravel())
    ratio = math.exp(float(np.median(np.log(quotients))))
    left_out = _quotients_left_out(len(a), len(b))
    if left_out < 0:
        return Interval(ratio, 0.0, math.inf)
    return Interval(ratio, float(quotients[left_out]), float(quotients[-1 - left_out]))


def compare_samples(a: np.ndarray, b: np.ndarray, random: np.random.Generator) -> Interval:
    """From the samples of one process each: the ratio of medians, its percentile bootstrap.
    What changes between processes is not in it."""
    ratios = _medians(b, random) / _medians(a, random)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(float(np.median(b) / np.median(a)), float(low), float(high))


def process_spread(medians: Sequence[float]) -> float:
    """What two processes of one binary differ by, relative, in 19 of 20 pairs: from the medians of
    at least two processes."""
    return float(1.96 * math.sqrt(2) * np.std(np.log(medians), ddof=1))


def default_spread(device: str, burst: bool, time_us: float, power_capped: bool) -> float:
    """The relative difference of two processes of one binary, where it was not measured."""
    if device == "cpu":
        return CPU
    if burst:
        return BURST if time_us >= SHORT_US else SHORT_BURST
    return POWER_CAPPED if power_capped else STEADY


def _medians(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Medians of resamples drawn with replacement."""
    return np.median(random.choice(samples, (_RESAMPLES, len(samples))), axis=1)


@functools.cache
def _quotients_left_out(m: int, n: int) -> int:
    """How many quotients the interval leaves out at each end; -1: none has the confidence."""
    orders = math.comb(m + n, m)
    below, left_out = 0, -1
    for u, count in enumerate(_orders_by_statistic(m, n)):
        below += count
        if 2 * below > (1 - CONFIDENCE) * orders:
            break
        left_out = u
    return left_out


@functools.cache
def _orders_by_statistic(m: int, n: int) -> tuple[int, ...]:
    """How many of the orders of m and n numbers give the Mann-Whitney statistic 0, 1, ... m * n."""
    if m == 0 or n == 0:
        return (1,)
    counts = [0] * (m * n + 1)
    for u, count in enumerate(_orders_by_statistic(m - 1, n)):  # the largest is of the m numbers
        counts[u + n] += count
    for u, count in enumerate(_orders_by_statistic(m, n - 1)):
        counts[u] += count
    return tuple(counts)
