"""Softmax attention against sequence length, a panel a head dimension and mask: ours, the baseline,
and the originals that were run or published.

The batch is the one that has most rows of ours, of equals the largest. Rows that ask for something
else (a window, grouped heads, other inputs, a forced variant) are left out.
"""

import altair as alt
import pandas as pd

from plots import axes, names, style
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

ORDER = 14
_WIDTH, _HEIGHT = 330, 230
_PLAIN = {"B", "H", "N", "Dh", "causal"}
# Ours, then whoever comes; a colour is an implementation's in all panels. Ours has softmax
# attention's own, and nobody has another mixer's.
_COLOURS = (
    style.PURPLE,
    style.LIGHT_PURPLE,
    style.BROWN,
    style.OLIVE,
    style.GREY,
    style.NAVY,
    style.LIGHT_BLUE,
    style.BLACK,
)
_SPARE = style.GREY
_EVERY = "softmax attention, "  # what every name begins with, but ours


def figure(group: Group) -> Figure:
    rows = _plain(group.rows)
    own = rows[rows["role"].eq("ours")]
    own = rows if own.empty else own
    if own["N"].nunique() < 2:
        raise AbsentError(
            f"softmax attention on {group.device} was not timed at two or more lengths"
        )
    counts = own.groupby(["H", "B"])["N"].nunique()
    heads, batch = max(counts.index, key=lambda at: (counts[at], at[1]))
    everything = rows
    if group.elsewhere is not None and group.device == "cuda":
        theirs = _plain(group.elsewhere)
        known = set(rows["implementation"])
        everything = pd.concat([rows, theirs[~theirs["implementation"].isin(known)]])
    shape = {"H": heads, "B": batch}
    everything = everything[everything["H"].eq(heads) & everything["B"].eq(batch)]
    order = everything.assign(rank=everything["role"].map({"ours": 0, "baseline": 1}).fillna(2))
    labels = {
        row["implementation"]: names.words(row, form="").removeprefix(_EVERY)
        for _, row in order.sort_values(["rank", "us"]).iterrows()
    }
    labels = dict(list(labels.items())[:MOST_SHOWN])
    of_ours = rows["role"].eq("ours").any()
    palette = [*(_COLOURS if of_ours else _COLOURS[1:]), *[_SPARE] * MOST_SHOWN]
    colours = dict(zip(labels, palette, strict=False))
    records = [
        _record(row, labels, colours)
        for _, row in everything.sort_values("N").iterrows()
        if row["implementation"] in labels
    ]
    x = axes.size_scale([r["x"] for r in records], _WIDTH)
    y = alt.Scale(domain=[0, 1.05 * max(r["y"] for r in records)], nice=False)
    panels = [
        _panel(title, [r for r in records if r["panel"] == title], x, y, labels, colours)
        for title in sorted({r["panel"] for r in records}, key=_dim)
    ]
    return Figure(
        "How fast is softmax attention?",
        [
            f"Nominal TFLOP/s, of which causal has half; batch {int(shape['B'])}, "
            f"{int(shape['H'])} heads.",
            group.caption,
        ],
        alt.concat(*panels, columns=2, spacing=30),
        [Entry(name, label, colours[name]) for name, label in labels.items()],
    )


def _dim(panel: str) -> tuple[int, str]:
    """Smaller heads first, then causal."""
    return int(panel.split()[2].rstrip(",")), panel


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["operation"].eq("attention") & rows["status"].eq("ok")]
    rows = names.picked(rows, lambda row: row["params"].keys() == _PLAIN)
    return rows[rows["tflops"].gt(0)]


def _record(row: pd.Series, labels: dict[str, str], colours: dict[str, str]) -> dict:
    params, name = row["params"], row["implementation"]
    return {
        "key": name,
        "panel": f"heads of {params['Dh']}, {'causal' if params['causal'] else 'full'}",
        "x": row["N"],
        "y": row["tflops"],
        "colour": colours[name],
        "width": 4 if row["role"] == "ours" else 1.8,
        "name": labels[name],
        "row": row["key"],
        **hover(row),
    }


def _panel(
    title: str,
    records: list[dict],
    x: axes.LogScale,
    y: alt.Scale,
    labels: dict[str, str],
    colours: dict[str, str],
) -> alt.LayerChart:
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        x=alt.X("x:Q", scale=x.vega(), axis=axes.axis(axes.SIZES["N"], x, grid=False)),
        y=alt.Y("y:Q", title=axes.TFLOPS.title, scale=y),
        color=alt.Color(
            "name:N",
            scale=alt.Scale(domain=list(labels.values()), range=list(colours.values())),
            legend=alt.Legend(
                orient="top", title=None, labelFontSize=TEXT_SIZE, labelLimit=320, columns=3
            ),
        ),
        detail="key:N",
    )
    lines = base.mark_line(strokeJoin="round").encode(
        strokeWidth=alt.StrokeWidth("width:Q", scale=None)
    )
    marks = base.mark_point(filled=True, opacity=1, size=36).encode(tooltip=hover_tooltip())
    return alt.layer(lines, marks).properties(width=_WIDTH, height=_HEIGHT, title=title)
