"""scripts/gpu_check's order of steps and its verdict, on stand-ins for the GPU's tools."""

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from held import description

# One of the tests has small shapes of CUDA implementations, which gpu_check sanitizes.
TESTS = ("cuda_backend_test", "decode_test", "operations_test", "soak_test")
LISTED = "reference.\n  is_matched_at_small_shapes/prefill_based_cuda_bf16"
HELD = description(
    prefill={"based": "ours", "based_sm80": "ours", "naive": "baseline"},
    attention={"fast": "ours", "tiled": "baseline"},
    decode={"based": "ours"},
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def stand_ins(tmp_path):
    """A build folder whose binaries succeed, and tools that log how they were called."""
    log = tmp_path / "calls"
    write(tmp_path / "bin/nvidia-smi", "echo 'GPU 0: stand-in'")
    write(tmp_path / "bin/compute-sanitizer", f'echo "$@" >>{log}')
    for name in ("based_check", *(f"tests/{test}" for test in TESTS)):
        write(tmp_path / "build" / name, f'echo "$0 $@" >>{log}')
    write(
        tmp_path / "build/based_bench",
        f"[ $1 != --describe ] || {{ echo '{HELD}'; exit; }}\necho \"$0 $@\" >>{log}",
    )
    listing = f"case $1 in --gtest_list_tests) printf '{LISTED}\\n'; exit ;; esac"
    write(tmp_path / "build/tests/operations_test", f'{listing}\necho "$0 $@" >>{log}')
    write(tmp_path / "build/tests/fake_bench", "exit 3")  # no test: must not be run as one
    return tmp_path, log


def environment(folder):
    return dict(os.environ, PATH=f"{folder / 'bin'}:{os.environ['PATH']}")


def arguments(folder, *options):
    return ("--build-dir", folder / "build", "--out", folder / "out", *options)


def check(run, script, folder, *options):
    return run(script("gpu_check"), *arguments(folder, *options), env=environment(folder))


def test_every_step_passes(run, script, stand_ins):
    folder, log = stand_ins
    done = check(run, script, folder, "--soak")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    for step in (
        "test decode_test",
        "prefill/based ones_all",
        "prefill/based_sm80 randn_all --batch 2 --heads 3 --seqlen 65",
        "attention/fast qk_test",
        "memcheck prefill B=2 H=3",
        "initcheck attention B=1 H=1 N=200",
        "racecheck operations_test",
        "short sweep",
        "models",
    ):
        assert f"PASS  {step}" in done.stdout
    calls = log.read_text()
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        assert f"--tool {tool} --error-exitcode 1" in calls
    assert "fake_bench" not in calls
    assert "operations_test --gtest_brief=1 --gtest_filter=*small_shapes*cuda*" in calls
    # The one that counts the card's memory, and then the sweeps, after everything else.
    *_, counts_memory, sweep, models = calls.splitlines()
    assert "cuda_backend_test" in counts_memory
    assert "based_bench" in sweep
    assert "based_bench" in models
    for other in ("racecheck decode_test", "prefill/naive", "attention/tiled", "decode/based"):
        assert other not in done.stdout


def test_a_large_test_runs_in_parts_and_each_of_its_tests_once(run, script, stand_ins):
    folder, _ = stand_ins
    names = [f"case_{i}" for i in range(40)]
    listing = "case $1 in --gtest_list_tests) printf 'suite.\\n'; printf '  %s\\n' {}; exit ;; esac"
    write(
        folder / "build/tests/decode_test",
        listing.format(" ".join(names))
        + f"\necho $GTEST_SHARD_INDEX of $GTEST_TOTAL_SHARDS >>{folder / 'parts'}",
    )
    done = check(run, script, folder, "--no-sanitizer", "--jobs", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    parts = (folder / "parts").read_text().splitlines()
    assert sorted(parts) == ["0 of 3", "1 of 3", "2 of 3"]
    assert "PASS  test decode_test 3/3" in done.stdout


def test_a_step_that_leaves_no_verdict_fails_the_whole(run, script, stand_ins):
    folder, _ = stand_ins
    write(folder / "build/tests/decode_test", "kill -9 $PPID")
    done = check(run, script, folder, "--no-sanitizer")
    assert done.returncode == 1
    assert "test decode_test" not in done.stdout
    assert "PASS  short sweep" in done.stdout


@pytest.mark.parametrize("number", ["0", "-1", "many", ""])
def test_a_number_of_jobs_that_is_none_is_refused(run, script, number):
    done = run(script("gpu_check"), "--jobs", number)
    assert done.returncode == 2
    assert "--jobs" in done.stderr


def test_one_failing_test_fails_the_whole_and_the_rest_still_runs(run, script, stand_ins):
    folder, _ = stand_ins
    write(folder / "build/tests/decode_test", "echo broken; exit 1")
    done = check(run, script, folder, "--no-sanitizer")
    assert done.returncode == 1
    assert "FAIL  test decode_test" in done.stdout
    assert "broken" in done.stdout
    assert "PASS  short sweep" in done.stdout


def test_one_failing_sanitizer_tool_fails_the_whole(run, script, stand_ins):
    folder, _ = stand_ins
    write(folder / "bin/compute-sanitizer", 'case $2 in racecheck) echo "a hazard"; exit 1; esac')
    done = check(run, script, folder)
    assert done.returncode == 1
    assert "FAIL  racecheck operations_test" in done.stdout
    assert "a hazard" in done.stdout
    assert "PASS  memcheck operations_test" in done.stdout
    assert "PASS  short sweep" in done.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_what_runs_at_the_same_time(script, stand_ins, stop):
    folder, _ = stand_ins
    write(folder / "bin/compute-sanitizer", f"echo $$ >>{folder / 'running'}; exec sleep 600")
    with subprocess.Popen(
        [script("gpu_check"), *arguments(folder, "--jobs", "4")],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A background job has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as check_process:
        try:
            running = wait_for_lines(folder / "running", 4)
            check_process.send_signal(stop)
            check_process.communicate(timeout=30)
        finally:
            check_process.kill()
    assert check_process.returncode == 130
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_alive(process) for process in running):
        time.sleep(0.05)
    assert not any(is_alive(process) for process in running)
    assert len((folder / "running").read_text().split()) == 4  # no further step was begun


def wait_for_lines(path, count, within_s=60):
    """The lines of a file that another process writes, once there are `count`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        lines = path.read_text().split() if path.exists() else []
        if len(lines) == count:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come to {count} lines")


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
