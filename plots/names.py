"""Words for identifiers, and the families that figures and tables put implementations into.

An implementation without an entry here is shown by its own name. A baseline is called after the
original that it stands for.
"""

from collections.abc import Callable

import pandas as pd

from plots.results import SHAPE

# An implementation -> whose it is, or what it runs on, and what tells it from others of theirs.
_WORDS = {
    "based": ("", ""),
    "based_sm80": ("for Ampere", ""),
    "forward_sm90": ("", ""),
    "forward_sm80": ("for Ampere", ""),
    "fused_chunked": ("", ""),
    "ssd_sm80": ("for Ampere", ""),
    "register_scan": ("", ""),
    "ssd_decode": ("", ""),
    "state_update": ("", ""),
    "expanded": ("expanded state", ""),
    "tile": ("the Based authors' kernel", ""),
    "naive": ("one operation after another", ""),
    "softmax_attention": ("FlashAttention-2", ""),
    "thunderkittens": ("ThunderKittens", ""),
    "thunderkittens_based": ("ThunderKittens", ""),
    "thunderkittens_mha_h100": ("ThunderKittens", ""),
    "based_2024_kernel": ("the authors' kernel of 2024", ""),
    "fla_fused_chunk_based": ("flash-linear-attention", "fused chunks"),
    "fla_parallel_based": ("flash-linear-attention", "parallel"),
    "fast_transformers": ("Fast Transformers", ""),
    "fast_transformers_273": ("Fast Transformers", "273 features"),
    "fast_transformers_153": ("Fast Transformers", "153 features"),
    "pytorch_naive": ("PyTorch", ""),
    "flash_attention_2": ("FlashAttention-2", ""),
    "flash_attention_3": ("FlashAttention-3", ""),
    "flash_attention_4": ("FlashAttention-4", ""),
    "torch_sdpa_flash2": ("PyTorch", "FlashAttention-2"),
    "torch_sdpa_cudnn": ("cuDNN", ""),
    "torch_sdpa": ("PyTorch", "attention"),
    "torch_bmm": ("PyTorch", "bmm"),
    "torch_einsum": ("PyTorch", "einsum"),
    "gla_chunk": ("", "chunks"),
    "gla_fused_chunk": ("", "fused chunks"),
    "gla_fused_recurrent": ("", "fused recurrent"),
    "mamba": ("", ""),
    "mamba2": ("", ""),
    "mamba_step": ("", ""),
    "mamba2_step": ("", ""),
    "torch_model": ("PyTorch", ""),
    "torch_model_compiled": ("PyTorch", "compiled"),
    "torch_flash4_model": ("PyTorch", "FlashAttention-4"),
    "torch_flash4_model_compiled": ("PyTorch", "compiled, FlashAttention-4"),
    "fla_model": ("flash-linear-attention", ""),
    "fla_model_compiled": ("flash-linear-attention", "compiled"),
    "mamba_ssm_model": ("mamba-ssm", ""),
    "mamba_ssm_model_compiled": ("mamba-ssm", "compiled"),
}
_OPERATIONS = {
    "prefill": "Based prefill",
    "decode": "Based decode",
    "sliding_window": "sliding window",
    "attention": "softmax attention",
    "selective_scan": "Mamba",
    "selective_scan_decode": "Mamba decode",
    "ssd": "Mamba-2",
    "ssd_decode": "Mamba-2 decode",
    "causal_conv": "causal convolution",
    "model_prefill": "prefill",
    "model_decode": "step of generation",
    "gla": "GLA",
}
_FUNCTIONS = _OPERATIONS | {
    "prefill": "Based",
    "decode": "Based",
    "selective_scan_decode": "Mamba",
    "ssd_decode": "Mamba-2",
}
_OTHER_FUNCTIONS = ("attention", "selective_scan", "ssd", "gla")
_PARAMETERS = {
    "Dh": "heads of {}",
    "P": "heads of {}",
    "S": "{} states a value",
    "state": "{} state",
    "causal": "causal: {}",
}
FUNCTION_ORDER = tuple(_OPERATIONS)
BASED, ELSEWHERE, NAIVE = "Based", "Based elsewhere", "naive"
# What stands beside Based with heads of 64 values and a state like its own; a row that tells one of
# these otherwise computes something else.
_COMPARABLE = {
    "attention": {"Dh": 64, "causal": 1},
    "ssd": {"P": 64, "S": 256},
    "selective_scan": {"d_inner": 2048, "d_state": 16},
}
_AS_MANY = {"Hkv": "H", "Nkv": "N"}  # keys and values of as many heads and tokens as queries
_LONGEST = 60


def implementation_words(implementation: str) -> str:
    """Whose an implementation is, and what tells it from others of theirs."""
    whose, which = _WORDS.get(implementation, ("", ""))
    whose = whose or implementation.replace("_", " ")
    return f"{whose} ({which})" if which else whose


def operation_words(operation: str) -> str:
    return _OPERATIONS.get(operation, operation.replace("_", " "))


def project(row: pd.Series | dict) -> str:
    """Whose an original is: a library, or else the function that its authors are known for."""
    whose, _ = _WORDS.get(row["implementation"], (row["implementation"].replace("_", " "), ""))
    return whose or function(row["operation"])


def function(operation: str) -> str:
    return _FUNCTIONS.get(operation, operation.replace("_", " "))


def words(row: pd.Series | dict, form: str | None = None, short: bool = False) -> str:
    """An implementation as a figure names it, without what tells several of one library apart where
    `short`; in which form, where that is not the one that stands beside Based or is told."""
    rewritten = row["role"] == "baseline" and row["reimplements"]
    name = row["reimplements"][0] if rewritten else row["implementation"]
    plain = name.replace("_", " ")
    whose, which = _WORDS.get(name, ("", plain) if row["role"] == "ours" else (plain, ""))
    of = function(row["operation"])
    if whose and of == _FUNCTIONS["sliding_window"]:
        of = ""  # it stands in figures of its own
    between = " " if whose.startswith("for ") else ", "
    text = between.join(part for part in (of, whose) if part)
    if which and not short:
        text += f" ({which})"
    if rewritten:
        text += ", rewritten"
    if row["role"] == "ours":
        text += " (ours)"
    if form is None:
        wanted = _COMPARABLE.get(row["operation"], {})
        form = form_words({k: v for k, v in row["params"].items() if wanted.get(k, v) != v})
    return shortened(f"{text}, {form}" if form else text)


def form_words(params: dict) -> str:
    """All parameters of a row that are no sizes, in words."""
    return ", ".join(
        _PARAMETERS[name].format(value) if name in _PARAMETERS else f"{name} {value}"
        for name, value in sorted(params.items())
        if name not in SHAPE
    )


def shortened(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def card(hardware: str) -> str:
    """H200 for NVIDIA H200."""
    return shortened(hardware.removeprefix("NVIDIA ").strip() or hardware, 24)


def family(row: pd.Series | dict) -> str:
    """Which of a figure's lines an implementation may be: the fastest of a family stands for it."""
    operation, role, name = row["operation"], row["role"], row["implementation"]
    for other in _OTHER_FUNCTIONS:
        if operation.startswith(other):
            return function(other)
    if role == "unknown":
        return name
    if role == "ours":
        return BASED
    return NAIVE if any(NAIVE in n for n in (name, *row["reimplements"])) else ELSEWHERE


def picked(rows: pd.DataFrame, wanted: Callable[[pd.Series], bool]) -> pd.DataFrame:
    """The rows that `wanted` says yes to."""
    kept = [bool(wanted(row)) for _, row in rows.iterrows()]
    return rows[pd.Series(kept, index=rows.index, dtype=bool)]


def comparable(row: pd.Series | dict) -> bool:
    """Whether a row's parameters are those that stand beside Based, and ask for no option."""
    params = row["params"]
    if {"options", "variant", "inputs", "scale", "type"} & params.keys():
        return False
    if row["operation"] == "attention" and params.get("W"):
        return False
    if any(params.get(own, params.get(of)) != params.get(of) for own, of in _AS_MANY.items()):
        return False
    wanted = _COMPARABLE.get(row["operation"], {})
    return all(params.get(name, value) == value for name, value in wanted.items())
