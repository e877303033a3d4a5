"""Published points and those of the living originals measured elsewhere, as rows of results.

data/published.json holds what papers and repositories print; data/peers_h200.json is a results file
of what the originals reach on one H200 by harnesses of their own. They are GPU times, and each row
says its source.
"""

import json
import math
from pathlib import Path

import pandas as pd

from plots.results import COUNTERS
from plots.results import load as load_results

DATA = Path(__file__).parent / "data"
PEERS = "peers_h200.json"

# A published series -> the operation and the implementation that it measures.
_BASED = {
    "PyTorch": "pytorch_naive",
    "Based PyTorch": "pytorch_naive",
    "Fast Transformers": "fast_transformers",
    "Based Fast Transformers": "fast_transformers",
    "Based": "thunderkittens_based",
    "Based TK": "thunderkittens_based",
    "Based Custom": "based_2024_kernel",
    "Based Kernel": "based_2024_kernel",
    "FLA parallel": "fla_parallel_based",
    "Based FLA parallel": "fla_parallel_based",
    "Based Fla Parallel": "fla_parallel_based",
    "Based Flash Linear Attention": "fla_parallel_based",
    "Based Fla Fused Chunk": "fla_fused_chunk_based",
}
_OTHERS = {
    "Flash Attention": ("attention", "flash_attention_2"),
    "FlashAttention-2": ("attention", "flash_attention_2"),
    "GLA Chunk": ("gla", "gla_chunk"),
    "GLA Fused Chunk": ("gla", "gla_fused_chunk"),
    "GLA Fused Recurrent": ("gla", "gla_fused_recurrent"),
    "Mamba": ("selective_scan", "mamba"),
    "Mamba-2": ("ssd", "mamba2"),
}
_SIZES = {"batch": "B", "heads": "H", "seqlen": "N", "prompt": "N"}
_MODEL = "model_"


def load(folder: Path = DATA) -> pd.DataFrame:
    """All of it: the columns of results.load, and

    source, exact   where a time was published, and whether as a number or in a picture
    over            the size that a published series varies: "B" or "N"; "" where any
    """
    peers = load_results(folder / PEERS)
    rows = peers.rows.assign(exact=True, over="", source=peers.contexts[0]["method"])
    document = json.loads((folder / "published.json").read_text(encoding="utf-8"))
    printed = [point for series in document["series"] for point in _points(series)]
    return pd.concat([rows, pd.DataFrame(printed)], ignore_index=True)


def _points(series: dict) -> list[dict]:
    operation, name = series["operation"], series["series"]
    if operation.startswith(_MODEL):
        implementation = name
    elif name in _BASED:
        implementation = _BASED[name]
    else:
        operation, implementation = _OTHERS[name]
    over = _SIZES[series["axis"]]
    shape = {"B": math.nan, "H": math.nan, "N": math.nan, "W": math.nan}
    shape |= {ours: series["fixed"][n] for n, ours in _SIZES.items() if n in series["fixed"]}
    common = dict.fromkeys(COUNTERS, math.nan) | {
        "operation": operation,
        "implementation": implementation,
        "device": "cuda",
        "role": "original",
        "reimplements": (),
        "params": {},
        "extras": series["fixed"].get("model", ""),
        "status": "ok",
        "reason": "",
        "floor_us": math.nan,
        "hardware": series["device"],
        "policy": "",  # not told
        "source": series["source"],
        "exact": series["exactness"] == "exact",
        "over": over,
    }
    return [
        common
        | shape
        | {over: float(at), "us": ms * 1e3, "time_us": ms * 1e3}
        | {"key": f"{name}, {over} = {at}"}
        for at, ms in series["points"]
    ]
