"""How fast whole models generate: tokens a second against batch and against context."""

import altair as alt
import pandas as pd

from plots import axes, models
from plots.figure import SHOWN, TEXT_SIZE, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.results import Group

ORDER = 37
_WIDTH, _HEIGHT = 380, 320
_RATE = axes.Quantity(
    "rate",
    "tokens a second",
    "datum.value >= 1e6 ? datum.value / 1e6 + 'M' : "
    "datum.value >= 1000 ? datum.value / 1000 + 'k' : datum.value",
)
_CONTEXT = axes.Quantity("context", "tokens before it", axes.SIZES["N"].expression)


def figure(group: Group) -> Figure:
    rows = models.timed(group.rows)
    rows = rows[rows["operation"].eq("model_decode")]
    records = [_record(row, len(group.cards) > 1) for _, row in rows.iterrows()]
    if not records:
        raise AbsentError(f"the file has no step of a whole model on {group.device}")
    keys = list(dict.fromkeys(r["key"] for r in records))
    colours = {key: models.colour(key) for key in keys}
    # The context that most batches were timed at, and the batch that most contexts were.
    context = _most_common([r["context"] for r in records])
    batch = _most_common([r["B"] for r in records if r["context"] != context])
    panels = [_panel("B", f"after {context} tokens", records, "context", context, colours)]
    if batch is not None:
        panels.append(_panel("context", f"{batch:.0f} sequences", records, "B", batch, colours))
    return Figure(
        "How many tokens a second does a whole model generate?",
        ["Greedy steps replayed as a CUDA graph; higher is better.", group.caption],
        alt.hconcat(*panels, spacing=28),
        [Entry(key, key, colour) for key, colour in colours.items()],
    )


def _most_common(values: list):
    return max(sorted(set(values)), key=values.count, default=None)


def _record(row: pd.Series, carded: bool) -> dict:
    name, params = models.named(row, carded)
    return {
        "key": name,
        "B": row["B"],
        "context": params.get("context", 0),
        "rate": models.tokens(row) / row["us"] * 1e6,
        "name": name,
        "row": row["key"],
        **hover(row),
    }


def _panel(over: str, title: str, records: list[dict], of: str, at, colours) -> alt.LayerChart:
    records = [r for r in records if r[of] == at]
    x = axes.size_scale([r[over] for r in records], _WIDTH)
    y = axes.log_scale([r["rate"] for r in records], _HEIGHT)
    quantity = axes.SIZES["B"] if over == "B" else _CONTEXT
    legend = alt.Legend(
        orient="top", title=None, labelFontSize=TEXT_SIZE, labelLimit=260, columns=3
    )
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        x=alt.X(f"{over}:Q", scale=x.vega(), axis=axes.axis(quantity, x, grid=False)),
        y=alt.Y("rate:Q", scale=y.vega(), axis=axes.axis(_RATE, y)),
        color=alt.Color(
            "key:N",
            scale=alt.Scale(domain=list(colours), range=list(colours.values())),
            legend=legend,
        ),
    )
    lines = base.mark_line(strokeJoin="round", strokeWidth=2.6)
    marks = base.mark_point(filled=True, opacity=1, size=38).encode(tooltip=hover_tooltip())
    return alt.layer(lines, marks).properties(width=_WIDTH, height=_HEIGHT, title=title)
