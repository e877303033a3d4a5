"""How many times as fast as each original ours is, over batch and length.

A map is of one original family; a cell is the time of its fastest member over that of ours, where
both were measured.
"""

import math

import altair as alt
import pandas as pd

from plots import names, style
from plots.figure import PREFILL, SHOWN, AbsentError, Entry, Figure, data
from plots.results import Group

ORDER = 13
_MOST_MAPS = 6
_CELL = (31, 19)
_SATURATED = 100  # times as fast: the darkest


def figure(group: Group) -> Figure:
    ours = _fastest(_prefill(group.rows[group.rows["role"].eq("ours")]))
    ours = {cell: row for (_, cell), row in ours.items() if row["operation"] == "prefill"}
    if not ours:
        raise AbsentError(f"the file has no timed prefill of ours on {group.device}")
    heads = pd.Series([h for h, _, _ in ours]).mode().max()
    if len(group.cards) > 1:
        theirs, question = _cards(group), "How do the cards compare on our prefill?"
        said = f"its time over that of {names.card(group.cards[0])}."
        ours = {c: r for c, r in ours.items() if r["hardware"] == group.cards[0]}
    else:
        theirs, question = (
            _originals(group),
            "How many times as long as ours does each original take?",
        )
        said = "their time over ours; above 1, ours is faster."
    maps: dict[str, list[dict]] = {}
    for (name, cell), row in theirs.items():
        if cell in ours and cell[0] == heads:
            maps.setdefault(name, []).append(_record(name, row, ours[cell]))
    if not maps:
        raise AbsentError(f"ours and no original on {group.device} have a time at the same shape")
    kept = sorted(maps, key=lambda name: sum(r["log"] for r in maps[name]) / len(maps[name]))
    kept = kept[:_MOST_MAPS]
    records = [record for name in kept for record in maps[name]]
    batches = sorted({r["B"] for r in records})
    lengths = sorted({r["N"] for r in records}, reverse=True)
    panels = [_map(name, maps[name], batches, lengths) for name in kept]
    return Figure(
        question,
        [
            f"Prefill, {int(heads)} heads. A cell: {said}",
            group.caption,
        ],
        alt.concat(*panels, columns=2 if len(panels) > 1 else 1, spacing=18),
        [Entry(name, name, style.family_colour(maps[name][0]["family"])) for name in kept],
    )


def _prefill(rows: pd.DataFrame) -> pd.DataFrame:
    """The timed rows of whole prefills that stand beside each other."""
    rows = rows[rows["operation"].isin(PREFILL) & rows["status"].eq("ok") & rows["W"].isna()]
    return names.picked(rows, names.comparable)


def _cells(rows: pd.DataFrame, name) -> dict:
    """(name of the row, (H, B, N)) -> the fastest row."""
    found: dict[tuple, pd.Series] = {}
    for _, row in rows.iterrows():
        at = (name(row), (row["H"], row["B"], row["N"]))
        if at not in found or row["us"] < found[at]["us"]:
            found[at] = row
    return found


def _fastest(rows: pd.DataFrame) -> dict:
    return _cells(rows, lambda row: row["operation"])


def _originals(group: Group) -> dict:
    """The originals of each family: those of these files, and of elsewhere on the same card where
    these have none."""
    rows = _prefill(group.rows[group.rows["role"].eq("original")])
    near = group.near
    near = _prefill(near[~near["implementation"].isin(set(rows["implementation"]))])
    rows = pd.concat([rows, near.assign(elsewhere=True)], ignore_index=True)
    return _cells(rows, _family)


def _family(row: pd.Series) -> str:
    if names.family(row) not in (names.ELSEWHERE, names.NAIVE):
        return names.family(row)
    where = f", {names.card(row['hardware'])} elsewhere" if row.get("elsewhere") is True else ""
    return f"{names.function(row['operation'])}, {names.project(row)}{where}"


def _cards(group: Group) -> dict:
    """Ours on each card but the first."""
    rows = _prefill(group.rows[group.rows["role"].eq("ours")])
    rows = rows[rows["operation"].eq("prefill") & rows["hardware"].ne(group.cards[0])]
    return _cells(
        rows, lambda row: f"{names.card(row['hardware'])} over {names.card(group.cards[0])}"
    )


def _record(name: str, row: pd.Series, ours: pd.Series) -> dict:
    ratio = row["us"] / ours["us"]
    fill, ink = _colours(ratio)
    return {
        "key": name,
        "B": int(row["B"]),
        "N": int(row["N"]),
        "log": math.log(ratio),
        "fill": fill,
        "ink": ink,
        "text": style.ratio_text(ratio).rstrip("×"),
        "family": names.family(row),
        "row": row["key"],
        "theirs": style.time_text(row["us"], 4),
        "ours": f"{style.time_text(ours['us'], 4)}: {ours['key']}",
        "from": names.shortened(f"{row['hardware']} · {row['date']}"),
    }


def _colours(ratio: float) -> tuple[str, str]:
    """White where equal, blue where ours is faster, orange where it is slower; letters to match."""
    depth = min(abs(math.log(ratio)) / math.log(_SATURATED), 1.0)
    target = (0, 71, 138) if ratio >= 1 else (201, 79, 0)
    red, green, blue = (round(245 + (end - 245) * depth) for end in target)
    dark = depth > 0.5
    return f"rgb({red},{green},{blue})", "#ffffff" if dark else style.INK


def _map(name: str, records: list[dict], batches: list[int], lengths: list[int]) -> alt.LayerChart:
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        x=alt.X(
            "B:O",
            title="batch size",
            scale=alt.Scale(domain=batches),
            axis=alt.Axis(labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "N:O",
            title="length",
            scale=alt.Scale(domain=lengths),
            axis=alt.Axis(
                ticks=False,
                domain=False,
                labelExpr="datum.value >= 1024 ? datum.value / 1024 + 'K' : datum.value",
            ),
        ),
    )
    told = ["key:N", "row:N", "theirs:N", "ours:N", "from:N"]
    cells = base.mark_rect().encode(fill=alt.Fill("fill:N", scale=None), tooltip=told)
    texts = base.mark_text(fontSize=12).encode(text="text:N", color=alt.Color("ink:N", scale=None))
    return alt.layer(cells, texts).properties(
        width=_CELL[0] * len(batches), height=_CELL[1] * len(lengths), title=name
    )
