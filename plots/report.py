"""report.html: what the results say, every figure, interactive, the tables, and the method.

One self-contained file: Vega's runtime and the specifications of figure.py stand in it. It opens
from disk, and its content security policy forbids the network.
"""

import functools
import html
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import vl_convert

from plots import summary, table
from plots.figure import AbsentError, Figure
from plots.results import Group, shape_text

_HERE = Path(__file__).parent

_METHOD = """
<p>A row is one implementation of one operation at one shape on one device. Its inputs are random
and the same for every implementation of a shape. Before it is timed, its output, poisoned with NaN
first, is compared with a float64 reference; over its tolerance the row is an error without a
time.</p>
<p>The time is a median, from device events: of a burst, the first 11 calls after a rest, where the
row has one, as published figures are timed, or else of the steady state; <em>cold</em> means that
the L2 cache holds none of the inputs. <em>TFLOPs</em> are nominal: the sources' formula of the
shape, over the time. <em>Roofline</em> is the least time that the measured copy bandwidth and
matrix rate of this device allow, over the time. <em>Memory</em> counts inputs, outputs and
workspace.</p>
<p>In a figure a family stands with its fastest member; the names under it show, hide and isolate
the others, and pointing at a mark tells its row.</p>
"""


def page(
    groups: list[Group],
    contexts: list[dict],
    names: list[str],
    build: Callable[[str, Group], Figure],
) -> str:
    """The report's HTML. `names` are the figures; `build(name, group)` makes one."""
    sections, figures, contents = [], {}, []
    for index, group in enumerate(groups):
        title = html.escape(", ".join(group.cards))
        sections += [f"<h2>{title}</h2>", f'<p class="caption">{html.escape(group.caption)}</p>']
        said = "".join(f"<li>{html.escape(text)}</li>" for text in summary.sentences(group))
        sections.append(f'<ul class="summary">{said}</ul>')
        absent, links = [], []
        for name in names:
            try:
                figure = build(name, group)
            except AbsentError as why:
                absent.append(f"<li><code>{name}</code>: {html.escape(str(why))}</li>")
                continue
            identity = f"{name}-{index}"
            entries = [vars(entry) for entry in figure.entries]
            figures[identity] = {"spec": figure.spec(), "entries": entries}
            links.append(f'<li><a href="#{identity}">{html.escape(figure.question)}</a></li>')
            sections.append(f'<figure id="{identity}"></figure>')
        contents.append(f"<p>{title}</p><ul>{''.join(links)}</ul>")
        if absent:
            sections.append(f"<p>Not drawn:</p><ul>{''.join(absent)}</ul>")
        sections += [*_tables(group), _missing(group)]
    return _fill(
        {
            "title": "based-bench report",
            "contents": "".join(contents),
            "sections": "\n".join(sections),
            "environment": "".join(map(_context, contexts)),
            "method": _METHOD,
            "style": _file("report.css"),
            # In a script element only "</" and "<!--" could end or alter the data early.
            "data": json.dumps(_plain(figures), allow_nan=False).replace("<", "\\u003c"),
            "vega": _vega(),
            "script": _file("report.js"),
        }
    )


def _tables(group: Group) -> list[str]:
    parts = ["<h3>Tables</h3>"]
    if len(group.cards) > 1:
        header = ("row", group.cards[0], *(p for card in group.cards[1:] for p in (card, "ratio")))
        lines = [[table.Cell(text) for text in line] for line in table.ratio_lines(group)]
        parts.append(_table(f"ratios to {group.cards[0]}: {len(lines)} rows", header, lines))
    for operation, rows in group.rows.groupby("operation", sort=True):
        parts.append(_table(f"{operation}: {len(rows)} rows", table.HEADER, table.lines(rows)))
    return parts


def _table(title: str, header: tuple[str, ...], lines: list[list[table.Cell]]) -> str:
    heading = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return (
        f'<details><summary>{html.escape(title)}</summary><table class="sortable">'
        f"<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></details>"
    )


def _cell(entry: table.Cell) -> str:
    value = "" if math.isnan(entry.value) else f' data-value="{entry.value:.6g}"'
    return f"<td{value}>{html.escape(entry.text)}</td>"


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
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value):
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def _vega() -> str:
    """Vega's runtime, which takes a second to be put together."""
    return vl_convert.javascript_bundle()


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _fill(parts: dict[str, str]) -> str:
    """report.html with each <!--name--> replaced; what is put in is not looked through again."""
    return re.sub(r"<!--(\w+)-->", lambda mark: parts[mark[1]], _file("report.html"))
