"""The loader: what it gives for a good file, and its one line for every bad one."""

import json
import math

import builder
import pytest

from plots import results
from plots.files import UsageError


def test_a_row_is_read_whole(tmp_path):
    path = builder.write(
        tmp_path / "r.json", [builder.row("based", 203.5, N=8192, options="normalize", samples=7)]
    )
    row = results.load(path).rows.iloc[0]
    assert row["key"] == "prefill/based/cuda/B:16/H:16/N:8192/options:normalize"
    assert (row["operation"], row["implementation"], row["device"]) == ("prefill", "based", "cuda")
    assert (row["B"], row["H"], row["N"]) == (16, 16, 8192)
    assert math.isnan(row["W"])
    assert row["extras"] == "normalize"
    assert row["time_us"] == 203.5
    assert len(row["samples_us"]) == 7
    assert row["rel_err"] == 1.7e-3
    assert row["hardware"] == "Synthetic GPU"
    assert row["policy"] == "cold"
    assert (row["role"], row["reimplements"]) == ("ours", ())


def test_a_row_of_an_older_file_has_no_role(tmp_path):
    old = builder.row(N=64)
    del old["role"], old["reimplements"]
    row = results.load(builder.write(tmp_path / "r.json", [old])).rows.iloc[0]
    assert (row["role"], row["reimplements"]) == ("unknown", ())


def test_a_cpu_is_another_with_other_threads(tmp_path):
    rows = [builder.row(N=64, device="cpu")]
    loaded = results.load(builder.write(tmp_path / "r.json", rows, cpu_threads="2"))
    assert loaded.rows["hardware"].tolist() == ["Synthetic CPU, 2 threads"]


def test_units_of_time(tmp_path):
    row = builder.row(time_us=1.0, N=64) | {"real_time": 2.5, "time_unit": "ms"}
    loaded = results.load(builder.write(tmp_path / "r.json", [row]))
    assert loaded.rows["time_us"].tolist() == [2500.0]


@pytest.mark.parametrize("status", ["skipped", "out_of_memory", "error"])
def test_a_row_without_a_result_has_no_figures(tmp_path, status):
    row = builder.row(N=64, status=status, reason="why", counters={"needs_bytes": 5, "TFLOPs": 0})
    loaded = results.load(builder.write(tmp_path / "r.json", [row])).rows.iloc[0]
    assert math.isnan(loaded["time_us"])
    assert math.isnan(loaded["TFLOPs"])
    assert (loaded["status"], loaded["reason"], loaded["needs_bytes"]) == (status, "why", 5)


def test_aggregates_are_not_rows(tmp_path):
    aggregate = builder.row(N=64) | {"run_type": "aggregate", "aggregate_name": "median"}
    loaded = results.load(builder.write(tmp_path / "r.json", [builder.row(N=64), aggregate]))
    assert len(loaded.rows) == 1


def test_repetitions_become_one_row(tmp_path):
    repetitions = [
        builder.row(time_us=time, N=64, samples=5) | {"repetition_index": index}
        for index, time in enumerate([10.0, 30.0, 11.0])
    ]
    row = results.load(builder.write(tmp_path / "r.json", repetitions)).rows.iloc[0]
    assert row["time_us"] == 11.0
    assert len(row["samples_us"]) == 15


def test_a_failed_repetition_fails_the_row(tmp_path):
    rows = [builder.row(N=64), builder.row(N=64, status="error", reason="wrong")]
    loaded = results.load(builder.write(tmp_path / "r.json", rows))
    assert loaded.rows["status"].tolist() == ["error"]
    assert math.isnan(loaded.rows["time_us"].iloc[0])


def test_the_later_of_two_files_wins_on_the_same_row(tmp_path):
    first = builder.write(tmp_path / "a.json", [builder.row(time_us=1.0, N=64)])
    second = builder.write(tmp_path / "b.json", [builder.row(time_us=2.0, N=64)])
    assert results.load_all([first, second]).rows["time_us"].tolist() == [2.0]


def test_groups_keep_devices_apart(tmp_path):
    one = builder.write(tmp_path / "a.json", [builder.row(N=64), builder.row(N=64, device="cpu")])
    assert [group.tag for group in results.groups(results.load(one))] == ["cpu", "cuda"]
    other = builder.write(tmp_path / "b.json", [builder.row(N=64)], gpu_name="Other GPU")
    tags = [group.tag for group in results.groups(results.load_all([one, other]))]
    assert tags == ["cpu", "cuda-other_gpu", "cuda-synthetic_gpu"]


def test_groups_together_hold_the_cards_of_a_kind(tmp_path):
    one = builder.write(tmp_path / "a.json", [builder.row(N=64), builder.row(N=64, device="cpu")])
    other = builder.write(tmp_path / "b.json", [builder.row(N=64)], gpu_name="Other GPU")
    found = results.groups(results.load_all([one, other]), together=True)
    assert [(group.tag, group.cards) for group in found] == [
        ("cpu", ["Synthetic CPU"]),
        ("cuda", ["Synthetic GPU", "Other GPU"]),
    ]


def test_names_that_make_the_same_file_name_keep_apart(tmp_path):
    files = [
        builder.write(tmp_path / f"{i}.json", [builder.row(N=64)], gpu_name=name)
        for i, name in enumerate(("GPU !", "GPU ?", "x" * 500 + "1", "x" * 500 + "2"))
    ]
    tags = [group.tag for group in results.groups(results.load_all(files))]
    assert len(set(tags)) == 4
    assert all(len(tag) < 80 for tag in tags)


def test_groups_keep_cache_policies_apart(tmp_path):
    cold = builder.write(tmp_path / "a.json", [builder.row(N=64)])
    hot = builder.write(tmp_path / "b.json", [builder.row(N=64)], l2_policy="hot: not flushed")
    tags = [group.tag for group in results.groups(results.load_all([cold, hot]))]
    assert tags == ["cuda-cold", "cuda-hot"]


def _changed(**changes):
    return lambda: json.dumps(builder.document([builder.row(N=64) | changes]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lambda: json.dumps(builder.document([builder.row(N=64)]))[:-20], "no complete JSON"),
        (lambda: "", "no complete JSON"),
        (lambda: "[1, 2]", '"context"'),
        (lambda: '{"context": {}, "benchmarks": []}', "schema None; expected 'based-bench/1'"),
        (lambda: json.dumps(builder.document([], schema="based-bench/9")), "based-bench/9"),
        (lambda: json.dumps(builder.document([])), "no rows"),
        (lambda: json.dumps({"context": builder.context()}), "benchmarks"),
        (lambda: json.dumps(builder.document([3])), "row 1"),
        (_changed(status="great"), "'great'"),
        (_changed(device="tpu"), "'tpu'"),
        (_changed(operation=None), "'operation'"),
        (_changed(role="theirs"), "'theirs'"),
        (_changed(reimplements="naive"), "'naive'"),
        (_changed(reimplements=[1]), "[1]"),
        (_changed(params={"H": 1}), "with B"),
        (_changed(params={"B": 0, "H": 1}), "B is 0"),
        (_changed(real_time=0), "real_time is 0"),
        (_changed(time_unit="h"), "'h'"),
        (_changed(samples_us=[1, -1]), "samples_us"),
        (lambda: json.dumps(builder.document([builder.row(N=64)], gpu_name="")), "gpu_name"),
        (
            lambda: json.dumps(builder.document([builder.row(N=64)], gpu_copy_GBps="fast")),
            "'fast'",
        ),
    ],
)
def test_a_bad_file_gives_one_line_that_names_it(tmp_path, text, says):
    path = tmp_path / "bad.json"
    path.write_text(text(), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        results.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "\n" not in message


def test_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        results.load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UsageError, match="no text"):
        results.load(tmp_path / "binary.json")
