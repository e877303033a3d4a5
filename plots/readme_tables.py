"""The measured tables of the READMEs, as Markdown, from plots/data alone.

`load` reads our own results (h200*.json, based_bench's files), the originals' times on the same
kind of card (plots/originals.py: of each the fastest in two files) and what a profiler counted
(h200_audit.json, of scripts/profile_ncu); TABLES has a function for each table. A cell without a
measurement is a dash or OOM with its reason, never a number.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from plots import originals, style
from plots.files import UsageError
from plots.published import DATA
from plots.results import Group, groups, load_all

HEADS = 16
NOT_MEASURED = "not measured yet"
_AUDIT_FILE = "h200_audit.json"
_AUDIT_SCHEMA = "based-bench-audit/1"
_ABSENT = "–"
_OOM = "OOM"
_BY_SUITE = "‡"
_BURST_NOTE = (
    "µs: in a steady state, to which roofline and over TK refer. burst µs: in 11 launches after a "
    "rest, as few as the times of peers_h200.json are of."
)

# What the prefill kernel is held against: B, N. The longest is 128K; the short ones come last.
_HEADLINE = (
    (16, 1024),
    (16, 8192),
    (16, 32768),
    (8, 8192),
    (4, 8192),
    (2, 8192),
    (1, 8192),
    (1, 131072),
    (128, 8192),
    (4, 2048),
    (4, 512),
    (1, 512),
    (1, 128),
)
# What the options are measured at, B and N, and their names in rows.
_OPTIONS_AT = ((16, 1024), (16, 8192), (8, 8192), (4, 8192), (2, 8192), (1, 8192))
_OPTIONS = ("", "normalize", "final_state+initial_state+normalize")
_CAUSAL = {"Dh": 64, "causal": True}  # of softmax attention, where it stands beside Based


@dataclass(frozen=True)
class _Peer:
    """A column of the headline: the originals of which the fastest stands in it."""

    names: tuple[str, ...]
    form: dict = field(default_factory=dict)  # what, beside the shape, their rows must have


# Heads are of 64 values and states of a size like Based's, whatever else was measured. How Mamba-2
# cuts its chunks does not change what it computes, and is left open.
_PEERS = {
    "TK": _Peer(("thunderkittens_based",)),
    "FLA": _Peer(("fla_parallel_based", "fla_fused_chunk_based")),
    "Mamba-2": _Peer(("mamba2",), {"Dh": 64, "d_state": 256}),
    "Mamba": _Peer(("mamba",), {"d_inner": 2 * 64 * HEADS, "d_state": 16}),
    "FlashAttention": _Peer(
        ("torch_sdpa_flash2", "torch_sdpa_cudnn", "flash_attention_2"), _CAUSAL
    ),
}


@dataclass(frozen=True)
class _Pair:
    """A baseline, and the original that it reimplements, at one shape."""

    baseline: str
    original: str
    size: dict  # as in our rows: B and N or W
    operation: str = "prefill"
    extras: str = ""  # of our row
    form: dict = field(default_factory=dict)  # what else picks the original's row


_LONG = {"B": 16, "N": 8192}
_PAIRS = (
    _Pair("naive", "pytorch_naive", {"B": 2, "N": 8192}),
    _Pair("naive", "pytorch_naive", _LONG),
    _Pair("causal_dot_product", "fast_transformers_273", _LONG),
    _Pair("causal_dot_product_153", "fast_transformers_153", _LONG),
    _Pair("chunked_recurrent", "fla_fused_chunk_based", _LONG),
    _Pair("chunked_parallel", "fla_parallel_based", _LONG),
    _Pair("softmax_attention", "torch_sdpa_flash2", _LONG, extras="Dh=64, causal", form=_CAUSAL),
    _Pair("naive", "torch_bmm", {"B": 256}, "decode", "state=bf16"),
    _Pair("naive", "torch_einsum", {"B": 256, "W": 64}, "sliding_window"),
)
_STEP_BATCHES = (1, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Measured:
    """Our rows of one GPU under one cache policy; the originals', and where they are from; the
    profiler's as its file has them."""

    ours: Group
    originals: list[dict]
    originals_origin: str
    audit: dict | None  # None: no card was profiled yet

    def row(
        self, operation: str, implementation: str, size: dict, extras: str = ""
    ) -> pd.Series | None:
        rows = self.ours.rows
        chosen = rows["operation"].eq(operation) & rows["implementation"].eq(implementation)
        chosen &= rows["extras"].eq(extras) & rows["H"].eq(HEADS)
        for name, value in size.items():
            chosen &= rows[name].eq(value)
        found = rows[chosen]
        return None if found.empty else found.iloc[0]

    def original(
        self, operation: str, names: tuple[str, ...], size: dict, form: dict | None = None
    ) -> dict | None:
        """The fastest of these originals at this shape, else one that says why there is no time."""
        params = {"H": HEADS} | size | (form or {})
        return originals.fastest(self.originals, operation, names, params)


def load(folder: Path = DATA) -> Measured | None:
    """What `folder` holds; None where our own results are not there yet."""
    files = sorted(path for path in folder.glob("h200*.json") if path.name != _AUDIT_FILE)
    if not files:
        return None
    found = [group for group in groups(load_all(files)) if group.device == "cuda"]
    if len(found) != 1:
        raise UsageError(
            f"{folder}: its h200*.json hold {len(found)} GPUs or cache policies; expected one"
        )
    return Measured(found[0], *originals.load(folder), _load_audit(folder / _AUDIT_FILE))


def _load_audit(path: Path) -> dict | None:
    if not path.exists():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("schema") != _AUDIT_SCHEMA:
        raise UsageError(f"{path}: is no audit.json of scripts/profile_ncu ({_AUDIT_SCHEMA})")
    return document


def headline(measured: Measured) -> str:
    lines = [("kernel", "B", "N", "µs", "burst µs", "floor µs", "roofline", *_PEERS, "over TK")]
    for kernel, size in [
        *(("based", {"B": b, "N": n}) for b, n in _HEADLINE),
        ("based_sm80", _LONG),
    ]:
        row = measured.row("prefill", kernel, size)
        peers = {
            column: measured.original("prefill", peer.names, size, peer.form)
            for column, peer in _PEERS.items()
        }
        lines.append(
            (
                f"`{kernel}`",
                str(size["B"]),
                str(size["N"]),
                _time(row),
                _burst(row),
                _floor(row),
                _roofline(row),
                *map(_original_time, peers.values()),
                _ratio(_us(peers["TK"]), _us(row), "×"),
            )
        )
    burst = lines[0].index("burst µs")
    if all(line[burst] == _ABSENT for line in lines[1:]):  # results older than the burst
        lines = [line[:burst] + line[burst + 1 :] for line in lines]
    return _table(measured, lines, lead=1, notes=[_peers_note()])


def _peers_note() -> str:
    """Which originals, in which configuration, stand in the headline's columns."""
    notes = []
    for column, peer in _PEERS.items():
        note = " or ".join(f"`{name}`" for name in peer.names)
        if peer.form:
            note += " with " + ", ".join(
                name if value is True else f"{name} = {value}" for name, value in peer.form.items()
            )
        notes.append(f"{column}: {note}.")
    return " ".join(notes)


def baselines(measured: Measured) -> str:
    lines = [
        (
            "baseline",
            "original",
            "shape",
            "µs",
            "original µs",
            "of the original's time",
            "memory",
            "original's memory",
            "error",
            "original's error",
        )
    ]
    for pair in _PAIRS:
        row = measured.row(pair.operation, pair.baseline, pair.size, pair.extras)
        original = measured.original(pair.operation, (pair.original,), pair.size, pair.form)
        name = pair.baseline if pair.operation == "prefill" else f"{pair.operation} {pair.baseline}"
        lines.append(
            (
                f"`{name}`",
                f"`{pair.original}`",
                ", ".join(f"{key} = {value}" for key, value in pair.size.items()),
                _time(row),
                _original_time(original),
                _ratio(_us(row), _us(original), ""),
                _number(row, "mem_MiB", style.memory_text),
                _number(original, "mem_MiB", style.memory_text),
                _number(row, "rel_err", _error),
                _number(original, "rel_err", _error),
            )
        )
    return _table(measured, lines, lead=3)


def decode(measured: Measured) -> str:
    step = [("B", "state", "µs", "floor µs", "roofline", "PyTorch bmm", "over it")]
    for batch in _STEP_BATCHES:
        for state in ("bf16", "f32"):
            row = measured.row("decode", "based", {"B": batch}, f"state={state}")
            # The sources keep a bf16 state: an fp32 one has no counterpart.
            bmm = None
            if state == "bf16":
                bmm = measured.original("decode", ("torch_bmm",), {"B": batch})
            step.append(
                (
                    str(batch),
                    state,
                    _time(row),
                    _floor(row),
                    _roofline(row),
                    _original_time(bmm),
                    _ratio(_us(bmm), _us(row), "×"),
                )
            )
    window = [
        (
            "B",
            "W",
            "µs",
            "floor µs",
            "roofline",
            "PyTorch einsum",
            "PyTorch SDPA",
            "over the faster",
        )
    ]
    for width in (64, 128):
        for batch in _STEP_BATCHES:
            size = {"B": batch, "W": width}
            row = measured.row("sliding_window", "based", size)
            peers = [
                measured.original("sliding_window", (name,), size)
                for name in ("torch_einsum", "torch_sdpa")
            ]
            fastest = min(map(_us, peers))
            window.append(
                (
                    str(batch),
                    str(width),
                    _time(row),
                    _floor(row),
                    _roofline(row),
                    *map(_original_time, peers),
                    _ratio(fastest, _us(row), "×"),
                )
            )
    return "\n\n".join(
        (
            "Decode step:",
            _table(measured, step, lead=2),
            "Sliding window:",
            _table(measured, window, lead=2),
        )
    )


def options(measured: Measured) -> str:
    lines = [
        (
            "kernel",
            "B",
            "N",
            "in bursts",
            "normalised",
            "with states too",
            "steady state",
            "normalised",
            "with states too",
        )
    ]
    for kernel, size in [
        *(("based", {"B": b, "N": n}) for b, n in _OPTIONS_AT),
        ("based_sm80", _LONG),
    ]:
        rows = [measured.row("prefill", kernel, size, extras) for extras in _OPTIONS]
        cells = []
        for column in ("burst_us", "time_us"):
            plain, *others = (_measured(row, column) for row in rows)
            cells.append(_ABSENT if math.isnan(plain) else style.significant(plain, 4))
            cells += [_more(time, plain) for time in others]
        lines.append((f"`{kernel}`", str(size["B"]), str(size["N"]), *cells))
    return _markdown(lines, lead=1, notes=[f"µs, H = {HEADS}. {measured.ours.caption}."])


def audit(measured: Measured) -> str:
    if measured.audit is None:
        return NOT_MEASURED
    lines = [
        (
            "row",
            "on",
            "GFLOP",
            "of the model",
            "DRAM MB",
            "of the compulsory",
            "tensor cores",
            "shared memory",
            "DRAM",
        )
    ]
    for row in measured.audit["rows"]:
        lines.append(
            (
                f"`{row['row']}`",
                row.get("units", _ABSENT),
                _number(row, "executed_GFLOP", style.significant),
                _number(row, "executed_over_model", _share),
                _number(row, "DRAM_MB", style.significant),
                _number(row, "DRAM_over_compulsory", _share),
                *(
                    _number(row, name, _percent)
                    for name in ("tensor_pct", "shared_pct", "DRAM_pct")
                ),
            )
        )
    origin = " · ".join(
        (
            measured.audit["device"],
            measured.audit["date"][:10],
            f"revision {measured.audit['revision']}",
        )
    )
    return _markdown(lines, lead=2, notes=[f"{origin}."])


TABLES: dict[str, Callable[[Measured], str]] = {
    "headline": headline,
    "baselines": baselines,
    "decode": decode,
    "options": options,
    "audit": audit,
}


def _table(
    measured: Measured, lines: list[tuple[str, ...]], lead: int, notes: Sequence[str] = ()
) -> str:
    """The Markdown of `lines` of our times and the originals', with `notes` and where the times
    come from."""
    origin = f"H = {HEADS}. {measured.ours.caption}; {measured.originals_origin}."
    return _markdown(lines, lead, [*notes, origin])


def _markdown(lines: list[tuple[str, ...]], lead: int, notes: list[str]) -> str:
    """The Markdown of `lines`, the header first; the first `lead` columns are texts. Marks in the
    cells are explained below, before `notes`."""
    header, *rows = lines
    rules = ["---"] * lead + ["---:"] * (len(header) - lead)
    parts = ["\n".join("| " + " | ".join(line) + " |" for line in (header, rules, *rows))]
    cells = [cell for line in rows for cell in line]
    legend = []
    if _ABSENT in cells:
        legend.append(f"{_ABSENT}: not measured.")
    if _OOM in cells:
        legend.append(f"{_OOM}: out of memory.")
    if "burst µs" in header:
        legend.append(_BURST_NOTE)
    if any("\\*" in cell for cell in cells):
        legend.append("\\*: under ten times the timer's own floor.")
    if any(cell.endswith("†") for cell in cells):
        legend.append("†: the driver held the clock down.")
    return "\n\n".join([*parts, " ".join([*legend, *notes])])


def _us(row: pd.Series | dict | None) -> float:
    """The row's time, ours or an original's; infinity where it has none."""
    return math.inf if row is None or row["status"] != "ok" else row["time_us"]


def _time(row: pd.Series | None) -> str:
    if math.isinf(_us(row)):
        return _without_time(row)
    marks = ("\\*" if row["near_timer_floor"] > 0 else "") + ("†" if row["throttled"] else "")
    return style.significant(row["time_us"], 4) + marks


def _original_time(row: dict | None) -> str:
    if math.isinf(_us(row)):
        return _without_time(row)
    return style.significant(row["time_us"], 4) + (_BY_SUITE if row["by_suite"] else "")


def _without_time(row: pd.Series | dict | None) -> str:
    """What stands in place of a time."""
    if row is None:
        return _ABSENT
    if row["status"] == "out_of_memory":
        return _OOM
    why = row["status"] + (f": {row['reason']}" if row["reason"] else "")
    return f"{_ABSENT} ({_cell(why)})"


def _burst(row: pd.Series | None) -> str:
    return _number(row, "burst_us", lambda value: style.significant(value, 4))


def _floor(row: pd.Series | None) -> str:
    if math.isinf(_us(row)) or math.isnan(row["roofline_pct"]):
        return _ABSENT
    return style.significant(row["time_us"] * row["roofline_pct"] / 100, 3)


def _roofline(row: pd.Series | None) -> str:
    return _number(row, "roofline_pct", _percent)


def _measured(row: pd.Series | None, column: str) -> float:
    """A time of the row; nan where it has none."""
    return math.nan if row is None or row["status"] != "ok" else row[column]


def _more(time: float, plain: float) -> str:
    """A time, and how much more it is than without options."""
    if math.isnan(time) or math.isnan(plain):
        return _ABSENT
    return f"{style.significant(time, 4)}, {100 * (time / plain - 1):+.0f} %"


def _ratio(above: float, below: float, suffix: str) -> str:
    if math.isinf(above) or math.isinf(below):
        return _ABSENT
    return f"{above / below:.2f}{suffix}"


def _number(row: pd.Series | dict | None, name: str, text: Callable[[float], str]) -> str:
    value = math.nan if row is None else row.get(name, math.nan)
    return _ABSENT if math.isnan(value) else text(value)


def _error(value: float) -> str:
    return f"{value:.1e}"


def _percent(value: float) -> str:
    return f"{value:.0f} %"


def _share(value: float) -> str:
    return f"{value:.2f}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
