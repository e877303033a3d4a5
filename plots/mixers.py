"""The sequence mixers that the study sets beside each other, each at the sizes its models use.

Two entries of one operation differ in the size of their state, on which both the speed and the
recall of a linear-time mixer depend: an entry's name tells it.
"""

from dataclasses import dataclass, field

import pandas as pd

from plots import style
from plots.results import Group


@dataclass(frozen=True)
class Mixer:
    name: str
    colour: str
    prefill: str  # the operation of a whole sequence
    decode: str  # the operation of one step; "": there is none that is compared
    sizes: dict  # the parameters of both, without batch and length
    decode_sizes: dict = field(default_factory=dict)  # and those of the step alone


MIXERS = (
    Mixer("Based", style.VERMILION, "prefill", "decode", {"H": 16}, {"state": "f32"}),
    Mixer("softmax attention", style.PURPLE, "attention", "", {"H": 16, "Dh": 64, "causal": 1}),
    Mixer(
        "Mamba",
        style.GREEN,
        "selective_scan",
        "selective_scan_decode",
        {"d_inner": 2048, "d_state": 16},
    ),
    Mixer("Mamba-2, 16 × 64 × 128", style.OLIVE, "ssd", "ssd_decode", {"H": 16, "P": 64, "S": 128}),
    Mixer("Mamba-2, 32 × 64 × 128", style.BROWN, "ssd", "ssd_decode", {"H": 32, "P": 64, "S": 128}),
    Mixer("Mamba-2, 16 × 64 × 256", style.BLUE, "ssd", "ssd_decode", {"H": 16, "P": 64, "S": 256}),
)
# What the originals' harnesses of earlier runs called a size, and what they said beside the sizes.
_ALIASES = {"ssd": {"Dh": "P", "d_state": "S"}}
_UNUSED = {"ssd": ("chunk",), "selective_scan": ("H",)}


def sizes(row: pd.Series) -> dict:
    """A row's parameters without batch and length, by the names that its operation has for them."""
    operation = row["operation"]
    renamed = _ALIASES.get(operation, {})
    dropped = ("B", "N", *_UNUSED.get(operation, ()))
    return {renamed.get(k, k): v for k, v in row["params"].items() if k not in dropped}


def rows_of(group: Group, operation: str, wanted: dict) -> pd.DataFrame:
    """The timed rows of an operation at these sizes: of ours the fastest at each shape, and all of
    one original, the fastest at most shapes. Where no original was timed here, those of elsewhere
    on this card stand for it."""
    found = pd.concat([group.rows, group.near])
    found = found[found["operation"].eq(operation) & found["status"].eq("ok")]
    at_sizes = [sizes(row) == wanted for _, row in found.iterrows()]
    found = found[pd.Series(at_sizes, index=found.index, dtype=bool)]
    found = found[found["role"].isin(["ours", "original"])].sort_values("us")
    fastest = found.drop_duplicates(["role", "B", "N"])
    winners = fastest.loc[fastest["role"].eq("original"), "implementation"]
    if winners.empty:
        return fastest
    original = found["implementation"].eq(winners.mode().iloc[0]) & found["role"].eq("original")
    return pd.concat([fastest[fastest["role"].eq("ours")], found[original]]).drop_duplicates(
        ["role", "B", "N"]
    )


def state_kib(rows: pd.DataFrame) -> float:
    """The recurrent state of one sequence; NaN where no row tells it, or where it grows with the
    sequence."""
    told = rows.get("state_KiB", pd.Series(dtype=float)).dropna()
    return float(told.iloc[0]) if told.nunique() == 1 else float("nan")
