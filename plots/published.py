"""Published points and those of the living originals, to be laid over our own measurements.

data/published.json holds what papers and repositories print, data/peers_h200.json what the
originals reach on one H200; both name their sources. They are GPU times.
"""

import json
import math
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parent / "data"

# A published series -> whose colour and marker it takes.
_IMPLEMENTATIONS = {
    "PyTorch": "pytorch_naive",
    "Based PyTorch": "pytorch_naive",
    "Fast Transformers": "fast_transformers_273",
    "Based Fast Transformers": "fast_transformers_273",
    "Based": "thunderkittens_based",
    "Based TK": "thunderkittens_based",
    "Based Custom": "thunderkittens_based",
    "Based Kernel": "thunderkittens_based",
    "FLA parallel": "fla_parallel_based",
    "Based Fla Parallel": "fla_parallel_based",
    "Based Flash Linear Attention": "fla_parallel_based",
    "Based Fla Fused Chunk": "fla_fused_chunk_based",
    "Flash Attention": "torch_sdpa_flash2",
    "FlashAttention-2": "torch_sdpa_flash2",
    "GLA Chunk": "gla_chunk",
    "GLA Fused Chunk": "gla_fused_chunk",
    "GLA Fused Recurrent": "gla_fused_recurrent",
    "Mamba": "mamba",
    "Mamba-2": "mamba2",
}
# The peers' own names of operations and styles, where they differ from the rows'.
_OPERATIONS = {"attention": "prefill", "sliding_window_decode": "sliding_window"}
_STYLES = {"mamba_selective_scan": "mamba", "mamba2_ssd_triton": "mamba2"}
_SHAPE = {"batch": "B", "heads": "H", "seqlen": "N", "window": "W"}
_HEAD_DIM = 64  # of the values in every Based operation


def load(folder: Path = DATA) -> pd.DataFrame:
    """All points: label, implementation, device, source, exact, operation, B, H, N, W, head_dim,
    causal, policy ("" where the source does not tell), time_us, TFLOPs, mem_MiB."""
    points = _published(json.loads((folder / "published.json").read_text(encoding="utf-8")))
    points += _peers(json.loads((folder / "peers_h200.json").read_text(encoding="utf-8")))
    frame = pd.DataFrame(points)
    frame["TFLOPs"] = frame.apply(_nominal_tflops, axis=1)
    return frame


def matching(points: pd.DataFrame, operation: str, fixed: dict, policy: str) -> pd.DataFrame:
    """The points of an operation at a figure's fixed shape, measured under its policy where they
    tell, and of its configuration: causal, values of 64. A point that does not name one of the
    fixed sizes is of another configuration."""
    chosen = points["operation"].eq(operation) & points["policy"].isin(["", policy])
    chosen &= points["causal"] & points["head_dim"].eq(_HEAD_DIM)
    for name, value in fixed.items():
        chosen &= points[name].eq(value)
    return points[chosen]


def _published(document: dict) -> list[dict]:
    points = []
    for series in document["series"]:
        if series["unit"] != "ms" or series["axis"] not in _SHAPE:
            continue
        exact = series["exactness"] == "exact"
        source = series["source"]
        shape = {ours: series["fixed"].get(theirs, math.nan) for theirs, ours in _SHAPE.items()}
        label = f"{series['series']}, {series['device']} ({source.partition(',')[0]})"
        common = {
            "label": label if exact else label + " ≈",
            "implementation": _IMPLEMENTATIONS.get(series["series"], series["series"]),
            "device": series["device"],
            "source": source,
            "exact": exact,
            "operation": series["operation"],
            "head_dim": series["fixed"].get("d_v", math.nan),
            "causal": True,
            "policy": "",
            "mem_MiB": math.nan,
        }
        points += [
            common | shape | {_SHAPE[series["axis"]]: at, "time_us": ms * 1e3}
            for at, ms in series["points"]
        ]
    return points


def _peers(document: dict) -> list[dict]:
    device = document["device"].removeprefix("NVIDIA ")
    points = []
    for row in document["rows"]:
        name = row["implementation"]
        details = [f"{key}={row[key]}" for key in ("d_state", "chunk") if key in row]
        for policy in ("cold", "hot"):
            if f"{policy}_us" not in row:
                continue
            points.append(
                {ours: row.get(theirs, math.nan) for theirs, ours in _SHAPE.items()}
                | {
                    "label": f"{', '.join([name, *details])}, {device}",
                    "implementation": _STYLES.get(name, name),
                    "device": device,
                    "source": f"the original, measured on {device} on {document['date']}",
                    "exact": True,
                    "operation": _OPERATIONS.get(row["operation"], row["operation"]),
                    "head_dim": row.get("head_dim", row.get("d_v", _HEAD_DIM)),
                    "causal": row.get("causal", True),
                    "policy": policy,
                    "time_us": row[f"{policy}_us"],
                    "mem_MiB": row.get("peak_MiB", math.nan),
                }
            )
    return points


def _nominal_tflops(point: pd.Series) -> float:
    """The sources' formulas of work, as based_bench's own TFLOPs; NaN for other models."""
    if point["operation"] != "prefill":
        return math.nan
    heads = point["B"] * point["H"]
    if point["implementation"] in ("torch_sdpa_flash2", "torch_sdpa_cudnn", "thunderkittens_mha_h100"):
        flops = 4 * heads * point["N"] ** 2 * point["head_dim"] / (2 if point["causal"] else 1)
    elif point["implementation"].startswith(("mamba", "gla")):
        return math.nan
    else:
        flops = heads * point["N"] * 273 * (2 + 4 * _HEAD_DIM)
    return flops / point["time_us"] * 1e-6
