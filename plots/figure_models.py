"""Whole models: tokens of prompts a second, where results hold rows of a model.

Bars are of throughput, which stays of one size over batches; published ones are hollow.
"""

from collections.abc import Iterable

import altair as alt
import pandas as pd

from plots import models, names, style
from plots.figure import (
    MOST_SHOWN,
    SHOWN,
    TEXT_SIZE,
    AbsentError,
    Entry,
    Figure,
    data,
    hover,
    hover_tooltip,
)
from plots.results import Group

ORDER = 35
_BAR, _HEIGHT = 24, 260


def figure(group: Group) -> Figure:
    rows = _prompts(group.rows)
    if rows.empty:
        raise AbsentError(f"the file has no timed prompts of a whole model on {group.device}")
    live = [_record(row, len(group.cards) > 1, False) for _, row in rows.iterrows()]
    panels = _keys(sorted(live, key=lambda record: record["length"]), "panel")
    shapes = {record["shape"] for record in live}
    printed = []
    if group.elsewhere is not None and group.device == "cuda" and len(group.cards) == 1:
        theirs = _prompts(group.elsewhere)
        printed = [_record(row, True, True) for _, row in theirs.iterrows()]
    records = live + [r for r in printed if r["panel"] in panels and r["shape"] in shapes]
    own, elsewhere = _keys(live), _keys(r for r in records if r["opacity"] == 0)
    keys = own + elsewhere
    shown = keys[:MOST_SHOWN]
    colours = models.colours(own) | models.colours(elsewhere)
    return Figure(
        "How many tokens of prompts does a whole model take a second?",
        ["Higher is better; hollow: published, on the card named.", group.caption],
        alt.concat(
            *(_panel(p, [r for r in records if r["panel"] == p], colours) for p in panels),
            columns=1,
        ).resolve_scale(xOffset="independent"),
        [Entry(key, key, colours[key], key in shown) for key in keys],
    )


def _keys(records: Iterable[dict], of: str = "key") -> list[str]:
    return list(dict.fromkeys(record[of] for record in records))


def _prompts(rows: pd.DataFrame) -> pd.DataFrame:
    rows = models.timed(rows)
    return rows[rows["operation"].eq("model_prefill")]


def _record(row: pd.Series, carded: bool, hollow: bool) -> dict:
    name, params = models.named(row, carded)
    rate = models.tokens(row) / row["us"] * 1e6
    return {
        "key": name if not params else f"{name}, {names.form_words(params)}",
        "panel": f"prompts of {int(row['N'])} tokens" if row["N"] > 0 else "prompts",
        "shape": f"B = {int(row['B'])}",
        "length": row["N"],
        "batch": row["B"],
        "rate": rate,
        "text": style.significant(rate / 1e3, 3),
        "opacity": 0.0 if hollow else 1.0,
        "name": name,
        "row": row["key"],
        **hover(row),
    }


def _panel(title: str, records: list[dict], colours: dict[str, str]) -> alt.LayerChart:
    shapes = [s for _, s in sorted({(r["batch"], r["shape"]) for r in records})]
    keys = [key for key in colours if any(r["key"] == key for r in records)]
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    legend = alt.Legend(
        orient="top", title=None, columns=4, labelFontSize=TEXT_SIZE, labelLimit=260
    )
    bars = alt.Chart(data(records)).transform_filter(SHOWN).mark_bar(strokeWidth=1.5)
    bars = bars.encode(
        x=alt.X("shape:N", sort=shapes, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("key:N", sort=keys, scale=alt.Scale(domain=keys, paddingInner=0.15)),
        y=alt.Y("rate:Q", title="tokens a second", axis=alt.Axis(format="~s")),
        fill=alt.Fill("key:N", scale=scale, legend=legend),
        stroke=alt.Stroke("key:N", scale=scale, legend=None),
        fillOpacity=alt.FillOpacity("opacity:Q", scale=None),
        tooltip=hover_tooltip(),
    )
    return bars.properties(
        width=max(300, min(680, _BAR * len(keys) * len(shapes))), height=_HEIGHT, title=title
    )
