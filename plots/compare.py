"""Row by row: is B faster or slower than A?

The ratio is B's median over A's: of the bursts where both files have one, which repeat best, and
otherwise of the steady states. A file holds one process, and two processes of one binary differ by
more than their samples tell (clocks, placement, temperature). So the 95 % bootstrap interval of the
samples is widened by that spread: what the files' context has measured (spread_burst_pct and
spread_steady_pct, as scripts/compare names them), or else a default of the device: 0.7 % for bursts
(1 % below 100 us), 1 % for steady states and 3.3 % for those at the power cap, 5 % on the CPU.

A row is FASTER or SLOWER where the whole widened interval lies beyond equality; SAME where nothing
beyond the spread is seen, UNDECIDED where the samples are too few or too wide to say so. LOST: A
has a time and B has none; GAINED the reverse; UNKNOWN: no samples to tell. scripts/compare decides
what two files cannot: it runs several processes of both sides in turns.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plots import style
from plots.files import UsageError
from plots.results import Results, groups, shape_text
from plots.statistics import CONFIDENCE, Interval, compare_samples, default_spread

_FEWEST_SAMPLES = 3
_SEED = 2402_18668
_SAME_WORK = ("nominal_GFLOP", "compulsory_MB")
_NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Verdict:
    key: str
    label: str
    a_us: float
    b_us: float
    interval: Interval  # widened
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
            if v.verdict == "LOST" or (v.verdict == "SLOWER" and v.interval.ratio > limit)
        ]

    def text(self) -> str:
        """A line a row, then the counts."""
        width = max(len(v.label) for v in self.verdicts)
        lines = [
            f"{v.label:<{width}}  {_us(v.a_us):>9}  {_us(v.b_us):>9}  {v.interval!s:<24} "
            f"{v.verdict}{': ' + v.note if v.note else ''}"
            for v in self.verdicts
        ]
        title = f"B / A ({CONFIDENCE:.0%})"
        heading = f"{'row':<{width}}  {'A':>9}  {'B':>9}  {title:<24} verdict"
        counts = pd.Series([v.verdict for v in self.verdicts]).value_counts().sort_index()
        lines = [heading, *lines, ", ".join(f"{n} {verdict}" for verdict, n in counts.items())]
        for name, keys in (("A", self.only_a), ("B", self.only_b)):
            if keys:
                lines.append(f"only in {name}: {len(keys)} rows, as {keys[0]}")
        if self.regressions:
            worst = max(
                self.regressions,
                key=lambda v: math.inf if v.verdict == "LOST" else v.interval.ratio,
            )
            lines.append(
                f"{len(self.regressions)} regressions beyond {self.threshold:g} %; "
                f"worst: {worst.label}"
            )
        return "\n".join(lines) + "\n"


def compare(a: Results, b: Results, threshold: float, force: bool = False) -> Comparison:
    """Compare B against A; UsageError where they are not comparable (unless forced)."""
    left, right = _by_key(a), _by_key(b)
    common = [key for key in left.index if key in right.index]
    if not common:
        raise UsageError(
            f"{left['file'].iloc[0]} and {right['file'].iloc[0]} have no row in common"
        )
    if not force:
        _refuse_different(a, b, left.loc[common], right.loc[common])
    random = np.random.default_rng(_SEED)
    measured = {kind: _measured_spread(a, b, kind) for kind in ("burst", "steady")}
    return Comparison(
        [_verdict(key, left.loc[key], right.loc[key], measured, random) for key in common],
        [key for key in left.index if key not in right.index],
        [key for key in right.index if key not in left.index],
        threshold,
    )


def _by_key(results: Results) -> pd.DataFrame:
    """The rows by key, to which the hardware is added where a file holds several of a kind."""
    rows = results.rows
    if rows["key"].is_unique:
        return rows.set_index("key")
    return rows.set_index(rows["key"] + " on " + rows["hardware"])


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


def _measured_spread(a: Results, b: Results, kind: str) -> float:
    """The relative spread between processes that the contexts name, the larger; NaN: neither."""
    name = f"spread_{kind}_pct"
    spreads = []
    for context in (*a.contexts, *b.contexts):
        try:
            spread = float(context.get(name, math.nan)) / 100
        except (TypeError, ValueError):
            spread = -1.0
        if spread < 0 or math.isinf(spread):
            raise UsageError(f"the context's {name} is {context[name]!r}; expected a percentage")
        spreads.append(spread)
    return float(np.fmax.reduce(spreads))


def _verdict(
    key: str, a: pd.Series, b: pd.Series, measured: dict[str, float], random: np.random.Generator
) -> Verdict:
    label = f"{a['operation']} {a['implementation']} {a['device']} {shape_text(a)}"
    if a["extras"]:
        label += f" ({a['extras']})"
    times = (a["time_us"], b["time_us"])
    if a["status"] != "ok" or b["status"] != "ok":
        if a["status"] == b["status"]:
            return Verdict(key, label, *times, _NOTHING, "SAME", f"{a['status']} in both")
        verdict = "LOST" if a["status"] == "ok" else "GAINED" if b["status"] == "ok" else "SAME"
        return Verdict(key, label, *times, _NOTHING, verdict, f"{a['status']} -> {b['status']}")

    kind, column = "steady", "samples_us"
    if min(len(a["burst_samples_us"]), len(b["burst_samples_us"])) >= _FEWEST_SAMPLES:
        kind, column = "burst", "burst_samples_us"
        times = tuple(float(np.median(row[column])) for row in (a, b))
    elif min(len(a[column]), len(b[column])) < _FEWEST_SAMPLES:
        ratio = Interval(times[1] / times[0], 0.0, math.inf)
        note = f"needs {_FEWEST_SAMPLES} samples_us in both"
        return Verdict(key, label, *times, ratio, "UNKNOWN", note)
    spread = measured[kind]
    if math.isnan(spread):
        capped = bool(a["throttled"] or b["throttled"])
        spread = default_spread(a["device"], kind == "burst", min(times), capped)
    interval = compare_samples(a[column], b[column], random)
    note = f"of {kind}s" if kind == "burst" else ""
    return Verdict(key, label, *times, interval.widened(spread), interval.verdict(spread), note)


def _us(us: float) -> str:
    return "–" if math.isnan(us) else style.time_text(us)
