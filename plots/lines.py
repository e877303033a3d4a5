"""Curves of one quantity over one size, a panel for each shape that the results hold."""

import math

import numpy as np
import pandas as pd

from plots import style
from plots.model import (
    MEMORY,
    TFLOPS,
    TIME,
    AbsentError,
    Axis,
    Guide,
    LineFigure,
    Mark,
    Panel,
    Series,
)
from plots.published import matching
from plots.results import SHAPE, Group, shape_text

_COLUMNS = {TIME: "time_us", TFLOPS: "TFLOPs", MEMORY: "mem_MiB"}
_NAMES = {"N": "sequence lengths", "B": "batch sizes", "H": "head counts", "W": "windows"}


def line_figure(
    group: Group,
    points: pd.DataFrame | None,
    *,
    name: str,
    title: str,
    operation: str,
    over: str,
    x: Axis,
    y: Axis,
) -> LineFigure:
    """The figure of `y` over the size `over` ("B" or "N"), or AbsentError.

    `points` are published.load()'s, laid over where a panel's shape is theirs; None: no overlay.
    A shape measured at less than half as many sizes as another is a by-product of a sweep over
    something else, and gets no panel; nor does a single point of a series, or one with options
    measured at fewer sizes than the same implementation without, a line.
    """
    rows = group.rows[group.rows["operation"].eq(operation)]
    if rows.empty:
        raise AbsentError(f"the file has no rows of {operation} on {group.device}")
    panels = []
    fixed_names = [size for size in SHAPE if size != over and rows[size].notna().any()]
    shapes = rows.groupby(fixed_names, sort=True)
    fewest_sizes = max(2, math.ceil(shapes[over].nunique().max() / 2))
    for fixed_values, of_shape in shapes:
        sizes = of_shape.groupby(["implementation", "extras"])[over].transform("nunique")
        has_options = of_shape["params"].map(lambda params: "options" in params)
        plain_sizes = of_shape["implementation"].map(
            of_shape[~has_options].groupby("implementation")[over].nunique()
        )
        by_product = sizes.lt(2) & of_shape["status"].eq("ok")
        by_product |= has_options & sizes.lt(plain_sizes)
        of_shape = of_shape[~by_product]
        if of_shape[over].nunique() < fewest_sizes:
            continue
        fixed = dict(zip(fixed_names, fixed_values, strict=True))
        overlays = []
        if points is not None and group.device == "cuda":
            theirs = matching(points, operation, over, fixed, group.policy)
            overlays = _overlays(theirs, over, y, of_shape[over])
        panel = _panel(of_shape, rows, fixed, over, y, overlays)
        if any(not series.origin for series in panel.series):
            panels.append(panel)
    if not panels:
        raise AbsentError(
            f"no shape of {operation} on {group.device} was measured at two or more {_NAMES[over]}"
        )
    return LineFigure(name, title, _caption(group, panels, y), x, y, panels)


def series_label(implementation: str, extras: str) -> str:
    return f"{implementation} ({extras})" if extras else implementation


def not_measured(row: pd.Series, label: str, at: float) -> Mark:
    """The mark of a row that is not ok."""
    needs = row["needs_bytes"]
    text = "" if math.isnan(needs) else style.memory_text(needs / 2**20, 2)
    return Mark(label, row["implementation"], at, row["status"], text, row["reason"])


def by_style(rows: pd.DataFrame, among: pd.DataFrame):
    """Each series' implementation, extras, dash and rows, in the legends' order.

    `among` are the whole figure's rows: they decide the dashes, so that panels agree.
    """
    found = []
    for (implementation, extras), of_series in rows.groupby(["implementation", "extras"]):
        variants = sorted(set(among.loc[among["implementation"].eq(implementation), "extras"]))
        found.append((implementation, extras, variants.index(extras), of_series))
    return sorted(found, key=lambda entry: (style.of(entry[0]).order, entry[0], entry[1]))


def _panel(
    rows: pd.DataFrame,
    among: pd.DataFrame,
    fixed: dict,
    over: str,
    y: Axis,
    overlays: list[Series],
) -> Panel:
    column = _COLUMNS[y]
    series, marks = [], []
    for implementation, extras, dash, of_series in by_style(rows, among):
        label = series_label(implementation, extras)
        of_series = of_series.sort_values(over)
        drawn = of_series[of_series["status"].eq("ok") & of_series[column].gt(0)]
        if not drawn.empty:
            interval = drawn if y is TIME and drawn["ci_low_us"].notna().all() else None
            series.append(
                Series(
                    label,
                    implementation,
                    drawn[over].tolist(),
                    drawn[column].tolist(),
                    [_hover(row) for _, row in drawn.iterrows()],
                    None if interval is None else interval["ci_low_us"].tolist(),
                    None if interval is None else interval["ci_high_us"].tolist(),
                    dash=dash,
                )
            )
        absent = of_series[of_series["status"].ne("ok")]
        marks += [not_measured(row, label, row[over]) for _, row in absent.iterrows()]
    title = ", ".join(f"{size} = {int(value)}" for size, value in fixed.items())
    return Panel(title, series + overlays, marks, _floor(rows, over) if y is TIME else [])


def _floor(rows: pd.DataFrame, over: str) -> list[Guide]:
    """The least time that the measured ceilings allow, as `based` reports it."""
    based = rows[rows["implementation"].eq("based") & rows["roofline_pct"].gt(0)]
    floor = (based["time_us"] * based["roofline_pct"] / 100).groupby(based[over]).min()
    if len(floor) < 2:
        return []
    return [Guide("floor: measured ceilings", floor.index.tolist(), floor.tolist())]


def _overlays(points: pd.DataFrame, over: str, y: Axis, measured: pd.Series) -> list[Series]:
    """Others' series within the sizes that were measured here."""
    column = _COLUMNS[y]
    inside = points[over].between(measured.min(), measured.max())
    points = points[inside & points[column].gt(0)].sort_values(over)
    overlays = []
    for (implementation, extras, origin), of_series in points.groupby(
        ["implementation", "extras", "origin"], sort=True
    ):
        of_series = of_series.drop_duplicates(over)
        label = series_label(implementation, extras)
        overlays.append(
            Series(
                label,
                implementation,
                of_series[over].astype(float).tolist(),
                of_series[column].tolist(),
                hover=[
                    f"{label}: {origin}\n{shape_text(row)}\n"
                    f"{style.unit_text(y.unit, row[column])}\n{row['source']}"
                    for _, row in of_series.iterrows()
                ],
                origin=origin,
            )
        )
    return sorted(overlays, key=lambda s: (style.of(s.implementation).order, s.label, s.origin))


def _hover(row: pd.Series) -> str:
    parts = [f"{series_label(row['implementation'], row['extras'])}", shape_text(row)]
    parts.append(style.time_text(row["time_us"], 4))
    if not np.isnan(row["TFLOPs"]):
        parts.append(f"{style.significant(row['TFLOPs'])} TFLOP/s nominal")
    if not np.isnan(row["roofline_pct"]):
        parts.append(f"{style.significant(row['roofline_pct'])} % of the roofline")
    if not np.isnan(row["mem_MiB"]):
        parts.append(style.memory_text(row["mem_MiB"]))
    return "\n".join(parts)


def _caption(group: Group, panels: list[Panel], y: Axis) -> str:
    caption = group.caption
    if y is TIME:
        caption += " · medians with their 95 % intervals"
    if y is MEMORY:
        caption += " · equal curves show as one striped band"
    origins = sorted({s.origin for panel in panels for s in panel.series if s.origin})
    if origins:
        caption += f"\nDotted, not measured in this run: {'; '.join(origins)}"
    return caption
