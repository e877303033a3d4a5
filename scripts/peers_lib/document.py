"""The results file: the suite's schema, as plots/results.py reads it. Rewritten after each row, so
that an interrupted run keeps what it has."""

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from peers_lib.measure import Summary, Timing, summarize
from peers_lib.operations import Work
from plots.files import write_whole

_NEAR_FLOOR = 10  # a time below this many times its timer's floor is marked
# What a file must share with this run for its rows to stand beside this run's.
_IDENTITY = ("schema", "seed", "gpu_name", "l2_policy")
_MIB = 2.0**20


def row_name(operation: str, implementation: str, params: dict) -> str:
    sizes = "/".join(f"{name}:{value}" for name, value in params.items())
    return f"{operation}/{implementation}/cuda/{sizes}"


def _row(operation: str, implementation: str, params: dict, status: str) -> dict:
    name = row_name(operation, implementation, params)
    return {
        "name": f"{name}/manual_time",
        "run_name": f"{name}/manual_time",
        "run_type": "iteration",
        "repetitions": 1,
        "repetition_index": 0,
        "threads": 1,
        "iterations": 1,
        "real_time": 0.0,
        "cpu_time": 0.0,
        "time_unit": "us",
        "row": name,
        "operation": operation,
        "implementation": implementation,
        "device": "cuda",
        "role": "original",
        "params": params,
        "status": status,
    }


def measured_row(
    operation: str,
    implementation: str,
    params: dict,
    work: Work,
    timing: Timing,
    *,
    peak_bytes: int,
    rel_err: float,
    tolerance: float,
    ceilings: tuple[float, float],
) -> dict:
    """A row with its time. `ceilings`: GB/s of a copy, TFLOP/s of a GEMM."""
    cold: Summary = summarize(timing.cold_us)
    counters = {
        "GBps": work.compulsory_bytes / cold.median * 1e-3,
        "tokens_per_s": work.tokens / cold.median * 1e6,
        "mem_MiB": peak_bytes / _MIB,
        "rel_err": rel_err,
        "tolerance": tolerance,
        "samples": len(timing.cold_us),
        "cv_pct": cold.cv * 100,
        "ci_low_us": cold.low,
        "ci_high_us": cold.high,
        "compulsory_MB": work.compulsory_bytes * 1e-6,
    }
    if work.nominal_flops is not None:
        counters["TFLOPs"] = work.nominal_flops / cold.median * 1e-6
        counters["nominal_GFLOP"] = work.nominal_flops * 1e-9
    if work.least_flops is not None:
        copy_gbps, gemm_tflops = ceilings
        floor_us = max(
            work.compulsory_bytes / copy_gbps * 1e-3, work.least_flops / gemm_tflops * 1e-6
        )
        counters["roofline_pct"] = floor_us / cold.median * 100
    if timing.hot_us:
        counters["hot_us"] = summarize(timing.hot_us).median
    if timing.burst_us:
        counters["burst_us"] = summarize(timing.burst_us).median
    if cold.median < _NEAR_FLOOR * timing.floor_us:
        counters["near_timer_floor"] = 1
    return (
        _row(operation, implementation, params, "ok")
        | {"real_time": cold.median}
        | counters
        | {
            "timing": "rotation" if timing.rotated else "calls",
            "samples_us": [round(sample, 4) for sample in timing.cold_us],
        }
        | ({"burst_samples_us": [round(s, 4) for s in timing.burst_us]} if timing.burst_us else {})
    )


def absent_row(operation: str, implementation: str, params: dict, status: str, reason: str) -> dict:
    """A row without a time: skipped, out_of_memory or error."""
    reason = " ".join(reason.split())
    return _row(operation, implementation, params, status) | {
        "error_occurred": True,
        "error_message": reason,
        "reason": reason,
    }


class ForeignFileError(Exception):
    """A file whose rows do not belong beside this run's."""


@dataclass
class Document:
    path: Path
    context: dict
    rows: list[dict] = field(default_factory=list)
    _locked: TextIO | None = field(default=None, repr=False)

    def lock(self, path: Path | None = None) -> None:
        """Keep other processes from writing the file, or a partial one that is to replace it."""
        try:
            file = (path or self.path).open("r+", encoding="utf-8")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ForeignFileError(f"{self.path}: another process is writing it") from None
        except OSError as error:
            raise ForeignFileError(f"{self.path}: cannot be written ({error.strerror})") from None
        if self._locked is not None:
            self._locked.close()
        self._locked = file

    def keep(self, earlier: Path, selected: set[str]) -> None:
        """Take over the rows of `earlier`, but those of `selected` that are to be tried again."""
        try:
            document = json.loads(earlier.read_text(encoding="utf-8"))
            context, rows = document["context"], document["benchmarks"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ForeignFileError(f"{earlier}: is no results file ({error})") from None
        for key in _IDENTITY:
            if context.get(key) != self.context.get(key):
                raise ForeignFileError(
                    f"{earlier}: was measured with {key} {context.get(key)!r}, this run has "
                    f"{self.context.get(key)!r}"
                )
        self.rows = [
            row
            for row in rows
            if row["row"] not in selected or row["status"] in ("ok", "out_of_memory")
        ]

    def has(self, name: str) -> bool:
        return any(row["row"] == name for row in self.rows)

    def add(self, row: dict) -> None:
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        lines = ",\n".join(json.dumps(row) for row in self.rows)
        context = json.dumps(self.context, indent=2)
        text = f'{{\n"context": {context},\n"benchmarks": [\n{lines}\n]\n}}\n'

        def write_locked(partial: Path) -> None:
            partial.write_text(text, encoding="utf-8")
            self.lock(partial)

        write_whole(self.path, write_locked)
