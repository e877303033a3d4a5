"""The sequence mixers that the study sets beside each other, each at the sizes its models use.

Two entries of one operation differ in the size of their state, on which both the speed and the
recall of a linear-time mixer depend: an entry's name tells it.
"""

import math
from dataclasses import dataclass, field

import pandas as pd

from plots import names, style
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
    """Ours and the originals of an operation at these sizes, the fastest first. At a shape where
    no original was timed here, those of elsewhere on this card stand for them."""
    found = _at(group.rows, operation, wanted)
    here = set(found.loc[found["role"].eq("original"), ["B", "N"]].itertuples(index=False))
    near = _at(group.near, operation, wanted)
    others = [at not in here for at in near[["B", "N"]].itertuples(index=False)]
    found = pd.concat([found, near[pd.Series(others, index=near.index, dtype=bool)]])
    return found[found["role"].isin(["ours", "original"])].sort_values("us")


def _at(rows: pd.DataFrame, operation: str, wanted: dict) -> pd.DataFrame:
    rows = rows[rows["operation"].eq(operation) & rows["status"].eq("ok")]
    at_sizes = [sizes(row) == wanted for _, row in rows.iterrows()]
    return rows[pd.Series(at_sizes, index=rows.index, dtype=bool)]


def rows_of(group: Group, operation: str, wanted: dict) -> pd.DataFrame:
    """The timed rows of an operation at these sizes, the fastest at each shape: of ours, and of the
    one project whose originals are the least behind the fastest, of those that were timed at a
    quarter of the shapes of the most timed one."""
    found = timed(group, operation, wanted)
    ours, theirs = (found[found["role"].eq(role)] for role in ("ours", "original"))
    if not theirs.empty:
        theirs = theirs.assign(project=theirs.apply(names.project, axis=1))
        theirs = theirs.drop_duplicates(["project", "B", "N"])  # the fastest stands first
        best = theirs.groupby(["B", "N"], dropna=False)["us"].transform("min")
        behind = (theirs["us"] / best).map(math.log).groupby(theirs["project"])
        behind = behind.agg(["mean", "size"])
        behind = behind.loc[4 * behind["size"] >= behind["size"].max(), "mean"]
        theirs = theirs[theirs["project"].eq(behind.idxmin())].drop(columns="project")
    return pd.concat([ours, theirs]).drop_duplicates(["role", "B", "N"])


def state_kib(rows: pd.DataFrame) -> float:
    """The recurrent state of one sequence; NaN where no row tells it, or where it grows with the
    sequence."""
    told = rows.get("state_KiB", pd.Series(dtype=float)).dropna()
    return float(told.iloc[0]) if told.nunique() == 1 else float("nan")
