"""report.html: every figure, interactive, with tables, environment, method and what is missing.

One self-contained file: the figures of model.py as JSON, drawn by report.js into SVG. It opens from
disk, and its content security policy forbids the network.
"""

import html
import json
import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from plots import style, table
from plots.model import AbsentError, Figure, LineFigure
from plots.results import Group, Results, groups, shape_text
from plots.scale import scales

_HERE = Path(__file__).parent

_METHOD = """
<p>A row is one implementation of one operation at one shape on one device. Its inputs are random
and the same for every implementation of a shape. Before it is timed, its output, poisoned with NaN
first, is compared with a float64 reference; over its tolerance the row is an error without a
time.</p>
<p>The time is the median of the samples, from device events; <em>cold</em> means that the L2 cache
holds none of the inputs. <em>TFLOPs</em> are nominal: the sources' formula of the shape, over the
time. <em>Roofline</em> is the least time that the measured copy bandwidth and matrix rate of this
device allow, over the time. <em>Memory</em> counts inputs, outputs and workspace.</p>
"""


def page(results: Results, points: pd.DataFrame | None, names: list[str], build) -> str:
    """The report's HTML. `names` are the figures; `build(name, group, points)` makes one."""
    sections, figures, contents = [], [], []
    for index, group in enumerate(groups(results)):
        sections.append(f"<h2>{html.escape(group.hardware)}</h2>")
        sections.append(f'<p class="caption">{html.escape(group.caption)}</p>')
        absent, links = [], []
        for name in names:
            try:
                figure = build(name, group, points)
            except AbsentError as why:
                absent.append(f"<li><code>{name}</code>: {html.escape(str(why))}</li>")
                continue
            identity = f"{name}-{index}"
            figures.append({"id": identity, **_figure(figure)})
            links.append(f'<li><a href="#{identity}">{html.escape(figure.title)}</a></li>')
            sections.append(f'<figure id="{identity}"></figure>')
        contents.append(f"<ul><li>{html.escape(group.hardware)}:</li>{''.join(links)}</ul>")
        if absent:
            sections.append(f"<p>Not drawn:</p><ul>{''.join(absent)}</ul>")
        sections += _tables(group)
        sections.append(_missing(group))
    return _fill(
        {
            "title": "based-bench report",
            "contents": "".join(contents),
            "sections": "\n".join(sections),
            "environment": "".join(map(_context, results.contexts)),
            "method": _METHOD,
            "style": (_HERE / "report.css").read_text(encoding="utf-8"),
            # In a script element only "</" could end the data early.
            "data": json.dumps(_plain(figures), allow_nan=False).replace("</", "<\\/"),
            "script": (_HERE / "report.js").read_text(encoding="utf-8"),
        }
    )


def _figure(figure: Figure) -> dict:
    described = asdict(figure)
    if isinstance(figure, LineFigure):
        described["kind"] = "lines"
        described["scales"] = dict(zip("xy", map(asdict, scales(figure)), strict=True))
        for panel, made in zip(described["panels"], figure.panels, strict=True):
            for entry, under in zip(panel["series"], made.depths(), strict=True):
                entry["under"] = under
            for entry in panel["series"] + panel["marks"]:
                look = style.of(entry["implementation"])
                entry |= {"colour": look.colour, "marker": look.marker, "width": look.width}
                entry["order"] = look.order
    else:
        described["kind"] = "heat"
        for panel in described["panels"]:
            panel["column_texts"] = [style.unit_text(figure.x.unit, v) for v in panel["columns"]]
            panel["row_texts"] = [style.unit_text(figure.y.unit, v) for v in panel["rows"]]
    return described


def _tables(group: Group) -> list[str]:
    parts = []
    for operation, rows in group.rows.groupby("operation", sort=True):
        lines = [
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>"
            for line in table.lines(rows)
        ]
        heading = "".join(f"<th>{html.escape(text)}</th>" for text in table.HEADER)
        parts.append(
            f"<details><summary>{html.escape(operation)}: {len(rows)} rows</summary>"
            f"<table><thead><tr>{heading}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            "</details>"
        )
    return parts


def _missing(group: Group) -> str:
    """What was skipped and why: a line for each implementation and reason."""
    rows = group.rows[group.rows["status"].ne("ok")]
    if rows.empty:
        return "<p>No row was skipped.</p>"
    entries = []
    by = ["operation", "implementation", "status", "reason"]
    for (operation, name, status, reason), same in rows.groupby(by, sort=True):
        shapes = [shape_text(row) for _, row in same.iterrows()]
        entries.append(
            f"<li><strong>{html.escape(f'{operation} {name}')}</strong>, "
            f"{html.escape(status.replace('_', ' '))}"
            f"{': ' + html.escape(reason) if reason else ''} "
            f'<span class="shapes">({html.escape("; ".join(shapes))})</span></li>'
        )
    return f'<h3>Without a result</h3><ul class="missing">{"".join(entries)}</ul>'


def _context(context: dict) -> str:
    lines = [
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(_text(value))}</td></tr>"
        for key, value in context.items()
    ]
    return f'<table class="context">{"".join(lines)}</table>'


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value):
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _fill(parts: dict[str, str]) -> str:
    filled = (_HERE / "report.html").read_text(encoding="utf-8")
    for name in (
        "title",
        "contents",
        "sections",
        "environment",
        "method",
        "style",
        "script",
        "data",
    ):
        before, mark, after = filled.partition(f"<!--{name}-->")
        assert mark, name
        filled = before + parts[name] + after
    return filled
