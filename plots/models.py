"""Rows of whole models: what a model is called, and the colour that it has in every figure."""

import pandas as pd

from plots import names, style
from plots.results import SHAPE

_OPERATION = "model_"
# What a model's name holds -> the colour of its mixer. The first that fits counts.
_FAMILIES = (
    ("based-gnorm", style.LIGHT_VERMILION),
    ("mamba2", style.BLUE),
    ("mamba-2", style.BLUE),
    ("mamba", style.GREEN),
    ("attention", style.PURPLE),
    ("transformer", style.PURPLE),
    ("based", style.VERMILION),
)


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    of_models = rows["operation"].str.startswith(_OPERATION)
    return rows[of_models & rows["status"].eq("ok") & rows["B"].notna()]


def named(row: pd.Series, carded: bool) -> tuple[str, dict]:
    """A row's model and whose it is, as a figure has it, and its parameters beside batch, length
    and model."""
    params = {k: v for k, v in row["params"].items() if k not in SHAPE}
    # A row of what runs several models tells which; of others the name is the model.
    model = params.pop("model", None)
    whose = names.implementation_words(row["implementation"])
    parts = [model or whose]
    if row["role"] == "ours":
        parts[0] += " (ours)"
    elif model:
        parts.append(whose)
    if carded:
        parts.append(names.card(row["hardware"]))
    return names.shortened(", ".join(parts), 56), params


def label(row: pd.Series, carded: bool) -> str:
    """A prompt's model, whose it is, and what else was asked for."""
    name, params = named(row, carded)
    return f"{name}, {names.form_words(params)}" if params else name


def tokens(row: pd.Series) -> float:
    """What one call takes in."""
    a_step = row["operation"].endswith("decode") or not row["N"] > 0
    return row["B"] * (1 if a_step else row["N"])


def colour(name: str) -> str:
    """A model's colour is that of its mixer. `name` is of named(): whose it is comes later."""
    model = name.partition(",")[0].lower()
    found = [colour for part, colour in _FAMILIES if part in model]
    return found[0] if found else style.GREY
