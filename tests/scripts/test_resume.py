"""A sweep killed without warning keeps its rows, and --resume measures only the others."""

import json
import subprocess
import time

SWEEP = (
    "--device=cpu",
    "--benchmark_filter=^prefill/(based|naive)/",
    "--batch=1",
    "--heads=1",
    "--seqlen=16:512:*2",
    "--time-cap=0.5",
)
ROWS = 12


def rows_of(path):
    """The rows of a results file, by name; empty before there is one."""
    if not path.exists():
        return {}
    return {row["row"]: row for row in json.loads(path.read_text())["benchmarks"]}


def test_a_killed_sweep_is_resumed(binary, run, tmp_path):
    bench = binary("based_bench")
    results = tmp_path / "results.json"
    process = subprocess.Popen(
        [bench, *SWEEP, f"--benchmark_out={results}"], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(rows_of(results)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = rows_of(results)
    assert 3 <= len(kept) < ROWS, "the sweep was not killed in its middle"

    resumed = run(bench, *SWEEP, f"--resume={results}", f"--benchmark_out={results}")
    assert resumed.returncode == 0, resumed.stderr
    rows = rows_of(results)
    assert len(rows) == ROWS
    for name, row in rows.items():
        measured_now = name in resumed.stdout
        assert measured_now == (name not in kept)
        assert measured_now or row == kept[name]

    again = run(bench, *SWEEP, f"--resume={results}", f"--benchmark_out={results}")
    assert again.returncode == 0
    assert rows_of(results) == rows


def test_failed_rows_stay_until_they_are_measured_again(binary, run, tmp_path):
    bench = binary("based_bench")
    results = tmp_path / "results.json"
    common = [bench, *SWEEP, f"--resume={results}", f"--benchmark_out={results}"]
    run(bench, *SWEEP, "--seqlen=16", f"--benchmark_out={results}")
    text = json.loads(results.read_text())
    failed = text["benchmarks"][0]
    failed |= {"status": "error", "reason": "of the test's making"}
    results.write_text(json.dumps(text))

    assert run(*common, "--seqlen=32").returncode == 0
    assert rows_of(results)[failed["row"]] == failed
    assert len(rows_of(results)) == 4
    assert run(*common, "--seqlen=16").returncode == 0
    assert rows_of(results)[failed["row"]]["status"] == "ok"
    assert len(rows_of(results)) == 4


def test_what_is_no_results_file_is_refused(binary, run, tmp_path):
    bench = binary("based_bench")
    for text in ("", '{"context": {', "[1, 2]", '{"context": {}, "benchmarks": []}'):
        foreign = tmp_path / "foreign.json"
        foreign.write_text(text)
        done = run(bench, *SWEEP, f"--resume={foreign}", f"--benchmark_out={tmp_path}/out.json")
        assert done.returncode == 2
        assert str(foreign) in done.stderr
        assert foreign.read_text() == text
