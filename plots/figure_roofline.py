"""Roofline: executed FLOP/s against intensity, under the ceilings measured on the same device.

Intensity is executed FLOPs over compulsory bytes (each input read once, each output written once);
with nominal FLOPs every implementation would stand at the same intensity and could pass the roof.
A row's distance below the roof is what its kernel leaves unused or moves twice. An implementation
has a marker for each of its shapes.
"""

import math

import numpy as np

from plots import style
from plots.lines import by_style, series_label
from plots.model import AbsentError, Axis, Guide, LineFigure, Panel, Series
from plots.results import Group, shape_text

INTENSITY = Axis("executed FLOP per compulsory byte", "plain")
ACHIEVED = Axis("executed TFLOP/s", "plain")
_MARGIN = 3.0  # how far the roof is drawn beyond the points


def figure(group: Group, points) -> LineFigure:
    rows = group.rows[group.rows["status"].eq("ok")].copy()
    rows["intensity"] = rows["exec_TFLOPs"] * rows["time_us"] / rows["compulsory_MB"]
    rows = rows[rows["intensity"].gt(0) & np.isfinite(rows["intensity"])]
    if rows.empty:
        raise AbsentError(f"no row on {group.device} has exec_TFLOPs and compulsory_MB")
    ceilings = group.ceilings
    if math.isnan(ceilings.copy_gbps) or math.isnan(ceilings.peak_tflops):
        raise AbsentError(f"the file's context has no measured ceilings of {group.hardware}")
    roof = _roof(ceilings, rows["intensity"].min() / _MARGIN, rows["intensity"].max() * _MARGIN)
    panels = [
        Panel(operation.replace("_", " "), _series(of_operation), guides=[roof])
        for operation, of_operation in rows.groupby("operation", sort=True)
    ]
    return LineFigure("roofline", "Roofline", group.caption, INTENSITY, ACHIEVED, panels)


def _series(rows) -> list[Series]:
    series = []
    for implementation, extras, dash, of_series in by_style(rows, rows):
        of_series = of_series.sort_values("nominal_GFLOP")
        label = series_label(implementation, extras)
        series.append(
            Series(
                label,
                implementation,
                of_series["intensity"].tolist(),
                of_series["exec_TFLOPs"].tolist(),
                hover=[
                    f"{label}\n{shape_text(row)}\n{style.significant(row['exec_TFLOPs'])} TFLOP/s "
                    f"at {style.significant(row['intensity'])} FLOP/B"
                    for _, row in of_series.iterrows()
                ],
                dash=dash,
                line=False,
            )
        )
    return series


def _roof(ceilings, first: float, last: float) -> Guide:
    """min(copy bandwidth * intensity, peak), from left of the points to right of them."""
    ridge = ceilings.peak_tflops * 1e3 / ceilings.copy_gbps  # FLOP/B
    x = [min(first, ridge / _MARGIN), ridge, max(last, ridge * _MARGIN)]
    y = [min(ceilings.copy_gbps * at * 1e-3, ceilings.peak_tflops) for at in x]
    copy, peak = style.significant(ceilings.copy_gbps), style.significant(ceilings.peak_tflops)
    return Guide(f"measured: copy {copy} GB/s, peak {peak} TFLOP/s", x, y)
