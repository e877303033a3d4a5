#!/usr/bin/env python3
"""How often does scripts/compare call two sides different that are not? From a run of A against A.

usage: a_against_a.py COMPARED.json [REPETITIONS]

COMPARED.json is what `scripts/compare A A --rounds=N --max-rounds=N --json COMPARED.json` wrote: 4N
processes of one binary. Each repetition lets the procedure of scripts/compare, with its default
rounds, draw the processes of both sides from them, with replacement. Prints how many verdicts of
each kind there are. Exit status: 1 where more than 1 of 100 is another than SAME.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "scripts")]
from compare_lib.verdicts import Comparison, Measured, run_rounds  # noqa: E402


def pools(document: dict) -> dict[str, list[Measured]]:
    """Of each row, all processes of both sides."""
    found = {}
    for row in document["rows"]:
        steady = row["steady"]["a_us"] + row["steady"]["b_us"]
        burst = row["burst"]["a_us"] + row["burst"]["b_us"] if "burst" in row else []
        burst += [None] * (len(steady) - len(burst))
        found[row["row"]] = [Measured("ok", s, b) for s, b in zip(steady, burst, strict=True)]
    return found


def main(arguments: list[str]) -> int:
    document = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    repetitions = int(arguments[1]) if len(arguments) > 1 else 20
    random = np.random.default_rng(1)
    rows = pools({"rows": [row for row in document["rows"] if "steady" in row]})
    processes = min(map(len, rows.values()))
    rounds, most_rounds = 2, 24  # as scripts/compare has them
    counts: Counter = Counter()
    for _ in range(repetitions):

        def run(side, selected):
            return {name: rows[name][random.integers(processes)] for name in selected or rows}

        comparison = Comparison(document["threshold_pct"] / 100)
        run_rounds(comparison, run, rounds, most_rounds)
        counts.update(row.verdict(comparison.margin)[0] for row in comparison.compared)
    total = sum(counts.values())
    shares = ", ".join(f"{n} {word} ({n / total:.1%})" for word, n in counts.most_common())
    print(f"{len(rows)} rows of {processes} processes, {total} row pairs: {shares}")
    return int(total - counts["SAME"] > total / 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
