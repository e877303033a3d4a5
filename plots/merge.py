"""Several results files into one: the shards of a sweep, and sweeps of several devices.

What belongs together was measured by one revision with one seed, in files of one schema. The parts'
contexts are all kept: a row's "context" is the index of its own in "contexts". A row that several
parts hold must be the same in all, to the last sample; then it is kept once.
"""

import json
from pathlib import Path

from plots import results
from plots.files import UsageError

_SAME = ("schema", "revision", "seed")  # of every context
_OF_A_DEVICE = {"cpu": ("cpu_name", "cpu_threads", "l2_policy"), "cuda": ("gpu_name", "l2_policy")}


def merge(paths: list[Path]) -> str:
    """The merged file's text; UsageError, of one line, where the files do not belong together."""
    contexts: list[dict] = []
    lines: dict[tuple, tuple[list[dict], Path]] = {}  # by row and device: repetitions, from where
    for path in paths:
        results.load(
            path, may_be_empty=True
        )  # a shard without rows; refuses what is no results file
        document = json.loads(path.read_text(encoding="utf-8"))
        own = document.get("contexts", [document["context"]])
        for name in _SAME:
            _refuse_different(name, (contexts or own)[0].get(name), own, paths[0], path)
        offset = len(contexts)
        contexts += own
        rows: dict[tuple, list[dict]] = {}
        for row in document["benchmarks"]:
            context = own[row.get("context", 0)]
            hardware = (context.get(name) for name in _OF_A_DEVICE[row["device"]])
            rows.setdefault((row["run_name"], *hardware), []).append(
                row | {"context": offset + row.get("context", 0)}
            )
        for identity, measured in rows.items():
            earlier, where = lines.setdefault(identity, (measured, path))
            if [_less_context(row) for row in earlier] != [_less_context(row) for row in measured]:
                raise UsageError(
                    f"{where} and {path} both hold {identity[0]} of {identity[1]}, and differ in "
                    "it; leave one of them out"
                )
    return _text(contexts, [row for measured, _ in lines.values() for row in measured])


def _refuse_different(name: str, first, contexts: list[dict], of: Path, path: Path) -> None:
    for context in contexts:
        if context.get(name) != first:
            raise UsageError(
                f"{of} and {path} differ in {name}: {first} and {context.get(name)}; their rows "
                "do not belong in one file"
            )


def _less_context(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "context"}


def _text(contexts: list[dict], rows: list[dict]) -> str:
    """In based_bench's layout, a row a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    return (
        f'{{\n"context": {json.dumps(contexts[0], indent=2)},\n'
        f'"contexts": {json.dumps(contexts, indent=2)},\n"benchmarks": [\n{lines}\n]\n}}\n'
    )
