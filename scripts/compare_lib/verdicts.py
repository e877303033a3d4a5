"""What processes of A and of B, run in turns, say of each row; and how many of them it takes."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from plots.statistics import CONFIDENCE, Interval, compare_processes, process_spread

_DECIDED = ("FASTER", "SLOWER", "SAME", "LOST", "GAINED")


@dataclass(frozen=True)
class Measured:
    """One row in one process: medians in microseconds; None where there is none."""

    status: str
    steady_us: float | None = None
    burst_us: float | None = None
    reason: str = ""
    timing: str = "calls"  # or "rotation", as short rows are timed


# run(side, rows) makes one process of "A" or "B" measure these rows, None: all that are selected.
Run = Callable[[str, list[str] | None], dict[str, Measured]]


@dataclass
class Row:
    """One row, with the processes of each side in the order in which they ran."""

    name: str
    processes: dict[str, list[Measured]] = field(default_factory=lambda: {"A": [], "B": []})

    def times(self, side: str, kind: str) -> list[float]:
        """The medians of a side's processes; `kind` is "steady" or "burst". Of a row at the limit
        between the two ways of timing, whose times differ, those of the way that most have."""
        timing = Counter(each.timing for side in "AB" for each in self.processes[side])
        usual = max(timing, key=timing.get, default="")
        found = (
            getattr(each, f"{kind}_us") for each in self.processes[side] if each.timing == usual
        )
        return [time for time in found if time is not None]

    def interval(self, kind: str) -> Interval | None:
        a, b = self.times("A", kind), self.times("B", kind)
        return compare_processes(a, b) if a and b else None

    def can_be_decided(self, margin: float, most_rounds: int) -> bool:
        """Whether the interval would be narrow enough after so many rounds. The spread is a median
        of deviations, which one disturbed process does not move."""
        kind = "burst" if self.interval("burst") else "steady"
        logs = [np.log(self.times(side, kind)) for side in "AB"]
        if min(map(len, logs)) < 2:
            return True
        deviations = np.concatenate([np.abs(each - np.median(each)) for each in logs])
        spread = 1.48 * float(np.median(deviations))  # a standard deviation, where it is normal
        processes = 2 * most_rounds  # of each side
        return 1.96 * spread * math.sqrt(2 / processes) < 1.5 * margin

    def failure(self, side: str) -> Measured | None:
        return next((each for each in self.processes[side] if each.status != "ok"), None)

    def verdict(self, margin: float) -> tuple[str, str]:
        """One word, and a note. The burst repeats best, and decides where both sides have one; but
        a steady state that differs, as of a kernel that needs more power, is said all the same."""
        of_a, of_b = self.failure("A"), self.failure("B")
        if of_a or of_b:
            if of_a and of_b:
                return "SAME", f"{of_b.status} in both"
            status, reason = (of_a or of_b).status, (of_a or of_b).reason
            return ("GAINED" if of_a else "LOST"), f"{status}: {reason}" if reason else status
        verdicts = {}
        for kind in ("burst", "steady"):
            interval = self.interval(kind)
            if interval is not None:
                verdicts[kind] = interval.verdict(margin)
        if not verdicts:
            return "UNDECIDED", "one side has no process yet"
        for word in ("SLOWER", "FASTER"):
            kinds = [kind for kind, verdict in verdicts.items() if verdict == word]
            if kinds:
                note = "" if len(kinds) == len(verdicts) else f"of the {kinds[0]} alone"
                return word, note
        return next(iter(verdicts.values())), ""


@dataclass
class Comparison:
    margin: float  # relative: a difference below it does not count
    rows: dict[str, Row] = field(default_factory=dict)
    rounds: int = 0  # complete ones

    def add(self, side: str, measured: dict[str, Measured]) -> None:
        for name, row in measured.items():
            self.rows.setdefault(name, Row(name)).processes[side].append(row)

    @property
    def compared(self) -> list[Row]:
        """The rows that both sides have."""
        return [row for row in self.rows.values() if all(row.processes.values())]

    def only(self, side: str) -> list[str]:
        other = "B" if side == "A" else "A"
        return [row.name for row in self.rows.values() if not row.processes[other]]

    @property
    def undecided(self) -> list[str]:
        return [row.name for row in self.compared if row.verdict(self.margin)[0] not in _DECIDED]

    @property
    def regressions(self) -> list[Row]:
        return [row for row in self.compared if row.verdict(self.margin)[0] in ("SLOWER", "LOST")]

    def noise(self) -> dict[str, dict]:
        """By kind of time, what two processes of A differ by, relative: over all rows, and in the
        row where it is most. Empty before A has two processes."""
        found = {}
        for kind in ("steady", "burst"):
            spreads = {
                row.name: process_spread(row.times("A", kind))
                for row in self.rows.values()
                if len(row.times("A", kind)) >= 2
            }
            if spreads:
                worst = max(spreads, key=spreads.get)
                usual = math.sqrt(np.mean(np.square(list(spreads.values()))))
                found[kind] = {"all": usual, "worst": spreads[worst], "row": worst}
        return found

    def text(self) -> str:
        """A line a row, the counts, the noise, the regressions."""
        width = max((len(row.name) for row in self.compared), default=3)
        interval = f"B / A ({CONFIDENCE:.0%})"
        head = f"{'row':<{width}}  {'A':>11}  {'B':>11}  "
        lines = [f"{head}{'steady ' + interval:<24}  {'burst ' + interval:<24}  verdict"]
        counts: dict[str, int] = {}
        for row in self.compared:
            verdict, note = row.verdict(self.margin)
            counts[verdict] = counts.get(verdict, 0) + 1
            line = f"{row.name:<{width}}"
            line += "".join(f"  {_time_text(row.times(side, 'steady')):>11}" for side in "AB")
            for kind in ("steady", "burst"):
                line += f"  {row.interval(kind) or '–'!s:<24}"
            lines.append(f"{line}  {verdict}{': ' + note if note else ''}")
        lines.append(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
        for side in "AB":
            if only := self.only(side):
                lines.append(f"only in {side}: {len(only)} rows, as {only[0]}")
        for kind, noise in self.noise().items():
            lines.append(
                f"noise: 19 of 20 pairs of A's processes lie within {noise['all']:.2%} in their "
                f"{kind} times; within {noise['worst']:.2%} in the worst row, {noise['row']}"
            )
        if self.regressions:
            lines.append(f"{len(self.regressions)} regressions beyond {100 * self.margin:g} %")
        return "\n".join(lines) + "\n"

    def document(self) -> dict:
        """The same for other programs, with every process's medians."""
        rows = []
        for row in self.compared:
            verdict, note = row.verdict(self.margin)
            entry = {"row": row.name, "verdict": verdict, "note": note}
            for kind in ("steady", "burst"):
                interval = row.interval(kind)
                if interval is not None:
                    bounded = interval.low > 0 and math.isfinite(interval.high)
                    entry[kind] = {
                        "ratio": interval.ratio,
                        "low": interval.low if bounded else None,
                        "high": interval.high if bounded else None,
                        "a_us": row.times("A", kind),
                        "b_us": row.times("B", kind),
                    }
            rows.append(entry)
        return {
            "confidence": CONFIDENCE,
            "threshold_pct": 100 * self.margin,
            "rounds": self.rounds,
            "noise": self.noise(),
            "only_in_a": self.only("A"),
            "only_in_b": self.only("B"),
            "rows": rows,
        }


def run_rounds(comparison: Comparison, run: Run, rounds: int, most_rounds: int) -> None:
    """Run `rounds` rounds of all rows, then of those that are undecided, until none is that more
    rounds may decide or `most_rounds` have run. A round is A B B A, so that what drifts falls on
    both sides alike."""
    for number in range(most_rounds):
        rows = None
        if number >= rounds:
            rows = [
                name
                for name in comparison.undecided
                if comparison.rows[name].can_be_decided(comparison.margin, most_rounds)
            ]
            if not rows:
                return
        for side in "ABBA":
            comparison.add(side, run(side, rows))
        comparison.rounds = number + 1


def _time_text(times: list[float]) -> str:
    if not times:
        return "–"
    median = float(np.median(times))
    return f"{median:.4g} us" if median < 1e4 else f"{median / 1e3:.4g} ms"
