"""Results files: the one place that knows their schema.

A results file is Google Benchmark's JSON with our additions ("schema": "based-bench/1"): a row is
one implementation of one operation at one shape on one device, with its raw samples. `load`
checks it and gives a DataFrame of one line a row:

    key             operation/implementation/device/B:../H:.., what identifies a row across files
    operation, implementation, device (cpu | cuda), variant
    B, H, N, W      the shape; NaN where the operation has no such parameter
    extras          every other parameter, readable: "Dh=64, causal", "state=bf16"
    params          all of them, as written
    status          ok | skipped | out_of_memory | error, with reason and needs_bytes
    time_us         median; NaN unless ok, never zero
    throttled       why the clock was held down while the row ran; empty: it was not
    samples_us      the raw samples, an array
    burst_samples_us    likewise of the burst, empty where none was taken
    ...             each counter of the file under its own name; NaN where a row has none
    hardware, policy, revision, date, file    from the context
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from plots.files import UsageError

SCHEMA = "based-bench/1"
SHAPE = ("B", "H", "N", "W")
STATUSES = ("ok", "skipped", "out_of_memory", "error")
# The counters that something here reads: always columns, so that a missing one is NaN.
COUNTERS = (
    "TFLOPs",
    "exec_TFLOPs",
    "GBps",
    "mem_MiB",
    "workspace_MiB",
    "roofline_pct",
    "rel_err",
    "tolerance",
    "hot_us",
    "burst_us",
    "cv_pct",
    "ci_low_us",
    "ci_high_us",
    "nominal_GFLOP",
    "compulsory_MB",
    "near_timer_floor",
    "needs_bytes",
)

_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
# Google Benchmark's own numbers of a row, which are no counters.
_NOT_COUNTERS = {
    "family_index",
    "per_family_instance_index",
    "repetitions",
    "repetition_index",
    "threads",
    "iterations",
    "real_time",
    "cpu_time",
    "error_occurred",
    "context",
}
# device -> the context's keys for its name, its measured copy rate and its measured peak
_CONTEXT_KEYS = {
    "cpu": ("cpu_name", "cpu_copy_GBps", "cpu_peak_TFLOPs"),
    "cuda": ("gpu_name", "gpu_copy_GBps", "gpu_gemm_TFLOPs"),
}


@dataclass(frozen=True)
class Ceilings:
    """What one device reached in the same process; NaN where it was not measured."""

    copy_gbps: float
    peak_tflops: float


@dataclass(frozen=True)
class Results:
    """The rows of one or more files."""

    rows: pd.DataFrame
    ceilings: dict[str, Ceilings]  # by hardware
    contexts: list[dict]  # one a file, in the order given


@dataclass(frozen=True)
class Group:
    """The rows that may share a figure: one device, one cache policy."""

    rows: pd.DataFrame
    ceilings: Ceilings
    tag: str  # short and unique among the groups, for file names: "cuda", "cpu"

    @property
    def device(self) -> str:
        return self.rows["device"].iloc[0]

    @property
    def hardware(self) -> str:
        return self.rows["hardware"].iloc[0]

    @property
    def policy(self) -> str:
        return self.rows["policy"].iloc[0]

    @property
    def caption(self) -> str:
        """Device, date, cache policy and revision of these rows, in one line."""
        dates = sorted({date[:10] for date in self.rows["date"]})
        revisions = sorted(set(self.rows["revision"]))
        return " · ".join(
            [
                self.hardware,
                ", ".join(dates),
                f"{self.policy} cache",
                f"revision {', '.join(revisions)}",
            ]
        )


def load(path: Path) -> Results:
    """Read one results file; UsageError where it is missing, truncated, foreign or inconsistent."""
    document = _read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("context"), dict):
        raise UsageError(f'{path}: is no results file (no "context"); give based_bench\'s JSON')
    context = document["context"]
    if context.get("schema") != SCHEMA:
        raise UsageError(
            f"{path}: has the schema {context.get('schema')!r}; expected {SCHEMA!r}, "
            "as based_bench writes it"
        )
    contexts = document.get("contexts", [context])  # of a file that `merge` put together
    if not isinstance(contexts, list) or not all(isinstance(each, dict) for each in contexts):
        raise UsageError(f'{path}: its "contexts" are no list of objects; merge the parts again')
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise UsageError(f'{path}: has no list "benchmarks"; give based_bench\'s JSON')

    rows = []
    for index, benchmark in enumerate(benchmarks):
        where = f"{path}: row {index + 1}"
        if not isinstance(benchmark, dict):
            raise UsageError(f"{where} is no object; expected one result of based_bench")
        if benchmark.get("run_type") != "aggregate":
            rows.append(_row(benchmark, _context_of(benchmark, contexts, where), where, path))
    if not rows:
        raise UsageError(f"{path}: holds no rows; run based_bench with a filter that matches some")
    frame = _merge_repetitions(pd.DataFrame(rows))
    for column in COUNTERS:
        if column not in frame:
            frame[column] = math.nan
    ceilings = {
        hardware: _ceilings(contexts[index], device, path)
        for device, hardware, index in zip(
            frame["device"], frame["hardware"], frame["context"], strict=True
        )
    }
    return Results(frame, ceilings, contexts)


def load_all(paths: list[Path]) -> Results:
    """The rows of all files; where two hold the same row of the same device, the later one's."""
    loaded = [load(path) for path in paths]
    rows = pd.concat([results.rows for results in loaded], ignore_index=True)
    rows = rows.drop_duplicates(["key", "hardware", "policy"], keep="last", ignore_index=True)
    ceilings = {}
    for results in loaded:
        ceilings |= results.ceilings
    return Results(rows, ceilings, [context for results in loaded for context in results.contexts])


def groups(results: Results) -> list[Group]:
    """Split into groups that may share a figure, each with a tag unique among them."""
    found = []
    by_device = results.rows.groupby("device", sort=True)
    for device, of_device in by_device:
        by_hardware = list(of_device.groupby("hardware", sort=True))
        for hardware, of_hardware in by_hardware:
            by_policy = list(of_hardware.groupby("policy", sort=True))
            for policy, rows in by_policy:
                tag = device
                if len(by_hardware) > 1:
                    tag += "-" + "".join(c if c.isalnum() else "_" for c in hardware.lower())
                if len(by_policy) > 1:
                    tag += "-" + policy
                found.append(Group(rows, results.ceilings[hardware], tag))
    return found


def shape_text(row: pd.Series | dict) -> str:
    """A row's shape as a reader writes it: "B=16 H=16 N=8192"."""
    return " ".join(f"{name}={int(row[name])}" for name in SHAPE if not math.isnan(row[name]))


def _read_json(path: Path):
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text; give based_bench's JSON") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}: is no complete JSON (line {error.lineno}: {error.msg}); "
            "it may be truncated: finish the sweep with --resume"
        ) from None


def _context_of(benchmark: dict, contexts: list[dict], where: str) -> dict:
    """The context of the run that measured this row."""
    index = benchmark.get("context", 0)
    if not isinstance(index, int) or not 0 <= index < len(contexts):
        raise UsageError(f"{where}: its context is {index!r}; the file has {len(contexts)}")
    return contexts[index]


def _row(benchmark: dict, context: dict, where: str, path: Path) -> dict:
    def text(field: str) -> str:
        value = benchmark.get(field)
        if not isinstance(value, str) or not value:
            raise UsageError(f"{where}: its {field!r} is {value!r}; expected a text")
        return value

    where = f"{where} ({benchmark.get('name')})"
    device, status = text("device"), benchmark.get("status")
    if device not in _CONTEXT_KEYS:
        raise UsageError(f"{where}: its device is {device!r}; expected cpu or cuda")
    if status not in STATUSES:
        raise UsageError(f"{where}: its status is {status!r}; expected {', '.join(STATUSES)}")
    hardware = context.get(_CONTEXT_KEYS[device][0])
    if hardware and device == "cpu" and "cpu_threads" in context:
        hardware += f", {context['cpu_threads']} threads"
    if not hardware:
        raise UsageError(
            f"{where}: ran on {device}, but the context has no {_CONTEXT_KEYS[device][0]}"
        )

    params = benchmark.get("params")
    if not isinstance(params, dict) or not {"B", "H"} <= params.keys():
        raise UsageError(f"{where}: its params are {params!r}; expected an object with B and H")
    for name in SHAPE:
        if name in params and not (_is_number(params[name]) and params[name] >= 1):
            raise UsageError(f"{where}: {name} is {params[name]!r}; expected a number of 1 or more")

    time_us, samples, burst_samples = math.nan, [], []
    if status == "ok":
        unit, time = benchmark.get("time_unit"), benchmark.get("real_time")
        if unit not in _US:
            raise UsageError(f"{where}: its time_unit is {unit!r}; expected {', '.join(_US)}")
        if not _is_number(time) or not time > 0:
            raise UsageError(f"{where}: its real_time is {time!r}; expected more than 0")
        time_us = time * _US[unit]
        samples = _times(benchmark, "samples_us", where)
        burst_samples = _times(benchmark, "burst_samples_us", where)

    operation, implementation = text("operation"), text("implementation")
    shape = {name: float(params.get(name, math.nan)) for name in SHAPE}
    others = {name: value for name, value in params.items() if name not in SHAPE}
    counters = {
        name: float(value)
        for name, value in benchmark.items()
        if name not in _NOT_COUNTERS and _is_number(value)
    }
    if status != "ok":  # what was not measured has no figures; it may say what it would have needed
        counters = {name: counters[name] for name in ("needs_bytes",) if name in counters}
    return (
        counters
        | shape
        | {
            "key": "/".join(
                [
                    operation,
                    implementation,
                    device,
                    *(f"{k}:{params[k]}" for k in _in_order(params)),
                ]
            ),
            "operation": operation,
            "implementation": implementation,
            "device": device,
            "variant": str(benchmark.get("label", "")),
            "params": params,
            "context": benchmark.get("context", 0),
            "extras": ", ".join(_readable(name, others[name]) for name in _in_order(others)),
            "status": status,
            "reason": str(benchmark.get("reason") or benchmark.get("error_message") or ""),
            "throttled": str(benchmark.get("throttle_reasons", "")),
            "time_us": time_us,
            "samples_us": np.asarray(samples, dtype=float),
            "burst_samples_us": np.asarray(burst_samples, dtype=float),
            "hardware": hardware,
            "policy": str(context.get("l2_policy", "unknown")).partition(":")[0].strip(),
            "revision": str(context.get("revision", "unknown")),
            "date": str(context.get("date", "unknown date")),
            "file": str(path),
        }
    )


def _times(benchmark: dict, field: str, where: str) -> list:
    times = benchmark.get(field, [])
    if not isinstance(times, list) or not all(_is_number(t) and t > 0 for t in times):
        raise UsageError(f"{where}: its {field} hold something else than times above 0")
    return times


def _merge_repetitions(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a row of a device: repetitions pool their samples, each figure is their median."""
    identity = ["key", "hardware", "policy"]
    if not rows.duplicated(identity).any():
        return rows
    merged = []
    for _, same in rows.groupby(identity, sort=False):
        # The worst repetition speaks for all: a row that failed once is not a result.
        worst = same["status"].map(STATUSES.index).idxmax()
        row = same.loc[worst].copy()
        if row["status"] == "ok" and len(same) > 1:
            numbers = same.select_dtypes("number").columns.drop("context")
            row[numbers] = same[numbers].median()
            for column in ("samples_us", "burst_samples_us"):
                row[column] = np.concatenate(list(same[column]))
        merged.append(row)
    return pd.DataFrame(merged).infer_objects().reset_index(drop=True)


def _ceilings(context: dict, device: str, path: Path) -> Ceilings:
    def number(key: str) -> float:
        try:
            return float(context.get(key, math.nan))
        except (TypeError, ValueError):
            raise UsageError(
                f"{path}: the context's {key} is {context[key]!r}; expected a number"
            ) from None

    _, copy, peak = _CONTEXT_KEYS[device]
    return Ceilings(number(copy), number(peak))


def _in_order(params: dict) -> list[str]:
    return [name for name in SHAPE if name in params] + sorted(set(params) - set(SHAPE))


def _readable(name: str, value) -> str:
    if name == "causal":
        return "causal" if value else "not causal"
    return str(value) if name == "options" else f"{name}={value}"


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
