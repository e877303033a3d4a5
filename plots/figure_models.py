"""Whole models: tokens of prompts a second, where results hold rows of a model.

Bars are of throughput, which stays of one size over batches. Of the originals that run a model the
fastest stands in a panel.
"""

import altair as alt
import pandas as pd

from plots import bars, models, style
from plots.figure import AbsentError, Entry, Figure, hover
from plots.results import Group

ORDER = 35


def figure(group: Group) -> Figure:
    rows = _prompts(group.rows)
    if rows.empty:
        raise AbsentError(f"the file has no timed prompts of a whole model on {group.device}")
    several = len(group.cards) > 1
    live = [_record(row, several) for _, row in _fastest(rows).iterrows()]
    shapes = {record["at"] for record in live}
    printed = []
    if group.elsewhere is not None and group.device == "cuda" and not several:
        theirs = _prompts(group.elsewhere)
        printed = [_record(row, True, bars.PRINTED) for _, row in theirs.iterrows()]
    records = live + [r for r in printed if r["at"] in shapes]
    records.sort(key=lambda record: -record["value"])
    most = max(record["value"] for record in records)
    # The length that most batches were timed at comes first.
    lengths = [length for length, _ in shapes]
    panels = [
        bars.panel(
            f"{batch} prompts of {length} tokens" if length else f"{batch} prompts",
            [record for record in records if record["at"] == (length, batch)],
            most,
            "tokens a second",
        )
        for length, batch in sorted(shapes, key=lambda at: (-lengths.count(at[0]), at))
    ]
    keys = dict.fromkeys(record["key"] for record in records)
    return Figure(
        "How many tokens of prompts does a whole model take a second?",
        [f"Higher is better; {bars.HOW_FILLED}.", group.caption],
        alt.concat(*panels, columns=2, spacing=22),
        [Entry(key, key, models.colour(key)) for key in keys],
    )


def _prompts(rows: pd.DataFrame) -> pd.DataFrame:
    rows = models.timed(rows)
    return rows[rows["operation"].eq("model_prefill")]


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of several originals of one model and shape the fastest, and all others."""
    best: dict[tuple, float] = {}  # a model at a shape -> the place of its fastest original
    originals = rows[rows["role"].eq("original")].sort_values("us")
    for place, row in originals.iterrows():
        model = row["params"].get("model", row["implementation"])
        best.setdefault((model, row["B"], row["N"], row["hardware"]), place)
    return rows[rows["role"].ne("original") | rows.index.isin(best.values())]


def _record(row: pd.Series, carded: bool, opacity: float | None = None) -> dict:
    key = models.label(row, carded)
    rate = models.tokens(row) / row["us"] * 1e6
    return {
        "key": key,
        "label": key,
        "at": (int(row["N"]) if row["N"] > 0 else 0, int(row["B"])),
        "value": rate,
        "text": f"{style.significant(rate / 1e3, 3)}k",
        "colour": models.colour(key),
        "opacity": bars.filled(row) if opacity is None else opacity,
        "name": key,
        "row": row["key"],
        **hover(row),
    }
