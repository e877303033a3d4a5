"""Horizontal bars of one quantity, a panel a shape: each is named beside it and its value stands at
its end, so that no legend is needed. Filled: ours; pale: an original, run here; hollow: published.
"""

import altair as alt
import pandas as pd

from plots import style
from plots.figure import SHOWN, SMALL_SIZE, data, hover_tooltip

OURS, ORIGINAL, PRINTED = 1.0, 0.35, 0.0  # how much a bar is filled
HOW_FILLED = "filled: ours; pale: an original, run here; hollow: published, on the card named"
_BAR, _NAMES = 21, 300


def filled(row: pd.Series) -> float:
    """How much the bar of a row that was run here is filled."""
    return OURS if row["role"] == "ours" else ORIGINAL


def panel(
    title: str, records: list[dict], most: float, axis_title: str, width: float = 300
) -> alt.LayerChart:
    """The records (`label`, `value`, `text`, `colour`, `opacity` and what hover() gives) in their
    order; `most` is where the axis ends, which several panels share."""
    order = [record["label"] for record in records]
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        y=alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=_NAMES, ticks=False))
    )
    x = alt.X(
        "value:Q",
        title=axis_title,
        scale=alt.Scale(domain=[0, 1.2 * most], nice=False),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    bars = base.mark_bar(strokeWidth=1.4, height={"band": 0.8}).encode(
        x=x,
        fill=alt.Fill("colour:N", scale=None),
        stroke=alt.Stroke("colour:N", scale=None),
        fillOpacity=alt.FillOpacity("opacity:Q", scale=None),
        tooltip=hover_tooltip(),
    )
    values = base.mark_text(align="left", dx=4, fontSize=SMALL_SIZE, color=style.INK)
    values = values.encode(x=x, text="text:N")
    return alt.layer(bars, values).properties(width=width, height=_BAR * len(order), title=title)
