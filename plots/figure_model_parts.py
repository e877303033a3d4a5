"""Where the time of a whole model goes: its mixers, its matrix products, the glue between them."""

import altair as alt
import pandas as pd

from plots import models, style
from plots.figure import SHOWN, SMALL_SIZE, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.results import Group

ORDER = 36
# The mixers have their model's colour.
_PARTS = {"mixers": style.INK, "products": style.GREY, "glue": style.LIGHT_GREY}
_BATCH = 16
_BAR, _WIDTH = 34, 560


def figure(group: Group) -> Figure:
    rows = models.timed(group.rows)
    rows = rows[rows["operation"].eq("model_prefill") & rows["mixers_pct"].notna()]
    rows = rows[rows["B"].eq(_BATCH) if rows["B"].eq(_BATCH).any() else rows["B"].notna()]
    if rows.empty:
        raise AbsentError(f"no row of a whole model on {group.device} tells the shares of its time")
    shapes = rows.sort_values(["N", "B"])[["N", "B"]].drop_duplicates().values.tolist()
    longest = rows.groupby("N")["us"].max() / 1e3
    records = [
        r
        for _, row in rows.iterrows()
        for r in _records(row, len(group.cards) > 1, longest[row["N"]])
    ]
    panels = [
        _panel(f"{int(b)} prompts of {int(n)} tokens", [r for r in records if r["at"] == [n, b]])
        for n, b in shapes
    ]
    return Figure(
        "Where does the time of a whole model go?",
        [
            "Coloured: the mixers, with their convolutions; grey: matrix products; light: norms, "
            "gates, rotary, embedding.",
            group.caption,
        ],
        alt.vconcat(*panels, spacing=22),
        [Entry(part, part, colour) for part, colour in _PARTS.items()],
    )


def _text(part: str, share: float, took: float, longest: float) -> str:
    """As much as the bar has room for."""
    if took < 0.06 * longest:
        return ""
    return style.percent(share) if took < 0.2 * longest else f"{part} {style.percent(share)}"


def _records(row: pd.Series, carded: bool, longest: float) -> list[dict]:
    name = models.label(row, carded)
    found, begin = [], 0.0
    for part, colour in _PARTS.items():
        share = row[f"{part}_pct"] / 100
        took = row["us"] * share / 1e3
        found.append(
            {
                "key": part,
                "model": name,
                "at": [row["N"], row["B"]],
                "begin": begin,
                "end": begin + took,
                "middle": begin + took / 2,
                "text": _text(part, share, took, longest),
                "colour": models.colour(name) if part == "mixers" else colour,
                "ink": style.INK if part == "glue" else style.PAPER,
                "all": row["us"],
                "name": f"{name}: {part}",
                "row": row["key"],
                **hover(row),
            }
        )
        begin += took
    return found


def _panel(title: str, records: list[dict]) -> alt.LayerChart:
    order = [m for _, m in sorted({(r["all"], r["model"]) for r in records})]
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(y=alt.Y("model:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)))
    bars = base.mark_bar().encode(
        x=alt.X("begin:Q", title="time, ms"),
        x2="end:Q",
        color=alt.Color("colour:N", scale=None),
        tooltip=hover_tooltip(),
    )
    shares = base.mark_text(fontSize=SMALL_SIZE).encode(
        x="middle:Q", text="text:N", color=alt.Color("ink:N", scale=None)
    )
    return alt.layer(bars, shares).properties(width=_WIDTH, height=_BAR * len(order), title=title)
