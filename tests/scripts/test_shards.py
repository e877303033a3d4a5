"""--shard: the parts of a sweep hold each row once, and take about equal time."""

import json
import sys

import pytest

SWEEP = ("--device=cpu", "--batch=1:64:*2", "--heads=4", "--seqlen=64:4096:*2")


def listed(run, bench, *options):
    done = run(bench, *SWEEP, *options, "--benchmark_list_tests")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_hold_each_row_once_and_in_order(run, binary, count):
    bench = binary("based_bench")
    rows = listed(run, bench)
    parts = [listed(run, bench, f"--shard={i}/{count}") for i in range(1, count + 1)]
    assert sorted(row for part in parts for row in part) == sorted(rows)
    for part in parts:
        assert part == [row for row in rows if row in set(part)]
    assert parts[0] == listed(run, bench, f"--shard=1/{count}")


def test_the_long_rows_are_shared_out(run, binary):
    """Four rows of a thousand times the others' work: each of four parts has one."""
    options = ("--benchmark_filter=^prefill/naive/", "--heads=16", "--time-cap=100")
    rows = ("--batch=16", "--seqlen=16,18,20,22,16384,16400,16416,16432")
    bench = binary("based_bench")
    parts = [listed(run, bench, *options, *rows, f"--shard={i}/4") for i in (1, 2, 3, 4)]
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    for part in parts:
        assert sum(len(row.split("N:")[1].split("/")[0]) == 5 for row in part) == 1


def test_more_parts_than_rows_is_fine(run, binary, tmp_path):
    bench = binary("based_bench")
    outs = [tmp_path / f"{i}.json" for i in (1, 2, 3)]
    few = (
        "--benchmark_filter=^prefill/(based|naive)/",
        "--batch=1",
        "--heads=1",
        "--seqlen=16",
        "--time-cap=0.1",
    )
    ended = [
        run(bench, *SWEEP, *few, f"--shard={i + 1}/3", f"--benchmark_out={out}")
        for i, out in enumerate(outs)
    ]
    assert [done.returncode for done in ended] == [0, 0, 0]
    assert "no row falls in part 3 of 3" in ended[2].stderr
    assert [len(json.loads(out.read_text())["benchmarks"]) for out in outs] == [1, 1, 0]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/2", "1/2/3", "1,2/3", "", "-1/2"])
def test_what_is_no_part_is_refused(run, binary, text):
    done = run(binary("based_bench"), *SWEEP, f"--shard={text}")
    assert done.returncode == 2
    assert ("--shard: " if text else "--shard= is empty") in done.stderr


def test_parts_are_merged_and_a_merged_file_is_not_resumed(run, binary, root, tmp_path):
    bench, sweep = binary("based_bench"), ("--batch=1", "--heads=1", "--seqlen=16,32")
    few = (*SWEEP, *sweep, "--benchmark_filter=^prefill/(based|naive)/", "--time-cap=0.1")
    parts = [tmp_path / f"part{i}.json" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        named = f"--benchmark_context=gpus_side_by_side={i}"
        done = run(bench, *few, named, f"--shard={i}/2", f"--benchmark_out={part}")
        assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole.json"
    python = (sys.executable, "-m", "plots", "merge", *parts, "--out", whole)
    done = run(*python, env={"PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr
    document = json.loads(whole.read_text())
    assert len({row["row"] for row in document["benchmarks"]}) == 4
    for row in document["benchmarks"]:
        context = document["contexts"][row["context"]]
        assert context["gpus_side_by_side"] == str(row["context"] + 1)

    resumed = run(bench, *few, f"--resume={whole}")
    assert resumed.returncode == 2
    assert "was merged from several" in resumed.stderr
