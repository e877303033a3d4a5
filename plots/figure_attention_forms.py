"""Softmax attention with windows, and on inputs on which a guessed maximum is wrong: the times
of our kernel beside that of the plain row of the same shape.
"""

import math

import altair as alt
import pandas as pd

from plots import bars, style
from plots.figure import AbsentError, Entry, Figure, hover
from plots.results import Group, shape_text

ORDER = 15
_SHAPE = ("B", "H", "N", "Dh", "causal")
_INPUTS = {"sink": "one key 40 times as large", "growing": "keys that grow to 16 times"}
_PLAIN = "all keys, normal inputs"


def figure(group: Group) -> Figure:
    rows = group.rows[group.rows["operation"].eq("attention") & group.rows["status"].eq("ok")]
    rows = rows[rows["role"].eq("ours")]
    records = [_record(row) for _, row in rows.iterrows() if _form(row["params"]) is not None]
    shapes = [
        shape
        for shape in sorted({r["shape"] for r in records}, key=_rank)
        if sum(r["shape"] == shape for r in records) > 1
    ]
    if not shapes:
        raise AbsentError(f"softmax attention on {group.device} has no window and no bad inputs")
    panels = []
    for shape in shapes:
        of_shape = sorted((r for r in records if r["shape"] == shape), key=lambda r: r["order"])
        most = max(record["value"] for record in of_shape)
        panels.append(bars.panel(_title(shape), of_shape, most, "time, µs", width=250))
    note = "Lower is better."
    if any("redone" in record["text"] for record in records):
        note = (
            "Redone: so many tiles of 64 queries were worked on twice, for the maximum that was "
            f"guessed from their first keys was too small. {note}"
        )
    return Figure(
        "How long does softmax attention take with windows, and on bad inputs?",
        [note, group.caption],
        alt.concat(*panels, columns=2, spacing=22),
        [Entry(form, form, style.PURPLE) for form in dict.fromkeys(r["key"] for r in records)],
    )


def _form(params: dict) -> tuple[float, str] | None:
    """What a row has that a plain one has not, and its place; None: something else."""
    extra = params.keys() - set(_SHAPE)
    if not extra:
        return 0, _PLAIN
    if extra == {"W"}:
        return 1 / int(params["W"]), f"window of {params['W']} keys"
    if extra == {"inputs"}:
        return 1 + list(_INPUTS).index(params["inputs"]), _INPUTS[params["inputs"]]
    return None


def _rank(shape: tuple) -> tuple:
    """Smaller heads beside larger ones, larger batches first."""
    _, batch, _, length, dim, _ = shape
    return -batch, -length, dim, shape


def _title(shape: tuple) -> str:
    implementation, batch, heads, length, dim, _ = shape
    at = shape_text({"B": batch, "H": heads, "N": length, "W": math.nan})
    return f"{implementation}: {at}, heads of {dim}"


def _record(row: pd.Series) -> dict:
    params = row["params"]
    order, form = _form(params)
    redone = row.get("redone", 0)
    text = f"{style.significant(row['us'])} µs"
    if redone > 0:
        text += f", {redone:.0f} redone"
    return {
        "key": form,
        "label": form,
        "order": order,
        "shape": (row["implementation"], *(int(params[name]) for name in _SHAPE)),
        "value": row["us"],
        "text": text,
        "colour": style.PURPLE,
        "opacity": bars.OURS,
        "name": form,
        "row": row["key"],
        **hover(row),
    }
