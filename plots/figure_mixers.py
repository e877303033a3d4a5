"""Which sequence mixer is fastest, with equal engineering: prefill against batch and length, and a
decode step against batch. Ours is the solid line; the original that the mixer's authors or their
successors ship is the dashed one of its colour.
"""

import math

import altair as alt
import pandas as pd

from plots import axes, style
from plots.figure import SHOWN, TEXT_SIZE, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.mixers import MIXERS, Mixer, rows_of, state_kib
from plots.results import Group

ORDER = 9
_WIDTH, _HEIGHT = 300, 320
_BATCH, _LENGTH = 16, 8192
_PANELS = (
    (f"prefill of {_LENGTH} tokens", "prefill", "B", {"N": _LENGTH}),
    (f"prefill of {_BATCH} sequences", "prefill", "N", {"B": _BATCH}),
    ("one decode step", "decode", "B", {}),
)


def figure(group: Group) -> Figure:
    if len(group.cards) > 1:
        raise AbsentError("mixers are compared on one card at a time")
    records, named = [], {}
    for mixer in MIXERS:
        named[mixer.name] = _named(mixer, rows_of(group, mixer.prefill, mixer.sizes))
        for panel, kind, over, at in _PANELS:
            rows = _rows(group, mixer, kind, at)
            for _, row in rows.sort_values(over).iterrows():
                records.append(_record(row, mixer, named[mixer.name], panel, over))
    own = {r["key"] for r in records if r["side"] == "ours"}
    if len(own) < 2:
        raise AbsentError(f"fewer than two mixers of ours were timed on {group.device}")
    records = [r for r in records if r["key"] in own]
    entries = [Entry(m.name, named[m.name], m.colour) for m in MIXERS if m.name in own]
    panels = [
        _panel(title, over, [r for r in records if r["panel"] == title], entries)
        for title, _, over, _ in _PANELS
        if any(r["panel"] == title for r in records)
    ]
    return Figure(
        "With equal engineering, which sequence mixer is fastest?",
        [
            "Solid: ours; dashed: the mixer's fastest original; state: what one sequence keeps.",
            group.caption,
        ],
        alt.hconcat(*panels, spacing=26),
        entries,
    )


def _rows(group: Group, mixer: Mixer, kind: str, at: dict) -> pd.DataFrame:
    operation = getattr(mixer, kind)
    wanted = mixer.sizes | (mixer.decode_sizes if kind == "decode" else {})
    rows = rows_of(group, operation, wanted)
    for name, value in at.items():
        rows = rows[rows[name].eq(value)]
    return rows


def _named(mixer: Mixer, rows: pd.DataFrame) -> str:
    kib = state_kib(rows)
    state = "grows" if math.isnan(kib) else style.memory_text(kib / 1024)
    return f"{mixer.name}; state {state}"


def _record(row: pd.Series, mixer: Mixer, name: str, panel: str, over: str) -> dict:
    ours = row["role"] == "ours"
    return {
        "key": mixer.name,
        "side": row["role"],
        "panel": panel,
        "x": row[over],
        "y": row["us"],
        "width": 3.2 if ours else 1.4,
        "dash": [1, 0] if ours else [5, 4],
        "name": name,
        "row": row["key"],
        **hover(row),
    }


def _panel(title: str, over: str, records: list[dict], entries: list[Entry]) -> alt.LayerChart:
    x = axes.size_scale([r["x"] for r in records], _WIDTH)
    y = axes.log_scale([r["y"] for r in records], _HEIGHT)
    colours = alt.Scale(domain=[e.label for e in entries], range=[e.colour for e in entries])
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(
        x=alt.X("x:Q", scale=x.vega(), axis=axes.axis(axes.SIZES[over], x, grid=False)),
        y=alt.Y("y:Q", scale=y.vega(), axis=axes.axis(axes.TIME, y)),
        color=alt.Color(
            "name:N",
            scale=colours,
            legend=alt.Legend(
                orient="top", title=None, labelFontSize=TEXT_SIZE, labelLimit=340, columns=3
            ),
        ),
        detail=["key:N", "side:N"],
    )
    lines = base.mark_line(strokeJoin="round").encode(
        strokeWidth=alt.StrokeWidth("width:Q", scale=None),
        strokeDash=alt.StrokeDash("dash", type="nominal", scale=None),
    )
    marks = base.mark_point(filled=True, opacity=1, size=34).encode(tooltip=hover_tooltip())
    return alt.layer(lines, marks).properties(width=_WIDTH, height=_HEIGHT, title=title)
