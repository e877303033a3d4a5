"""scripts/profile_ncu and profile_nsys, with stubs for the profilers and based_bench."""

import pytest

ROWS = ("prefill/based/cuda/B:1/H:16/N:1024", "prefill/naive/cuda/B:1/H:16/N:1024")
LISTING = "\n".join(f"echo {row}/manual_time" for row in ROWS)
PROFILER = """echo "$(basename "$0") $*" >>{calls}
{then}
while [[ $# -gt 0 && $1 != --export && $1 != --output=* ]]; do shift; done
[[ ${{1:-}} != --export ]] || touch "$2.ncu-rep"
[[ ${{1:-}} != --output=* ]] || touch "${{1#*=}}.1.nsys-rep"
"""


@pytest.fixture
def suite(tree):
    """The tree, able to profile; suite.profiler(name, then) says what the profiler does first."""

    def profiler(name, then=""):
        tree.stub(name, PROFILER.format(calls=tree.calls, then=then))

    tree.profiler = profiler
    with (tree.path / "scripts/lib/build.sh").open("a") as library:
        library.write("find_nvcc() { echo /some/bin/nvcc; }\n")
    tree.stub("dpkg-query", "echo 'install ok installed'")
    tree.stub("cmake", "[[ $1 != --version ]] || echo cmake version 3.30.0")
    tree.stub("build/based_bench", LISTING)
    (tree.path / "build/build.ninja").write_text("")
    (tree.path / "build/CMakeCache.txt").write_text("CMAKE_CUDA_COMPILER:STRING=/some/bin/nvcc\n")
    return tree


def words(suite, program):
    return next(line.split() for line in suite.logged() if line.split()[0] == program)


def test_ncu_sees_the_rows_ranges_alone(suite):
    suite.profiler("ncu")
    done = suite.run(
        "scripts/profile_ncu", "prefill", "--launch-count", "1", "--", "--batch=1", "--seqlen=1024"
    )
    assert done.returncode == 0, done.stderr
    call = words(suite, "ncu")
    included = [call[i + 1] for i, word in enumerate(call) if word == "--nvtx-include"]
    assert included == [f"regex:{row.replace('/', '.')}/" for row in ROWS]
    at = call.index("--profile-from-start")
    assert call[at + 1] == "off"
    assert call[call.index("--clock-control") + 1] == "none"
    binary = call.index(f"{suite.path}/build/based_bench")
    assert call[binary - 2 : binary] == ["--launch-count", "1"]
    assert {"--profile", "--benchmark_filter=prefill", "--batch=1"} <= set(call[binary:])
    (folder,) = (suite.path / "results").iterdir()
    assert {"report.ncu-rep", "summary.txt"} <= {file.name for file in folder.iterdir()}


def test_missing_permission_names_the_fix(suite):
    suite.profiler("ncu", "echo '==ERROR== ERR_NVGPUCTRPERM'; exit 1")
    done = suite.run("scripts/profile_ncu", "prefill")
    assert done.returncode == 1
    assert "NVreg_RestrictProfilingToAdminUsers=0" in done.stderr


def test_a_run_without_kernels_fails(suite):
    suite.profiler("ncu", "exit 0")
    done = suite.run("scripts/profile_ncu", "prefill")
    assert done.returncode == 1
    assert "ncu saw no kernel" in done.stderr


@pytest.mark.parametrize("name", ["ncu", "nsys"])
def test_a_filter_without_rows_fails(suite, name):
    suite.profiler(name)
    suite.stub("build/based_bench", "echo \"--benchmark_filter: 'x' matches no row\" >&2; exit 2")
    done = suite.run(f"scripts/profile_{name}", "x")
    assert done.returncode == 1
    assert "'x' matches no row" in done.stderr
    assert suite.logged() == [] or name not in {line.split()[0] for line in suite.logged()}


def test_nsys_reports_each_row(suite):
    suite.profiler("nsys")
    done = suite.run("scripts/profile_nsys", "prefill", "--", "--batch=1")
    assert done.returncode == 0, done.stderr
    call = words(suite, "nsys")
    assert {"--capture-range=cudaProfilerApi", "--profile", "--batch=1"} <= set(call)
    (folder,) = (suite.path / "results").iterdir()
    assert (folder / "summary.txt").exists()
