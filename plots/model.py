"""What a figure shows, apart from how it is drawn: draw.py and report.py both read this."""

import math
from dataclasses import dataclass, field

_INDISTINCT = 0.03  # relative difference of curves that lie on each other


class AbsentError(Exception):
    """A figure cannot be made from these rows; the message says why."""


@dataclass(frozen=True)
class Axis:
    """A quantity: its label, and what its tick labels show."""

    label: str
    unit: str  # count | length | time (us) | memory (MiB) | plain


BATCH = Axis("batch size B", "count")
LENGTH = Axis("sequence length N", "length")
TIME = Axis("time", "time")
TFLOPS = Axis("nominal TFLOP/s", "plain")
MEMORY = Axis("peak memory", "memory")


@dataclass(frozen=True)
class Series:
    """One curve, or one cloud of points, of one implementation."""

    label: str
    implementation: str  # decides colour and marker
    x: list[float]
    y: list[float]
    hover: list[str]  # one text a point
    low: list[float] | None = None  # the interval around y
    high: list[float] | None = None
    origin: str = ""  # whose points these are where not ours: "H100, JRT paper"; drawn hollow
    dash: int = 0  # which of the line styles: tells variants of one implementation apart
    line: bool = True


@dataclass(frozen=True)
class Mark:
    """A result that is not there: drawn at the axis' edge, never as a value."""

    label: str
    implementation: str
    x: float
    status: str  # skipped | out_of_memory | error
    text: str = ""  # short, beside the mark: "needs 71 GiB"
    reason: str = ""


@dataclass(frozen=True)
class Guide:
    """A limit to read the series against."""

    label: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Panel:
    title: str
    series: list[Series]
    marks: list[Mark] = field(default_factory=list)
    guides: list[Guide] = field(default_factory=list)

    def depths(self) -> list[int]:
        """For each series, how many earlier ones it equals, and so would hide or be hidden by."""
        return [
            sum(_equal(series, other) for other in self.series[:index])
            for index, series in enumerate(self.series)
        ]


def _equal(one: Series, other: Series) -> bool:
    """Whether two curves cannot be told apart where they share sizes."""
    if not (one.line and other.line) or one.origin or other.origin:
        return False
    theirs = dict(zip(other.x, other.y, strict=True))
    shared = [(y, theirs[x]) for x, y in zip(one.x, one.y, strict=True) if x in theirs]
    return bool(shared) and all(abs(math.log(a / b)) < _INDISTINCT for a, b in shared)


@dataclass(frozen=True)
class LineFigure:
    name: str  # its file's stem
    title: str
    caption: str
    x: Axis
    y: Axis
    panels: list[Panel]


@dataclass(frozen=True)
class HeatPanel:
    title: str
    columns: list[int]
    rows: list[int]
    values: list[list[float]]  # [row][column]; NaN where there is none
    texts: list[list[str]]  # what the cell says


@dataclass(frozen=True)
class HeatFigure:
    name: str
    title: str
    caption: str
    x: Axis
    y: Axis
    value_label: str
    panels: list[HeatPanel]


Figure = LineFigure | HeatFigure
