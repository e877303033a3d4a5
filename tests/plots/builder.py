"""Builds synthetic results files for the tests. Its times are invented, none is measured."""

import json
from pathlib import Path

import numpy as np

NOMINAL_FLOPS = 273 * (2 + 4 * 64)  # of Based prefill, a token-head
COMPULSORY_BYTES = 320
# What each baseline of the sweep stands for; who is in neither is an original.
OURS = ("based", "based_sm80", "forward_sm90", "fused_chunked", "register_scan", "ssd_decode")
REIMPLEMENTS = {
    "naive": ["pytorch_naive"],
    "chunked_recurrent": ["fla_fused_chunk_based"],
    "chunked_parallel": ["fla_parallel_based"],
    "causal_dot_product": ["fast_transformers_273"],
    "softmax_attention": ["torch_sdpa_flash2"],
}
# The figures that sweep() has no rows for.
ABSENT = {"models", "model_parts", "generation", "mixers", "attention_forms"}


def context(**changes) -> dict:
    return {
        "date": "2030-01-02T03:04:05+00:00",
        "host_name": "synthetic",
        "num_cpus": 2,
        "schema": "based-bench/1",
        "revision": "0000000",
        "seed": "1",
        "argv": "synthetic",
        "l2_policy": "cold: flushed before each sample",
        "cpu_name": "Synthetic CPU",
        "cpu_copy_GBps": "20",
        "cpu_peak_TFLOPs": "0.2",
        "gpu_name": "Synthetic GPU",
        "gpu_copy_GBps": "4000",
        "gpu_gemm_TFLOPs": "800",
        "gpu_timer_floor_us": "2.5",
    } | changes


def role(implementation: str) -> str:
    if implementation in OURS:
        return "ours"
    return "baseline" if implementation in REIMPLEMENTS else "original"


def row(
    implementation="based",
    time_us=100.0,
    *,
    operation="prefill",
    device="cuda",
    status="ok",
    reason="",
    spread=0.01,
    samples=25,
    seed=0,
    counters=None,
    **params,
) -> dict:
    """One row; `params` are B, H, N, ..., one of None is left out; `spread` is the samples'
    relative deviation."""
    params = {"B": 16, "H": 16} | params
    params = {name: value for name, value in params.items() if value is not None}
    name = "/".join([operation, implementation, device, *(f"{k}:{v}" for k, v in params.items())])
    fields = {
        "name": f"{name}/manual_time",
        "run_name": f"{name}/manual_time",
        "run_type": "iteration",
        "repetition_index": 0,
        "iterations": 1,
        "real_time": 0.0,
        "cpu_time": 0.0,
        "time_unit": "us",
        "status": status,
        "operation": operation,
        "implementation": implementation,
        "device": device,
        "role": role(implementation),
        "reimplements": REIMPLEMENTS.get(implementation, []),
        "params": params,
        "samples_us": [],
    }
    if status != "ok":
        return (
            fields
            | {
                "reason": reason,
                "error_occurred": True,
                "error_message": reason,
            }
            | (counters or {})
        )
    drawn = time_us * (1 + spread * np.random.default_rng(seed).standard_normal(samples))
    heads = params["B"] * params.get("H", 1) * params.get("N", 1)
    executed = 0.6 if implementation == "based" else 1.5
    return (
        fields
        | {
            "real_time": time_us,
            "label": "",
            "samples_us": drawn.tolist(),
            "samples": samples,
            "ci_low_us": time_us * (1 - spread / 2),
            "ci_high_us": time_us * (1 + spread / 2),
            "TFLOPs": heads * NOMINAL_FLOPS / time_us * 1e-6,
            "exec_TFLOPs": heads * NOMINAL_FLOPS * executed / time_us * 1e-6,
            "GBps": heads * COMPULSORY_BYTES / time_us * 1e-3,
            "mem_MiB": heads * COMPULSORY_BYTES / 2**20,
            "mJ": time_us * 0.5,  # at 500 W
            "tokens_per_J": params["B"] * params.get("N", 1) / (time_us * 5e-4),
            "roofline_pct": 50.0,
            "rel_err": 1.7e-3,
            "tolerance": 5e-3,
            "nominal_GFLOP": heads * NOMINAL_FLOPS * 1e-9,
            "compulsory_MB": heads * COMPULSORY_BYTES * 1e-6,
        }
        | (counters or {})
    )


def document(rows: list[dict], **changes) -> dict:
    return {"context": context(**changes), "benchmarks": rows}


def write(path: Path, rows: list[dict], **changes) -> Path:
    path.write_text(json.dumps(document(rows, **changes)), encoding="utf-8")
    return path


def attention(implementation: str, time_us: float, **shape) -> dict:
    return row(implementation, time_us, operation="attention", Dh=64, causal=1, **shape)


def sweep(batches=(1, 4, 16), lengths=(1024, 4096, 16384), device="cuda") -> list[dict]:
    """Every operation over several implementations, with every status among them."""
    rows = []
    for b in batches:
        for n in lengths:
            shape = {"B": b, "N": n, "device": device}
            work = b * n / 1e3
            rows += [
                row("based", 8 + 1.5 * work, **shape),
                row("chunked_recurrent", 20 + 5 * work, **shape),
                row("causal_dot_product", 30 + 90 * work, **shape),
                attention("softmax_attention", 6 + 0.2 * work * n / 1e3, **shape),
                attention("torch_sdpa_flash2", 7 + 0.21 * work * n / 1e3, **shape),
                row("fla_fused_chunk_based", 40 + 15 * work, **shape),
                row("based", 9 + 1.6 * work, options="normalize", **shape),
                row("mamba2", 10 + 8 * work, operation="ssd", P=64, S=256, **shape),
            ]
            naive = {"counters": {"mem_MiB": b * n * 0.55}}
            if b * n >= 65536:
                naive = {"status": "out_of_memory", "reason": "needs more than the device has"}
                naive["counters"] = {"needs_bytes": b * n * 600e3}
            rows.append(row("naive", 900 + 700 * work, **shape, **naive))
            longest = n == max(lengths)
            parallel = {"status": "skipped", "reason": "N too large"} if longest else {}
            rows.append(row("chunked_parallel", 15 + 2 * work * n / 1e3, **shape, **parallel))
    for b in (1, 4, 16, 64, 256):
        for state, cost in (("bf16", 0.8), ("fp32", 1.5)):
            rows.append(
                row("based", 3 + cost * b, operation="decode", B=b, state=state, device=device)
            )
        rows.append(row("naive", 9 + 4 * b, operation="decode", B=b, state="fp32", device=device))
        for w in (64, 128):
            window = {"operation": "sliding_window", "B": b, "W": w, "device": device}
            rows.append(row("based", 3 + b * w / 400, **window))
            rows.append(row("naive", 8 + b * w / 90, **window))
    rows.append(
        row(
            "naive",
            operation="sliding_window",
            B=1024,
            W=64,
            status="error",
            device=device,
            reason="relative error 0.2 over the tolerance 0.005",
        )
    )
    return rows
