"""scripts/fit_dispatch: what it asks of based_bench, what it keeps of it, and how it goes on."""

import importlib
import json
import stat
import sys

import pytest

# A based_bench whose rows all take 5 us, with the names and options that it was asked for; single
# calls of more than 4096 tokens.
BENCH = f"""#!{sys.executable}
import json, re, sys
if sys.argv[1:] == ["--describe"]:
    based = dict(name="based", device="cuda", variants=VARIANTS)
    json.dump(dict(operations=[dict(name="prefill", implementations=[based])]), sys.stdout)
    sys.exit()
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
filter, rows = re.compile(given["benchmark_filter"]), []
names = {{"none": "", "normalize": "/options:normalize",
         "all": "/options:final_state+initial_state+normalize"}}
for variant in given["variant"].split(","):
    for options in given["options"].split(","):
        for heads in given["heads"].split(","):
            for seqlen in given["seqlen"].split(","):
                row = f"prefill/based/cuda/B:1/H:{{heads}}/N:{{seqlen}}{{names[options]}}"
                row += f"/variant:{{variant}}"
                if filter.search(row + "/manual_time"):
                    timing = "calls" if int(seqlen) > 4096 else "rotation"
                    label = variant + (" in 3" if variant == "split" else "")
                    rows.append(dict(row=row, status="ok", timing=timing, real_time=5.0,
                                     label=label))
context = dict(gpu_name="NVIDIA H200", gpu_sm_count="132", revision="r",
               gpu_timer_floor_us="3.3", gpu_rotation_floor_us="0.8")
json.dump(dict(context=context, benchmarks=rows), open(given["benchmark_out"], "w"))
"""

VARIANTS = ["whole", "split", "recompute", "balanced", "quadratic", "mma_sync"]


def build_with(folder, variants):
    folder.mkdir()
    bench = folder / "based_bench"
    bench.write_text(BENCH.replace("VARIANTS", repr(variants)))
    bench.chmod(bench.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def build(tmp_path):
    return build_with(tmp_path / "build", VARIANTS)


def measure(run, script, build, *options):
    done = run(script("fit_dispatch"), "--build-dir", build, "--measure-only", *options)
    assert done.returncode == 0, done.stderr
    return done


def test_measures_what_may_be_fastest_and_takes_the_launch_off_single_calls(
    run, script, build, tmp_path
):
    out = tmp_path / "times.json"
    measure(run, script, build, "--problems", 50, "--out", out)
    document = json.loads(out.read_text())
    assert document["device"] == "NVIDIA H200"
    problems = document["problems"]
    assert len(problems) == 50
    for problem in problems:
        assert problem["us"]
        for us in problem["us"].values():
            assert us == (2.5 if problem["seqlen"] > 4096 else 5.0)
        assert problem["parts"] == ({"split": 3} if "split" in problem["us"] else {})
    assert {problem["options"] for problem in problems} == {"none", "normalize", "all"}


def test_resumes_with_what_is_missing(run, script, build, tmp_path):
    out = tmp_path / "times.json"
    measure(run, script, build, "--problems", 20, "--out", out)
    first = json.loads(out.read_text())["problems"]
    done = measure(run, script, build, "--problems", 30, "--resume", out)
    assert "10 of 10 problems" in done.stderr
    assert json.loads(out.read_text())["problems"][:20] == first


def test_a_variant_that_no_rule_names_is_measured_everywhere(run, script, tmp_path):
    out = tmp_path / "times.json"
    build = build_with(tmp_path / "build", [*VARIANTS, "another"])
    measure(run, script, build, "--problems", 20, "--out", out)
    assert all("another" in problem["us"] for problem in json.loads(out.read_text())["problems"])


def test_a_rule_for_a_variant_that_is_gone_is_an_error(run, script, tmp_path):
    build = build_with(tmp_path / "build", VARIANTS[1:])
    out = tmp_path / "times.json"
    done = run(script("fit_dispatch"), "--build-dir", build, "--measure-only", "--out", out)
    assert done.returncode == 1
    assert "based_bench has no variant whole" in done.stderr


HEADER = """// Constants.
inline constexpr known_card known_cards[] = {
  // begin NVIDIA H200
  {"NVIDIA H200", 132, {
    .launch_ns = 1934,
    .pair_ns = 2.5,
  }},
  // end NVIDIA H200
};
// clang-format on
"""


@pytest.fixture
def fitted(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return importlib.import_module("lib.dispatch_fit")


def test_constants_are_written_in_their_cards_block(fitted, tmp_path):
    header = tmp_path / "constants.h"
    header.write_text(HEADER)
    fitted.write_constants(header, {"device": "NVIDIA H200", "multiprocessors": 132}, [1, 3.25])
    assert header.read_text() == HEADER.replace("1934", "1").replace("2.5", "3.25")
    fitted.write_constants(header, {"device": "another", "multiprocessors": 9}, [7, 8])
    assert fitted.names_of_constants(header) == ["launch_ns", "pair_ns"]
    assert '{"another", 9, {\n    .launch_ns = 7,\n    .pair_ns = 8,\n' in header.read_text()


def test_constants_that_are_more_than_there_are_names_are_not_written(fitted, tmp_path):
    header = tmp_path / "constants.h"
    header.write_text(HEADER)
    with pytest.raises(ValueError, match="names 2 constants, the model has 3"):
        fitted.write_constants(header, {"device": "x", "multiprocessors": 9}, [1, 2, 3])
    assert header.read_text() == HEADER


def test_the_program_has_as_many_constants_as_its_header_names(fitted, root, binary):
    document = json.loads((root / "plots/data/dispatch_h200.json").read_text())
    model = fitted.Model(binary("based_predict"), document)
    names = fitted.names_of_constants(root / "kernels/based/dispatch_constants.h")
    assert len(model.known) == len(names)
    assert (model.losses(model.known) <= 0.03).mean() > 0.98


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--build-dir", "/nonexistent"], "'/nonexistent' has no based_bench"),
        (["--fit-only", "/nonexistent"], "there is no file '/nonexistent'"),
        (["--fit-only", "x", "--out", "y"], "--fit-only measures nothing"),
        (["--out", "x", "--resume", "y"], "--resume writes into its own file"),
        (["--problems", "0"], "0 is less than 1"),
    ],
)
def test_names_what_is_wrong(run, script, arguments, said):
    done = run(script("fit_dispatch"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
