"""The results as Markdown: one line a row, a table for each operation of each device."""

import math

import pandas as pd

from plots import style
from plots.results import Group, Results, groups, shape_text

HEADER = (
    "shape",
    "implementation",
    "time",
    "TFLOPs",
    "GB/s",
    "roofline",
    "memory",
    "error",
    "status",
)
_ALIGN = ("---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---")
_NONE = "–"


def markdown(results: Results) -> str:
    """All rows; within a shape the fastest first, those without a time last."""
    parts = []
    for group in groups(results):
        parts.append(f"## {_cell(group.hardware)}\n\n{_cell(group.caption)}.\n")
        for operation, rows in group.rows.groupby("operation", sort=True):
            parts.append(f"### {_cell(operation)}\n\n{_markdown(rows)}\n")
        parts.append(_footnote(group))
    return "\n".join(part for part in parts if part)


def lines(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows as texts in HEADER's order; within a shape the fastest first."""
    ordered = rows.sort_values(["H", "W", "N", "B", "time_us"], na_position="last", kind="stable")
    return [_line(row) for _, row in ordered.iterrows()]


def _markdown(rows: pd.DataFrame) -> str:
    cells = [HEADER, _ALIGN, *(tuple(map(_cell, line)) for line in lines(rows))]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def _line(row: pd.Series) -> tuple[str, ...]:
    name = row["implementation"]
    if row["variant"]:
        name += f" [{row['variant']}]"
    if row["extras"]:
        name += f" ({row['extras']})"
    status = row["status"].replace("_", " ")
    if row["reason"]:
        status += f": {row['reason']}"
    if row["throttled"]:
        status += f" (throttled: {row['throttled']})"
    return (
        shape_text(row),
        name,
        _number(row["time_us"], style.time_text) + ("*" if row["near_timer_floor"] > 0 else ""),
        _number(row["TFLOPs"], style.significant),
        _number(row["GBps"], style.significant),
        _number(row["roofline_pct"], lambda value: f"{style.significant(value)} %"),
        _number(row["mem_MiB"], style.memory_text),
        _number(row["rel_err"], lambda value: f"{value:.1e}"),
        status,
    )


def _footnote(group: Group) -> str:
    if not group.rows["near_timer_floor"].gt(0).any():
        return ""
    return "\\* under ten times the timer's own floor.\n"


def _number(value: float, text) -> str:
    return _NONE if math.isnan(value) else text(value)


def _cell(text: str) -> str:
    """`text` safe inside a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
