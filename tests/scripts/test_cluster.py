"""scripts/cluster: on a real Slurm of one node where it can be started, and on stubs for what a
cluster does wrong."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
_SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
SWEEP = (
    "--device=cpu",
    "--benchmark_filter=^prefill/(based|naive)/",
    "--batch=1",
    "--heads=1",
    "--seqlen=32,64",
    "--time-cap=0.1",
)


def rows_of(path):
    document = json.loads(path.read_text())
    threads = [context["cpu_threads"] for context in document["contexts"]]
    return sorted((row["row"], threads[row["context"]]) for row in document["benchmarks"])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which this machine's one-node Slurm is reached."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_SBIN) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: packages slurmctld, slurmd, slurm-client, munge")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own wants root")
    script = Path(__file__).parents[1] / "support" / "one_node_slurm"
    folder = tmp_path_factory.mktemp("slurm")
    env = os.environ | {"PATH": _SBIN}
    started = subprocess.run(
        [script, "start", folder], env=env, capture_output=True, text=True, timeout=60
    )
    try:
        assert started.returncode == 0, started.stderr
        yield {"PATH": _SBIN, "SLURM_CONF": started.stdout.strip(), "OMP_NUM_THREADS": "1"}
    finally:
        subprocess.run([script, "stop", folder], env=env, timeout=60)


def cluster(script, env, *arguments, cwd):
    return subprocess.run(
        [script("cluster"), *map(str, arguments)],
        env=os.environ | env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_sweep_on_two_kinds_of_machine(slurm, script, binary, tmp_path):
    """Two targets, told apart by their threads; one shard is then lost, and resumed."""
    folder, out = binary("based_bench").parent, tmp_path / "out"
    options = ("--build-dir", folder, "--poll", 1)
    one = ("--target", "one", "--partition", "first", "--cpus-per-task", 1)
    other = ("--target", "two", "--partition", "second", "--constraint", "small")
    done = cluster(
        script,
        slurm,
        *(*options, "--out", out, "--shards", 2, *one, *other, "--cpus-per-task", 2),
        *("--", *SWEEP),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(out / "results.json")
    assert len(rows) == 8
    assert {threads for _, threads in rows} == {"1", "2"}
    assert len({name for name, _ in rows}) == 4
    assert "1 threads" in (out / "report.html").read_text()

    lost = out / "two" / "2.json"
    kept = {path: path.read_bytes() for path in out.glob("*/*.json") if path != lost}
    lost.unlink()
    (out / "two" / "2.status").unlink()
    again = cluster(script, slurm, *options, "--resume", out, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "target two: job" in again.stderr
    assert "shards 2\n" in again.stderr
    assert "target one: job" not in again.stderr
    assert rows_of(out / "results.json") == rows
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_job_that_the_scheduler_ends_is_submitted_again(slurm, script, binary, tmp_path):
    """The first attempt cancels its own task, as a time limit or a node's failure ends one."""
    bench, seen = tmp_path / "bin" / "based_bench", tmp_path / "seen"
    bench.parent.mkdir()
    bench.write_text(
        "#!/bin/bash\n"
        f"[[ -e {seen} ]] || {{ touch {seen}; scancel $SLURM_JOB_ID; sleep 60; }}\n"
        f'exec {binary("based_bench")} "$@"\n'
    )
    bench.chmod(0o755)
    out = tmp_path / "out"
    options = ("--build-dir", bench.parent, "--poll", 1, "--shards", 1, "--out", out)
    done = cluster(script, slurm, *options, "--", *SWEEP, "--seqlen=32", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "some shards are unfinished: submitting them again" in done.stderr
    assert len(rows_of(out / "results.json")) == 2


def test_the_scheduler_s_refusal_is_passed_on(slurm, script, binary, tmp_path):
    folder = binary("based_bench").parent
    options = ("--build-dir", folder, "--partition", "no_such", "--out", tmp_path / "out")
    done = cluster(script, slurm, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "no_such" in done.stderr or "invalid partition" in done.stderr
    assert "sbatch refused target 'all'" in done.stderr


@pytest.fixture
def stubbed(tree):
    """The tree with a Slurm of stubs: sbatch runs the array's tasks at once, one after another."""
    tree.stub(
        "sbatch",
        f"""echo "sbatch $*" >>{tree.calls}
while [[ $1 == --* ]]; do
  [[ $1 != --array=* ]] || array=${{1#*=}}
  [[ $1 != --output=* ]] || log=${{1#*=}}
  shift
done
for SLURM_ARRAY_TASK_ID in ${{array//,/ }}; do
  export SLURM_ARRAY_TASK_ID
  "$@" >>"${{log/\\%a/$SLURM_ARRAY_TASK_ID}}" 2>&1
done
echo "7;cluster\"""",
    )
    tree.stub("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    tree.stub("python3", f'[[ $1 != -V ]] || echo Python 3.12.1; echo "python $*" >>{tree.calls}')

    def bench(then):
        tree.stub(
            "build/based_bench",
            f"""echo "bench $*" >>{tree.calls}
for argument in "$@"; do
  [[ $argument != --benchmark_out=* ]] || echo '{{}}' >"${{argument#*=}}"
done
{then}""",
        )

    tree.bench = bench
    bench("exit 0")
    return tree


def run(tree, *arguments):
    options = ("--build-dir", "build", "--poll", "1")
    return tree.run("scripts/cluster", *options, *arguments)


def calls(tree, program):
    return [line.split()[1:] for line in tree.logged() if line.split()[0] == program]


def test_options_reach_sbatch_by_target(stubbed):
    done = run(
        stubbed,
        *("--out", "out", "--shards", "3", "--account", "my group", "--target", "h100"),
        *("--partition", "gpu", "--gres", "gpu:h100:1", "--target", "cpu", "--constraint", "avx"),
        *("--", "--benchmark_filter=^x/", "--batch=1"),
    )
    assert done.returncode == 0, done.stderr
    gpu, cpu = (" ".join(call) for call in calls(stubbed, "sbatch"))
    for part in ("--array=1,2,3", "--partition=gpu", "--gres=gpu:h100:1", "--account=my group"):
        assert part in gpu
    assert "--constraint=avx" in cpu and "gres" not in cpu and "--account=my group" in cpu
    benches = [call for call in calls(stubbed, "bench") if "--shard=2/3" in call]
    assert len(benches) == 2
    assert "--device=cuda" in benches[0] and "--device=cuda" not in benches[1]
    assert all({"--benchmark_filter=^x/", "--batch=1"} <= set(call) for call in benches)
    (merged,) = (call for call in calls(stubbed, "python") if call[:3] == ["-m", "plots", "merge"])
    assert len([argument for argument in merged if argument.endswith(".json")]) == 7


def test_a_failing_shard_is_tried_again_then_told(stubbed):
    stubbed.bench("[[ $* != *--shard=2/2* ]] || exit 1")
    done = run(stubbed, "--out", "out", "--shards", "2", "--retries", "1")
    assert done.returncode == 1
    arrays = [call[-8:] for call in calls(stubbed, "sbatch")]
    assert len(arrays) == 2
    assert sum("--shard=2/2" in call for call in calls(stubbed, "bench")) == 2
    assert sum("--shard=1/2" in call for call in calls(stubbed, "bench")) == 1
    again = [call for call in calls(stubbed, "bench") if "--shard=2/2" in call][1]
    assert any(option.startswith("--resume=") for option in again)
    assert "target all, shard 2: exit status 1" in done.stderr
    assert any("merge" in call for call in calls(stubbed, "python"))


def test_submitting_alone_returns_at_once_and_is_resumed(stubbed):
    assert run(stubbed, "--out", "out", "--no-wait", "--", "--batch=3").returncode == 0
    assert not any("merge" in call for call in calls(stubbed, "python"))
    done = run(stubbed, "--resume", "out")
    assert done.returncode == 0, done.stderr
    assert len(calls(stubbed, "sbatch")) == 1
    assert any("merge" in call for call in calls(stubbed, "python"))


def test_a_controller_that_does_not_answer_is_asked_again(stubbed):
    stubbed.stub(
        "squeue",
        f"""[[ -e {stubbed.path}/asked ]] && exit 0
touch {stubbed.path}/asked; echo 'Unable to contact slurm controller' >&2; exit 1""",
    )
    done = run(stubbed, "--out", "out")
    assert done.returncode == 0
    assert "Unable to contact slurm controller" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "a/b"], "'a/b' is no name"),
        (["--target", "a", "--target", "a"], "'a' is given twice"),
        (["--shards", "0"], "--shards: want a whole number"),
        (["--retries", "x"], "--retries: want a whole number"),
        (["--resume", "nothing"], "'nothing' is no earlier call"),
        (["--partition"], "--partition needs a value"),
        (["--nonsense"], "unknown option '--nonsense'"),
    ],
)
def test_bad_usage(stubbed, arguments, says):
    done = run(stubbed, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert calls(stubbed, "sbatch") == []


def test_resume_takes_no_other_sweep(stubbed):
    run(stubbed, "--out", "out")
    assert run(stubbed, "--resume", "out", "--shards", "9").returncode == 2
    assert run(stubbed, "--out", "out").returncode == 2
