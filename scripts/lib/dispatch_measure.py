"""Times forced variants of the Based prefill with based_bench: the evidence of its dispatcher.

A problem is (heads, seqlen, options): heads are batch times heads, for nothing else of the two
matters to a variant. The result is one JSON document, one line a problem:

    {"heads": 16, "seqlen": 8192, "options": "none", "us": {"whole": 95.1, "split": 27.7},
     "parts": {"split": 8}}

`parts` are the segments or places of a variant's plan, where it has some; `us` is the cold median.
based_bench times calls of less than 25 us in a rotation of launches, longer ones one by one, which
reads the launch too; so that variants on both sides of that limit can be compared, the difference
of the two timers' floors is taken off the single calls here.
"""

import datetime
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plots.files import write_whole

SCHEMA = "based-bench-dispatch/1"
CHUNK_TOKENS = 64
OPTIONS = {"none": "", "normalize": "normalize", "all": "final_state+initial_state+normalize"}
# Few heads, where sequences are cut; about one and two CTAs a multiprocessor; many rounds of them.
_HEADS = [
    *(1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 66),
    *(72, 80, 88, 96, 112, 128, 132, 133, 140, 144, 160, 176, 192, 208, 224, 240, 256, 264),
    *(265, 272, 288, 300, 320, 340, 360, 384, 400, 440, 480, 512, 528, 560, 640, 768, 1024, 1040),
]
_SEQLENS = [
    *(64, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1280, 1536, 2048, 3072, 4096),
    *(6144, 8192, 12288, 16384),
]
_BATCH_OF_PROBLEMS = 40  # that one process measures; what an interruption costs


@dataclass(frozen=True)
class Problem:
    heads: int
    seqlen: int
    options: str

    @property
    def chunks(self) -> int:
        return (self.seqlen - 1) // CHUNK_TOKENS + 1

    def row(self, variant: str) -> str:
        options = OPTIONS[self.options]
        named = f"/options:{options}" if options else ""
        return f"prefill/based/cuda/B:1/H:{self.heads}/N:{self.seqlen}{named}/variant:{variant}"


def problems() -> Iterator[Problem]:
    """Every problem of the grid once; each beginning of the order is spread evenly over it."""
    seen = set()
    total = len(_HEADS) * len(_SEQLENS) * len(OPTIONS)
    for i in range(1, 100 * total):
        # Multiples of 1/g and 1/g^2, g^3 = g + 1, modulo 1: Roberts' two-dimensional sequence.
        across, along = i * 0.7548776662466927 % 1, i * 0.5698402909980532 % 1
        problem = Problem(
            _HEADS[int(across * len(_HEADS))],
            _SEQLENS[int(along * len(_SEQLENS))],
            tuple(OPTIONS)[i % len(OPTIONS)],
        )
        if problem not in seen:
            seen.add(problem)
            yield problem
        if len(seen) == total:
            return


def variants_of(bench: Path) -> list[str]:
    """The variants of the Based prefill that this based_bench has."""
    described = subprocess.run(
        [str(bench.resolve()), "--describe"], capture_output=True, text=True, check=False
    )
    if described.returncode != 0:
        raise RuntimeError(f"{bench} --describe: status {described.returncode}")
    for operation in json.loads(described.stdout)["operations"]:
        for implementation in operation["implementations"]:
            of = operation["name"], implementation["name"], implementation["device"]
            if of == ("prefill", "based", "cuda"):
                return implementation["variants"]
    raise RuntimeError(f"{bench} has no Based prefill for CUDA: build it with CUDA")


def contenders(problem: Problem, multiprocessors: int, variants: list[str]) -> list[str]:
    """Those of `variants` that may be the fastest; others lose by so much that it is no question.

    A variant that no rule here names may always be the fastest.
    """
    heads, chunks = problem.heads / multiprocessors, problem.chunks
    work = heads * chunks
    if heads <= 1:
        quadratic = chunks <= 32 and work <= 7.5
    else:
        quadratic = chunks <= (3 if problem.options == "all" else 5) and work <= 32
    may_win = {
        "whole": heads > 0.25 or chunks <= 48,
        "split": heads <= 0.67 and chunks >= 8,
        "recompute": heads <= 0.55 and chunks >= 3 and (heads > 0.16 or chunks <= 48),
        "balanced": heads >= 1 and chunks >= 5,
        "quadratic": quadratic or (problem.options == "normalize" and chunks <= 8 and work <= 18),
        # The only one that is left off Hopper, and never the fastest on it.
        "mma_sync": (problem.heads + problem.chunks) % 16 == 0,
    }
    unknown = sorted(may_win.keys() - set(variants))
    if unknown:
        raise RuntimeError(f"based_bench has no variant {', '.join(unknown)}: mend contenders()")
    return [variant for variant in variants if may_win.get(variant, True)]


class Measurement:
    """A document that grows by problems, and is written after each process of based_bench."""

    def __init__(self, path: Path | None, folder: Path, time_cap: float, variants: list[str]):
        """In file `path`, or where None in one of `folder` that is named for the device."""
        self._path, self._folder, self._time_cap = path, folder, time_cap
        self._variants = variants
        self._entries: dict[Problem, dict] = {}
        self._head = {"schema": SCHEMA}

    @property
    def path(self) -> Path:
        if self._path is None:
            if "device" not in self._head:
                raise RuntimeError("nothing was measured")
            device = self._head["device"].lower().removeprefix("nvidia ").replace(" ", "_")
            return self._folder / f"dispatch_{device}.json"
        return self._path

    def resume(self) -> None:
        document = load(self.path)
        for entry in document.pop("problems"):
            self._entries[Problem(entry["heads"], entry["seqlen"], entry["options"])] = entry
        self._head = document

    def run(self, bench: Path, count: int, deadline: float, say: Callable[[str], None]) -> None:
        """Measure what is missing of the first `count` problems, until `deadline`."""
        wanted = [p for p, _ in zip(problems(), range(count), strict=False) if self._missing(p)]
        for start in range(0, len(wanted), _BATCH_OF_PROBLEMS):
            if time.monotonic() >= deadline:
                say("the time is up; --resume goes on")
                return
            batch = wanted[start : start + _BATCH_OF_PROBLEMS]
            began = time.monotonic()
            rows = {p.row(v): (p, v) for p in batch for v in self._missing(p)}
            results = _run_bench(bench, rows, self._time_cap, deadline)
            if results["benchmarks"]:
                self._add(results, rows)
                self.write()
            took = time.monotonic() - began
            done = start + len(batch)
            say(f"{done} of {len(wanted)} problems, {took:.0f} s for the last {len(batch)}")

    def _missing(self, problem: Problem) -> list[str]:
        there = self._entries.get(problem, {"us": {}})["us"]
        multiprocessors = self._head.get("multiprocessors", 132)
        wanted = contenders(problem, multiprocessors, self._variants)
        return [variant for variant in wanted if variant not in there]

    def _add(self, results: dict, rows: dict[str, tuple[Problem, str]]) -> None:
        context = results["context"]
        self._head |= {
            "device": context["gpu_name"],
            "multiprocessors": int(context["gpu_sm_count"]),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "revision": context["revision"],
            "time_cap_s": self._time_cap,
        }
        overhead = float(context["gpu_timer_floor_us"]) - float(context["gpu_rotation_floor_us"])
        for row in results["benchmarks"]:
            if row.get("status") != "ok" or row.get("row") not in rows:
                continue
            problem, variant = rows[row["row"]]
            size = {"heads": problem.heads, "seqlen": problem.seqlen, "options": problem.options}
            entry = self._entries.setdefault(problem, size | {"us": {}, "parts": {}})
            single = row["timing"] == "calls"
            entry["us"][variant] = round(row["real_time"] - (overhead if single else 0), 3)
            _, _, count = row["label"].partition(" in ")
            if count:
                entry["parts"][variant] = int(count)

    def write(self) -> None:
        """The whole file or none of it: whoever interrupts keeps the last whole one."""
        # A problem of which a contender is missing says nothing yet.
        whole = [entry for problem, entry in self._entries.items() if not self._missing(problem)]
        lines = ",\n".join("  " + json.dumps(entry) for entry in whole)
        text = json.dumps(self._head, indent=1)[:-2] + f',\n "problems": [\n{lines}\n ]\n}}\n'
        write_whole(self.path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load(path: Path) -> dict:
    """A document of this schema; ValueError for anything else."""
    document = json.loads(path.read_text())
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no measurement of variants ({SCHEMA})")
    return document


def _run_bench(
    bench: Path, rows: dict[str, tuple[Problem, str]], time_cap: float, deadline: float
) -> dict:
    """The results document of one process; of those rows that it finished before `deadline`."""
    problems_asked = [problem for problem, _ in rows.values()]
    pattern = "|".join(rows).replace("+", "[+]")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [
            str(bench.resolve()),
            "--device=cuda",
            "--implementation=based",
            "--batch=1",
            "--heads=" + ",".join(str(n) for n in sorted({p.heads for p in problems_asked})),
            "--seqlen=" + ",".join(str(n) for n in sorted({p.seqlen for p in problems_asked})),
            "--options=" + ",".join(dict.fromkeys(p.options for p in problems_asked)),
            "--variant=" + ",".join(dict.fromkeys(variant for _, variant in rows.values())),
            f"--time-cap={time_cap}",
            "--burst=never",
            f"--benchmark_filter=^({pattern})/manual_time$",
            f"--benchmark_out={out}",
        ]
        try:
            ended = subprocess.run(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=max(deadline - time.monotonic(), 1),
            )
        except subprocess.TimeoutExpired:
            ended = None
        if ended is not None and ended.returncode != 0:
            last = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
            raise RuntimeError(f"{bench}: {last[0]}")
        return json.loads(out.read_text()) if out.exists() else {"benchmarks": []}
