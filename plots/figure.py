"""What a figure is: a question, a Vega-Lite chart that answers it, and the series that a reader can
show, hide and isolate.

A module figure_<name>.py holds `figure`, a function of a results.Group that returns a Figure or
raises AbsentError, and ORDER, its place among the questions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from plots import names, style
from plots.results import shape_text

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 17, 13, 12  # CSS pixels; 12 are 9 points
MOST_SHOWN = 8
PREFILL = ("prefill", "attention", "selective_scan", "ssd", "gla")
SHOWN = "indexof(shown, datum.key) >= 0"
_CROWDED = "crowded"  # whether series are shown beyond those that a figure begins with

alt.data_transformers.disable_max_rows()


class AbsentError(Exception):
    """A figure cannot be made from these rows; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A series: what its records' `key` is, and how a reader is offered it."""

    key: str
    label: str
    colour: str
    shown: bool = True


@dataclass(frozen=True)
class Figure:
    question: str
    notes: list[str]  # what stands under the question
    chart: alt.TopLevelMixin  # its marks are filtered by SHOWN
    entries: list[Entry]

    def spec(self) -> dict:
        """The Vega-Lite specification."""
        spec = self.chart.to_dict()
        spec["title"] = {
            "text": self.question,
            "subtitle": self.notes,
            "anchor": "start",
            "frame": "bounds",
            "fontSize": TITLE_SIZE,
            "subtitleFontSize": SMALL_SIZE,
            "subtitleColor": style.PALE,
            "subtitleLineHeight": 16,
            "offset": 14,
        }
        spec["params"] = [
            {"name": "shown", "value": [entry.key for entry in self.entries if entry.shown]},
            {"name": _CROWDED, "value": False},
        ]
        spec["config"] = _CONFIG
        spec["background"] = style.PAPER
        spec["padding"] = 10
        return spec


def data(records: Sequence[dict]) -> alt.InlineData:
    return alt.InlineData(values=list(records))


def crowded(field: str) -> str:
    """An expression: the position in a field among those shown first, or among all."""
    return f"{_CROWDED} ? datum.{field}_all : datum.{field}"


def hover_tooltip() -> list[alt.Tooltip]:
    """What hover() gives, beside a record's name and row."""
    fields = ("name", "row", "measured", "TFLOPs", "roofline", "memory", "error", "from")
    return [alt.Tooltip(f"{field}:N") for field in fields]


def hover(row: pd.Series) -> dict:
    """What pointing at a row tells, as texts."""

    def number(name: str, text) -> str:
        value = row.get(name, math.nan)
        return "–" if math.isnan(value) else text(value)

    source = row["source"] if isinstance(row.get("source"), str) else row["date"][:10]
    return {
        "measured": f"{style.time_text(row['us'], 4)}, {shape_text(row)}",
        "TFLOPs": number("TFLOPs", style.significant),
        "roofline": number("share", lambda v: f"{100 * v:.0f} %"),
        "memory": number("mem_MiB", style.memory_text),
        "error": number("rel_err", lambda v: f"{v:.1e}"),
        "from": names.shortened(f"{row['hardware']} · {source}", 90),
    }


_CONFIG = {
    "font": style.FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": SMALL_SIZE,
        "titleFontSize": TEXT_SIZE,
        "titleFontWeight": "normal",
        "labelColor": style.INK,
        "titleColor": style.INK,
        "gridColor": style.GRID,
        "domainColor": style.PALE,
        "tickColor": style.PALE,
    },
    "text": {"fontSize": TEXT_SIZE, "font": style.FONT},
    "title": {"font": style.FONT, "color": style.INK},
}
