"""Roofline: each implementation at its best shape, under what the same card measurably can.

Intensity is executed FLOPs over compulsory bytes (each input read once, each output written once);
with nominal FLOPs every implementation would stand at the same intensity and could pass the roof.
A point's distance below the roof is what its kernel leaves unused or moves twice.
"""

import math

import altair as alt
import pandas as pd

from plots import axes, names, style
from plots.axes import LogScale, Quantity
from plots.figure import SHOWN, TEXT_SIZE, AbsentError, Entry, Figure, data, hover, hover_tooltip
from plots.labels import Box, arrange, text_width
from plots.results import Group

ORDER = 40
_WIDTH, _HEIGHT = 520, 450
_BESIDE = 300  # what names may take right of the plot
_LINE = 15
_INTENSITY = Quantity("intensity", "executed FLOP per compulsory byte", axes.PLAIN)
_ACHIEVED = Quantity("achieved", "executed TFLOP/s", axes.PLAIN)


def figure(group: Group) -> Figure:
    rows = group.rows[group.rows["status"].eq("ok")].copy()
    rows = rows[rows["role"].ne("original")]  # their baselines stand for them
    # Whole models have a figure of their own; of the state-space layers' steps ours is enough.
    rows = rows[~rows["operation"].str.startswith("model_")]
    rows = rows[~rows["operation"].str.endswith("_decode") | rows["role"].eq("ours")]
    rows["achieved"] = rows["exec_TFLOPs"] * rows["time_us"] / rows["us"]
    rows["intensity"] = rows["exec_TFLOPs"] * rows["time_us"] / rows["compulsory_MB"]
    rows = rows[rows["intensity"].gt(0) & rows["compulsory_MB"].gt(0)]
    if len(group.cards) > 1:  # there is no room for everybody twice
        rows = rows[rows["role"].eq("ours")]
    if rows.empty:
        raise AbsentError(f"no row on {group.device} has exec_TFLOPs and compulsory_MB")
    rows = rows[rows["copy_gbps"].notna() & rows["peak_tflops"].notna()]
    if rows.empty:
        raise AbsentError(f"the context has no measured ceilings of {', '.join(group.cards)}")
    rows["of_roof"] = [
        row["achieved"] / _allowed(row, row["intensity"]) for _, row in rows.iterrows()
    ]
    roofs = {card: of_card.iloc[0] for card, of_card in rows.groupby("hardware", sort=False)}
    by = ["operation", "implementation", "hardware"]
    best = rows.loc[rows.groupby(by)["of_roof"].idxmax()]
    x = axes.log_scale([*best["intensity"] / 2, *best["intensity"] * 2], _WIDTH, up=False)
    y = axes.log_scale(
        [*best["achieved"], *(_allowed(roof, x.high) for roof in roofs.values())], _HEIGHT
    )
    records = _records(best, roofs, x, y)
    chart = alt.layer(_roof_layer(roofs, x, y), *_point_layers(records, x, y))
    notes = [
        "Each at its best shape; %: of what the card allows at that intensity. "
        + ("" if len(roofs) > 1 else "All are written here, those of others as baselines."),
        *["Over 100 %: a burst, faster than the GEMM that the ceiling is taken from."]
        * bool(best["of_roof"].gt(1).any()),
        group.caption,
    ]
    return Figure(
        "How close does each implementation come to the card's limits?",
        notes,
        chart.properties(width=_WIDTH, height=_HEIGHT),
        [Entry(r["key"], r["name"], r["colour"]) for r in records],
    )


def _allowed(roof: pd.Series, intensity: float) -> float:
    """TFLOP/s; `roof` has the ceilings of a card."""
    return min(roof["copy_gbps"] * intensity * 1e-3, roof["peak_tflops"])


def _records(best: pd.DataFrame, roofs: dict[str, pd.Series], x: LogScale, y: LogScale) -> list:
    several = len(roofs) > 1
    rows = [row for _, row in best.sort_values("role").iterrows()]  # ours last: the others give way
    labels, texts = [], []
    for row in rows:
        where = f", {names.card(row['hardware'])}" if several else ""
        labels.append(_label(row) + where)
        texts.append(f"{_label(row)}{where}  {style.percent(row['of_roof'])}")
    points = [(x.pixel(row["intensity"]), y.pixel(row["achieved"])) for row in rows]
    taken = [Box(px - 5, py - 5, px + 5, py + 5) for px, py in points]
    taken += [box for roof in roofs.values() for box in _roof_boxes(roof, x, y)]
    boxes = arrange(
        points,
        [(text_width(text, TEXT_SIZE), _LINE) for text in texts],
        taken,
        Box(0, 0, _WIDTH + _BESIDE, _HEIGHT),
    )
    records = []
    for row, label, text, point, box in zip(rows, labels, texts, points, boxes, strict=True):
        colour = (
            style.CARDS[list(roofs).index(row["hardware"]) % len(style.CARDS)]
            if several
            else style.family_colour(names.family(row))
        )
        nearest = box.nearest(*point)
        records.append(
            {
                "key": f"{row['key']}, {row['hardware']}",
                "name": label,
                "row": row["key"],
                "text": text,
                "colour": colour,
                "size": 110 if row["role"] == "ours" else 55,
                "x": row["intensity"],
                "y": row["achieved"],
                "tx": x.value(box.left),
                "ty": y.value((box.top + box.bottom) / 2),
                "nx": x.value(nearest[0]),
                "ny": y.value(nearest[1]),
                "tied": math.dist(nearest, point) > 11,
                **hover(row),
            }
        )
    return records


def _label(row: pd.Series) -> str:
    """The name, with the operation where the name does not say it."""
    steps = {"sliding_window": "window: "}
    is_decode = row["operation"].endswith("decode")
    step = "decode: " if is_decode else steps.get(row["operation"], "")
    text = names.words(row, form="").removesuffix(", rewritten")
    return (step + text).replace("window: sliding window", "window:")


def _roof_boxes(roof: pd.Series, x: LogScale, y: LogScale) -> list[Box]:
    """Small boxes along the roof, which no text shall cover."""
    found = []
    for pixel in range(0, int(x.pixels), 6):
        top = y.pixel(_allowed(roof, x.value(pixel)))
        found.append(Box(pixel - 3, top - 6, pixel + 9, top + 6))
    return found


def _roof_layer(roofs: dict[str, pd.Series], x: LogScale, y: LogScale) -> alt.Chart:
    lines, texts = [], []
    for number, (card, roof) in enumerate(roofs.items()):
        peak, copy = roof["peak_tflops"], roof["copy_gbps"]
        ridge = peak * 1e3 / copy
        colour = style.CARDS[number % len(style.CARDS)] if len(roofs) > 1 else style.PALE
        ends = [max(x.low, y.low * 1e3 / copy), ridge, x.high]
        lines += [
            {"card": card, "colour": colour, "x": at, "y": _allowed(roof, at)}
            for at in sorted(ends)
        ]
        texts.append(
            {
                "x": x.value(2),
                "y": y.value(y.pixel(peak) - 10 - 16 * number),
                "colour": colour,
                "text": f"{names.card(card)}, measured: {style.significant(peak)} "
                f"TFLOP/s, {style.significant(copy)} GB/s",
            }
        )
    colour = alt.Color("colour:N", scale=None)
    roof = alt.Chart(data(lines)).mark_line(strokeDash=[5, 4], strokeWidth=1.8)
    roof = roof.encode(
        x=alt.X("x:Q", scale=x.vega(), axis=axes.axis(_INTENSITY, x)),
        y=alt.Y("y:Q", scale=y.vega(), axis=axes.axis(_ACHIEVED, y)),
        detail="card:N",
        color=colour,
    )
    named = alt.Chart(data(texts)).mark_text(align="left", dx=2)
    return alt.layer(roof, named.encode(x="x:Q", y="y:Q", text="text:N", color=colour))


def _point_layers(records: list[dict], x: LogScale, y: LogScale) -> list[alt.Chart]:
    base = alt.Chart(data(records)).transform_filter(SHOWN)
    base = base.encode(color=alt.Color("colour:N", scale=None))
    ties = base.transform_filter("datum.tied").mark_rule(strokeWidth=0.7, opacity=0.7)
    ties = ties.encode(x="x:Q", y="y:Q", x2="nx:Q", y2="ny:Q")
    points = base.mark_point(filled=True, opacity=1).encode(
        x="x:Q", y="y:Q", size=alt.Size("size:Q", scale=None), tooltip=hover_tooltip()
    )
    texts = base.mark_text(align="left", baseline="middle").encode(
        x="tx:Q", y="ty:Q", text="text:N"
    )
    return [ties, points, texts]
