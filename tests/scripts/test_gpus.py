"""scripts/bench --gpus: shards side by side, a process a GPU, on stubs of nvidia-smi, based_bench
and Python."""

import os
import signal
import subprocess
import time

import pytest

CARDS = ("0, H200", "1, H200", "2, H200")


@pytest.fixture
def suite(tree):
    """The tree with binaries elsewhere that have CUDA rows, and three GPUs."""

    def gpus(*cards):
        listed = "\\n".join(cards)
        tree.stub(
            "nvidia-smi", f"[[ $1 != -L ]] || {{ echo 'GPU 0: one'; exit; }}\necho -e '{listed}'"
        )

    def bench(then="exit 0"):
        tree.stub(
            "binaries/based_bench",
            f"""[[ $* != *--benchmark_list_tests* ]] || exit 0
echo "bench gpu=$CUDA_VISIBLE_DEVICES $*" >>{tree.calls}
for argument in "$@"; do
  [[ $argument != --benchmark_out=* ]] || echo '{{}}' >"${{argument#*=}}"
done
{then}""",
        )

    tree.gpus, tree.bench = gpus, bench
    gpus(*CARDS)
    bench()
    tree.stub("python3", f'[[ $1 != -V ]] || echo Python 3.12.1; echo "python $*" >>{tree.calls}')
    return tree


def run(suite, *arguments, **env):
    command = ("scripts/bench", "--build-dir", "binaries", *arguments)
    return subprocess.run(
        command,
        cwd=suite.path,
        env=os.environ | suite.env | env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def calls(suite, program):
    return [line.split()[1:] for line in suite.logged() if line.split()[0] == program]


def test_each_gpu_runs_its_shard_of_each_sweep(suite):
    done = run(suite, "--gpus=all", "--out", "out", "--", "--batch=7")
    assert done.returncode == 0, done.stderr
    benches = calls(suite, "bench")
    assert len(benches) == 6
    for gpu in range(3):
        own = [call for call in benches if call[0] == f"gpu={gpu}"]
        assert len(own) == 2
        for call in own:
            assert f"--shard={gpu + 1}/3" in call
            assert "--benchmark_context=gpus_side_by_side=3" in call
            assert f"--benchmark_out={suite.path}/out/gpu-{gpu + 1}.json" in call
            assert "--batch=7" in call and "--device=cuda" in call
        assert any(f"--resume={suite.path}/out/gpu-{gpu + 1}.json" in call for call in own[1:])
    parts = [f"{suite.path}/out/gpu-{i}.json" for i in (1, 2, 3)]
    merge = ["-m", "plots", "merge", *parts, "--out", f"{suite.path}/out/results.json"]
    assert merge in calls(suite, "python")
    assert "they may share power and cooling" in done.stderr


def test_they_run_at_the_same_time(suite):
    """Each waits for the other two to have begun."""
    suite.bench(
        f"touch {suite.path}/began-$CUDA_VISIBLE_DEVICES\n"
        f"for _ in $(seq 200); do [[ $(ls {suite.path}/began-* | wc -l) -lt 3 ]] || exit 0\n"
        "sleep 0.1; done; exit 1"
    )
    assert run(suite, "--gpus", "all", "--out", "out").returncode == 0


def test_a_list_and_the_environment_choose(suite):
    assert run(suite, "--gpus=2,0", "--out", "a").returncode == 0
    assert {call[0] for call in calls(suite, "bench")} == {"gpu=2", "gpu=0"}
    suite.calls.unlink()
    assert run(suite, "--gpus=all", "--out", "b", CUDA_VISIBLE_DEVICES="1").returncode == 0
    assert {call[0] for call in calls(suite, "bench")} == {"gpu=1"}


def test_resume_goes_on_with_the_same_gpus(suite):
    suite.bench("exit 1")
    done = run(suite, "--gpus=0,2", "--quick", "--out", "out")
    assert done.returncode == 1
    assert "GPU 2: status 1, see" in done.stderr
    suite.calls.unlink()
    suite.bench()
    assert run(suite, "--resume", "out").returncode == 0
    benches = calls(suite, "bench")
    assert {call[0] for call in benches} == {"gpu=0", "gpu=2"}
    assert all(any(option.startswith("--resume=") for option in call) for call in benches)
    assert run(suite, "--resume", "out", "--gpus=1").returncode == 2


@pytest.mark.parametrize(
    ("cards", "given", "says"),
    [
        (CARDS, "0,3", "'3' is no GPU of this machine, which has: 0,1,2"),
        (CARDS, "1,1", "'1,1' names a GPU twice"),
        (CARDS, "some", "want all or indices as 0,1, got 'some'"),
        (("0, H200", "1, A100"), "all", "of several kinds, name those of one: A100, H200"),
    ],
)
def test_what_cannot_run_side_by_side_is_refused(suite, cards, given, says):
    suite.gpus(*cards)
    done = run(suite, f"--gpus={given}", "--out", "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert calls(suite, "bench") == []


def test_without_a_gpu_it_says_so(suite):
    suite.stub("nvidia-smi", "exit 9")
    done = run(suite, "--gpus=all", "--out", "out")
    assert done.returncode == 1
    assert "no CUDA rows" in done.stderr


@pytest.mark.parametrize("to_all", [False, True])
def test_an_interruption_ends_every_process(suite, to_all):
    suite.bench("exec sleep 60")
    process = subprocess.Popen(
        ["scripts/bench", "--build-dir", "binaries", "--gpus=all", "--out", "out"],
        cwd=suite.path,
        env=os.environ | suite.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(calls(suite, "bench")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    if to_all:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.terminate()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode >= 128
    assert f"scripts/bench --resume '{suite.path}/out'" in said
    left = subprocess.run(["pgrep", "-f", f"{suite.path}/binaries"], capture_output=True)
    assert left.stdout == b""
