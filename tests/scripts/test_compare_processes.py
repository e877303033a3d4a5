"""scripts/compare: its verdicts on simulated processes, and the program on stubs and on a real
planted slow-down."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "scripts")]
from compare_lib.processes import BadUsageError, find_side  # noqa: E402
from compare_lib.verdicts import Comparison, Measured, Row, run_rounds  # noqa: E402

from plots.statistics import compare_processes, process_spread  # noqa: E402

ROWS = [f"prefill/based/cuda/B:{b}" for b in range(1, 11)]


def simulated(random, slower=None, between=0.003, within=0.01, capped=0.0, burst=True):
    """A run() for run_rounds: each process draws a factor for each row, then each row's samples.
    `slower`: of B, by row; `capped`: the steady state's own spread between processes."""

    def median(time_us, samples):
        return float(np.median(time_us * (1 + within * random.standard_normal(samples))))

    def run(side, rows):
        measured = {}
        for name in rows or ROWS:
            time_us = 100.0 * (1 + between * random.standard_normal())
            if side == "B" and slower:
                time_us *= slower.get(name, 1.0)
            held_down = 1 + capped * random.standard_normal()
            measured[name] = Measured(
                "ok", median(time_us * held_down, 25), median(time_us, 11) if burst else None
            )
        return measured

    return run


def verdicts(run, margin=0.01, **rounds):
    comparison = Comparison(margin)
    run_rounds(comparison, run, **({"rounds": 2, "most_rounds": 8} | rounds))
    return {row.name: row.verdict(margin)[0] for row in comparison.compared}, comparison


@pytest.mark.parametrize(("burst", "capped"), [(False, 0.0), (True, 0.0), (True, 0.012)])
def test_a_against_a_is_the_same_in_99_of_100_rows(burst, capped):
    random = np.random.default_rng(20)
    found, processes = [], 0
    for _ in range(40):
        verdict, comparison = verdicts(simulated(random, burst=burst, capped=capped))
        found += verdict.values()
        processes += sum(len(row.processes["A"]) for row in comparison.compared)
    assert len(found) == 400
    assert found.count("SAME") >= 396, {word: found.count(word) for word in set(found)}
    assert processes <= 400 * 8  # a side; the cap is 16


@pytest.mark.parametrize("burst", [False, True])
def test_a_planted_slow_down_of_2_percent_is_always_found(burst):
    random = np.random.default_rng(21)
    planted = dict.fromkeys(ROWS[::2], 1.02)
    for _ in range(40):
        verdict, comparison = verdicts(simulated(random, planted, burst=burst))
        assert [verdict[name] for name in planted] == ["SLOWER"] * len(planted)
        assert {row.name for row in comparison.regressions} == set(planted)


def test_a_gain_and_what_lies_on_the_threshold():
    random = np.random.default_rng(22)
    verdict, _ = verdicts(simulated(random, {ROWS[0]: 0.97, ROWS[1]: 1.01}))
    assert verdict[ROWS[0]] == "FASTER"
    assert verdict[ROWS[1]] != "FASTER"
    assert verdicts(simulated(random, {ROWS[0]: 1.02}), margin=0.05)[0][ROWS[0]] == "SAME"


def test_a_slower_steady_state_is_said_though_the_burst_is_the_same():
    random = np.random.default_rng(23)
    run = simulated(random)

    def throttled(side, rows):
        return {
            name: Measured("ok", m.steady_us * (1.06 if side == "B" else 1), m.burst_us)
            for name, m in run(side, rows).items()
        }

    comparison = Comparison(0.01)
    run_rounds(comparison, throttled, 2, 8)
    assert {row.verdict(0.01) for row in comparison.compared} == {("SLOWER", "of the steady alone")}


def test_one_disturbed_process_decides_nothing():
    random = np.random.default_rng(24)
    run, count = simulated(random), iter(range(1000))

    def disturbed(side, rows):
        factor = 3.0 if next(count) == 1 else 1.0
        return {
            name: Measured("ok", m.steady_us * factor, m.burst_us * factor)
            for name, m in run(side, rows).items()
        }

    assert set(verdicts(disturbed)[0].values()) == {"SAME"}


def test_only_undecided_rows_get_more_rounds():
    random = np.random.default_rng(25)
    run, asked = simulated(random), []

    def noted(side, rows):
        asked.append((side, rows))
        measured = run(side, rows)
        if ROWS[0] in measured:
            noisy = 100 * float(np.exp(0.012 * random.standard_normal()))
            measured[ROWS[0]] = Measured("ok", noisy, noisy)
        return measured

    found, comparison = verdicts(noted, most_rounds=6)
    assert found[ROWS[0]] == "UNDECIDED"
    assert [side for side, _ in asked] == list("ABBA" * 6)
    assert all(rows is None for _, rows in asked[:8])
    assert asked[-1][1] == [ROWS[0]]
    worst = comparison.noise()["burst"]
    assert worst["row"] == ROWS[0]
    assert 0.01 < worst["worst"] < 0.1


def test_a_row_that_is_too_noisy_for_all_rounds_gets_no_more():
    random = np.random.default_rng(26)
    run, asked = simulated(random, between=0.2), []

    def noted(side, rows):
        asked.append(side)
        return run(side, rows)

    found, _ = verdicts(noted)
    assert set(found.values()) == {"UNDECIDED"}
    assert len(asked) < 4 * 8


def test_times_of_two_ways_of_timing_are_not_compared():
    row = Row("prefill/spins/cuda/B:1")
    for side, factor in (("A", 1.0), ("B", 1.02)):
        row.processes[side] = [Measured("ok", t * factor, t * factor) for t in (24.0, 24.1, 24.05)]
        row.processes[side].insert(1, Measured("ok", 21.5 * factor, timing="rotation"))
    assert row.times("A", "steady") == [24.0, 24.1, 24.05]
    assert len(row.times("B", "burst")) == 3


def test_failures_and_rows_of_one_side():
    ok, bad = Measured("ok", 10.0), Measured("error", reason="relative error 0.2")
    skipped = Measured("skipped", reason="N too large")
    sides = {
        "A": {"lost": ok, "gained": bad, "neither": skipped, "only": ok},
        "B": {"lost": bad, "gained": ok, "neither": skipped},
    }
    found, comparison = verdicts(lambda side, rows: sides[side])
    assert found == {"lost": "LOST", "gained": "GAINED", "neither": "SAME"}
    assert [row.name for row in comparison.regressions] == ["lost"]
    assert comparison.only("A") == ["only"]
    assert "LOST: error: relative error 0.2" in comparison.text()
    assert "1 regressions beyond 1 %" in comparison.text()


def test_the_rank_interval():
    """Against its definition: with 4 and 4 it is the whole range; from 5 it leaves extremes out."""
    a, b = [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]
    interval = compare_processes(a, b)
    assert (interval.low, interval.high) == (0.5, 8.0)
    assert interval.low <= interval.ratio <= interval.high
    assert compare_processes(a[:3], b[:3]).verdict(0.01) == "UNDECIDED"
    random = np.random.default_rng(26)
    covered = 0
    for _ in range(1000):
        a, b = 1 + 0.01 * random.standard_normal((2, 6))
        interval = compare_processes(a, b * 1.5)
        covered += interval.low <= 1.5 <= interval.high
    assert 935 <= covered <= 985
    assert process_spread([100.0, 101.0, 99.0, 100.0]) == pytest.approx(0.0226, rel=0.01)


STUB = r"""#!{python}
import json, os, random, sys, time
options = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
with open({log!r}, "a") as log:
    log.write(json.dumps({{"side": {side!r}}} | options) + "\n")
{before}
def row(n):
    factor = {factor} * (1 + random.gauss(0, 0.001))
    return {{"row": f"prefill/based/cpu/N:{{n}}", "status": "ok",
            "samples_us": [100 * n * factor] * 11}}
document = {{"context": {{"cpu_name": "stub"}}, "benchmarks": [row(1), row(2)]}}
open(options["benchmark_out"], "w").write(json.dumps(document))
sys.exit({status})
"""


@pytest.fixture
def side(tmp_path):
    """side(name, factor): a folder with a based_bench that takes `factor` as long as usual."""

    def make(name, factor=1.0, status=0, before=""):
        folder = tmp_path / name
        folder.mkdir()
        bench = folder / "based_bench"
        bench.write_text(
            STUB.format(
                python=sys.executable,
                log=str(tmp_path / "log"),
                side=name,
                factor=factor,
                status=status,
                before=before,
            )
        )
        bench.chmod(0o755)
        return folder

    return make


def log(tmp_path):
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def test_the_same_binaries_are_the_same(run, script, side, tmp_path):
    a, out = side("a"), tmp_path / "out.json"
    done = run(
        script("compare"), a, a, "--filter=x", "--time-cap=2", "--json", out, "--", "--batch=4"
    )
    assert done.returncode == 0, done.stderr
    assert "2 SAME" in done.stdout
    assert "noise: 19 of 20 pairs of A's processes lie within 0." in done.stdout
    for call in log(tmp_path):
        assert (call["benchmark_filter"], call["time-cap"], call["batch"]) == ("x", "2", "4")
    document = json.loads(out.read_text())
    assert document["complete"]
    assert [row["verdict"] for row in document["rows"]] == ["SAME", "SAME"]
    assert len(document["rows"][0]["steady"]["a_us"]) == 4


def test_a_slow_down_ends_with_1(run, script, side, tmp_path):
    done = run(script("compare"), side("a"), side("b", 1.03))
    assert done.returncode == 1
    assert "2 SLOWER" in done.stdout
    assert [call["side"] for call in log(tmp_path)] == list("abbaabba")
    assert run(script("compare"), side("c"), side("d", 1.03), "--threshold=5").returncode == 0


def test_undecided_rows_are_asked_for_by_name(run, script, side, tmp_path):
    number = f"(sum(1 for _ in open({str(tmp_path / 'log')!r})) - 1)"  # of the process, from 0
    noisy = side("a", f"(1 + 0.006 * ({number} % 4))")
    done = run(script("compare"), noisy, noisy, "--max-rounds=3")
    assert done.returncode == 0
    assert "2 UNDECIDED" in done.stdout
    asked = [call["benchmark_filter"] for call in log(tmp_path)]
    assert len(asked) == 12
    assert asked[-1] == "^(prefill/based/cpu/N:1|prefill/based/cpu/N:2)/manual_time"


def test_rows_that_no_round_can_decide_are_given_up(run, script, side, tmp_path):
    noisy = side("a", "(1 + random.random())")
    done = run(script("compare"), noisy, noisy)
    assert "2 UNDECIDED" in done.stdout
    assert len(log(tmp_path)) < 40


def test_an_interruption_keeps_what_is_measured(script, side, tmp_path):
    a, b = (
        side("a"),
        side(
            "b",
            before="if os.path.getsize({!r}) > 900: time.sleep(60)".format(str(tmp_path / "log")),
        ),
    )
    out = tmp_path / "out.json"
    process = subprocess.Popen(
        [script("compare"), a, b, "--json", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        (tmp_path / "log").exists() and (tmp_path / "log").stat().st_size > 900
    ):
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "prefill/based/cpu/N:1" in printed
    document = json.loads(out.read_text())
    assert not document["complete"]
    assert len(document["rows"]) == 2


@pytest.mark.parametrize(
    ("status", "expected", "says"), [(2, 2, "status 2"), (139, 1, "status 139"), (1, 0, "")]
)
def test_a_side_that_fails_is_named(run, script, side, status, expected, says):
    done = run(script("compare"), side("a"), side("b", status=status))
    assert done.returncode == expected
    assert says in done.stderr


def test_what_is_no_revision_is_refused():
    with pytest.raises(BadUsageError, match="'no_such_thing' is neither a folder"):
        find_side("no_such_thing")


def test_a_revision_is_checked_out_and_built(tree):
    """In a repository of two commits, with a stub for CMake that copies the source's binary."""
    for name in ("dpkg-query", "nvidia-smi"):
        tree.stub(name, "exit 9" if name == "nvidia-smi" else "echo 'install ok installed'")
    with (tree.path / "scripts/lib/build.sh").open("a") as library:
        library.write("find_nvcc() { :; }\n")
    tree.stub(
        "cmake",
        "[[ $1 != --version ]] || { echo cmake version 3.30.0; exit; }\n"
        "mkdir -p build; touch build/build.ninja\n"
        "echo CMAKE_CUDA_COMPILER:STRING=NOTFOUND >build/CMakeCache.txt\n"
        "[[ $1 != --build ]] || cp source.txt build/based_bench",
    )

    def git(*arguments):
        done = tree.run("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    (tree.path / "source.txt").write_text("first")
    (tree.path / ".gitignore").write_text("/build*/\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    (tree.path / "source.txt").write_text("second")
    for given, source in ((commit, "first"), (commit, "first"), ("", "second")):
        done = tree.shell(f"build_revision '{given}'")
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.splitlines()[0])
        assert (folder / "based_bench").read_text() == source
        assert (folder.parent.name == commit[:12]) == bool(given)
    assert git("status", "--porcelain", "--untracked-files=no") == "M source.txt"


def test_a_real_slow_down_is_found(script, binary, tmp_path):
    """An implementation that spins, five times as long in B: more than what a CPU that others use
    as well adds."""
    bench = binary("tests/fake_bench")
    folders = {}
    for name, percent in (("a", 0), ("b", 400)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        program = folders[name] / "based_bench"
        program.write_text(
            f"#!/bin/sh\nexport BASED_FAKE_SLOWER_PCT={percent} OMP_NUM_THREADS=1\n"
            f'exec {bench} "$@"\n'
        )
        program.chmod(0o755)
    row = ("--device=cpu", "--batch=200", "--heads=1", "--seqlen=1")
    options = ("--filter=/spins/", "--time-cap=0.3", "--max-rounds=2", "--", *row)
    done = subprocess.run(
        [script("compare"), folders["a"], folders["b"], *options],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 SLOWER" in done.stdout


def test_the_share_of_wrong_verdicts_is_counted(root, run, script, side, tmp_path):
    a, out = side("a"), tmp_path / "out.json"
    run(script("compare"), a, a, "--rounds=4", "--max-rounds=4", "--json", out)
    count = root / "tests/support/a_against_a.py"
    done = run(sys.executable, count, out, "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 rows of 16 processes, 20 row pairs: 20 SAME (100.0%)\n"
    document = json.loads(out.read_text())
    for row in document["rows"]:  # eight processes lie apart, so that some deals are lopsided
        row["steady"]["b_us"] = [1.2 * time for time in row["steady"]["b_us"]]
    out.write_text(json.dumps(document))
    done = run(sys.executable, count, out, "200")
    assert done.returncode == 1
    assert "UNDECIDED" in done.stdout
