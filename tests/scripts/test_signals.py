"""A signal to a script alone ends what it runs, and the rows are kept; a script may be a link."""

import os
import signal
import subprocess
import time

import pytest

# Lists a row, as scripts/reproduce asks for; else writes a results file and measures for a minute.
BENCH = """
[[ $* != *--benchmark_list_tests* ]] || {{ echo prefill/based/cpu/manual_time; exit; }}
for argument in "$@"; do
  [[ $argument != --benchmark_out=* ]] || echo '{{}}' >"${{argument#*=}}"
done
echo $$ >{pid}
exec sleep 60
"""


@pytest.fixture
def suite(tree):
    tree.pid = tree.path / "pid"
    tree.stub_build_without_gpu()
    tree.stub("build/based_bench", BENCH.format(pid=tree.pid))
    return tree


def stopped_by(suite, number, command, child_pid):
    """Signals the command alone once its child runs; status, what it said, the child's pid."""
    process = subprocess.Popen(
        command,
        cwd=suite.path,
        env=os.environ | suite.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a background job ignores some
    )
    deadline = time.monotonic() + 60
    while not (child_pid.exists() and child_pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)  # well below what the child would take
    return process.returncode, said, int(child_pid.read_text())


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("name", ["bench", "reproduce"])
def test_a_sweep_ends_and_says_how_to_go_on(suite, name, number):
    command = [f"scripts/{name}", "--out", "out"]
    status, said, child = stopped_by(suite, number, command, suite.pid)
    assert status == 128 + number
    assert f"scripts/{name} --resume '{suite.path}/out'" in said
    assert not is_running(child)
    assert (suite.path / "out/results.json").read_text() == "{}\n"


def test_a_build_ends_too(suite):
    suite.stub(
        "cmake",
        f"[[ $1 != --version ]] || {{ echo cmake version 3.30.0; exit; }}\n"
        f"echo $$ >{suite.pid}\nexec sleep 60",
    )
    command = ["scripts/bench", "--out", "out"]
    status, _, child = stopped_by(suite, signal.SIGTERM, command, suite.pid)
    assert status == 128 + signal.SIGTERM
    assert not is_running(child)


@pytest.mark.parametrize(("script", "tool"), [("profile_ncu", "ncu"), ("profile_nsys", "nsys")])
def test_a_profiler_ends_too(suite, script, tool):
    suite.stub("build/based_bench", "echo prefill/based/cuda/manual_time")
    suite.stub(
        tool, f"[[ $* != *--query-metrics* ]] || exit 0\necho $$ >{suite.pid}\nexec sleep 60"
    )
    with (suite.path / "scripts/lib/build.sh").open("a") as library:
        library.write("find_nvcc() { echo /some/nvcc; }\n")
    command = [f"scripts/{script}", "prefill", "--build-dir", "build", "--out", "out"]
    status, _, child = stopped_by(suite, signal.SIGTERM, command, suite.pid)
    assert status == 128 + signal.SIGTERM
    assert not is_running(child)


@pytest.mark.parametrize(
    "name",
    [
        "bench",
        "gpu_check",
        "lint",
        "profile_ncu",
        "profile_nsys",
        "reproduce",
        "test",
        "update_readme",
    ],
)
def test_a_script_may_be_a_link(run, script, tmp_path, name):
    link = tmp_path / "link"
    link.symlink_to(script(name))
    done = run(link, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
