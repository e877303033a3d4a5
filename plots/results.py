"""Results files: the one place that knows their schema.

A results file is Google Benchmark's JSON with our additions ("schema": "based-bench/1"): a row is
one implementation of one operation at one shape on one device, with its raw samples. `load`
checks it and gives a DataFrame of one line a row:

    key             operation/implementation/device/B:../H:.., what identifies a row across files
    operation, implementation, device (cpu | cuda), variant (which one a dispatcher picked)
    role            ours | baseline | original | unknown (files that do not tell)
    reimplements    the originals that a baseline stands for, a tuple of their names
    B, H, N, W      the shape; NaN where the operation has no such parameter
    extras          every other parameter, readable: "Dh=64, causal", "state=bf16"
    params          all of them, as written
    status          ok | profiled | skipped | out_of_memory | error, with reason and needs_bytes
    time_us         median of the steady state; NaN unless ok, never zero
    us              the time that figures and tables show: of the burst where there is one
    floor_us        the least time that the card's measured ceilings allow; NaN where not known
    uJ_a_token      energy, where it was measured; NaN elsewhere
    throttled       why the clock was held down while the row ran; empty: it was not
    samples_us      the raw samples, an array
    burst_samples_us    likewise of the burst, empty where none was taken
    ...             each counter of the file under its own name; NaN where a row has none
    copy_gbps, peak_tflops    what the device reached in the same process; NaN where not measured
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
ROLES = ("ours", "baseline", "original")
STATUSES = ("ok", "profiled", "skipped", "out_of_memory", "error")
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
    "tokens_per_J",
    "mixers_pct",
    "products_pct",
    "glue_pct",
)

_LARGEST = 1e15  # a number beyond it is no measurement of anything here
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
class Results:
    """The rows of one or more files."""

    rows: pd.DataFrame
    contexts: list[dict]  # one a file, in the order given


@dataclass(frozen=True)
class Group:
    """The rows that may share a figure: one kind of device, one cache policy, and one card, or
    several that are compared."""

    rows: pd.DataFrame
    tag: str  # short and unique among the groups, for file names: "cuda", "cpu"
    elsewhere: pd.DataFrame | None = None  # published.load()'s rows, not of these files

    @property
    def device(self) -> str:
        return self.rows["device"].iloc[0]

    @property
    def cards(self) -> list[str]:
        """The hardware of the rows, in the order of the files."""
        return list(dict.fromkeys(self.rows["hardware"]))

    @property
    def policy(self) -> str:
        return self.rows["policy"].iloc[0]

    @property
    def near(self) -> pd.DataFrame:
        """The rows of elsewhere that are of the same cards and cache policy, as far as told."""
        if self.elsewhere is None or self.device != "cuda":
            return self.rows.iloc[:0]
        rows = self.elsewhere
        return rows[rows["hardware"].isin(self.cards) & rows["policy"].isin(["", self.policy])]

    @property
    def caption(self) -> str:
        """Device, date, cache policy and revision of these rows, in one line."""
        dates = sorted({date[:10] for date in self.rows["date"]})
        revisions = sorted(set(self.rows["revision"]))
        return " · ".join(
            [
                ", ".join(self.cards),
                ", ".join(dates),
                f"{self.policy} cache",
                f"revision {', '.join(revisions)}",
            ]
        )


def load(path: Path, may_be_empty: bool = False) -> Results:
    """Read one results file; UsageError where it is missing, truncated, foreign or inconsistent, or
    holds no rows where it must hold some."""
    document = _read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("context"), dict):
        raise UsageError(f'{path}: is no results file (no "context"); give based_bench\'s JSON')
    context = document["context"]
    if context.get("schema") != SCHEMA:
        raise UsageError(
            f"{path}: has the schema {_shown(context.get('schema'))}; expected {SCHEMA!r}, "
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
    if not rows and may_be_empty:
        return Results(pd.DataFrame(), contexts)
    if not rows:
        raise UsageError(f"{path}: holds no rows; run based_bench with a filter that matches some")
    frame = _merge_repetitions(pd.DataFrame(rows))
    for column in COUNTERS:
        if column not in frame:
            frame[column] = math.nan
    frame["us"] = frame["burst_us"].fillna(frame["time_us"])
    frame["floor_us"] = frame["time_us"] * frame["roofline_pct"] / 100
    frame["tflops"] = frame["nominal_GFLOP"] / frame["us"] * 1e3
    frame["share"] = frame["floor_us"] / frame["us"]
    frame["uJ_a_token"] = 1e6 / frame["tokens_per_J"]
    return Results(frame, contexts)


def load_all(paths: list[Path]) -> Results:
    """The rows of all files; where two hold the same row of the same device, the later one's."""
    loaded = [load(path) for path in paths]
    rows = pd.concat([results.rows for results in loaded], ignore_index=True)
    rows = rows.drop_duplicates(["key", "hardware", "policy"], keep="last", ignore_index=True)
    return Results(rows, [context for results in loaded for context in results.contexts])


def groups(
    results: Results, elsewhere: pd.DataFrame | None = None, together: bool = False
) -> list[Group]:
    """Split into groups that may share a figure, each with a tag unique among them; with `together`
    the cards of a kind stand in one group."""
    by = ["device", "policy"] if together else ["device", "hardware", "policy"]
    split = [(rows.iloc[0], rows) for _, rows in results.rows.groupby(by, sort=True)]
    several = {
        column: {
            device
            for device, of_device in results.rows.groupby("device")
            if of_device[column].nunique() > 1
        }
        for column in by[1:]
    }
    found = []
    for first, rows in split:
        parts = [first[column] for column in by[1:] if first["device"] in several[column]]
        tag = "-".join([first["device"], *map(_file_part, parts)])
        if tag in {group.tag for group in found}:  # names that differ in signs only
            tag += f"-{len(found)}"
        found.append(Group(rows, tag, elsewhere))
    return found


def _file_part(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text.lower())[:60]


def shape_text(row: pd.Series | dict) -> str:
    """A row's shape as a reader writes it: "B=16 H=16 N=8192"."""
    return " ".join(f"{name}={int(row[name])}" for name in SHAPE if not math.isnan(row[name]))


def _read_json(path: Path):
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text; give based_bench's JSON") from None
    try:
        return _printable(json.loads(text))
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}: is no complete JSON (line {error.lineno}: {error.msg}); "
            "it may be truncated: finish the sweep with --resume"
        ) from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply; give based_bench's JSON") from None
    except ValueError:  # Python reads no integer of more than some thousand digits
        raise UsageError(f"{path}: holds a number that is too long to be read") from None


def _printable(value):
    """`value` without surrogates, which JSON can write and UTF-8 cannot, and control characters."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else " " for c in value)
    if isinstance(value, list):
        return [_printable(entry) for entry in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    return value


def _context_of(benchmark: dict, contexts: list[dict], where: str) -> dict:
    """The context of the run that measured this row."""
    index = benchmark.get("context", 0)
    if not isinstance(index, int) or not 0 <= index < len(contexts):
        raise UsageError(f"{where}: its context is {_shown(index)}; the file has {len(contexts)}")
    return contexts[index]


def _row(benchmark: dict, context: dict, where: str, path: Path) -> dict:
    def text(field: str) -> str:
        value = benchmark.get(field)
        if not isinstance(value, str) or not value:
            raise UsageError(f"{where}: its {field!r} is {_shown(value)}; expected a text")
        return value

    where = f"{where} ({benchmark.get('name')})"
    device, status = text("device"), benchmark.get("status")
    if device not in _CONTEXT_KEYS:
        raise UsageError(f"{where}: its device is {_shown(device)}; expected cpu or cuda")
    if status not in STATUSES:
        raise UsageError(f"{where}: its status is {_shown(status)}; expected {', '.join(STATUSES)}")
    hardware = context.get(_CONTEXT_KEYS[device][0])
    if not isinstance(hardware, str):
        hardware = ""
    if hardware and device == "cpu" and "cpu_threads" in context:
        hardware += f", {context['cpu_threads']} threads"
    if not hardware:
        raise UsageError(
            f"{where}: ran on {device}, but the context has no {_CONTEXT_KEYS[device][0]}"
        )

    params = benchmark.get("params")
    if not isinstance(params, dict) or "B" not in params:  # an operation may have no heads
        raise UsageError(f"{where}: its params are {_shown(params)}; expected an object with B")
    for name in SHAPE:
        if name in params and not (_is_number(params[name]) and 1 <= params[name] <= _LARGEST):
            raise UsageError(
                f"{where}: {name} is {_shown(params[name])}; expected a number of 1 to 1e15"
            )
    for name, value in params.items():
        if isinstance(value, dict | list):
            raise UsageError(f"{where}: its param {name} is {_shown(value)}; expected one value")

    time_us, samples, burst_samples = math.nan, [], []
    if status == "ok":
        unit, time = benchmark.get("time_unit"), benchmark.get("real_time")
        if not isinstance(unit, str) or unit not in _US:
            raise UsageError(f"{where}: its time_unit is {_shown(unit)}; expected {', '.join(_US)}")
        if not _is_number(time) or not 0 < time <= _LARGEST:
            raise UsageError(
                f"{where}: its real_time is {_shown(time)}; expected a number above 0, to 1e15"
            )
        time_us = time * _US[unit]
        samples = _times(benchmark, "samples_us", where)
        burst_samples = _times(benchmark, "burst_samples_us", where)

    role, reimplements = benchmark.get("role", "unknown"), benchmark.get("reimplements", [])
    if role not in (*ROLES, "unknown"):
        raise UsageError(f"{where}: its role is {_shown(role)}; expected {', '.join(ROLES)}")
    if not isinstance(reimplements, list) or not all(isinstance(o, str) for o in reimplements):
        raise UsageError(
            f"{where}: its reimplements is {_shown(reimplements)}; expected a list of names"
        )
    operation, implementation = text("operation"), text("implementation")
    shape = {name: float(params.get(name, math.nan)) for name in SHAPE}
    others = {name: value for name, value in params.items() if name not in SHAPE}
    counters = {
        name: value
        for name, value in benchmark.items()
        if name not in _NOT_COUNTERS and _is_number(value)
    }
    for name, value in counters.items():
        if name in COUNTERS and abs(value) > _LARGEST:  # NaN is not
            raise UsageError(f"{where}: its {name} is {_shown(value)}; expected less than 1e15")
    counters = {name: float(value) for name, value in counters.items() if not abs(value) > _LARGEST}
    if status != "ok":  # what was not measured has no figures; it may say what it would have needed
        counters = {name: counters[name] for name in ("needs_bytes",) if name in counters}
    return (
        counters
        | shape
        | _ceilings(context, device, path)
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
            "role": role,
            "reimplements": tuple(reimplements),
            "variant": str(benchmark.get("label", "")),
            "params": params,
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
    if not isinstance(times, list) or not all(_is_number(t) and 0 < t <= _LARGEST for t in times):
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
            numbers = same.select_dtypes("number").columns
            row[numbers] = same[numbers].median()
            for column in ("samples_us", "burst_samples_us"):
                row[column] = np.concatenate(list(same[column]))
        merged.append(row)
    return pd.DataFrame(merged).infer_objects().reset_index(drop=True)


def _ceilings(context: dict, device: str, path: Path) -> dict[str, float]:
    def number(key: str) -> float:
        try:
            value = float(context.get(key, math.nan))
        except (TypeError, ValueError, OverflowError):
            value = math.inf
        if value <= 0 or value > _LARGEST:  # NaN is not
            raise UsageError(
                f"{path}: the context's {key} is {_shown(context[key])}; expected a number above 0"
            )
        return value

    _, copy, peak = _CONTEXT_KEYS[device]
    return {"copy_gbps": number(copy), "peak_tflops": number(peak)}


def _in_order(params: dict) -> list[str]:
    return [name for name in SHAPE if name in params] + sorted(set(params) - set(SHAPE))


def _readable(name: str, value) -> str:
    if name == "causal":
        return "causal" if value else "not causal"
    return str(value) if name == "options" else f"{name}={value}"


def _shown(value) -> str:
    """A value in a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
