"""Rows of whole models: what a model is called, and the colour that it has in every figure."""

import pandas as pd

from plots import names, style
from plots.results import SHAPE

_OPERATION = "model_"
# What a model's name holds -> the colour of its mixer. The first that fits counts.
_FAMILIES = (
    ("mamba2", style.BLUE),
    ("mamba-2", style.BLUE),
    ("mamba", style.GREEN),
    ("attention", style.PURPLE),
    ("transformer", style.PURPLE),
    ("based", style.VERMILION),
)
_SPARE = (style.BROWN, style.OLIVE, style.GREY, style.BLACK)


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    of_models = rows["operation"].str.startswith(_OPERATION)
    return rows[of_models & rows["status"].eq("ok") & rows["B"].notna()]


def named(row: pd.Series, carded: bool) -> tuple[str, dict]:
    """A row's model, as a legend has it, and its parameters beside batch, length and model."""
    params = {k: v for k, v in row["params"].items() if k not in SHAPE}
    # A row of a forward pass that runs several models tells which; of others the name is the model.
    model = params.pop("model", row["implementation"].replace("_", " "))
    name = model + (" (ours)" if row["role"] == "ours" else "")
    if carded:
        name += f", {names.card(row['hardware'])}"
    return names.shortened(name, 40), params


def tokens(row: pd.Series) -> float:
    """What one call takes in."""
    a_step = row["operation"].endswith("decode") or not row["N"] > 0
    return row["B"] * (1 if a_step else row["N"])


def colours(keys: list[str]) -> dict[str, str]:
    """Each model's colour: the first of a family has the family's."""
    chosen: dict[str, str] = {}
    spare = list(_SPARE)
    for key in keys:
        fitting = [colour for part, colour in _FAMILIES if part in key.lower()][:1]
        free = [colour for colour in fitting if colour not in chosen.values()]
        chosen[key] = free[0] if free else spare.pop(0) if spare else style.GREY
    return chosen
