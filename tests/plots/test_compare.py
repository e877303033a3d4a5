"""Verdicts of `compare`: on equal, faster, slower, lost rows, and its refusals."""

import builder
import pytest

from plots import results
from plots.compare import compare
from plots.files import UsageError


def load(tmp_path, name, rows, **context):
    return results.load(builder.write(tmp_path / name, rows, **context))


def verdicts(tmp_path, a, b, **options):
    comparison = compare(load(tmp_path, "a", a), load(tmp_path, "b", b), 5.0, **options)
    return [verdict.verdict for verdict in comparison.verdicts], comparison


def test_a_against_itself_is_the_same(tmp_path):
    rows = builder.sweep()
    found, comparison = verdicts(tmp_path, rows, rows)
    assert set(found) == {"SAME"}
    assert not comparison.regressions


def test_two_runs_of_one_binary_differ_in_at_most_one_row_of_twenty(tmp_path):
    def run(offset):
        return [
            builder.row(time_us=100.0, N=64 * n, seed=offset + n, spread=0.02, samples=30)
            for n in range(1, 201)
        ]

    found, _ = verdicts(tmp_path, run(0), run(1000))
    assert len(found) == 200
    assert found.count("SAME") >= 190


@pytest.mark.parametrize(("factor", "expected"), [(0.9, "FASTER"), (1.0, "SAME"), (1.1, "SLOWER")])
def test_a_clear_difference_is_called(tmp_path, factor, expected):
    a = [builder.row(time_us=100.0, N=64, seed=1)]
    b = [builder.row(time_us=100.0 * factor, N=64, seed=2)]
    found, comparison = verdicts(tmp_path, a, b)
    assert found == [expected]
    verdict = comparison.verdicts[0]
    assert verdict.low <= verdict.ratio <= verdict.high
    assert verdict.ratio == pytest.approx(factor, rel=0.02)


def test_a_difference_within_the_spread_is_not_called(tmp_path):
    a = [builder.row(time_us=100.0, N=64, seed=1, spread=0.2, samples=8)]
    b = [builder.row(time_us=104.0, N=64, seed=2, spread=0.2, samples=8)]
    assert verdicts(tmp_path, a, b)[0] == ["SAME"]


def test_a_burst_decides_nothing(tmp_path):
    a = [builder.row(time_us=100.0, N=64, counters={"burst_us": 90.0}), builder.row(N=128)]
    b = [builder.row(time_us=100.0, N=64), builder.row(N=128, counters={"burst_us": 50.0})]
    a[0]["burst_samples_us"], b[1]["burst_samples_us"] = [90.0] * 11, [50.0] * 11
    found, comparison = verdicts(tmp_path, a, b)
    assert found == ["SAME", "SAME"]
    assert [v.b_us for v in comparison.verdicts] == [100.0, 100.0]


def test_only_what_passes_the_threshold_is_a_regression(tmp_path):
    a = load(tmp_path, "a", [builder.row(N=64)])
    b = load(tmp_path, "b", [builder.row(time_us=104.0, N=64)])
    assert [v.verdict for v in compare(a, b, 2.0).regressions] == ["SLOWER"]
    assert not compare(a, b, 5.0).regressions


def test_a_lost_row_is_a_regression_and_a_missing_one_is_told(tmp_path):
    a = [builder.row(N=64), builder.row(N=128)]
    b = [builder.row(N=64, status="error", reason="wrong"), builder.row(N=256)]
    found, comparison = verdicts(tmp_path, a, b)
    assert found == ["LOST"]
    assert len(comparison.regressions) == 1
    assert comparison.only_a == ["prefill/based/cuda/B:16/H:16/N:128"]
    assert comparison.only_b == ["prefill/based/cuda/B:16/H:16/N:256"]
    assert verdicts(tmp_path, b, a)[0] == ["GAINED"]


def test_without_samples_nothing_is_claimed(tmp_path):
    row = builder.row(N=64) | {"samples_us": []}
    slower = row | {"real_time": 300.0}
    found, comparison = verdicts(tmp_path, [row], [slower])
    assert found == ["UNKNOWN"]
    assert "samples_us" in comparison.text()


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"gpu_name": "Other GPU"}, "device: Synthetic GPU and Other GPU"),
        ({"l2_policy": "hot: not flushed"}, "cache policy: cold and hot"),
    ],
)
def test_different_conditions_are_refused_unless_forced(tmp_path, context, says):
    a = load(tmp_path, "a", [builder.row(N=64)])
    b = load(tmp_path, "b", [builder.row(N=64)], **context)
    with pytest.raises(UsageError, match=says):
        compare(a, b, 5.0)
    assert compare(a, b, 5.0, force=True).verdicts[0].verdict == "SAME"


def test_a_different_model_of_work_is_refused(tmp_path):
    a = load(tmp_path, "a", [builder.row(N=64)])
    b = load(tmp_path, "b", [builder.row(N=64, counters={"nominal_GFLOP": 1.0})])
    with pytest.raises(UsageError, match="nominal_GFLOP"):
        compare(a, b, 5.0)


def test_files_without_a_common_row_are_refused(tmp_path):
    a, b = [builder.row(N=64)], [builder.row(N=128)]
    with pytest.raises(UsageError, match="no row in common"):
        verdicts(tmp_path, a, b)
