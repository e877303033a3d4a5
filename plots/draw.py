"""Draws a figure of model.py with matplotlib, and saves it as PNG and SVG."""

import math
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from plots import style
from plots.files import write_whole
from plots.model import Figure, HeatFigure, HeatPanel, LineFigure, Panel, Series
from plots.scale import Scale, scales

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
    "axes.grid": True,
    "grid.color": style.GRID,
    "grid.linewidth": 0.7,
    "text.color": style.INK,
    "xtick.color": style.PALE,
    "ytick.color": style.PALE,
    "xtick.labelcolor": style.INK,
    "ytick.labelcolor": style.INK,
    "svg.fonttype": "path",  # looks the same where the font is missing
    "svg.hashsalt": "plots",  # the same figure gives the same bytes
}
_STATUS_MARKS = {  # status -> legend text and look
    "out_of_memory": ("out of memory", {"marker": "x", "ms": 5, "mew": 1.3}),
    "skipped": ("skipped", {"marker": "_", "ms": 5, "mew": 1.3}),
    "error": ("error", {"marker": "$\\mathbf{!}$", "ms": 6, "mew": 0}),
}
_LEGEND_LINE = 0.165  # inches
_CAPTION_LETTER = 0.056  # inches
_CROWD = 3  # so many series of others fit into a small panel
_STRIPE_POINTS = 2.4
_ORIGIN_POINTS = 5.5
_STRIP_POINTS = 8.5  # height of one line of marks above a panel
_DEEPEST = 32.0  # the speed-up at which a heat map's colour saturates


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
    # Others' points crowd a panel: give it room.
    others = [sum(bool(series.origin) for series in panel.series) for panel in figure.panels]
    crowded = max(others) > _CROWD
    across = min(len(figure.panels), 2 if crowded else 3)
    down = math.ceil(len(figure.panels) / across)
    panel_size = (5.4, 3.9) if across == 1 or crowded else (3.5, 3.0)
    handles = _legend_handles(figure)
    size = (
        panel_size[0] * across + 2.6,
        max(panel_size[1] * down, _LEGEND_LINE * len(handles) + 0.4) + 0.9,
    )
    canvas, grid = _canvas(figure, size, down, across, share=True)
    for axes, panel in zip(grid, figure.panels, strict=False):
        _draw_panel(axes, panel)
    for which, scale in zip("xy", scales(figure), strict=True):
        _set_scale(grid[0], which, scale)
    for axes, panel in zip(grid, figure.panels, strict=False):
        _draw_origins(axes, panel, panel_size[1] * 72)
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
    """Guides, series and marks. Equal curves would hide each other (peak memory often is equal):
    each lies wider under the one before it, so that together they show as a striped ribbon."""
    for guide in panel.guides:
        axes.plot(guide.x, guide.y, label=guide.label, **_GUIDE)
    for series, under in zip(panel.series, panel.depths(), strict=True):
        look = _appearance(series)
        if under:
            look["lw"] += _STRIPE_POINTS * under
            look["zorder"] -= 0.1 * under
        axes.plot(series.x, series.y, label=series.label, **look)
        if series.low is not None:
            colour = style.of(series.implementation).colour
            axes.vlines(series.x, series.low, series.high, lw=1, color=colour)
    _draw_marks(axes, panel)


def _draw_origins(axes, panel: Panel, height: float) -> None:
    """Name the device at the last point of each series that is not ours, without overlaps.

    `height` is the panel's in points, roughly: it decides how far names are pushed apart.
    """
    to_axes = axes.transScale + axes.transLimits
    ends = [
        (s.x[-1], to_axes.transform((s.x[-1], s.y[-1]))[1], s) for s in panel.series if s.origin
    ]
    lowest_free: dict[float, float] = {}
    for x, y, series in sorted(ends, key=lambda end: end[:2]):
        placed = max(y, lowest_free.get(x, 0.0))
        lowest_free[x] = placed + _ORIGIN_POINTS * 1.15 / height
        device = series.origin.partition(",")[0]
        axes.annotate(
            device + (" ≈" if series.origin.endswith("(approximate)") else ""),
            (x, placed),
            xycoords=blended_transform_factory(axes.transData, axes.transAxes),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=_ORIGIN_POINTS,
            va="center",
            color=style.of(series.implementation).colour,
            annotation_clip=False,
        )


def _draw_marks(axes, panel: Panel) -> None:
    """A strip above the panel, a line for each series with results that are not there."""
    labels = list(dict.fromkeys(mark.label for mark in panel.marks))
    for line, label in enumerate(labels):
        marks = [mark for mark in panel.marks if mark.label == label]
        look = style.of(marks[0].implementation)
        lift = ScaledTranslation(0, (line + 0.75) * _STRIP_POINTS / 72, axes.figure.dpi_scale_trans)
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
        for status, (_, look_of_status) in _STATUS_MARKS.items():
            at = [mark.x for mark in marks if mark.status == status]
            if at:
                axes.plot(
                    at,
                    [1] * len(at),
                    transform=at_data,
                    label=f"{label}: {status}",
                    **common | look_of_status,
                )
        telling = [mark for mark in marks if mark.text]
        if telling:
            first = min(telling, key=lambda mark: mark.x)
            axes.annotate(
                first.text,
                (first.x, 1),
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
    longest_title = max(len(panel.title) for panel in figure.panels)
    size = (
        max(0.46 * widest + 0.7, 0.075 * longest_title + 0.4) * across + 1.2,
        (0.3 * tallest + 0.75) * down + 0.9,
    )
    canvas, grid = _canvas(figure, size, down, across, share=False)
    numbers = np.array([v for p in figure.panels for line in p.values for v in line])
    reach = min(max(np.nanmax(numbers), 1 / np.nanmin(numbers), 2.0), _DEEPEST)
    norm = LogNorm(1 / reach, reach)
    for axes, panel in zip(grid, figure.panels, strict=False):
        image = _draw_cells(axes, panel, norm, figure)
    _label_outer(grid, figure, across)
    # Beside the first rows: as long as two of them, however many there are.
    long = np.asarray(grid)[: 2 * across]
    bar = canvas.colorbar(
        image, ax=list(long), shrink=0.8, pad=0.015, label=figure.value_label, extend="both"
    )
    bar.outline.set_visible(False)
    octaves = math.floor(math.log2(reach))
    bar.ax.yaxis.set_major_locator(
        FixedLocator([2.0**octave for octave in range(-octaves, octaves + 1)])
    )
    bar.ax.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}")
    )
    bar.ax.yaxis.set_minor_locator(NullLocator())
    return canvas


def _draw_cells(axes, panel: HeatPanel, norm: LogNorm, figure: HeatFigure):
    values = np.ma.masked_invalid(np.array(panel.values, dtype=float))
    edges_x, edges_y = np.arange(len(panel.columns) + 1), np.arange(len(panel.rows) + 1)
    axes.grid(False)
    image = axes.pcolormesh(
        edges_x, edges_y, values, norm=norm, cmap="PuOr_r", edgecolors="white", linewidth=1.2
    )
    for row, line in enumerate(panel.texts):
        for column, text in enumerate(line):
            known = not np.ma.is_masked(values[row, column])
            shade = (
                np.dot(image.cmap(norm(values[row, column]))[:3], (0.3, 0.59, 0.11)) if known else 1
            )
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
    fits = round(size[0] / _CAPTION_LETTER)
    caption = "\n".join(textwrap.fill(line, fits) for line in figure.caption.splitlines())
    canvas.supxlabel(caption, x=0.008, ha="left", fontsize=7, color=style.PALE)
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
_FILLS = ("full", "left", "bottom", "right")
_GUIDE = {"color": style.PALE, "lw": 1.1, "ls": (0, (5, 2)), "zorder": 1.5}


def _appearance(series: Series) -> dict:
    look = style.of(series.implementation)
    if series.origin:
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
    hollow = series.dash and not series.line  # partly
    return {
        "color": look.colour,
        "marker": look.marker,
        "ls": style.DASHES[series.dash % len(style.DASHES)] if series.line else "none",
        "lw": 0.9 if look.is_original else look.width,
        "ms": 5.5 if series.implementation == "based" else 4.5,
        "markerfacecolor": "white" if look.is_original else look.colour,
        "mec": look.colour if hollow or look.is_original else "white",
        "mew": 0.9 if look.is_original else 0.5,
        # Where no line style tells variants apart, how the marker is filled does.
        "fillstyle": "full" if series.line else _FILLS[series.dash % len(_FILLS)],
        "markerfacecoloralt": "white",
        "zorder": 4 if series.implementation == "based" else 3,
    }


def _legend_handles(figure: LineFigure) -> list[Line2D]:
    """A heading and its entries for each of: measured series, published ones, missing results."""
    ours, others, guides, statuses = {}, {}, {}, set()
    for panel in figure.panels:
        for series in panel.series:
            entry = Line2D([], [], label=series.label, **_appearance(series))
            (others if series.origin else ours)[series.label] = (series.implementation, entry)
        for guide in panel.guides:
            guides[guide.label] = Line2D([], [], label=guide.label, **_GUIDE)
    for mark in [mark for panel in figure.panels for mark in panel.marks]:
        statuses.add(mark.status)
        if mark.label not in ours:  # a series without any result still needs its name
            look = style.of(mark.implementation)
            entry = Line2D(
                [], [], label=mark.label, color=look.colour, marker=look.marker, ls="none"
            )
            ours[mark.label] = (mark.implementation, entry)

    def in_order(entries: dict) -> list[Line2D]:
        return [
            entry
            for _, (_, entry) in sorted(
                entries.items(), key=lambda item: (style.of(item[1][0]).order, item[0])
            )
        ]

    absent = [
        Line2D([], [], label=text, color=style.PALE, ls="none", **look)
        for status, (text, look) in _STATUS_MARKS.items()
        if status in statuses
    ]
    sections = ([*in_order(ours), *guides.values()], in_order(others), absent)
    return [
        handle
        for heading, entries in zip(_HEADINGS, sections, strict=True)
        if entries
        for handle in (Line2D([], [], ls="none", label=heading), *entries)
    ]


def _set_scale(axes, which: str, scale: Scale) -> None:
    """Scale, limits and ticks of one axis; the panels share them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log" if scale.log else "linear"})
    axes.set(**{f"{which}lim": (scale.low, scale.high)})
    axis.set_major_locator(FixedLocator(scale.ticks))
    axis.set_major_formatter(FixedFormatter(scale.texts))
    axis.set_minor_locator(NullLocator())
