"""Row by row: is B faster or slower than A?

The ratio is B's median over A's, with a 99 % bootstrap interval from the raw samples. A row is
FASTER or SLOWER where the whole interval lies beyond 1 % of equality, and otherwise SAME: the
samples of one run do not see what changes between two (clocks, placement), so less is not called.
LOST: A has a time and B has none; GAINED the reverse; UNKNOWN: too few samples to tell.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plots import style
from plots.files import UsageError
from plots.results import Results, groups, shape_text

CONFIDENCE = 0.99
NOISE = 0.01  # relative; what two runs of one binary may differ by
_RESAMPLES = 2000
_FEWEST_SAMPLES = 3
_SEED = 2402_18668
_SAME_WORK = ("nominal_GFLOP", "compulsory_MB")


@dataclass(frozen=True)
class Verdict:
    key: str
    label: str
    a_us: float
    b_us: float
    ratio: float
    low: float
    high: float
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    verdicts: list[Verdict]
    only_a: list[str]  # keys
    only_b: list[str]
    threshold: float  # percent

    @property
    def regressions(self) -> list[Verdict]:
        """Rows lost, and rows SLOWER by more than the threshold."""
        limit = 1 + self.threshold / 100
        return [
            v
            for v in self.verdicts
            if v.verdict == "LOST" or (v.verdict == "SLOWER" and v.ratio > limit)
        ]

    def text(self) -> str:
        """A line a row, then the counts."""
        width = max(len(v.label) for v in self.verdicts)
        lines = [
            f"{v.label:<{width}}  {_us(v.a_us):>9}  {_us(v.b_us):>9}  {_interval(v):<24} "
            f"{v.verdict}{': ' + v.note if v.note else ''}"
            for v in self.verdicts
        ]
        heading = f"{'row':<{width}}  {'A':>9}  {'B':>9}  {'B / A (99 %)':<24} verdict"
        counts = pd.Series([v.verdict for v in self.verdicts]).value_counts().sort_index()
        lines = [heading, *lines, ", ".join(f"{n} {verdict}" for verdict, n in counts.items())]
        for name, keys in (("A", self.only_a), ("B", self.only_b)):
            if keys:
                lines.append(f"only in {name}: {len(keys)} rows, as {keys[0]}")
        if self.regressions:
            worst = max(
                self.regressions, key=lambda v: math.inf if v.verdict == "LOST" else v.ratio
            )
            lines.append(
                f"{len(self.regressions)} regressions beyond {self.threshold:g} %; "
                f"worst: {worst.label}"
            )
        return "\n".join(lines) + "\n"


def compare(a: Results, b: Results, threshold: float, force: bool = False) -> Comparison:
    """Compare B against A; UsageError where they are not comparable (unless forced)."""
    left, right = a.rows.set_index("key"), b.rows.set_index("key")
    common = [key for key in left.index if key in right.index]
    if not common:
        raise UsageError(
            f"{left['file'].iloc[0]} and {right['file'].iloc[0]} have no row in common"
        )
    if not force:
        _refuse_different(a, b, left.loc[common], right.loc[common])
    random = np.random.default_rng(_SEED)
    return Comparison(
        [_verdict(key, left.loc[key], right.loc[key], random) for key in common],
        [key for key in left.index if key not in right.index],
        [key for key in right.index if key not in left.index],
        threshold,
    )


def _refuse_different(a: Results, b: Results, left: pd.DataFrame, right: pd.DataFrame) -> None:
    of_a = {group.device: group for group in groups(a)}
    of_b = {group.device: group for group in groups(b)}
    for device in sorted(of_a.keys() & of_b.keys() & set(left["device"])):
        for what, first, second in (
            ("device", of_a[device].cards[0], of_b[device].cards[0]),
            ("cache policy", of_a[device].policy, of_b[device].policy),
        ):
            if first != second:
                raise UsageError(
                    f"A and B differ in {what}: {first} and {second}; compare like with like, "
                    "or give --force"
                )
    for column in _SAME_WORK:
        first, second = left[column], right[column]
        differs = (first / second - 1).abs() > 1e-6
        if differs.any():
            key = differs.idxmax()
            raise UsageError(
                f"A and B differ in the {column} of {key}: {first[key]:g} and {second[key]:g}; "
                "their models of work are not the same, or give --force"
            )


def _verdict(key: str, a: pd.Series, b: pd.Series, random: np.random.Generator) -> Verdict:
    label = f"{a['operation']} {a['implementation']} {a['device']} {shape_text(a)}"
    if a["extras"]:
        label += f" ({a['extras']})"
    nothing = (math.nan, math.nan, math.nan)
    times = (a["time_us"], b["time_us"])
    if a["status"] != "ok" or b["status"] != "ok":
        if a["status"] == b["status"]:
            return Verdict(key, label, *times, *nothing, "SAME", f"{a['status']} in both")
        verdict = "LOST" if a["status"] == "ok" else "GAINED" if b["status"] == "ok" else "SAME"
        return Verdict(key, label, *times, *nothing, verdict, f"{a['status']} -> {b['status']}")
    if min(len(a["samples_us"]), len(b["samples_us"])) < _FEWEST_SAMPLES:
        ratio = b["time_us"] / a["time_us"]
        note = f"needs {_FEWEST_SAMPLES} samples_us in both"
        return Verdict(key, label, *times, ratio, math.nan, math.nan, "UNKNOWN", note)
    ratio, low, high = ratio_of_medians(a["samples_us"], b["samples_us"], random)
    verdict = "SLOWER" if low > 1 + NOISE else "FASTER" if high < 1 - NOISE else "SAME"
    return Verdict(key, label, *times, ratio, low, high, verdict)


def ratio_of_medians(
    a: np.ndarray, b: np.ndarray, random: np.random.Generator
) -> tuple[float, float, float]:
    """median(b) / median(a) and its percentile-bootstrap interval."""
    ratios = _medians(b, random) / _medians(a, random)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(np.median(b) / np.median(a)), float(low), float(high)


def _medians(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Medians of resamples drawn with replacement."""
    return np.median(random.choice(samples, (_RESAMPLES, len(samples))), axis=1)


def _us(us: float) -> str:
    return "–" if math.isnan(us) else style.time_text(us)


def _interval(v: Verdict) -> str:
    if math.isnan(v.ratio):
        return "–"
    if math.isnan(v.low):
        return f"{v.ratio:.3f}"
    return f"{v.ratio:.3f} [{v.low:.3f}, {v.high:.3f}]"
