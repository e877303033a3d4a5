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
    Mixer(
        "Mamba-2, 16 × 64 × 128",
        style.LIGHT_BLUE,
        "ssd",
        "ssd_decode",
        {"H": 16, "P": 64, "S": 128},
    ),
    Mixer("Mamba-2, 32 × 64 × 128", style.NAVY, "ssd", "ssd_decode", {"H": 32, "P": 64, "S": 128}),
    Mixer("Mamba-2, 16 × 64 × 256", style.BLUE, "ssd", "ssd_decode", {"H": 16, "P": 64, "S": 256}),
)


def sizes(row: pd.Series) -> dict:
    """A row's parameters without batch and length."""
    return {k: v for k, v in row["params"].items() if k not in ("B", "N")}


def timed(group: Group, operation: str, wanted: dict) -> pd.DataFrame:
    """Ours and the originals of an operation at these sizes, the fastest first. Where no original
    was timed here, those of elsewhere on this card stand for them."""
    found = _at(group.rows, operation, wanted)
    if not found["role"].eq("original").any():
        found = pd.concat([found, _at(group.near, operation, wanted)])
    return found[found["role"].isin(["ours", "original"])].sort_values("us")


def _at(rows: pd.DataFrame, operation: str, wanted: dict) -> pd.DataFrame:
    rows = rows[rows["operation"].eq(operation) & rows["status"].eq("ok")]
    at_sizes = [sizes(row) == wanted for _, row in rows.iterrows()]
    return rows[pd.Series(at_sizes, index=rows.index, dtype=bool)]


def rows_of(group: Group, operation: str, wanted: dict) -> pd.DataFrame:
    """The timed rows of an operation at these sizes: of ours the fastest at each shape, and all of
    one original, the fastest at most shapes."""
    found = timed(group, operation, wanted)
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
