"""The originals' times on an H200, from the two files of plots/data that hold some.

    peers_h200.json      from runs of their own, in names of their own; the only ThunderKittens
    originals_h200.json  from scripts/peers: the suite's method, as a results file

Each has shapes that the other lacks. A row of either is a dict of

    operation, implementation   as scripts/peers names them
    params                      as in a results file: B, H, N or W, then Dh, causal, d_state, ...
    status, reason              as in a results file
    time_us                     median with a cold L2; infinity unless the status is ok
    mem_MiB, rel_err            NaN where the file does not have them
    by_suite                    whether it is from originals_h200.json
"""

import json
import math
from pathlib import Path

from plots.files import UsageError
from plots.published import PEER_IMPLEMENTATIONS, PEER_OPERATIONS, SIZES
from plots.results import groups
from plots.results import load as load_results

_PEERS_FILE, _SUITE_FILE = "peers_h200.json", "originals_h200.json"
_PEER_PARAMS = SIZES | {"head_dim": "Dh"}
_NOT_PARAMS = ("operation", "implementation", "cold_us", "hot_us", "peak_MiB", "rel_err", "skipped")


def load(folder: Path) -> tuple[list[dict], str]:
    """The rows of both files, and where they are from, in one line."""
    peers = json.loads((folder / _PEERS_FILE).read_text(encoding="utf-8"))
    found = groups(load_results(folder / _SUITE_FILE))
    if len(found) != 1:
        raise UsageError(f"{folder / _SUITE_FILE}: holds {len(found)} devices; expected one")
    (suite,) = found
    rows = [_of_peer(row) for row in peers["rows"]]
    rows += [_of_suite(row) for row in suite.rows.to_dict("records")]
    method = peers["method"].partition(",")[0]
    origin = (
        "originals: the least time that either file has, with ‡ from "
        f"{_SUITE_FILE} ({suite.caption} · scripts/peers, by the suite's own method, the lesser of "
        f"steady state and burst), else from {_PEERS_FILE} "
        f"({peers['device']} · {peers['date']} · cold cache · {method})"
    )
    return rows, origin


def fastest(rows: list[dict], operation: str, names: tuple[str, ...], params: dict) -> dict | None:
    """Of these originals' rows with these params the one of the least time; where none has a time,
    one that says why; None where there is no row."""
    found = [
        row
        for row in rows
        if row["operation"] == operation
        and row["implementation"] in names
        and params.items() <= row["params"].items()
    ]
    return min(found, key=lambda row: row["time_us"], default=None)


def _of_peer(row: dict) -> dict:
    params = {
        _PEER_PARAMS.get(name, name): value
        for name, value in row.items()
        if name not in _NOT_PARAMS
    }
    if "d_inner" in params:  # Mamba has no heads: the width of H heads of 64, expanded twice
        params["H"] = params["d_inner"] // (2 * 64)
    operation, name = row["operation"], row["implementation"]
    reason = row.get("skipped", "")
    status = "ok" if "cold_us" in row else "skipped"
    return {
        "operation": PEER_OPERATIONS.get(operation, operation),
        "implementation": PEER_IMPLEMENTATIONS.get(name, name),
        "params": params,
        "status": "out_of_memory" if reason == "out of memory" else status,
        "reason": reason,
        "time_us": row.get("cold_us", math.inf),
        "mem_MiB": row.get("peak_MiB", math.nan),
        "rel_err": row.get("rel_err", math.nan),
        "by_suite": False,
    }


def _of_suite(row: dict) -> dict:
    # The other file's times are of few launches, which a power cap does not hold down. So the burst
    # counts where it is faster.
    times = [time for time in (row["time_us"], row["burst_us"]) if not math.isnan(time)]
    kept = ("operation", "implementation", "params", "status", "reason", "mem_MiB", "rel_err")
    return {name: row[name] for name in kept} | {
        "time_us": min(times, default=math.inf),
        "by_suite": True,
    }
