"""What each option and each forced variant costs, beside the plain row of the same shape.

An option (normalisation, states in and out) is work that the sources' benchmark leaves out; a
variant is one way to compute, of which the dispatcher picks one.
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

ORDER = 50
_WIDTH, _BAR, _MOST_SHAPES = 250, 16, 8
_FEW = 3  # options that are named one by one
_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.BLACK, style.BROWN)
# The options in the order in which they are told.
_WORDS = {"normalize": "normalised", "initial_state": "initial state", "final_state": "final state"}


def figure(group: Group) -> Figure:
    rows = group.rows[group.rows["status"].eq("ok") & group.rows["role"].eq("ours")]
    records = []
    by = ["operation", "implementation", "hardware"]
    for (_, _, card), of_name in rows.groupby(by, sort=False):
        panel = names.words(of_name.iloc[0], form="")
        if len(group.cards) > 1:
            panel += f", {names.card(card)}"
        plain = {_place(row): row for _, row in of_name.iterrows() if not _what(row)}
        records += [
            _record(panel, row, plain[_place(row)])
            for _, row in of_name.iterrows()
            if _what(row) and _place(row) in plain
        ]
    if not records:
        raise AbsentError(
            f"no row of ours on {group.device} has an option or a forced variant, and a plain one"
        )
    kinds = list(dict.fromkeys(r["key"] for r in sorted(records, key=lambda r: len(r["key"]))))
    kinds = kinds[:MOST_SHOWN]
    colours = {kind: _COLOURS[i % len(_COLOURS)] for i, kind in enumerate(kinds)}
    records = [r for r in records if r["key"] in colours]
    panels = [
        _panel(panel, [r for r in records if r["panel"] == panel], colours)
        for panel in dict.fromkeys(r["panel"] for r in records)
    ]
    return Figure(
        "What does it cost to be general?",
        [
            "How much more time ours takes with it than without, at the same shape.",
            group.caption,
        ],
        alt.concat(*panels, columns=2, spacing=30).resolve_scale(yOffset="independent"),
        [Entry(kind, kind, colours[kind]) for kind in kinds],
    )


def _what(row: pd.Series) -> str:
    """What a row has that a plain one does not, in words."""
    parts = []
    options = str(row["params"].get("options", ""))
    if options:
        asked = options.split("+")
        if len(asked) > _FEW:
            asked = [f"{len(asked)} options together"]
        parts += [words for option, words in _WORDS.items() if option in asked]
        parts += [option for option in asked if option not in _WORDS]
    if "variant" in row["params"]:
        parts.append(f"variant {row['params']['variant']}")
    return names.shortened(", ".join(parts), 50)


def _place(row: pd.Series) -> tuple:
    """All else that a row is."""
    others = {k: v for k, v in row["params"].items() if k not in ("options", "variant")}
    return tuple(sorted((k, str(v)) for k, v in others.items()))


def _record(panel: str, row: pd.Series, plain: pd.Series) -> dict:
    more = row["us"] / plain["us"] - 1
    return {
        "key": _what(row),
        "panel": panel,
        "shape": ", ".join(
            f"{name} = {int(row[name])}" for name in SHAPE if name != "H" and row[name] > 0
        ),
        "rank": [float(row[name]) if row[name] > 0 else 0.0 for name in ("N", "B", "W")],
        "more": 100 * more,
        "text": f"{100 * more:+.0f} %",
        "name": f"{panel}, {_what(row)}",
        "row": row["key"],
        **hover(row),
    }


def _panel(title: str, records: list[dict], colours: dict[str, str]) -> alt.LayerChart:
    shapes = sorted({tuple(r["rank"]): r["shape"] for r in records}.items(), reverse=True)
    shapes = [shape for _, shape in shapes][:_MOST_SHAPES]
    records = [r for r in records if r["shape"] in shapes]
    kinds = [kind for kind in colours if any(r["key"] == kind for r in records)]
    low = min(0.0, *(r["more"] for r in records)) * 1.25
    high = max(5.0, *(r["more"] for r in records)) * 1.25
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        y=alt.Y("shape:N", sort=shapes, title=None, axis=alt.Axis(ticks=False, domain=False)),
        yOffset=alt.YOffset("key:N", sort=kinds, scale=alt.Scale(domain=kinds)),
        x=alt.X(
            "more:Q",
            title="% more time",
            scale=alt.Scale(domain=[low, high], nice=False),
            axis=alt.Axis(tickCount=5),
        ),
    )
    bars = base.mark_bar().encode(
        color=alt.Color(
            "key:N",
            scale=alt.Scale(domain=list(colours), range=list(colours.values())),
            legend=alt.Legend(orient="top", title=None, labelFontSize=TEXT_SIZE, labelLimit=300),
        ),
        tooltip=hover_tooltip(),
    )
    texts = base.mark_text(align="left", baseline="middle", dx=4, fontSize=12)
    layers = [bars, texts.encode(text="text:N")]
    return alt.layer(*layers).properties(
        width=_WIDTH, height=len(shapes) * (len(kinds) * _BAR + 8), title=title
    )
