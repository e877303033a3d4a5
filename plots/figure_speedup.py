"""Speed-up of `based` over every other implementation, over batch and sequence length.

A cell is the other's time over that of `based`: 2 says `based` takes half of it. A cell without a
number says whose result is missing and why.
"""

import math

import pandas as pd

from plots import style
from plots.lines import by_style, series_label
from plots.model import BATCH, LENGTH, AbsentError, HeatFigure, HeatPanel
from plots.results import Group

_WHY = {"out_of_memory": "OOM", "skipped": "skip", "error": "error"}


def figure(group: Group, points) -> HeatFigure:
    rows = group.rows[group.rows["operation"].eq("prefill")]
    based = rows[rows["implementation"].eq("based")]
    others = rows[rows["implementation"].ne("based")]
    if based.empty or others.empty:
        raise AbsentError(f"it needs prefill rows on {group.device} of based and of another")
    panels = []
    for (heads, ours_extras), ours in based.groupby(["H", "extras"], sort=True):
        # Only rows with the same options (normalisation, states) do the same.
        rivals = others[others["H"].eq(heads) & _options(others).eq(_options(ours).iloc[0])]
        for implementation, extras, _, theirs in by_style(rivals, others):
            title = f"over {series_label(implementation, extras)}, H = {int(heads)}"
            if ours_extras:
                title = f"{series_label('based', ours_extras)} {title}"
            panel = _panel(title, ours.set_index(["N", "B"]), theirs.set_index(["N", "B"]))
            if any(not math.isnan(value) for line in panel.values for value in line):
                panels.append(panel)
    # A map of one or two cells says less than the table does, unless there is no larger one.
    largest = max((_cells(panel) for panel in panels), default=0)
    panels = [panel for panel in panels if _cells(panel) >= min(largest, 3)]
    if not panels:
        raise AbsentError(f"based and no other on {group.device} have a time at the same shape")
    return HeatFigure(
        "speedup",
        "Based prefill: speed-up of based",
        group.caption + " · the other's median over that of based",
        BATCH,
        LENGTH,
        "times as fast",
        panels,
    )


def _cells(panel: HeatPanel) -> int:
    return len(panel.columns) * len(panel.rows)


def _options(rows: pd.DataFrame) -> pd.Series:
    return rows["params"].map(lambda params: params.get("options", ""))


def _panel(title: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> HeatPanel:
    shapes = theirs.index
    lengths = sorted(set(shapes.get_level_values("N")))
    batches = sorted(set(shapes.get_level_values("B")))
    cells = [[_cell(ours, theirs, (n, b)) for b in batches] for n in lengths]
    return HeatPanel(
        title,
        [int(b) for b in batches],
        [int(n) for n in lengths],
        [[value for value, _ in line] for line in cells],
        [[text for _, text in line] for line in cells],
    )


def _cell(ours: pd.DataFrame, theirs: pd.DataFrame, shape: tuple) -> tuple[float, str]:
    for whose, rows in (("based: ", ours), ("", theirs)):
        if shape not in rows.index:
            return math.nan, ""
        status = rows.loc[shape, "status"]
        if status != "ok":
            return math.nan, whose + _WHY[status]
    speedup = theirs.loc[shape, "time_us"] / ours.loc[shape, "time_us"]
    return speedup, style.significant(speedup, 2 if speedup < 100 else 3)
