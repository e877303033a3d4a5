"""Published points and those of the living originals, to be laid over our own measurements.

data/published.json holds what papers and repositories print, data/peers_h200.json what the
originals reach on one H200; both name their sources. They are GPU times.
"""

import json
import math
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parent / "data"

# A published series -> the implementation that it measures.
_IMPLEMENTATIONS = {
    "PyTorch": "pytorch_naive",
    "Based PyTorch": "pytorch_naive",
    "Fast Transformers": "fast_transformers",
    "Based Fast Transformers": "fast_transformers",
    "Based": "thunderkittens_based",
    "Based TK": "thunderkittens_based",
    "Based Custom": "based_2024_kernel",
    "Based Kernel": "based_2024_kernel",
    "FLA parallel": "fla_parallel_based",
    "Based Fla Parallel": "fla_parallel_based",
    "Based Flash Linear Attention": "fla_parallel_based",
    "Based Fla Fused Chunk": "fla_fused_chunk_based",
    "Flash Attention": "flash_attention_2",
    "FlashAttention-2": "flash_attention_2",
    "GLA Chunk": "gla_chunk",
    "GLA Fused Chunk": "gla_fused_chunk",
    "GLA Fused Recurrent": "gla_fused_recurrent",
    "Mamba": "mamba",
    "Mamba-2": "mamba2",
}
# The peers' own names of operations and implementations, where they differ from those here.
PEER_OPERATIONS = {"attention": "prefill", "sliding_window_decode": "sliding_window"}
PEER_IMPLEMENTATIONS = {"mamba_selective_scan": "mamba", "mamba2_ssd_triton": "mamba2"}
SIZES = {"batch": "B", "heads": "H", "seqlen": "N", "window": "W"}
_HEAD_DIM = 64  # of the values in every Based operation


def load(folder: Path = DATA) -> pd.DataFrame:
    """All points: implementation, extras, origin ("H100, JRT paper"), source, exact, operation,
    over (the size that a series varies; "" where any), B, H, N, W, head_dim, causal, policy ("":
    not told), time_us, TFLOPs, mem_MiB."""
    points = _published(json.loads((folder / "published.json").read_text(encoding="utf-8")))
    points += _peers(json.loads((folder / "peers_h200.json").read_text(encoding="utf-8")))
    frame = pd.DataFrame(points)
    frame["TFLOPs"] = frame.apply(_nominal_tflops, axis=1)
    return frame


def matching(
    points: pd.DataFrame, operation: str, over: str, fixed: dict, policy: str
) -> pd.DataFrame:
    """The points of a figure's own configuration: its operation over the same size at the same
    fixed sizes, causal, with values of 64, and under its cache policy where they tell theirs. A
    point that does not name one of the fixed sizes is of another configuration."""
    chosen = points["operation"].eq(operation) & points["over"].isin(["", over])
    chosen &= points["policy"].isin(["", policy])
    chosen &= points["causal"] & points["head_dim"].eq(_HEAD_DIM)
    for name, value in fixed.items():
        chosen &= points[name].eq(value)
    return points[chosen]


def _published(document: dict) -> list[dict]:
    points = []
    for series in document["series"]:
        if series["operation"].startswith("model_"):
            continue  # a whole model's time has no figure here
        over = SIZES[series["axis"]]
        exact = series["exactness"] == "exact"
        source = series["source"]
        origin = f"{series['device']}, {source.partition(',')[0]}"
        common = {
            "implementation": _IMPLEMENTATIONS.get(series["series"], series["series"]),
            "extras": "",
            "origin": origin if exact else f"{origin} (approximate)",
            "source": source,
            "exact": exact,
            "operation": series["operation"],
            "over": over,
            "head_dim": series["fixed"].get("d_v", math.nan),
            "causal": True,
            "policy": "",
            "mem_MiB": math.nan,
        }
        shape = {ours: series["fixed"].get(theirs, math.nan) for theirs, ours in SIZES.items()}
        points += [common | shape | {over: at, "time_us": ms * 1e3} for at, ms in series["points"]]
    return points


def _peers(document: dict) -> list[dict]:
    device = document["device"].removeprefix("NVIDIA ")
    points = []
    for row in document["rows"]:
        name = row["implementation"]
        common = {ours: row.get(theirs, math.nan) for theirs, ours in SIZES.items()} | {
            "implementation": PEER_IMPLEMENTATIONS.get(name, name),
            "extras": ", ".join(f"{key}={row[key]}" for key in ("d_state", "chunk") if key in row),
            "origin": f"{device}, the original",
            "source": f"{name} itself, measured on {document['date']}",
            "exact": True,
            "operation": PEER_OPERATIONS.get(row["operation"], row["operation"]),
            "over": "",
            "head_dim": row.get("head_dim", row.get("d_v", _HEAD_DIM)),
            "causal": row.get("causal", True),
            "mem_MiB": row.get("peak_MiB", math.nan),
        }
        points += [
            common | {"policy": policy, "time_us": row[f"{policy}_us"]}
            for policy in ("cold", "hot")
            if f"{policy}_us" in row
        ]
    return points


def _nominal_tflops(point: pd.Series) -> float:
    """The sources' formulas of work, as based_bench's own TFLOPs; NaN for other models."""
    name = point["implementation"]
    heads = point["B"] * point["H"]
    if point["operation"] != "prefill" or name.startswith(("mamba", "gla")):
        return math.nan
    if name.startswith(("torch_sdpa", "flash_attention", "thunderkittens_mha")):
        flops = 4 * heads * point["N"] ** 2 * point["head_dim"] / (2 if point["causal"] else 1)
    else:
        flops = heads * point["N"] * 273 * (2 + 4 * _HEAD_DIM)
    return flops / point["time_us"] * 1e-6
