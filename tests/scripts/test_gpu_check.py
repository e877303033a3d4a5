"""scripts/gpu_check's order of steps and its verdict, on stand-ins for the GPU's tools."""

import os
import stat

import pytest

# Tests that link every implementation; gpu_check sanitizes small cases of theirs.
TESTS = ("decode_test", "sliding_window_test", "soak_test", "softmax_attention_test")


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
    for name in ("based_bench", "based_check", *(f"tests/{test}" for test in TESTS)):
        write(tmp_path / "build" / name, f'echo "$0 $@" >>{log}')
    write(tmp_path / "build/tests/fake_bench", "exit 3")  # no test: must not be run as one
    return tmp_path, log


def check(run, script, folder, *options):
    env = dict(os.environ, PATH=f"{folder / 'bin'}:{os.environ['PATH']}")
    arguments = ("--build-dir", folder / "build", "--out", folder / "out", *options)
    return run(script("gpu_check"), *arguments, env=env)


def test_every_step_passes(run, script, stand_ins):
    folder, log = stand_ins
    done = check(run, script, folder, "--soak")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    for step in ("test decode_test", "memcheck B=2 H=3", "racecheck decode_test", "short sweep"):
        assert f"PASS  {step}" in done.stdout
    calls = log.read_text()
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        assert f"--tool {tool} --error-exitcode 1" in calls
    assert "fake_bench" not in calls


def test_one_failing_test_fails_the_whole_and_the_rest_still_runs(run, script, stand_ins):
    folder, _ = stand_ins
    write(folder / "build/tests/decode_test", "echo broken; exit 1")
    done = check(run, script, folder, "--no-sanitizer")
    assert done.returncode == 1
    assert "FAIL  test decode_test" in done.stdout
    assert "broken" in done.stdout
    assert "PASS  short sweep" in done.stdout
