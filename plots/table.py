"""The results as tables: one line a row, a table for each operation of each device; and, of several
cards, the ratio of their times."""

import math
from dataclasses import dataclass

import pandas as pd

from plots import style
from plots.results import Group, Results, groups, shape_text

HEADER = (
    "shape",
    "implementation",
    "role",
    "time",
    "TFLOPs",
    "GB/s",
    "roofline",
    "memory",
    "error",
    "status",
)
_TEXTS = ("shape", "implementation", "role", "status")
_NONE = "–"


@dataclass(frozen=True)
class Cell:
    text: str
    value: float = math.nan  # what it sorts by, where that is a number


def markdown(results: Results) -> str:
    """All rows; within a shape the fastest first, those without a time last."""
    parts = []
    for group in groups(results):
        parts.append(f"## {cell(', '.join(group.cards))}\n\n{cell(group.caption)}.\n")
        for operation, rows in group.rows.groupby("operation", sort=True):
            cells = [[entry.text for entry in line] for line in lines(rows)]
            parts.append(f"### {cell(operation)}\n\n{grid(HEADER, cells, _TEXTS)}\n")
        if group.rows["near_timer_floor"].gt(0).any():
            parts.append("\\* under ten times the timer's own floor.\n")
    return "\n".join(parts)


def ratios(group: Group) -> str:
    """The rows that every card of a group has, and how many times as long the others take as the
    first."""
    first, *others = group.cards
    header = ("row", first, *(part for card in others for part in (card, "ratio")))
    return grid(header, ratio_lines(group), ("row",))


def ratio_lines(group: Group) -> list[list[str]]:
    timed = group.rows[group.rows["status"].eq("ok")]
    first, *others = (rows.set_index("key")["us"] for rows in _by_card(timed, group.cards))
    found = []
    for key, time in first.items():
        line = [key, style.time_text(time)]
        for card in others:
            theirs = card.get(key, math.nan)
            line += [_number(theirs, style.time_text), _number(theirs / time, "{:.2f}".format)]
        if any(entry != _NONE for entry in line[2:]):
            found.append(line)
    return found


def _by_card(rows: pd.DataFrame, cards: list[str]) -> list[pd.DataFrame]:
    return [rows[rows["hardware"].eq(card)] for card in cards]


def lines(rows: pd.DataFrame) -> list[list[Cell]]:
    """The rows in HEADER's order; within a shape the fastest first."""
    ordered = rows.sort_values(["H", "W", "N", "B", "us"], na_position="last", kind="stable")
    return [_line(row) for _, row in ordered.iterrows()]


def grid(header: tuple[str, ...], lines: list[list[str]], texts: tuple[str, ...]) -> str:
    """A Markdown table; numbers stand right."""
    rules = ["---" if name in texts else "---:" for name in header]
    rows = [map(cell, header), rules, *(map(cell, line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(text: str) -> str:
    """`text` safe inside a Markdown table."""
    text = " ".join(str(text).split())
    for mark, instead in (("|", "\\|"), ("<", "&lt;")):
        text = text.replace(mark, instead)
    return text


def _line(row: pd.Series) -> list[Cell]:
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

    def number(column: str, text) -> Cell:
        return Cell(_number(row[column], text), row[column])

    near = "*" if row["near_timer_floor"] > 0 else ""
    return [
        Cell(shape_text(row), row["B"] * (1 if math.isnan(row["N"]) else row["N"])),
        Cell(name),
        Cell(row["role"]),
        Cell(_number(row["us"], style.time_text) + near, row["us"]),
        number("tflops", style.significant),
        number("GBps", style.significant),
        number("share", style.percent),
        number("mem_MiB", style.memory_text),
        number("rel_err", "{:.1e}".format),
        Cell(status),
    ]


def _number(value: float, text) -> str:
    return _NONE if math.isnan(value) else text(value)
