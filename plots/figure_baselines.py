"""Baselines beside the originals that they stand for, at one shape each.

A comparison with somebody's algorithm is only worth something where their code, rewritten here, is
as fast as it was. A pair is what a row's `reimplements` says.
"""

import altair as alt

from plots import axes, names, style
from plots.axes import TIME
from plots.figure import SHOWN, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.pairs import pairs
from plots.results import Group

ORDER = 60
_WIDTH, _ROW = 330, 34
_COLOUR = style.BLUE


def figure(group: Group) -> Figure:
    found = [pair for card in group.cards for pair in pairs(group, card)]
    if not found:
        raise AbsentError(f"no baseline on {group.device} and original of it at the same shape")
    where = len(group.cards) > 1
    records, entries = [], []
    for place, pair in enumerate(found):
        card = names.card(pair.original["hardware"])
        name = names.words(pair.original, form="") + (
            f", {card}" if where or pair.elsewhere else ""
        )
        key = f"{pair.baseline['key']}, {pair.original['key']}, {pair.baseline['hardware']}"
        entries.append(Entry(key, name, _COLOUR))
        for row, mine in ((pair.baseline, True), (pair.original, False)):
            records.append(
                {
                    "key": key,
                    "place": place,
                    "label": f"{name}\n{pair.shape}",
                    "us": row["us"],
                    "fill": _COLOUR if mine else style.PAPER,
                    "colour": _COLOUR if mine else style.BLACK,
                    "ratio": style.ratio_text(pair.ratio),
                    "name": names.words(row),
                    "row": row["key"],
                    **hover(row),
                }
            )
    times = axes.log_scale([record["us"] for record in records], _WIDTH, up=False)
    return Figure(
        "Are the rewritten baselines as fast as their originals?",
        [
            "Filled: rewritten here; hollow: the original, elsewhere where a card is named; "
            "×: the first's time over the second's.",
            group.caption,
        ],
        _chart(records, times, len(found)),
        entries,
    )


def _chart(records: list[dict], times: axes.LogScale, count: int) -> alt.LayerChart:
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    y = alt.Y("place:O", axis=None, sort=None, scale=alt.Scale(domain=list(range(count))))
    x = alt.X("us:Q", scale=times.vega(), axis=axes.axis(TIME, times))
    bars = base.mark_line(strokeWidth=2, color=style.GRID).encode(x=x, y=y, detail="place:O")
    points = base.mark_point(size=90, opacity=1, strokeWidth=2).encode(
        x=x,
        y=y,
        fill=alt.Fill("fill:N", scale=None),
        color=alt.Color("colour:N", scale=None),
        tooltip=hover_tooltip(),
    )
    first = base.transform_filter("datum.fill != '" + style.PAPER + "'")
    labels = first.mark_text(align="right", baseline="middle", dx=-14, dy=-7, lineBreak="\n")
    labels = labels.encode(y=y, text="label:N", x=alt.value(0))
    ratios = first.mark_text(align="left", baseline="middle", dx=14, fontWeight="bold")
    ratios = ratios.encode(y=y, text="ratio:N", x=alt.value(_WIDTH))
    chart = alt.layer(bars, points, labels, ratios)
    return chart.properties(width=_WIDTH, height=_ROW * count)
