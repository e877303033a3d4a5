"""The committed results: figures are drawn from them, every row in them was verified, and what the
READMEs' sentences rest on holds."""

import json
import math
import re

import pytest

from plots import cli, published, results

DATA = published.DATA
FILES = ("h200.json", "originals_h200.json", "h200_mixers.json", "h200_study.json")


def rows_of(name):
    return json.loads((DATA / name).read_text(encoding="utf-8"))["benchmarks"]


def texts(svg):
    return re.findall(r"<(?:text|tspan)[^>]*>([^<]*)<", svg.read_text(encoding="utf-8"))


def violations(rows):
    """The names of timed rows whose error is not within their tolerance, or was not measured."""
    return [
        row["name"]
        for row in rows
        if row["status"] == "ok"
        and not row.get("rel_err", math.nan) <= row.get("tolerance", math.nan)
    ]


NOT_MEASURED = set()


def test_every_figure_of_what_was_measured_is_drawn(tmp_path, capsys):
    files = [str(DATA / name) for name in FILES]
    assert cli.main(["render", *files, "--out", str(tmp_path), "--published"]) == 0
    printed = capsys.readouterr()
    absent = [line for line in printed.out.splitlines() if line.startswith("not drawn")]
    assert {line.split()[2] for line in absent} == {f"{name}-cuda:" for name in NOT_MEASURED}
    for name in set(cli.figure_names()) - NOT_MEASURED:
        png = (tmp_path / f"{name}-cuda.png").read_bytes()
        width = int.from_bytes(png[16:20], "big")
        assert 1000 < width <= 1600
        committed = DATA.with_name("figures") / f"{name}-cuda.svg"
        # Where a text stands depends on the machine's fonts, what it says does not.
        assert texts(tmp_path / committed.name) == texts(committed), f"{committed} is stale"


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_within_its_tolerance(name):
    rows = rows_of(name)
    assert len(rows) > (400 if name in FILES[:2] else 130)
    assert violations(rows) == []


@pytest.mark.parametrize(
    "change", [{"rel_err": 1.0}, {"rel_err": math.nan}, {"rel_err": None}, {"tolerance": 1e-9}]
)
def test_a_row_over_its_tolerance_would_be_found(change):
    rows = rows_of(FILES[0])
    index = next(i for i, row in enumerate(rows) if row["status"] == "ok")
    changed = {k: v for k, v in (rows[index] | change).items() if v is not None}
    rows[index] = changed
    assert violations(rows) == [changed["name"]]


def test_no_row_of_ours_failed():
    assert not [row["name"] for row in rows_of("h200.json") if row["status"] == "error"]


def test_based_prefill_is_within_a_tighter_bound_on_these_inputs():
    errors = [
        row["rel_err"]
        for row in rows_of("h200.json")
        if (row["operation"], row["role"], row["status"]) == ("prefill", "ours", "ok")
    ]
    assert len(errors) > 50
    assert max(errors) <= 2.5e-3


@pytest.mark.parametrize("name", [*FILES, "peers_h200.json"])
def test_every_row_says_whose_it_is_and_is_named_by_its_operation(name):
    rows = rows_of(name)
    assert {row["role"] for row in rows} <= set(results.ROLES)
    for row in rows:
        assert row["row"].startswith(f"{row['operation']}/{row['implementation']}/{row['device']}/")


def test_no_two_operations_share_an_implementation():
    """`attention`, `selective_scan` and `ssd` stand apart from Based's prefill; of ThunderKittens
    a checkout's kernels have one name."""
    prefill = {
        r["implementation"] for n in FILES for r in rows_of(n) if r["operation"] == "prefill"
    }
    others = {
        r["implementation"]
        for name in FILES
        for r in rows_of(name)
        if r["operation"] in ("attention", "selective_scan", "ssd")
    }
    assert others
    assert prefill & others == {"thunderkittens"}


def test_every_original_that_is_reimplemented_was_measured():
    named = {original for row in rows_of("h200.json") for original in row.get("reimplements", [])}
    measured = {
        row["implementation"] for name in (*FILES, "peers_h200.json") for row in rows_of(name)
    }
    assert named
    assert named <= measured


def test_mamba2_is_slower_with_heads_of_128():
    """Why the tables have it with heads of 64 only."""
    times = {}
    for row in rows_of("originals_h200.json"):
        if row["operation"] == "ssd" and row["status"] == "ok":
            params = row["params"]
            times[params["P"], params["B"], params["N"]] = row["real_time"]
    wide = [shape for dim, *shape in times if dim == 128]
    assert len(wide) > 20
    assert all(times[64, b, n] < times[128, b, n] for b, n in wide)


def disagreements(rows):
    """The audited rows whose models of FLOPs or bytes are not what the hardware counted. Tensor
    cores execute what a model says to the last product. A thread on the CUDA cores does more than
    the algorithm: lanes that reduce among themselves all add, and an exponential takes a product,
    too. Large tensors move through memory once, less what the cache still has to write."""
    wrong = []
    for row in rows:
        least, most = (0.999, 1.001) if row["units"] == "tensor cores" else (0.999, 1.7)
        if not least <= row["executed_over_model"] <= most:
            wrong.append((row["row"], "FLOPs"))
        if row["compulsory_MB"] > 100 and row["DRAM_over_compulsory"] < 0.8:
            wrong.append((row["row"], "bytes"))
    return wrong


def audited():
    return json.loads((DATA / "h200_audit.json").read_text(encoding="utf-8"))["rows"]


def test_models_of_flops_and_bytes_are_what_the_hardware_counted():
    assert len(audited()) > 20
    assert disagreements(audited()) == []


@pytest.mark.parametrize(
    "change",
    [{"executed_over_model": 1.01}, {"executed_over_model": 0.9}, {"DRAM_over_compulsory": 0.5}],
)
def test_a_model_that_is_wrong_is_found(change):
    row = {
        "row": "r",
        "units": "tensor cores",
        "executed_over_model": 1.0,
        "compulsory_MB": 500,
        "DRAM_over_compulsory": 1.0,
    }
    assert disagreements([row]) == []
    assert disagreements([row | change]) != []
