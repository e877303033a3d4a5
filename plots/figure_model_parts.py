"""Where the time of a whole model goes: its mixers, its matrix products, the glue between them."""

import altair as alt
import pandas as pd

from plots import models, names, style
from plots.figure import SHOWN, TEXT_SIZE, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.results import Group

ORDER = 36
_PARTS = {"mixers": style.VERMILION, "products": style.BLUE, "glue": style.GREY}
_BATCH = 16
_BAR, _WIDTH = 34, 560


def figure(group: Group) -> Figure:
    rows = models.timed(group.rows)
    rows = rows[rows["operation"].eq("model_prefill") & rows["mixers_pct"].notna()]
    rows = rows[rows["B"].eq(_BATCH) if rows["B"].eq(_BATCH).any() else rows["B"].notna()]
    if rows.empty:
        raise AbsentError(f"no row of a whole model on {group.device} tells the shares of its time")
    shapes = rows.sort_values(["N", "B"])[["N", "B"]].drop_duplicates().values.tolist()
    records = [r for _, row in rows.iterrows() for r in _records(row, len(group.cards) > 1)]
    panels = [
        _panel(f"{int(b)} prompts of {int(n)} tokens", [r for r in records if r["at"] == [n, b]])
        for n, b in shapes
    ]
    return Figure(
        "Where does the time of a whole model go?",
        [
            "Prefill. Mixers have their convolutions with them; the glue is norms, gates, rotary "
            "and embedding.",
            group.caption,
        ],
        alt.vconcat(*panels, spacing=22),
        [Entry(part, part, colour) for part, colour in _PARTS.items()],
    )


def _records(row: pd.Series, carded: bool) -> list[dict]:
    name, params = models.named(row, carded)
    name = name if not params else f"{name}, {names.form_words(params)}"
    found, begin = [], 0.0
    for part in _PARTS:
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
                "text": style.percent(share) if share > 0.05 else "",
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
    colours = alt.Scale(domain=list(_PARTS), range=list(_PARTS.values()))
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(y=alt.Y("model:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)))
    bars = base.mark_bar().encode(
        x=alt.X("begin:Q", title="time, ms"),
        x2="end:Q",
        color=alt.Color(
            "key:N",
            scale=colours,
            legend=alt.Legend(orient="top", title=None, labelFontSize=TEXT_SIZE),
        ),
        tooltip=hover_tooltip(),
    )
    shares = base.mark_text(color=style.PAPER).encode(x="middle:Q", text="text:N")
    return alt.layer(bars, shares).properties(width=_WIDTH, height=_BAR * len(order), title=title)
