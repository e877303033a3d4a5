"""Axes: a quantity, its scale in pixels and in Vega-Lite, and its ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import altair as alt

_MARGIN = 1.25  # a logarithmic axis goes so far beyond the outermost values
_MOST_SIZES = 10  # ticks that an axis has room for


@dataclass(frozen=True)
class Quantity:
    """What an axis shows: the rows' column, a title, and Vega's expression of a value's text."""

    column: str
    title: str
    expression: str


def _units(units: dict[str, float]) -> str:
    """The Vega expression that writes a value in the largest of units that it reaches."""
    *larger, (last, scale) = units.items()
    expression = f"format(datum.value / {scale}, '.3~g') + ' {last}'"
    for name, scale in reversed(larger):
        expression = (
            f"datum.value >= {scale} ? format(datum.value / {scale}, '.4~g') + ' {name}' : "
            + expression
        )
    return expression


TIME = Quantity("us", "time", _units({"s": 1e6, "ms": 1e3, "µs": 1, "ns": 1e-3}))
MEMORY = Quantity(
    "mem_MiB",
    "memory: inputs, output and workspace",
    _units({"TiB": 2**20, "GiB": 2**10, "MiB": 1, "KiB": 2**-10}),
)
PLAIN = "format(datum.value, ',~f')"
TFLOPS = Quantity("tflops", "nominal TFLOP/s", PLAIN)
SIZES = {
    "B": Quantity("B", "batch size", "datum.value"),
    "N": Quantity(
        "N",
        "sequence length",
        "datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + 'K' : datum.value",
    ),
}


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis of so many pixels; `up` for one that grows towards smaller pixels."""

    low: float
    high: float
    pixels: float
    ticks: tuple[float, ...]
    up: bool

    def pixel(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.pixels * (1 - share if self.up else share)

    def value(self, pixel: float) -> float:
        """What stands at a pixel, also beyond the ends."""
        share = pixel / self.pixels
        return self.low * (self.high / self.low) ** (1 - share if self.up else share)

    def vega(self) -> alt.Scale:
        return alt.Scale(type="log", domain=[self.low, self.high], nice=False)


def size_scale(values: Iterable[float], pixels: float) -> LogScale:
    """Of batch sizes or lengths: a tick at each that was measured, as far as there is room."""
    sizes = sorted(set(values))
    closest = (sizes[-1] / sizes[0]) ** (1 / _MOST_SIZES)
    ticks: list[float] = []
    for size in sizes:
        if not ticks or size >= ticks[-1] * closest:
            ticks.append(size)
    return LogScale(sizes[0], sizes[-1], pixels, tuple(ticks), up=False)


def log_scale(values: Iterable[float], pixels: float, up: bool = True, base: int = 10) -> LogScale:
    values = list(values)
    low, high = min(values) / _MARGIN, max(values) * _MARGIN
    powers = math.log(high / low, base)
    if base == 10:
        heads = (1, 2, 5) if powers < 1.7 else (1,)
        step = 1 if powers < 9 else math.ceil(powers / 8)
    else:
        heads, step = (1,), 1 if powers < 7 else 2 if powers < 13 else math.ceil(powers / 6)
    exponents = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    ticks = [head * float(base) ** e for e in exponents if e % step == 0 for head in heads]
    return LogScale(low, high, pixels, tuple(t for t in ticks if low <= t <= high), up)


def axis(quantity: Quantity, scale: LogScale, grid: bool = True, **others) -> alt.Axis:
    return alt.Axis(
        title=quantity.title,
        values=list(scale.ticks),
        labelExpr=quantity.expression,
        grid=grid,
        labelFlush=False,
        **others,
    )
