"""Colours, and numbers as texts, the same in every figure and table.

The colour names the family, after Okabe and Ito's set, which colour-blind readers tell apart; those
that letters are written in are darkened until they read on white.
"""

import math

from plots import names

INK, PALE, GRID, PAPER = "#222222", "#5f5f5f", "#e3e3e3", "#ffffff"
VERMILION, BLACK, GREY, GREEN = "#c94f00", "#000000", "#6b6b6b", "#00785a"
BLUE, PURPLE, BROWN, OLIVE = "#0067a6", "#a8428f", "#8a5a2b", "#7a7200"
# Others of a family: the same hue, lighter or darker.
LIGHT_VERMILION, LIGHT_BLUE, NAVY = "#e39a66", "#66a8d4", "#00355e"
LIGHT_PURPLE, LIGHT_GREY = "#d79bc9", "#c8c8c8"
FONT = "Arial, Helvetica, sans-serif"

_FAMILIES = {
    names.BASED: VERMILION,
    names.ELSEWHERE: BLACK,
    names.NAIVE: GREY,
    "Mamba": GREEN,
    "Mamba-2": BLUE,
    "softmax attention": PURPLE,
    "GLA": BROWN,
}
CARDS = (VERMILION, BLUE, GREEN, BLACK, PURPLE, BROWN, GREY, OLIVE)


def family_colour(family: str) -> str:
    """One that is not known gets the same each time."""
    spare = (BROWN, OLIVE, GREY)
    return _FAMILIES.get(family, spare[sum(map(ord, family)) % len(spare)])


def function_colour(operation: str) -> str:
    """The colour of what an operation computes, whoever wrote it."""
    return family_colour(names.function(operation))


def significant(value: float, digits: int | None = 3) -> str:
    """`value` to so many digits, without an exponent: 0.0123, 1.23, 123, 12300; None: as it is."""
    if digits is None or value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def percent(share: float) -> str:
    text = significant(100 * share, 1) if 0 < share < 0.01 else f"{100 * share:.0f}"
    return f"{text} %"


def ratio_text(ratio: float) -> str:
    return f"{significant(ratio, 2 if ratio < 100 else 3)}×"


def time_text(us: float, digits: int | None = 3) -> str:
    for unit, scale in (("s", 1e6), ("ms", 1e3), ("µs", 1.0)):
        if us >= scale:
            return f"{significant(us / scale, digits)} {unit}"
    return f"{significant(us * 1e3, digits)} ns"


def memory_text(mib: float, digits: int | None = 3) -> str:
    for unit, scale in (("TiB", 2.0**20), ("GiB", 2.0**10), ("MiB", 1.0)):
        if mib >= scale:
            return f"{significant(mib / scale, digits)} {unit}"
    return f"{significant(mib * 1024, digits)} KiB"
