"""scripts/bench from end to end, with stubs for CMake, Python and based_bench."""

import json
import os
import signal
import subprocess
import time

import pytest

BENCH = r"""
echo "bench $*" >>{calls}
for argument in "$@"; do
  [[ $argument != --benchmark_out=* ]] || echo '{{}}' >"${{argument#*=}}"
done
{then}
"""


@pytest.fixture
def suite(tree):
    """The tree, able to bench; suite.bench(then) says what based_bench does after its rows,
    suite.nvcc(path) which compiler there is."""

    def bench(then="exit 0"):
        tree.stub("build/based_bench", BENCH.format(calls=tree.calls, then=then))

    def nvcc(path):
        with (tree.path / "scripts/lib/build.sh").open("a") as library:
            library.write(f"find_nvcc() {{ echo {path}; }}\n")

    tree.bench, tree.nvcc = bench, nvcc
    nvcc("")
    tree.stub("dpkg-query", "echo 'install ok installed'")
    tree.stub("nvidia-smi", "exit 9")
    tree.stub(
        "cmake",
        f"""[[ $1 != --version ]] || {{ echo cmake version 3.30.0; exit; }}
echo "cmake $*" >>{tree.calls}
touch build/build.ninja
[[ $1 != --fresh ]] || echo "CMAKE_CUDA_COMPILER:STRING=NOTFOUND" >build/CMakeCache.txt""",
    )
    bench()
    return tree


def calls(tree, program):
    return [line.split()[1:] for line in tree.logged() if line.split()[0] == program]


def test_sweeps_into_one_file_then_renders(suite):
    done = suite.run("scripts/bench", "--out", "out")
    assert done.returncode == 0, done.stderr
    out = suite.path / "out"
    first, second = calls(suite, "bench")
    for call in (first, second):
        assert {"--device=cpu", "--heads=4", f"--benchmark_out={out}/results.json"} <= set(call)
    assert {"--batch=1", "--seqlen=256:4096:*2"} <= set(first)
    assert {"--batch=1:4:*2", "--seqlen=1024"} <= set(second)
    assert not any(option.startswith("--resume") for option in first)
    assert f"--resume={out}/results.json" in second
    plots = [call for call in calls(suite, "python") if call[:2] == ["-m", "plots"]]
    assert plots == [
        ["-m", "plots", "table", f"{out}/results.json"],
        ["-m", "plots", "render", f"{out}/results.json", "--out", str(out)],
        ["-m", "plots", "report", f"{out}/results.json", "--out", str(out)],
    ]
    for name in ("results.json", "summary.md", "report.html"):
        assert f"{out}/{name}" in done.stdout
    assert "no nvcc: building the CPU implementations alone" in done.stderr


def test_a_second_run_repeats_no_set_up(suite):
    suite.run("scripts/bench", "--out", "a")
    suite.calls.unlink()
    assert suite.run("scripts/bench", "--out", "b").returncode == 0
    assert [call[0] for call in calls(suite, "cmake")] == ["--build"]
    assert not any("pip" in call for call in calls(suite, "python"))


def test_results_go_below_the_repository(suite):
    assert suite.run("scripts/bench", "--quick").returncode == 0
    (out,) = (suite.path / "results").iterdir()
    assert (out / "results.json").exists()


def test_callers_options_replace_the_sweeps(suite):
    done = suite.run("scripts/bench", "--out", "o", "--", "--seqlen=64", "--benchmark_filter=naive")
    assert done.returncode == 0, done.stderr
    for call in calls(suite, "bench"):
        assert [option for option in call if option.startswith("--seqlen")] == ["--seqlen=64"]
        assert [o for o in call if o.startswith("--benchmark_filter")] == [
            "--benchmark_filter=naive"
        ]
        assert "--heads=4" in call


@pytest.mark.parametrize(
    ("nvidia_smi", "compiler", "device"),
    [
        ("echo 'GPU 0: one'", "/usr/bin/nvcc", "cuda"),
        ("echo 'GPU 0: one'", "NOTFOUND", "cpu"),
        ("exit 9", "/usr/bin/nvcc", "cpu"),
    ],
)
def test_the_gpu_is_swept_where_it_can_be(suite, nvidia_smi, compiler, device):
    suite.stub("nvidia-smi", nvidia_smi)
    suite.nvcc("" if compiler == "NOTFOUND" else compiler)
    (suite.path / "build/CMakeCache.txt").write_text(f"CMAKE_CUDA_COMPILER:STRING={compiler}\n")
    (suite.path / "build/build.ninja").write_text("")
    assert suite.run("scripts/bench", "--out", "o").returncode == 0
    assert all(f"--device={device}" in call for call in calls(suite, "bench"))


@pytest.mark.parametrize(
    ("nvidia_smi", "device"), [("echo 'GPU 0: one'", "cuda"), ("exit 9", "cpu")]
)
def test_the_binaries_of_another_folder_are_taken_as_they_are(suite, nvidia_smi, device):
    folder = suite.carry_away("based_bench")
    suite.stub("python3", f'[[ $1 != -V ]] || echo Python 3.12.1; echo "python $*" >>{suite.calls}')
    suite.stub("nvidia-smi", nvidia_smi)
    done = suite.run("scripts/bench", "--out", "out", "--build-dir", folder)
    assert done.returncode == 0, done.stderr
    assert suite.set_up_or_built() == []
    sweeps = [call for call in calls(suite, "bench") if "--benchmark_list_tests" not in call]
    assert len(sweeps) == 2
    assert all(f"--device={device}" in call for call in sweeps)
    assert ["-m", "plots", "report"] in [call[:3] for call in calls(suite, "python")]


def test_binaries_without_cuda_run_on_the_cpu(suite):
    suite.bench("[[ $1 != --device=cuda ]] || { echo no driver >&2; exit 2; }")
    folder = suite.carry_away("based_bench")
    suite.stub("nvidia-smi", "echo 'GPU 0: one'")
    done = suite.run("scripts/bench", "--quick", "--out", "out", "--build-dir", folder)
    assert f"no driver\nthere is a GPU, but the binaries of '{folder}' have no CUDA" in done.stderr
    assert "--device=cpu" in calls(suite, "bench")[-1]


def test_without_the_plots_packages_the_results_are_kept(suite):
    folder = suite.carry_away("based_bench")
    suite.stub(
        "python3",
        "[[ $1 != -V ]] || { echo Python 3.12.1; exit; }\n"
        "echo \"ModuleNotFoundError: No module named 'pandas'\" >&2; exit 1",
    )
    done = suite.run("scripts/bench", "--quick", "--out", "out", "--build-dir", folder)
    assert done.returncode == 1
    assert "the results are kept" in done.stderr
    assert "No module named 'pandas'" in done.stderr
    assert "plots/requirements.txt" in done.stderr
    assert f"{suite.path}/out/results.json" in done.stdout
    assert "summary.md" not in done.stdout
    assert {file.name for file in (suite.path / "out").iterdir()} == {"results.json", "sweep.txt"}


def test_a_crash_of_another_folders_binary_says_how_to_go_on(suite):
    suite.bench("kill -SEGV $$")
    folder = suite.carry_away("based_bench")
    suite.stub("python3", "echo Python 3.12.1")
    done = suite.run("scripts/bench", "--out", "out", "--build-dir", "elsewhere")
    assert f"scripts/bench --resume '{suite.path}/out' --build-dir '{folder}'" in done.stderr


def test_a_failed_row_fails_the_run_but_loses_nothing(suite):
    suite.bench("exit 1")
    done = suite.run("scripts/bench", "--out", "out")
    assert done.returncode == 1
    assert len(calls(suite, "bench")) == 2
    assert any("render" in call for call in calls(suite, "python"))
    assert "out/results.json" in done.stdout


def test_bad_usage_ends_the_run(suite):
    suite.bench("echo \"--seqlen: 'x' is no number\" >&2; exit 2")
    done = suite.run("scripts/bench", "--out", "out", "--", "--seqlen=x")
    assert done.returncode == 2
    assert len(calls(suite, "bench")) == 1
    assert "'x' is no number" in done.stderr


def test_a_crash_says_how_to_go_on(suite):
    suite.bench("kill -SEGV $$")
    done = suite.run("scripts/bench", "--out", "out")
    assert done.returncode == 1
    assert len(calls(suite, "bench")) == 1
    assert f"scripts/bench --resume '{suite.path}/out'" in done.stderr
    assert any("render" in call for call in calls(suite, "python"))


def test_a_table_that_fails_leaves_no_half_of_it(suite):
    suite.stub(".venv/bin/python", '[[ $* != *"plots table"* ]] || { echo "| half"; exit 1; }')
    done = suite.run("scripts/bench", "--out", "out")
    assert done.returncode == 1
    assert not [path for path in (suite.path / "out").iterdir() if "summary" in path.name]


def test_an_interruption_says_how_to_go_on(suite):
    suite.bench("exec sleep 60")
    process = subprocess.Popen(
        ["scripts/bench", "--out", "out"],
        cwd=suite.path,
        env=suite.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not calls(suite, "bench") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert f"scripts/bench --resume '{suite.path}/out'" in said


def test_resume_repeats_the_sweep_on_the_rows_there(suite):
    suite.bench("kill -KILL $$")
    suite.run("scripts/bench", "--quick", "--out", "out", "--", "--seed=7")
    asked = calls(suite, "bench")[0]
    suite.calls.unlink()
    suite.bench()
    done = suite.run("scripts/bench", "--resume", "out")
    assert done.returncode == 0, done.stderr
    results = suite.path / "out" / "results.json"
    assert json.loads(results.read_text()) == {}
    resumed = calls(suite, "bench")[0]
    assert f"--resume={results}" in resumed
    assert set(resumed) - {f"--resume={results}"} == set(asked)


def test_a_checkout_of_thunderkittens_is_compiled_and_stays(suite):
    kernels = suite.path / "their checkout" / "kernels" / "based"
    kernels.mkdir(parents=True)
    (kernels / "linear_attn.cu").write_text("")
    checkout = suite.path / "their checkout"
    suite.nvcc("/usr/bin/nvcc")
    cache = suite.path / "build/CMakeCache.txt"
    suite.stub(
        "cmake",
        f"""[[ $1 != --version ]] || {{ echo cmake version 3.30.0; exit; }}
echo "cmake $*" >>{suite.calls}
touch build/build.ninja
[[ $1 != --fresh ]] || {{
  echo "CMAKE_CUDA_COMPILER:STRING=/usr/bin/nvcc"
  for each; do [[ $each != -DBASED_* ]] || echo "BASED_THUNDERKITTENS:PATH=${{each#*=}}"; done
}} >{cache}""",
    )

    def configured(out, *arguments):
        """Whether CMake was told of the checkout; None where it was not asked."""
        suite.calls.write_text("")
        done = suite.run("scripts/bench", "--quick", "--out", out, *arguments)
        assert done.returncode == 0, done.stderr
        fresh = [line for line in suite.logged() if line.startswith("cmake --fresh")]
        return f"-DBASED_THUNDERKITTENS={checkout}" in fresh[0] if fresh else None

    assert configured("a") is False
    assert configured("b", "--thunderkittens", checkout) is True
    assert configured("c", "--thunderkittens", checkout) is None
    assert configured("d") is None
    assert str(checkout) in cache.read_text()
    suite.nvcc("/other/nvcc")
    assert configured("e") is True  # another compiler: the checkout stays


def test_a_folder_of_binaries_takes_no_checkout(suite):
    (suite.path / "kernels/based").mkdir(parents=True)
    (suite.path / "kernels/based/linear_attn.cu").write_text("")
    done = suite.run("scripts/bench", "--build-dir", "build", "--thunderkittens", suite.path)
    assert done.returncode == 2
    assert "--build-dir builds nothing: --thunderkittens does not go with it" in done.stderr
