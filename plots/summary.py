"""What the results say, in a few sentences: where ours is first, by how much, and where not."""

import math
from dataclasses import dataclass

import pandas as pd

from plots import names, style
from plots.figure import PREFILL
from plots.results import SHAPE, Group, shape_text

_LOOKED_AT = {"N": 8192, "B": 16, "H": 16, "W": 64}
_STEP_WORDS = {"decode": "decode step", "sliding_window": "sliding-window step"}


@dataclass(frozen=True)
class Contest:
    """The fastest row of ours at one shape, and the fastest of each other implementation there."""

    ours: pd.Series
    others: list[pd.Series]  # the fastest first

    @property
    def lead(self) -> float:
        """How many times as long as ours the fastest other takes."""
        return self.others[0]["us"] / self.ours["us"]


def contests(group: Group, operation: str) -> list[Contest]:
    """All shapes of ours at which something else was measured too: that does the same, or, beside
    Based's prefill, its counterpart of another family. Originals of elsewhere count on the same
    card."""
    near = group.near[~group.near["key"].isin(set(group.rows["key"]))]
    rows = pd.concat([group.rows, near], ignore_index=True)
    rows = rows[rows["status"].eq("ok")]
    same, beside = {}, {}  # the shape, all it asks for or not -> rivals
    best: dict[tuple, pd.Series] = {}
    for _, row in rows.iterrows():
        if row["operation"] == operation and row["role"] == "ours":
            if _asked(row) not in best or row["us"] < best[_asked(row)]["us"]:
                best[_asked(row)] = row
        elif row["operation"] == operation:
            same.setdefault(_asked(row), []).append(row)
        elif operation == PREFILL[0] and row["operation"] in PREFILL and names.comparable(row):
            beside.setdefault(_sizes(row), []).append(row)
    found = []
    for at, ours in best.items():
        rivals = [*same.get(at, [])]
        if names.comparable(ours):
            rivals += beside.get(_sizes(ours), [])
        others: dict[str, pd.Series] = {}
        for row in sorted(rivals, key=lambda row: row["us"]):
            others.setdefault(names.words(row), row)
        if others:
            found.append(Contest(ours, list(others.values())))
    return found


def sentences(group: Group) -> list[str]:
    """Three or four, or one that says why there are none."""
    own = group.rows[group.rows["role"].eq("ours") & group.rows["status"].eq("ok")]
    if own.empty:
        return ["The file has no timed row of an implementation of this project's own."]
    operations = sorted(set(own["operation"]), key=_order)
    said, losses, wins = [], [], 0
    for operation in operations:
        found = contests(group, operation)
        if found:
            said.append(_standing(max(found, key=_looked_at), group))
        losses += [contest for contest in found if contest.lead < 1]
        wins += sum(contest.lead >= 1 for contest in found)
    share = own["share"].dropna()
    if not share.empty:
        least, most = own.loc[share.idxmin()], own.loc[share.idxmax()]
        said.append(
            f"Over all of ours, the share of what the card's measured ceilings allow is between "
            f"{style.percent(least['share'])} ({_at(least)}) and {style.percent(most['share'])} "
            f"({_at(most)})."
        )
    if wins or losses:
        said.append(_losses(losses, wins + len(losses)))
    else:
        said.append("Nothing else was timed at a shape of ours: there is nothing to compare with.")
    return said


def _sizes(row: pd.Series) -> tuple:
    return tuple(0 if math.isnan(row[name]) else row[name] for name in SHAPE)


def _asked(row: pd.Series) -> tuple:
    """All parameters that change what is computed."""
    return tuple(sorted((k, str(v)) for k, v in row["params"].items()))


def _looked_at(contest: Contest) -> tuple:
    wanted = [contest.ours[name] == size for name, size in _LOOKED_AT.items()]
    plain = names.comparable(contest.ours)
    if math.isnan(contest.ours["N"]):
        wanted[1] = False
    bf16 = contest.ours["params"].get("state") != "f32"
    return plain, *wanted, bf16, contest.ours["B"]


def _standing(contest: Contest, group: Group) -> str:
    ours, others = contest.ours, contest.others
    what = _STEP_WORDS.get(ours["operation"], names.operation_words(ours["operation"]))
    text = f"{what[0].upper()}{what[1:]}, {shape_text(ours)}: ours takes "
    text += f"{style.time_text(ours['us'])} on {names.card(group.cards[0])}"
    if not math.isnan(ours["share"]):
        text += f", {style.percent(ours['share'])} of what the card allows"
    if contest.lead < 1:
        time = style.time_text(others[0]["us"])
        return f"{text}; {names.words(others[0])} takes {time} and is first."
    text += f", and is the fastest of {len(others) + 1}. That is {_times(contest, others[0])}"
    shown = {names.family(others[0])}
    for row in others[1:]:
        if names.family(row) not in {*shown, names.NAIVE, names.ELSEWHERE}:
            shown.add(names.family(row))
            text += f"; {_times(contest, row)}"
    return text + "."


def _times(contest: Contest, row: pd.Series) -> str:
    ratio = style.significant(row["us"] / contest.ours["us"], 2)
    return f"{ratio} times as fast as {names.words(row)}"


def _losses(losses: list[Contest], all_of_them: int) -> str:
    if not losses:
        return f"Ours is the fastest at each of the {all_of_them} shapes that others were timed at."
    losses.sort(key=lambda contest: contest.lead)
    named = []
    for lost in losses[:3]:
        ratio = style.significant(1 / lost.lead)
        named.append(f"{_at(lost.ours)} ({names.words(lost.others[0])} is {ratio} times as fast)")
    return (
        f"Ours is not the fastest at {len(losses)} of {all_of_them} shapes that others were "
        f"timed at, the worst: "
        f"{'; '.join(named)}."
    )


def _at(row: pd.Series) -> str:
    operation = names.operation_words(row["operation"])
    extras = f", {row['extras']}" if row["extras"] else ""
    return f"{operation}, {shape_text(row)}{extras}"


def _order(operation: str) -> int:
    known = names.FUNCTION_ORDER
    return known.index(operation) if operation in known else len(known)
