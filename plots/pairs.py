"""Baselines and the originals that they stand for, at a shape that both were measured at."""

import math
from dataclasses import dataclass

import pandas as pd

from plots import names
from plots.results import SHAPE, Group

_WANTED = {"N": 8192, "W": 64, "H": 16, "B": 16}  # B: of what has a length


@dataclass(frozen=True)
class Pair:
    baseline: pd.Series
    original: pd.Series
    elsewhere: bool  # whether the original's row is not of these files

    @property
    def ratio(self) -> float:
        return self.baseline["us"] / self.original["us"]

    @property
    def shape(self) -> str:
        """The sizes but for the heads, which are the same everywhere."""
        return ", ".join(
            f"{name} = {int(self.baseline[name])}"
            for name in SHAPE
            if name != "H" and not math.isnan(self.baseline[name])
        )


def pairs(group: Group, card: str) -> list[Pair]:
    """Each baseline beside each of its originals on this card, at the shape that is looked at most,
    or else at the largest; an original's row of these files before one of elsewhere."""
    own = group.rows[group.rows["hardware"].eq(card)]
    near = group.near
    sources = [(own, False), (near[near["hardware"].eq(card)], True)]
    found = []
    baselines = _timed(own[own["reimplements"].map(len).gt(0)])
    for (operation, _), rows in baselines.groupby(["operation", "implementation"], sort=True):
        for original in rows.iloc[0]["reimplements"]:
            for source, elsewhere in sources:
                theirs = source[source["operation"].eq(operation)]
                theirs = _timed(theirs[theirs["implementation"].eq(original)])
                best = _best(rows, theirs)
                if best:
                    found.append(Pair(*best, elsewhere))
                    break
    order = [*names.FUNCTION_ORDER]
    return sorted(found, key=lambda p: (_order(p, order), p.ratio))


def _order(pair: Pair, order: list[str]) -> int:
    operation = pair.baseline["operation"]
    return order.index(operation) if operation in order else len(order)


def _timed(rows: pd.DataFrame) -> pd.DataFrame:
    return names.picked(rows[rows["status"].eq("ok")], names.comparable)


def _best(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[pd.Series, pd.Series] | None:
    by_shape = {_shape(row): row for _, row in theirs.iterrows()}
    common = [
        (row, by_shape[shape]) for _, row in ours.iterrows() if (shape := _shape(row)) in by_shape
    ]

    def rank(both: tuple[pd.Series, pd.Series]):
        row = both[0]
        wanted = [row[name] == size for name, size in _WANTED.items()]
        step = math.isnan(row["N"])
        return (*wanted[:-1], wanted[-1] and not step, row["B"] * (1 if step else row["N"]))

    return max(common, key=rank, default=None)


def _shape(row: pd.Series) -> tuple:
    """The sizes, and what else both rows may say: the state's type."""
    sizes = tuple(0 if math.isnan(row[name]) else row[name] for name in SHAPE)
    return (*sizes, row["params"].get("state"))
