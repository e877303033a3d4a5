"""Help, bad usage and missing tools: one clear message, before anything is set up or built."""

import os

import pytest

SCRIPTS = (
    "bench",
    "cluster",
    "compare",
    "fit_dispatch",
    "generate_vectors",
    "gpu_check",
    "lint",
    "peers",
    "profile_ncu",
    "profile_nsys",
    "reproduce",
    "test",
    "update_readme",
)
# A PATH with a shell and its tools, without GPU tools.
BARE = {"PATH": "/usr/bin:/bin", "CUDA_HOME": "/nonexistent"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(run, script, name):
    done = run(script(name), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")
    assert name in done.stdout


@pytest.mark.parametrize("path", [*(f"scripts/{name}" for name in SCRIPTS), ".ci/run"])
def test_is_executable(root, path):
    assert os.access(root / path, os.X_OK)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("bench", ["--nonsense"], "unknown option '--nonsense'"),
        ("bench", ["--out"], "--out needs a value"),
        ("bench", ["--out", "--quick"], "--out needs a value"),
        ("bench", ["--out", "a", "--resume", "b"], "give one of them"),
        ("bench", ["--out", "/proc/nowhere"], "cannot write to '/proc/nowhere'"),
        ("bench", ["--resume", "/nonexistent"], "'/nonexistent' is no interrupted run"),
        ("bench", ["--build-dir", "/nonexistent"], "'/nonexistent' holds no based_bench"),
        ("bench", ["--thunderkittens", "/proc"], "'/proc' is no checkout of ThunderKittens"),
        ("reproduce", ["--thunderkittens", "/proc"], "it has no kernels/based/linear_attn.cu"),
        ("compare", [], "the following arguments are required: A"),
        ("compare", ["HEAD", "--nonsense"], "unrecognized arguments: --nonsense"),
        ("compare", ["no_such_thing"], "'no_such_thing' is neither a folder"),
        ("compare", ["HEAD", "--rounds=0"], "'0' is no whole number of at least 1"),
        ("compare", ["HEAD", "--rounds=25"], "24 is below --rounds, 25"),
        ("compare", ["HEAD", "--threshold=-1"], "'-1' is no number above 0"),
        ("compare", ["HEAD", "--time-cap=nan"], "'nan' is no number of seconds"),
        ("compare", ["HEAD", "--", "--profile"], "--profile after --"),
        ("compare", ["HEAD", "--", "--benchmark_out=x"], "--benchmark_out after --"),
        ("generate_vectors", ["nope"], "(of prefill, choose from"),
        ("generate_vectors", ["randn_all", "--scale=1e300", "--seqlen=16"], "not finite"),
        ("gpu_check", ["--nonsense"], "unknown argument '--nonsense'"),
        ("gpu_check", ["--build-dir", "/nonexistent"], "'/nonexistent' holds no based_bench"),
        ("gpu_check", ["--out", "/proc/nowhere"], "cannot write to '/proc/nowhere'"),
        ("lint", ["--nonsense"], "unknown argument '--nonsense'"),
        ("reproduce", ["--nonsense"], "unknown option '--nonsense'"),
        ("reproduce", ["--build-dir"], "--build-dir needs a value"),
        ("reproduce", ["--build-dir", "/nonexistent"], "'/nonexistent' holds no based_bench"),
        ("reproduce", ["--out", "a", "--resume", "b"], "give one of them"),
        ("reproduce", ["--out", "/proc/nowhere"], "cannot write to '/proc/nowhere'"),
        ("reproduce", ["--resume", "/nonexistent"], "'/nonexistent' is no interrupted run"),
        ("update_readme", ["--nonsense"], "unrecognized arguments: --nonsense"),
        ("update_readme", ["/nonexistent.md"], "/nonexistent.md: cannot be read"),
        ("test", ["--nonsense"], "unknown argument '--nonsense'"),
        ("profile_ncu", [], "want a FILTER"),
        ("profile_ncu", ["--set", "full"], "the FILTER comes first, got '--set'"),
        ("profile_ncu", ["based", "--build-dir", "--audit"], "--build-dir needs a value"),
        ("profile_ncu", ["--audit", "--", "--batch=1"], "has shapes of its own"),
        ("profile_ncu", ["based", "--build-dir", "/nonexistent"], "holds no based_bench"),
        ("profile_ncu", ["based", "--out", "/proc/nowhere"], "cannot write to '/proc/nowhere'"),
        ("profile_nsys", [], "want a FILTER"),
        ("profile_nsys", ["based", "--build-dir", "/nonexistent"], "holds no based_bench"),
        ("profile_nsys", [""], "the FILTER comes first, got ''"),
        ("generate_vectors", ["twos_all"], "invalid choice: 'twos_all'"),
        ("generate_vectors", ["ones_all", "--batch", "0"], "'0' is below 1"),
        ("generate_vectors", ["ones_all", "--seqlen", "x"], "'x'"),
        ("generate_vectors", ["ones_all", "--terms", "0,3"], "'0,3' is not some of 0,1,2"),
        ("generate_vectors", ["ones_all", "--scale", "nan"], "'nan' is not finite"),
        ("generate_vectors", ["ones_all", "--seed=-1"], "'-1' is below 0"),
        ("generate_vectors", ["ones_all", "--out", "/proc/nowhere/x"], "cannot write"),
    ],
)
def test_bad_usage(run, script, name, arguments, said):
    done = run(script(name), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["bench", "reproduce"])
def test_results_are_not_overwritten(run, script, tmp_path, name):
    (tmp_path / "results.json").write_text("{}")
    done = run(script(name), "--out", tmp_path)
    assert done.returncode == 2
    assert f"--resume '{tmp_path}'" in done.stderr


def test_resume_takes_no_other_sweep(run, script, tmp_path):
    (tmp_path / "sweep.txt").write_text("default\n")
    for other in (["--quick"], ["--full"], ["--", "--batch=1"]):
        done = run(script("bench"), "--resume", tmp_path, *other)
        assert done.returncode == 2
        assert "--resume repeats the sweep" in done.stderr


def test_carried_binaries_are_not_built_for(run, script, tmp_path):
    (tmp_path / "based_bench").touch(mode=0o755)
    done = run(script("bench"), "--build-dir", tmp_path, "--install-cuda")
    assert done.returncode == 2
    assert "--install-cuda does not go with it" in done.stderr


@pytest.mark.parametrize(("name", "tool"), [("profile_ncu", "ncu"), ("profile_nsys", "nsys")])
def test_missing_profiler_is_named(run, script, name, tool):
    done = run(script(name), "prefill/based", env=BARE)
    assert done.returncode == 1
    assert f"{tool} is not on PATH" in done.stderr


def test_gpu_check_wants_a_gpu(run, script, tmp_path):
    done = run(script("gpu_check"), "--out", tmp_path, env=BARE)
    assert done.returncode == 1
    assert "no GPU here" in done.stderr


def test_gpu_check_wants_a_sanitizer(run, script, tmp_path):
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\necho 'GPU 0: a GPU'\n")
    nvidia_smi.chmod(0o755)
    env = BARE | {"PATH": f"{tmp_path}:{BARE['PATH']}"}
    done = run(script("gpu_check"), "--out", tmp_path, env=env)
    assert done.returncode == 1
    assert "compute-sanitizer is not on PATH" in done.stderr
    assert "--no-sanitizer" in done.stderr
