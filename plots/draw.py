"""Draws a figure of model.py with matplotlib, and saves it as PNG and SVG."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from plots import style
from plots.files import write_whole
from plots.model import Axis, Figure, HeatFigure, HeatPanel, LineFigure, Panel

FORMATS = ("png", "svg")

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": style.PALE,
    "axes.labelcolor": style.INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": style.INK,
    "xtick.color": style.PALE,
    "ytick.color": style.PALE,
    "xtick.labelcolor": style.INK,
    "ytick.labelcolor": style.INK,
    "svg.fonttype": "none",  # text stays text: small files, searchable
    "svg.hashsalt": "plots",  # the same figure gives the same bytes
}
_STATUS_MARKS = {  # status -> marker, legend text
    "out_of_memory": ("x", "out of memory"),
    "skipped": ("_", "skipped"),
    "error": ("$!$", "error"),
}
_STRIP_POINTS = 8.5  # height of one line of marks above a panel
_LINEAR_BELOW = 3.0  # a quantity whose largest is under so many times its least needs no logarithm


def save(figure: Figure, folder: Path, tag: str) -> list[Path]:
    """Write `figure` as <name>-<tag>.png and .svg into `folder`; UsageError where it cannot."""
    with mpl.rc_context(_RC):
        canvas = draw(figure)
        paths = []
        for extension in FORMATS:
            path = folder / f"{figure.name}-{tag}.{extension}"
            metadata = {"Date": None} if extension == "svg" else None
            write_whole(
                path,
                lambda partial, form=extension, data=metadata: canvas.savefig(
                    partial, format=form, dpi=160, metadata=data
                ),
            )
            paths.append(path)
    return paths


def draw(figure: Figure) -> Canvas:
    """The figure as matplotlib's objects: one axes a panel, each series a line with its label."""
    with mpl.rc_context(_RC):
        return _draw_lines(figure) if isinstance(figure, LineFigure) else _draw_heat(figure)


def _draw_lines(figure: LineFigure) -> Canvas:
    across = min(len(figure.panels), 3)
    down = math.ceil(len(figure.panels) / across)
    panel_size = (5.4, 3.9) if across == 1 else (3.5, 3.0)
    handles = _legend_handles(figure)
    legend_height = 0.165 * len(handles) + 0.4
    size = (
        panel_size[0] * across + 2.6,
        max(panel_size[1] * down + 0.9, legend_height + 0.9),
    )
    canvas, grid = _canvas(figure, size, down, across, share=True)
    for axes, panel in zip(grid, figure.panels, strict=False):
        _draw_panel(axes, panel)
    _scale(grid[0], "x", figure.x, _values(figure, "x"))
    _scale(grid[0], "y", figure.y, _values(figure, "y"))
    _label_outer(grid, figure, across)
    legend = canvas.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        fontsize=7.5,
        handlelength=2.2,
        labelspacing=0.45,
    )
    for text in legend.get_texts():
        if text.get_text() in _HEADINGS:
            text.set_fontweight("bold")
            text.set_color(style.PALE)
    return canvas


def _draw_panel(axes, panel: Panel) -> None:
    for guide in panel.guides:
        axes.plot(guide.x, guide.y, label=guide.label, **_GUIDE)
    for series in panel.series:
        axes.plot(series.x, series.y, label=series.label, **_appearance(series))
        if series.low is not None:
            axes.vlines(
                series.x, series.low, series.high, lw=1, color=style.of(series.implementation).colour
            )
    _draw_marks(axes, panel)


def _draw_marks(axes, panel: Panel) -> None:
    """A strip above the panel, a line for each series with results that are not there."""
    labels = list(dict.fromkeys(mark.label for mark in panel.marks))
    for line, label in enumerate(labels):
        marks = [mark for mark in panel.marks if mark.label == label]
        look = style.of(marks[0].implementation)
        lift = ScaledTranslation(
            0, (line + 0.75) * _STRIP_POINTS / 72, axes.figure.dpi_scale_trans
        )
        inside = axes.transAxes + lift
        at_data = blended_transform_factory(axes.transData, axes.transAxes) + lift
        common = {"clip_on": False, "linestyle": "none", "color": look.colour}
        axes.plot(
            [0, 1],
            [1, 1],
            transform=inside,
            **common | {"linestyle": "-", "color": "#f3f3f3"},
            lw=_STRIP_POINTS - 1,
            solid_capstyle="butt",
            zorder=0,
        )
        axes.plot([-0.03], [1], transform=inside, marker=look.marker, ms=4, **common)
        for status, (marker, _) in _STATUS_MARKS.items():
            at = [mark.x for mark in marks if mark.status == status]
            if at:
                axes.plot(
                    at,
                    [1] * len(at),
                    transform=at_data,
                    marker=marker,
                    ms=5,
                    mew=1.3,
                    label=f"{label}: {status}",
                    **common,
                )
        for mark in marks:
            if mark.text:
                axes.annotate(
                    mark.text,
                    (mark.x, 1),
                    xycoords=at_data,
                    xytext=(4.5, 0),
                    textcoords="offset points",
                    fontsize=5,
                    va="center",
                    color=style.INK,
                    annotation_clip=False,
                )
    axes.set_title(
        panel.title, loc="left", pad=4 + _STRIP_POINTS * len(labels), color=style.INK, weight="bold"
    )


def _draw_heat(figure: HeatFigure) -> Canvas:
    across = min(len(figure.panels), 3)
    down = math.ceil(len(figure.panels) / across)
    widest = max(len(panel.columns) for panel in figure.panels)
    tallest = max(len(panel.rows) for panel in figure.panels)
    size = (
        max((0.46 * widest + 0.7) * across + 1.2, 5.6),
        (0.3 * tallest + 0.75) * down + 0.9,
    )
    canvas, grid = _canvas(figure, size, down, across, share=False)
    numbers = np.array([v for p in figure.panels for line in p.values for v in line])
    reach = max(np.nanmax(numbers), 1 / np.nanmin(numbers), 2.0)
    norm = LogNorm(1 / reach, reach)
    for axes, panel in zip(grid, figure.panels, strict=False):
        image = _draw_cells(axes, panel, norm, figure)
    _label_outer(grid, figure, across)
    bar = canvas.colorbar(image, ax=grid, shrink=0.8, pad=0.015, label=figure.value_label)
    bar.outline.set_visible(False)
    ticks = [t for t in (1e-3, 1e-2, 0.1, 0.5, 1, 2, 10, 100, 1e3) if 1 / reach <= t <= reach]
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    return canvas


def _draw_cells(axes, panel: HeatPanel, norm: LogNorm, figure: HeatFigure):
    values = np.ma.masked_invalid(np.array(panel.values, dtype=float))
    edges_x, edges_y = np.arange(len(panel.columns) + 1), np.arange(len(panel.rows) + 1)
    image = axes.pcolormesh(
        edges_x, edges_y, values, norm=norm, cmap="PuOr_r", edgecolors="white", linewidth=1.2
    )
    for row, line in enumerate(panel.texts):
        for column, text in enumerate(line):
            known = not np.ma.is_masked(values[row, column])
            shade = np.dot(image.cmap(norm(values[row, column]))[:3], (0.3, 0.59, 0.11)) if known else 1
            axes.text(
                column + 0.5,
                row + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=7 if known else 6,
                color="white" if shade < 0.5 else style.INK if known else style.PALE,
            )
    axes.set_xticks(edges_x[:-1] + 0.5, [style.unit_text(figure.x.unit, b) for b in panel.columns])
    axes.set_yticks(edges_y[:-1] + 0.5, [style.unit_text(figure.y.unit, n) for n in panel.rows])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(panel.title, loc="left", fontsize=8, weight="bold")
    return image


def _canvas(figure: Figure, size, down: int, across: int, share: bool):
    canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    canvas.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.05)
    grid = canvas.subplots(down, across, sharex=share, sharey=share, squeeze=False).ravel()
    for spare in grid[len(figure.panels) :]:
        spare.set_axis_off()
    canvas.suptitle(figure.title, x=0.008, ha="left", fontsize=12, weight="bold")
    canvas.supxlabel(figure.caption, x=0.008, ha="left", fontsize=7, color=style.PALE)
    return canvas, grid


def _label_outer(grid, figure: Figure, across: int) -> None:
    count = len(figure.panels)
    for index, axes in enumerate(grid[:count]):
        if index % across == 0:
            axes.set_ylabel(figure.y.label)
        if index + across >= count:
            axes.set_xlabel(figure.x.label)
            axes.tick_params(labelbottom=True)


_HEADINGS = ("measured here", "published, originals", "no result")
_GUIDE = {"color": style.PALE, "lw": 1.1, "ls": (0, (5, 2)), "zorder": 1.5}


def _appearance(series) -> dict:
    look = style.of(series.implementation)
    if series.published:
        return {
            "color": look.colour,
            "marker": look.marker,
            "markerfacecolor": "white",
            "ls": (0, (1, 2)) if series.line else "none",
            "lw": 0.8,
            "ms": 5.5,
            "mew": 1.0,
            "zorder": 2,
        }
    return {
        "color": look.colour,
        "marker": look.marker,
        "ls": style.DASHES[series.dash % len(style.DASHES)] if series.line else "none",
        "lw": look.width,
        "ms": 5.5 if series.implementation == "based" else 4.5,
        "mec": "white",
        "mew": 0.5,
        "zorder": 4 if series.implementation == "based" else 3,
    }


def _legend_handles(figure: LineFigure) -> list[Line2D]:
    """A heading and its entries for each of: measured series, published ones, missing results."""
    ours, published, guides, statuses = {}, {}, {}, []
    for panel in figure.panels:
        for series in panel.series:
            (published if series.published else ours).setdefault(series.label, series)
        for mark in panel.marks:
            statuses.append(mark.status)
            # A series with marks alone still needs its name.
            if not any(mark.label == series.label for p in figure.panels for series in p.series):
                ours.setdefault(mark.label, mark)
        for guide in panel.guides:
            guides.setdefault(guide.label, guide)

    handles = [_heading(_HEADINGS[0])]
    for label, entry in ours.items():
        look = style.of(entry.implementation)
        handles.append(
            Line2D([], [], label=label, **_appearance(entry))
            if hasattr(entry, "y")
            else Line2D([], [], label=label, color=look.colour, marker=look.marker, ls="none", ms=4)
        )
    handles += [Line2D([], [], label=label, **_GUIDE) for label in guides]
    if published:
        handles.append(_heading(_HEADINGS[1]))
        handles += [
            Line2D([], [], label=label, **_appearance(series)) for label, series in published.items()
        ]
    if statuses:
        handles.append(_heading(_HEADINGS[2]))
        handles += [
            Line2D([], [], label=text, color=style.PALE, marker=marker, ls="none", ms=5, mew=1.3)
            for status, (marker, text) in _STATUS_MARKS.items()
            if status in statuses
        ]
    return handles


def _heading(text: str) -> Line2D:
    return Line2D([], [], ls="none", label=text)


def _values(figure: LineFigure, which: str) -> np.ndarray:
    values = [v for p in figure.panels for s in p.series for v in getattr(s, which)]
    if which == "x":
        values += [mark.x for panel in figure.panels for mark in panel.marks]
    values += [v for p in figure.panels for guide in p.guides for v in getattr(guide, which)]
    return np.array(values, dtype=float)


def _scale(axes, which: str, quantity: Axis, values: np.ndarray) -> None:
    """Scale, limits and ticks of one axis, shared by all panels."""
    low, high = values.min(), values.max()
    axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    sizes = quantity.unit in ("count", "length")
    if quantity.log and (sizes or high > _LINEAR_BELOW * low):
        binary = sizes or quantity.unit == "memory"
        set_scale("log", base=2 if binary else 10)
        margin = (high / low) ** 0.05 if high > low else 1.5
        set_limits(low / margin, high * margin)
        axis.set_major_locator(
            FixedLocator(_size_ticks(values)) if sizes else _log_ticks(high / low, binary)
        )
        axis.set_minor_formatter(NullFormatter())
        if sizes:
            axis.set_minor_locator(NullLocator())
    else:
        set_limits(0, high * 1.08)
    axis.set_major_formatter(FuncFormatter(lambda value, _: style.unit_text(quantity.unit, value, 1)))
    for panel_axes in axes.figure.axes:
        panel_axes.grid(True, color=style.GRID, lw=0.7)
        panel_axes.tick_params(which="minor", length=0)


def _size_ticks(values: np.ndarray) -> list[float]:
    """The sizes that were measured, thinned where they would run into each other."""
    ticks = []
    for size in sorted(set(values)):
        if not ticks or size >= ticks[-1] * _closest(values):
            ticks.append(size)
    return ticks


def _closest(values: np.ndarray) -> float:
    """The least ratio of neighbouring ticks: some nine of them fit on an axis."""
    return (values.max() / values.min()) ** (1 / 9)


def _log_ticks(ratio: float, binary: bool) -> LogLocator:
    if binary:
        octaves = math.log2(ratio)
        return LogLocator(base=2.0 if octaves <= 6 else 4.0 if octaves <= 12 else 16.0, numticks=12)
    decades = math.log10(ratio)
    subs = (1, 2, 5) if decades <= 2.2 else (1, 3) if decades <= 3.2 else (1,)
    return LogLocator(base=10, subs=subs, numticks=12)
