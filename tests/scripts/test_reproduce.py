"""scripts/reproduce from end to end, with stubs for CMake, Python, based_bench and peers."""

import itertools
import json
import re

import pytest

# Lists two rows a sweep, one of them in every sweep; else writes results.
BENCH = r"""
for argument in "$@"; do
  if [[ $argument == --benchmark_list_tests ]]; then
    echo "prefill/based/every/manual_time"
    echo "prefill/based/$(cksum <<<"$*" | cut -d ' ' -f 1)/manual_time"
    exit
  fi
done
echo "bench $*" >>{calls}
for argument in "$@"; do
  [[ $argument != --benchmark_out=* ]] || echo '{{"run_type":"iteration"}}' >"${{argument#*=}}"
done
{then}
"""


@pytest.fixture
def suite(tree):
    def bench(then="exit 0"):
        tree.stub("build/based_bench", BENCH.format(calls=tree.calls, then=then))

    tree.bench = bench
    bench()
    tree.stub_build_without_gpu()
    tree.stub(
        "scripts/peers",
        f'echo "peers $*" >>{tree.calls}',
    )
    return tree


@pytest.fixture
def gpu_suite(suite):
    suite.stub("nvidia-smi", "echo 'GPU 0: one'")
    (suite.path / "build/CMakeCache.txt").write_text("CMAKE_CUDA_COMPILER:STRING=/usr/bin/nvcc\n")
    (suite.path / "build/build.ninja").write_text("")
    with (suite.path / "scripts/lib/build.sh").open("a") as library:
        library.write("find_nvcc() { echo /usr/bin/nvcc; }\n")
    return suite


def calls(tree, program):
    return [line.split()[1:] for line in tree.logged() if line.split()[0] == program]


def expanded(options, name):
    """The values of a list option of based_bench."""
    (text,) = [o.partition("=")[2] for o in options if o.startswith(f"--{name}=")]
    values = []
    for part in text.split(","):
        first, *rest = part.split(":")
        value, last = int(first), int(rest[0]) if rest else int(first)
        while value <= last:
            values.append(value)
            value *= int(rest[1][1:]) if rest else last + 1
    return values


def shapes(sweeps):
    """(B, N) of every prefill sweep over all implementations, or the fastest."""
    return {
        (b, n)
        for options in sweeps
        if any(o.startswith("--benchmark_filter=^(prefill|attention)/") for o in options)
        and not any(option.startswith("--implementation") for option in options)
        for b in expanded(options, "batch")
        for n in expanded(options, "seqlen")
    }


FIGURES = (
    {(2**i, 8192) for i in range(9)}
    | {(2**i, 16384) for i in range(1, 7)}
    | {(2**i, 1024) for i in range(1, 9)}
    | {(b, 2**i) for b in (4, 16) for i in range(8, 16)}
    | {(16, n) for n in (1024, 2048, 3072, 6144, 12288)}
)


def test_a_gpu_gets_the_figures_shapes_and_no_others(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--out", "out")
    assert done.returncode == 0, done.stderr
    sweeps = calls(gpu_suite, "bench")
    assert all({"--device=cuda", "--burst=always"} <= set(sweep) for sweep in sweeps)
    of_based = ("^(prefill|attention)/", "^prefill/based", "^sliding_window/")
    others = [s for s in sweeps if any(f"--benchmark_filter={name}" in s for name in of_based)]
    assert all("--heads=16" in s for s in others)
    assert shapes(sweeps) == FIGURES
    assert shapes(calls(gpu_suite, "peers")) == FIGURES
    (decode,) = [s for s in sweeps if "--benchmark_filter=^decode/" in s]
    (window,) = [s for s in sweeps if "--benchmark_filter=^sliding_window/" in s]
    for steps in (decode, window):
        assert expanded(steps, "batch") == [1, 8, 16, 32, 64, 128, 256]
    assert {"--heads=16,32", "--state=bf16,f32"} <= set(decode)
    assert "--window=64,128" in window
    (longest,) = [s for s in sweeps if "--implementation=based" in s]
    assert expanded(longest, "seqlen") == [128, 512, 131072]


def test_attention_has_a_study_of_its_own(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--out", "out")
    assert done.returncode == 0, done.stderr
    study = [
        s
        for s in calls(gpu_suite, "bench")
        if any(option.startswith("--benchmark_filter=^attention/") for option in s)
    ]
    assert all({"--head-dim=64,128", "--time-cap=1"} <= set(sweep) for sweep in study)
    assert any(expanded(sweep, "seqlen")[-1] == 131072 for sweep in study)
    said = {option for sweep in study for option in sweep}
    assert {"--window=128,1024,4096", "--inputs=normal,sink,growing"} <= said
    for program in ("bench", "peers"):  # both sides at each point
        (beside,) = [
            s
            for s in calls(gpu_suite, program)
            if "--causal=0,1" in s and len(expanded(s, "batch")) == 3
        ]
        assert expanded(beside, "batch") == [1, 4, 16]
        assert expanded(beside, "seqlen") == [256, 512, 1024, 2048, 8192, 32768]
        assert not any(option.startswith("--implementation") for option in beside)
        (wanted,) = [o for o in beside if o.startswith("--benchmark_filter")]
        assert {"forward_sm90", "flash_attention_4", "torch_sdpa_cudnn"} <= set(
            re.findall(r"\w+", wanted)
        )
    groups = [{o for o in s if "heads=" in o} for s in study if any("kv-heads" in o for o in s)]
    assert groups == [
        {"--heads=64", "--kv-heads=8"},
        {"--heads=32", "--kv-heads=4"},
        {"--heads=16", "--kv-heads=1"},
    ]


def test_state_space_layers_have_a_study_of_the_sizes_that_the_figures_compare(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--out", "out")
    assert done.returncode == 0, done.stderr
    for program in ("bench", "peers"):
        sweeps = calls(gpu_suite, program)
        ssd = [s for s in sweeps if "--benchmark_filter=^ssd/" in s and "--head-dim=64" in s]
        scan = [s for s in sweeps if "--benchmark_filter=^selective_scan/" in s]
        assert all({"--d-inner=2048", "--d-state=16"} <= set(sweep) for sweep in scan)
        figure = [s for s in ssd if {"--heads=16", "--state-dim=256"} <= set(s)]
        for of_kind in (scan, figure):
            shapes = {
                (b, n) for s in of_kind for b in expanded(s, "batch") for n in expanded(s, "seqlen")
            }
            assert {(2**i, 8192) for i in range(8)} | {(16, 2**i) for i in range(8, 16)} <= shapes
        sizes = {tuple(o for o in s if o.startswith(("--heads", "--state-dim"))) for s in ssd}
        assert {("--heads=32", "--state-dim=128"), ("--heads=16", "--state-dim=128")} <= sizes
        assert [s for s in sweeps if "--benchmark_filter=^ssd_decode/" in s]
        assert [s for s in sweeps if "--benchmark_filter=^selective_scan_decode/" in s]


def test_some_of_the_sweeps_can_be_listed_run_and_gone_on_with(gpu_suite):
    every = gpu_suite.run("scripts/reproduce", "--list").stdout.splitlines()
    assert not calls(gpu_suite, "bench")
    listed = gpu_suite.run("scripts/reproduce", "--list", "--only", "model_").stdout.splitlines()
    assert listed == [line for line in every if "model_" in line]
    assert 0 < len(listed) < len(every)
    for options in (["--out", "out", "--only", "model_"], ["--resume", "out"]):
        before = len(calls(gpu_suite, "bench"))
        done = gpu_suite.run("scripts/reproduce", *options)
        assert done.returncode == 0, done.stderr
        new = calls(gpu_suite, "bench")[before:]
        assert len(new) == len(listed)
        assert all(any("model_" in option for option in call) for call in new)


def test_a_list_counts_the_rows_of_a_build(gpu_suite):
    listed = gpu_suite.run("scripts/reproduce", "--list").stdout
    done = gpu_suite.run("scripts/reproduce", "--list", "--build-dir", "build")
    assert done.returncode == 0, done.stderr
    assert done.stdout == listed
    assert f"{len(listed.splitlines()) + 1} rows on cuda" in done.stderr
    assert not calls(gpu_suite, "bench")


@pytest.mark.parametrize("options", [["--only", "nothing"], ["--list", "--only", "nothing"]])
def test_no_sweep_is_no_run(gpu_suite, options):
    done = gpu_suite.run("scripts/reproduce", "--out", "out", *options)
    assert done.returncode == 2
    assert "no sweep matches 'nothing'" in done.stderr
    assert not calls(gpu_suite, "bench")


def test_originals_go_into_the_pictures(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--quick", "--out", "out")
    assert done.returncode == 0, done.stderr
    out = gpu_suite.path / "out"
    results = f"{out}/results.json"
    for peers in calls(gpu_suite, "peers"):
        assert peers[-2:] == [f"--resume={results}", f"--benchmark_out={results}"]
    files = [results]
    plots = [call[2:] for call in calls(gpu_suite, "python") if call[:2] == ["-m", "plots"]]
    assert plots == [
        ["table", *files],
        ["render", "--published", *files, "--out", str(out)],
        ["report", "--published", *files, "--out", str(out)],
    ]
    assert f"{out}/report.html" in done.stdout


def test_originals_follow_the_suites_own_rows_of_a_sweep(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--out", "out")
    assert done.returncode == 0, done.stderr
    log = [line.split() for line in gpu_suite.logged() if line.split()[0] in ("bench", "peers")]
    files = ("--resume=", "--benchmark_out=")
    own = [[o for o in call if not o.startswith(files)] for call in log]
    for before, call in itertools.pairwise(own):
        if call[0] == "peers":
            assert before == ["bench", *call[1:]]
    for call in own:
        ours_alone = any("=^prefill/based" in o or o.startswith("--implementation") for o in call)
        assert (["peers", *call[1:]] in own) != ours_alone


def test_the_binaries_of_another_folder_are_taken_as_they_are(gpu_suite):
    folder = gpu_suite.carry_away("based_bench")
    gpu_suite.stub(
        "python3", f'[[ $1 != -V ]] || echo Python 3.12.1; echo "python $*" >>{gpu_suite.calls}'
    )
    done = gpu_suite.run("scripts/reproduce", "--quick", "--out", "out", "--build-dir", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert gpu_suite.set_up_or_built() == []
    assert all("--device=cuda" in sweep for sweep in calls(gpu_suite, "bench"))
    plots = [call[2] for call in calls(gpu_suite, "python") if call[:2] == ["-m", "plots"]]
    assert plots == ["table", "render", "report"]
    gpu_suite.stub(
        "elsewhere/based_bench", BENCH.format(calls=gpu_suite.calls, then="kill -KILL $$")
    )
    done = gpu_suite.run("scripts/reproduce", "--resume", "out", "--build-dir", folder)
    resuming = f"scripts/reproduce --resume '{gpu_suite.path}/out' --build-dir '{folder}'"
    assert resuming in done.stderr


def test_a_failed_original_fails_the_run_but_loses_nothing(gpu_suite):
    gpu_suite.stub("scripts/peers", "exit 1")
    done = gpu_suite.run("scripts/reproduce", "--quick", "--out", "out")
    assert done.returncode == 1
    assert any("report" in call for call in calls(gpu_suite, "python"))


@pytest.mark.parametrize("mode", [[], ["--quick"]])
def test_without_a_gpu_every_figure_has_its_sizes(suite, mode):
    done = suite.run("scripts/reproduce", *mode, "--out", "out")
    assert done.returncode == 0, done.stderr
    sweeps = calls(suite, "bench")
    assert all("--device=cpu" in sweep for sweep in sweeps)
    found = shapes(sweeps)
    by_batch = {n: {b for b, m in found if m == n} for _, n in found}
    by_length = {b: {n for c, n in found if c == b} for b, _ in found}
    assert max(map(len, by_batch.values())) >= 2
    assert max(map(len, by_length.values())) >= 3
    (steps,) = [s for s in sweeps if "--benchmark_filter=^(decode|sliding_window)/" in s]
    assert len(expanded(steps, "batch")) >= 2
    assert calls(suite, "peers") == []
    assert "the living originals need a GPU: left out" in done.stderr


def test_says_beforehand_how_long_it_takes(suite):
    done = suite.run("scripts/reproduce", "--quick", "--out", "out")
    sweeps = len(calls(suite, "bench"))
    # A row of its own and one in common; 1 s of time cap and 2 s of set-up and rest each.
    assert f"{sweeps + 1} rows on cpu, 0 of them there already: some 1 min" in done.stderr
    assert "at most 1 min" in done.stderr


def test_a_time_cap_holds_for_every_row(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--out", "out", "--time-cap", "3")
    assert done.returncode == 0, done.stderr
    for program in ("bench", "peers"):
        for sweep in calls(gpu_suite, program):
            assert [o for o in sweep if o.startswith("--time-cap")] == ["--time-cap=3"]
    rows = len(calls(gpu_suite, "bench")) + 1
    assert f"at most {(rows * (3 + 2) + 59) // 60} min" in done.stderr
    done = gpu_suite.run("scripts/reproduce", "--out", "short", "--time-cap", "0.15")
    assert done.returncode == 0, done.stderr
    # A burst and its rest are 0.6 s.
    assert f"some {-(-rows * 750 // 60000)} min for all" in done.stderr
    assert f"at most {-(-rows * 2150 // 60000)} min" in done.stderr
    for value in ("0", "0.0", "1.", "-1", "many"):
        done = gpu_suite.run("scripts/reproduce", "--out", "other", "--time-cap", value)
        assert done.returncode == 2
        assert f"want seconds, at least 0.001, got '{value}'" in done.stderr


def test_energy_is_asked_of_every_row_of_a_gpu(gpu_suite):
    done = gpu_suite.run("scripts/reproduce", "--quick", "--out", "out", "--energy")
    assert done.returncode == 0, done.stderr
    for program in ("bench", "peers"):
        sweeps = calls(gpu_suite, program)
        assert sweeps
        assert all("--energy" in sweep for sweep in sweeps)
    gpu_suite.bench("kill -KILL $$")
    done = gpu_suite.run("scripts/reproduce", "--out", "other", "--energy")
    assert "other' --energy" in done.stderr


def test_energy_without_a_gpu_is_named_as_unused(suite):
    done = suite.run("scripts/reproduce", "--quick", "--out", "out", "--energy")
    assert done.returncode == 0, done.stderr
    assert "--energy is not used: no GPU here" in done.stderr
    assert all("--energy" not in sweep for sweep in calls(suite, "bench"))


def test_resume_repeats_the_sweeps_on_the_rows_there(suite):
    suite.bench("kill -KILL $$")
    done = suite.run("scripts/reproduce", "--quick", "--out", "out")
    assert done.returncode == 1
    assert f"scripts/reproduce --resume '{suite.path}/out'" in done.stderr
    asked = calls(suite, "bench")[0]
    suite.calls.unlink()
    suite.bench()
    done = suite.run("scripts/reproduce", "--resume", "out")
    assert done.returncode == 0, done.stderr
    results = suite.path / "out" / "results.json"
    resumed = calls(suite, "bench")[0]
    assert set(resumed) - {f"--resume={results}"} == set(asked)
    assert "1 of them there already" in done.stderr
    assert json.loads(results.read_text()) == {"run_type": "iteration"}
