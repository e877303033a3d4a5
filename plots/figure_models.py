"""Whole models: tokens a second, where results hold rows of a model.

Bars are of throughput, which stays of one size over batches; published ones are hollow.
"""

import altair as alt
import pandas as pd

from plots import names, style
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
from plots.results import SHAPE, Group

ORDER = 35
_MODEL = "model_"
_BAR, _HEIGHT = 24, 260


def figure(group: Group) -> Figure:
    rows = group.rows[_of_models(group.rows)]
    if rows.empty:
        raise AbsentError(f"the file has no timed rows of a whole model on {group.device}")
    live = [_record(row, len(group.cards) > 1, False) for _, row in rows.iterrows()]
    panels = {record["panel"] for record in live}
    shapes = {record["shape"] for record in live}
    printed = []
    if group.elsewhere is not None and group.device == "cuda" and len(group.cards) == 1:
        theirs = group.elsewhere[_of_models(group.elsewhere)]
        printed = [_record(row, True, True) for _, row in theirs.iterrows()]
    records = live + [r for r in printed if r["panel"] in panels and r["shape"] in shapes]
    keys = list(dict.fromkeys(record["key"] for record in records))
    shown = keys[:MOST_SHOWN]
    colours = {key: style.CARDS[index % len(style.CARDS)] for index, key in enumerate(keys)}
    return Figure(
        "How many tokens a second does a whole model take?",
        ["Higher is better; hollow: published, on the card named.", group.caption],
        alt.concat(
            *(_panel(p, [r for r in records if r["panel"] == p], colours) for p in sorted(panels)),
            columns=1,
        ).resolve_scale(xOffset="independent"),
        [Entry(key, key, colours[key], key in shown) for key in keys],
    )


def _of_models(rows: pd.DataFrame) -> pd.Series:
    return rows["operation"].str.startswith(_MODEL) & rows["status"].eq("ok") & rows["B"].notna()


def _record(row: pd.Series, carded: bool, hollow: bool) -> dict:
    tokens = row["B"] * (1 if row["operation"].endswith("decode") or not row["N"] > 0 else row["N"])
    params = {k: v for k, v in row["params"].items() if k not in SHAPE}
    # A row of a forward pass that runs several models tells which; of others the name is the model.
    model = params.pop("model", row["implementation"].replace("_", " "))
    context = params.pop("context", None)
    name = names.shortened(
        model
        + (" (ours)" if row["role"] == "ours" else "")
        + (f", {names.card(row['hardware'])}" if carded else ""),
        40,
    )
    rate = tokens / row["us"] * 1e6
    return {
        "key": name if not params else f"{name}, {names.form_words(params)}",
        "panel": names.operation_words(row["operation"])
        + ("" if not row["N"] > 0 else f" of {int(row['N'])} tokens")
        + ("" if context is None else f" after {context} tokens"),
        "shape": f"B = {int(row['B'])}",
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
