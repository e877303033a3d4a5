"""`merge`: shards and devices become one file, and what does not belong together is refused."""

import json

import builder
import pytest

from plots import results
from plots.cli import main
from plots.compare import compare
from plots.files import UsageError
from plots.merge import merge


def merged(tmp_path, *paths):
    out = tmp_path / "merged.json"
    out.write_text(merge(list(paths)))
    return results.load(out)


def test_shards_of_one_sweep_are_the_sweep(tmp_path):
    rows = builder.sweep()
    whole = results.load(builder.write(tmp_path / "whole", rows)).rows
    parts = [
        builder.write(tmp_path / f"part{i}", rows[i::3], date=f"2030-01-0{i + 1}") for i in range(3)
    ]
    together = merged(tmp_path, *parts).rows
    assert sorted(together["key"]) == sorted(whole["key"])
    for name in ("time_us", "status", "hardware"):
        left, right = (frame.set_index("key")[name].sort_index() for frame in (together, whole))
        assert left.equals(right)
    assert set(together["date"]) == {"2030-01-01", "2030-01-02", "2030-01-03"}


def test_a_merged_file_merges_again(tmp_path):
    rows = builder.sweep()
    parts = [builder.write(tmp_path / f"part{i}", rows[i::3]) for i in range(3)]
    first = tmp_path / "first"
    first.write_text(merge(parts[:2]))
    at_once, in_steps = json.loads(merge(parts)), json.loads(merge([first, parts[2]]))
    assert in_steps == at_once


def test_devices_keep_their_own_context(tmp_path):
    row = builder.row(N=64, seed=1)
    a = builder.write(tmp_path / "a", [row])
    b = builder.write(tmp_path / "b", [builder.row(N=64, seed=2)], gpu_name="Other GPU")
    together = merged(tmp_path, a, b)
    assert list(together.rows["hardware"]) == ["Synthetic GPU", "Other GPU"]
    assert {group.tag for group in results.groups(together)} == {
        "cuda-synthetic_gpu",
        "cuda-other_gpu",
    }
    comparison = compare(together, together, 5.0)
    assert [verdict.verdict for verdict in comparison.verdicts] == ["SAME", "SAME"]


def test_a_row_that_two_parts_hold_alike_is_kept_once(tmp_path):
    rows = [builder.row(N=64), builder.row(N=128)]
    a, b = builder.write(tmp_path / "a", rows), builder.write(tmp_path / "b", rows[1:])
    assert list(merged(tmp_path, a, b).rows["N"]) == [64, 128]


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"revision": "1111111"}, "differ in revision: 0000000 and 1111111"),
        ({"seed": "2"}, "differ in seed: 1 and 2"),
        ({"schema": "other/2"}, "'other/2'"),
    ],
)
def test_what_was_measured_otherwise_is_refused(tmp_path, capsys, context, says):
    a = builder.write(tmp_path / "a", [builder.row(N=64)])
    b = builder.write(tmp_path / "b", [builder.row(N=128)], **context)
    out = tmp_path / "c"
    assert main(["merge", str(a), str(b), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_two_measurements_of_one_row_are_refused(tmp_path):
    a = builder.write(tmp_path / "a", [builder.row(N=64, seed=1)])
    b = builder.write(tmp_path / "b", [builder.row(N=64, seed=2)])
    with pytest.raises(UsageError, match=r"both hold prefill/based/cuda/B:16/H:16/N:64.*differ"):
        merge([a, b])
    text = json.loads(a.read_text())
    text["benchmarks"][0]["context"] = 5
    a.write_text(json.dumps(text))
    with pytest.raises(UsageError, match="its context is 5; the file has 1"):
        merge([a])
