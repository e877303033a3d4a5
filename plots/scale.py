"""Limits and ticks of an axis, for the pictures and the report alike."""

import math
from dataclasses import dataclass

from plots import style
from plots.model import Axis, LineFigure

_LINEAR_BELOW = 3.0  # a quantity whose largest is under so many times its least needs no logarithm
_MOST_SIZES = 9  # ticks that an axis has room for
_MARGIN = 0.05  # of the range, beyond the outermost values


@dataclass(frozen=True)
class Scale:
    log: bool
    low: float
    high: float
    ticks: list[float]
    texts: list[str]


def scales(figure: LineFigure) -> tuple[Scale, Scale]:
    """The x and y scales that all panels of a figure share."""
    return _scale(figure.x, _values(figure, "x")), _scale(figure.y, _values(figure, "y"))


def _values(figure: LineFigure, which: str) -> list[float]:
    """All coordinates that an axis must hold; others' sizes lie among those measured here."""
    series = [s for panel in figure.panels for s in panel.series]
    values = [v for s in series if which == "y" or not s.origin for v in getattr(s, which)]
    if which == "y":
        values += [v for s in series for v in (s.low or []) + (s.high or [])]
    else:
        values += [mark.x for panel in figure.panels for mark in panel.marks]
    return values + [v for panel in figure.panels for g in panel.guides for v in getattr(g, which)]


def _scale(quantity: Axis, values: list[float]) -> Scale:
    least, most = float(min(values)), float(max(values))
    sizes = quantity.unit in ("count", "length")
    log = sizes or most > _LINEAR_BELOW * least
    if log:
        margin = (most / least) ** _MARGIN if most > least else 1.5
        low, high = least / margin, most * margin
    else:
        low, high = 0.0, most * (1 + _MARGIN)
    if sizes:
        ticks = _size_ticks(values)
    elif not log:
        ticks = _linear_ticks(high)
    elif quantity.unit == "memory":
        ticks = _binary_ticks(low, high)
    else:
        ticks = _decimal_ticks(low, high)
    return Scale(log, low, high, ticks, [style.unit_text(quantity.unit, t, None) for t in ticks])


def _size_ticks(values: list[float]) -> list[float]:
    """The sizes that were measured, thinned to those that an axis has room for."""
    closest = (max(values) / min(values)) ** (1 / _MOST_SIZES)
    ticks: list[float] = []
    for size in sorted(set(values)):
        if not ticks or size >= ticks[-1] * closest:
            ticks.append(size)
    return ticks


def _binary_ticks(low: float, high: float) -> list[float]:
    octaves = math.log2(high / low)
    step = 1 if octaves <= 6 else 2 if octaves <= 12 else 4
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    return [2.0**power for power in range(first, last + 1) if power % step == 0]


def _decimal_ticks(low: float, high: float) -> list[float]:
    decades = math.log10(high / low)
    heads = (1, 2, 5) if decades <= 2.2 else (1, 3) if decades <= 3.2 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{head}e{power}") for power in powers for head in heads]
    return [tick for tick in ticks if low <= tick <= high]


def _linear_ticks(high: float) -> list[float]:
    """Some five round steps from zero."""
    power = 10.0 ** math.floor(math.log10(high / 5))
    step = next(power * head for head in (1, 2, 5, 10) if high / (power * head) <= 6)
    return [float(f"{step * i:.6g}") for i in range(math.floor(high / step) + 1)]
