"""How an implementation looks, the same in every figure.

The colour names the algorithm, the marker the implementation of it, so that a reimplementation and
its original stay recognisable as a pair; originals are hollow. Colours are Okabe and Ito's, told
apart by colour-blind readers; the markers carry the difference in black-and-white print.
"""

import math
import zlib
from dataclasses import dataclass

BLACK, GREY = "#000000", "#7a7a7a"
ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILION, PURPLE, BROWN = "#d55e00", "#cc79a7", "#8c564b"

INK, PALE, GRID = "#222222", "#666666", "#e3e3e3"
DASHES = ("-", "--", ":", "-.")

_FIRST_ORIGINAL = 10


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str  # matplotlib's code
    width: float = 1.4
    order: int = 9  # in legends; our own come before the originals

    @property
    def is_original(self) -> bool:
        return self.order >= _FIRST_ORIGINAL


KNOWN = {
    "based": Style(VERMILION, "o", width=2.4, order=0),
    "chunked_recurrent": Style(ORANGE, "D", order=1),
    "chunked_parallel": Style(PURPLE, "v", order=2),
    "based_sm80": Style(VERMILION, "s", order=0),
    "causal_dot_product": Style(GREEN, "^", order=3),
    "causal_dot_product_153": Style(GREEN, "v", order=3),
    "expanded": Style(ORANGE, "D", order=4),
    "tile": Style(ORANGE, "D", order=4),
    "naive": Style(BLUE, "s", order=4),
    "softmax_attention": Style(SKY, "P", order=5),
    "thunderkittens_based": Style(BLACK, "*", order=10),
    "based_2024_kernel": Style(BLACK, "X", order=10),
    "fla_fused_chunk_based": Style(ORANGE, "d", order=11),
    "fla_parallel_based": Style(PURPLE, "<", order=12),
    "fast_transformers": Style(GREEN, ">", order=13),
    "fast_transformers_273": Style(GREEN, ">", order=13),
    "fast_transformers_153": Style(GREEN, "h", order=14),
    "pytorch_naive": Style(BLUE, "p", order=15),
    "flash_attention_2": Style(SKY, "X", order=16),
    "torch_sdpa_flash2": Style(SKY, "X", order=16),
    "torch_sdpa": Style(SKY, "X", order=16),
    "torch_sdpa_cudnn": Style(SKY, "8", order=17),
    "thunderkittens_mha_h100": Style(SKY, "*", order=18),
    "torch_bmm": Style(BLUE, "p", order=19),
    "torch_einsum": Style(BLUE, "p", order=19),
    "gla_chunk": Style(BROWN, "d", order=20),
    "gla_fused_chunk": Style(BROWN, "<", order=21),
    "gla_fused_recurrent": Style(BROWN, ">", order=22),
    "mamba": Style(GREY, "X", order=23),
    "mamba2": Style(GREY, "P", order=24),
}
_SPARE_COLOURS = (BROWN, GREY, BLACK, BLUE, PURPLE, GREEN)
_SPARE_MARKERS = ("s", "D", "^", "v", "<", ">", "p", "h", "X", "P", "8")


def of(implementation: str) -> Style:
    """The style of any name; one that is not known gets its own from a hash, so always the same."""
    if implementation in KNOWN:
        return KNOWN[implementation]
    number = zlib.crc32(implementation.encode())
    colour = _SPARE_COLOURS[number % len(_SPARE_COLOURS)]
    return Style(colour, _SPARE_MARKERS[number // 8 % len(_SPARE_MARKERS)])


def significant(value: float, digits: int | None = 3) -> str:
    """`value` to so many digits, without an exponent: 0.0123, 1.23, 123, 12300; None: as it is."""
    if digits is None or value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


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


def length_text(tokens: float) -> str:
    tokens = round(tokens)
    return f"{tokens // 1024}K" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


def unit_text(unit: str, value: float, digits: int | None = 3) -> str:
    """A value of one of model.Axis' units, as ticks and tables show it."""
    match unit:
        case "time":
            return time_text(value, digits)
        case "memory":
            return memory_text(value, digits)
        case "length":
            return length_text(value)
        case "count":
            return str(round(value))
        case _:
            return significant(value, digits)
