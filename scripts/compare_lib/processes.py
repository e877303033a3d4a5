"""The two sides: where their binaries come from, and one process of either."""

import json
import os
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compare_lib.verdicts import Measured

_ROOT = Path(__file__).resolve().parents[2]
_BINARY = "based_bench"


class SideError(Exception):
    """A side cannot be built or run; the message says why."""


class BadUsageError(SideError):
    """The user's mistake."""


@dataclass(frozen=True)
class Side:
    name: str  # what the user called it
    folder: Path
    library_path: str = ""  # for LD_LIBRARY_PATH


def find_side(given: str | None) -> Side:
    """The binaries of a folder as they are; of a revision or, None, of the working tree, built."""
    if given is None:
        return Side("the working tree", *_built(""))
    folder = Path(given)
    if os.access(folder / _BINARY, os.X_OK):
        return Side(given, folder.resolve(), os.environ.get("LD_LIBRARY_PATH", ""))
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
    if not commit:
        raise BadUsageError(f"'{given}' is neither a folder that holds {_BINARY} nor a revision")
    return Side(given, *_built(commit))


def _built(commit: str) -> tuple[Path, str]:
    """Let scripts/lib/build.sh build; the folder of the binaries, and where their libraries are."""
    code = 'source "$1/scripts/lib/build.sh"; build_revision "$2"'
    done = subprocess.run(
        ["bash", "-c", code, "compare", str(_ROOT), commit], stdout=subprocess.PIPE, text=True
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 2:
        raise SideError(f"{commit[:12] or 'the working tree'} does not build: see above")
    return Path(lines[0]), lines[1]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def run_process(side: Side, options: list[str], rows: list[str] | None) -> tuple[dict, dict]:
    """One process of a side, of these rows or of all that the options select: its context, and what
    it measured by row. SideError where it ends otherwise than well or with failed rows."""
    if rows is not None:
        names = "|".join(re.sub(r"([.[\\()*+?{|^$])", r"\\\1", row) for row in rows)
        options = [*options, f"--benchmark_filter=^({names})/manual_time"]
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        out = Path(folder) / "results.json"
        done = subprocess.run(
            [side.folder / _BINARY, *options, f"--benchmark_out={out}"],
            env=os.environ | ({"LD_LIBRARY_PATH": side.library_path} if side.library_path else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode not in (0, 1) or not out.exists():
            error = BadUsageError if done.returncode == 2 else SideError
            said = done.stderr.strip() or "nothing was said"
            raise error(f"a process of {side.name} ended with status {done.returncode}: {said}")
        document = json.loads(out.read_text(encoding="utf-8"))
    return document["context"], _measured(document["benchmarks"])


def _measured(benchmarks: list[dict]) -> dict[str, Measured]:
    found = {}
    for row in benchmarks:
        steady, burst = row.get("samples_us"), row.get("burst_samples_us")
        found[row["row"]] = Measured(
            row["status"],
            statistics.median(steady) if steady else None,
            statistics.median(burst) if burst else None,
            row.get("reason", ""),
            row.get("timing", "calls"),
        )
    return found
