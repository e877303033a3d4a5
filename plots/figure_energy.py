"""Energy of a token, of rows that were measured with --energy: prefill, ours and the originals."""

import altair as alt
import pandas as pd

from plots import bars, names, style
from plots.figure import PREFILL, AbsentError, Entry, Figure, hover
from plots.results import Group, shape_text

ORDER = 22
_MOST = 3  # shapes


def figure(group: Group) -> Figure:
    rows = group.rows[group.rows["operation"].isin(PREFILL) & group.rows["status"].eq("ok")]
    rows = names.picked(rows[rows["uJ_a_token"].gt(0)], names.comparable)
    heads = rows["H"].max()  # a scan over channels has none
    rows = rows[rows["H"].eq(heads) | rows["H"].isna()]
    if rows.empty:
        raise AbsentError(f"no prefill on {group.device} has its energy measured (--energy)")
    shapes = rows.groupby(["B", "N"]).size().sort_values(ascending=False, kind="stable")
    several = len(group.cards) > 1
    records = [_record(row, several) for _, row in rows.sort_values("uJ_a_token").iterrows()]
    panels = []
    for at in shapes.index[:_MOST]:
        of_shape = [record for record in records if record["at"] == at]
        title = shape_text({"B": at[0], "H": float("nan"), "N": at[1], "W": float("nan")})
        most = max(record["value"] for record in of_shape)
        panels.append(bars.panel(title, of_shape, most, "energy of a token, µJ", width=460))
    keys = {r["key"]: r["colour"] for r in records if r["at"] in set(shapes.index[:_MOST])}
    return Figure(
        "How much energy does prefill take a token?",
        [
            "By the driver's counter, idle share included, in a steady state; filled: ours; pale: "
            "a baseline or an original. Lower is better.",
            group.caption,
        ],
        alt.vconcat(*panels, spacing=22),
        [Entry(key, key, colour) for key, colour in keys.items()],
    )


def _record(row: pd.Series, carded: bool) -> dict:
    key = names.words(row, form="")
    if carded:
        key += f", {names.card(row['hardware'])}"
    watts = row.get("mJ", float("nan")) / row.get("energy_us", float("nan")) * 1e3
    power = "" if watts != watts else f", {watts:.0f} W"
    return {
        "key": key,
        "label": key,
        "at": (row["B"], row["N"]),
        "value": row["uJ_a_token"],
        "text": f"{style.significant(row['uJ_a_token'])} µJ{power}",
        "colour": style.function_colour(row["operation"]),
        "opacity": bars.filled(row),
        "name": key,
        "row": row["key"],
        **hover(row),
    }
