"""scripts/profile_ncu and profile_nsys, with stubs for the profilers and based_bench."""

import json
import re
import sys

import pytest
from held import description

ROWS = ("prefill/based/cuda/B:1/H:16/N:1024", "prefill/naive/cuda/B:1/H:16/N:1024")
HELD = description(
    prefill={
        "based": "ours",
        "based_sm80": "ours",
        "causal_dot_product": "baseline",
        "causal_dot_product_153": "baseline",
        "chunked_parallel": "baseline",
        "chunked_recurrent": "baseline",
        "naive": "baseline",
    },
    attention={"softmax_attention": "baseline"},
    decode={"based": "ours", "expanded": "baseline", "naive": "baseline"},
    sliding_window={"based": "ours", "naive": "baseline", "tile": "baseline"},
    causal_conv={"direct": "ours"},
)
LISTING = f"[[ $1 != --describe ]] || {{ echo '{HELD}'; exit; }}\n" + "\n".join(
    f"echo {row}/manual_time" for row in ROWS
)
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
    """The words of the call that profiles: nsys' only one, ncu's that exports."""
    lines = [line.split() for line in suite.logged()]
    return next(w for w in lines if w[0] == program and (program != "ncu" or "--export" in w))


# What ncu prints of its report: names, units, a line a kernel.
RAW = f'''"ID","thread Domain:Push/Pop_Range","Kernel Name","dram__bytes_read.sum"
"","","","byte"
"0","<default domain>:{ROWS[0]}:none","some_kernel","1000000"'''


@pytest.fixture
def carried(suite):
    folder = suite.carry_away("based_bench")
    suite.stub("python3", f'exec {sys.executable} "$@"')
    return folder


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
    assert {"--clock-control=none", "--set=full"} <= set(call)
    binary = call.index(f"{suite.path}/build/based_bench")
    assert call[binary - 2 : binary] == ["--launch-count", "1"]
    assert {"--profile", "--benchmark_filter=prefill", "--batch=1"} <= set(call[binary:])
    (folder,) = (suite.path / "results").iterdir()
    assert {"report.ncu-rep", "summary.txt"} <= {file.name for file in folder.iterdir()}


def test_ncu_is_asked_for_the_counts_that_it_knows(suite):
    listing = (
        "Device H200\nsm__ops_path_tensor_src_bf16_dst_fp32  Counter\ndram__bytes_read  Counter"
    )
    suite.profiler("ncu", f"[[ $1 != --query-metrics ]] || {{ echo '{listing}'; exit; }}")
    suite.stub(".venv/bin/python", f'exec {sys.executable} "$@"')
    suite.run("scripts/profile_ncu", "prefill", "--audit")
    call = words(suite, "ncu")
    assert not any(word.startswith("--set") or word == "--audit" for word in call)
    (metrics,) = [word for word in call if word.startswith("--metrics=")]
    assert metrics.removeprefix("--metrics=").split(",") == [
        "dram__bytes_read.sum",
        "launch__registers_per_thread",
        "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
    ]


def test_an_audit_without_a_filter_is_of_the_readmes_rows(suite, root):
    suite.profiler("ncu")
    suite.stub(
        ".venv/bin/python", f'[[ $1 != */implementations.py ]] || exec {sys.executable} "$@"'
    )
    done = suite.run("scripts/profile_ncu", "--audit", "--launch-count", "1")
    assert done.returncode == 0, done.stderr
    call = words(suite, "ncu")
    (chosen,) = [word for word in call if word.startswith("--benchmark_filter=")]
    chosen = re.compile(chosen.partition("=")[2])
    committed = json.loads((root / "plots/data/h200_audit.json").read_text())["rows"]
    assert all(chosen.search(f"{row['row']}/manual_time") for row in committed)
    assert not chosen.search("prefill/chunked_parallel/cuda/B:16/H:16/N:8192/options:a/manual_time")
    assert not chosen.search("prefill/based/cuda/B:1/H:16/N:128/manual_time")
    shape = "attention/softmax_attention/cuda/B:16/H:16/N:8192/Dh:128"
    assert chosen.search(f"{shape}/causal:0/manual_time")
    assert not chosen.search(f"{shape}/causal:0/options:lse/manual_time")
    convolution = "causal_conv/direct/cuda/B:16/N:8192/D:2304/taps:4"
    assert chosen.search(f"{convolution}/manual_time")
    assert not chosen.search(f"{convolution}/options:bias/manual_time")
    assert {"--launch-count", "--options=none,all", "--head-dim=64,128", "--causal=0,1"} <= set(
        call
    )


def test_ncus_options_replace_the_scripts(suite):
    """ncu takes no option twice."""
    suite.profiler("ncu")
    done = suite.run("scripts/profile_ncu", "prefill", "--set", "basic", "--clock-control=base")
    assert done.returncode == 0, done.stderr
    call = words(suite, "ncu")
    assert [word for word in call if word.startswith("--set")] == ["--set"]
    assert [w for w in call if w.startswith("--clock-control")] == ["--clock-control=base"]
    assert any(word.startswith("--metrics=") for word in call)


def test_ncu_profiles_the_binaries_of_another_folder(suite, carried):
    suite.profiler(
        "ncu",
        f"""if [[ $1 == --import ]]; then echo '{RAW}'; exit; fi
for word in "$@"; do
  [[ $word != --benchmark_out=* ]] || echo '{{"context": {{"gpu_name": "Some GPU"}}, "benchmarks":
    [{{"row": "{ROWS[0]}", "compulsory_MB": 0.5}}]}}' >"${{word#*=}}"
done""",
    )
    done = suite.run("scripts/profile_ncu", "prefill", "--build-dir", carried, "--audit")
    assert done.returncode == 0, done.stderr
    assert str(carried / "based_bench") in words(suite, "ncu")
    assert suite.set_up_or_built() == []
    (folder,) = (suite.path / "results").iterdir()
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["device"] == "Some GPU"
    assert [row["row"] for row in audit["rows"]] == [ROWS[0]]
    assert f"{folder}/audit.json" in done.stdout
    assert "some_kernel" in done.stdout


def test_nsys_profiles_the_binaries_of_another_folder(suite, carried):
    suite.profiler("nsys")
    done = suite.run("scripts/profile_nsys", "prefill", "--trace=cuda", "--build-dir", carried)
    assert done.returncode == 0, done.stderr
    call = words(suite, "nsys")
    assert str(carried / "based_bench") in call
    assert [word for word in call if word.startswith("--trace")] == ["--trace=cuda"]
    assert "--build-dir" not in call


@pytest.mark.parametrize("tool", ["ncu", "nsys"])
def test_leaves_all_in_the_folder_that_is_named(suite, tool):
    suite.profiler(tool)
    folder = suite.path / "some" / "folder"
    folder.mkdir(parents=True)
    (folder / "report.html").touch()  # a sweep's: no reason to refuse
    command = (f"scripts/profile_{tool}", "prefill", "--out", folder)
    done = suite.run(*command)
    assert done.returncode == 0, done.stderr
    assert "--out" not in words(suite, tool)
    assert (folder / "summary.txt").exists()
    assert list(folder.glob(f"report*.{tool}-rep"))
    assert str(folder) in done.stdout
    assert not (suite.path / "results").exists()

    again = suite.run(*command)
    assert again.returncode == 2
    assert "holds a report already" in again.stderr


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


def test_nsys_that_cannot_convert_its_recording_is_no_success(suite):
    suite.profiler("nsys", 'touch "$(ls -d results/*-nsys)/report.1.qdstrm"')
    done = suite.run("scripts/profile_nsys", "prefill")
    assert done.returncode == 1
    assert "could not convert" in done.stderr and "report.1.qdstrm" in done.stderr


def test_nsys_reports_each_row(suite):
    suite.profiler("nsys")
    done = suite.run("scripts/profile_nsys", "prefill", "--", "--batch=1")
    assert done.returncode == 0, done.stderr
    call = words(suite, "nsys")
    assert {"--capture-range=cudaProfilerApi", "--profile", "--batch=1"} <= set(call)
    (folder,) = (suite.path / "results").iterdir()
    assert (folder / "summary.txt").exists()
