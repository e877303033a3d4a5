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


def test_two_runs_of_one_binary_do_not_differ(tmp_path):
    def run(offset):
        return [
            builder.row(time_us=100.0, N=64 * n, seed=offset + n, spread=0.01, samples=50)
            for n in range(1, 201)
        ]

    found, _ = verdicts(tmp_path, run(0), run(1000))
    assert len(found) == 200
    assert found.count("SLOWER") + found.count("FASTER") == 0
    assert found.count("SAME") >= 190


@pytest.mark.parametrize(("factor", "expected"), [(0.9, "FASTER"), (1.0, "SAME"), (1.1, "SLOWER")])
def test_a_clear_difference_is_called(tmp_path, factor, expected):
    a = [builder.row(time_us=100.0, N=64, seed=1)]
    b = [builder.row(time_us=100.0 * factor, N=64, seed=2)]
    found, comparison = verdicts(tmp_path, a, b)
    assert found == [expected]
    interval = comparison.verdicts[0].interval
    assert interval.low <= interval.ratio <= interval.high
    assert interval.ratio == pytest.approx(factor, rel=0.02)


def test_a_difference_within_the_spread_is_not_called(tmp_path):
    a = [builder.row(time_us=100.0, N=64, seed=1, spread=0.2, samples=8)]
    b = [builder.row(time_us=104.0, N=64, seed=2, spread=0.2, samples=8)]
    assert verdicts(tmp_path, a, b)[0] == ["UNDECIDED"]


def with_burst(row, time_us):
    return row | {"burst_samples_us": [time_us * (1 + 1e-4 * i) for i in range(11)]}


def test_the_burst_decides_where_both_have_it(tmp_path):
    a, b = builder.row(time_us=200.0, N=64, seed=1), builder.row(time_us=204.0, N=64, seed=2)
    throttled = {"throttle_reasons": "power cap"}
    for burst, expected in ((180.0, "SAME"), (181.0, "SAME"), (183.0, "SLOWER"), (178.0, "FASTER")):
        left, right = with_burst(a | throttled, 180.0), with_burst(b | throttled, burst)
        found, comparison = verdicts(tmp_path, [left], [right])
        assert found == [expected], burst
        assert comparison.verdicts[0].b_us == pytest.approx(burst, rel=1e-3)
        assert "bursts" in comparison.text()
    found, comparison = verdicts(tmp_path, [a | throttled], [b | throttled])
    assert found == ["SAME"], "2 % at the power cap is what two processes differ by"
    assert comparison.verdicts[0].b_us == 204.0


@pytest.mark.parametrize(
    ("device", "time_us", "change", "throttled", "expected"),
    [
        ("cuda", 100.0, 1.005, "", "SAME"),
        ("cuda", 100.0, 1.02, "", "SLOWER"),
        ("cuda", 100.0, 1.02, "power cap", "SAME"),
        ("cuda", 100.0, 1.05, "power cap", "SLOWER"),
        ("cpu", 100.0, 1.04, "", "SAME"),
        ("cpu", 100.0, 1.08, "", "SLOWER"),
        ("cpu", 100.0, 0.92, "", "FASTER"),
    ],
)
def test_nothing_is_said_inside_the_spread_of_processes(
    tmp_path, device, time_us, change, throttled, expected
):
    def run(time_us, seed):
        row = builder.row(time_us=time_us, N=64, device=device, seed=seed, spread=0.001)
        return [row | {"throttle_reasons": throttled}]

    found, comparison = verdicts(tmp_path, run(time_us, 1), run(time_us * change, 2))
    assert found == [expected]
    interval = comparison.verdicts[0].interval
    assert (interval.low > 1) == (expected == "SLOWER")
    assert (interval.high < 1) == (expected == "FASTER")


def test_a_measured_spread_replaces_the_default(tmp_path):
    a, b = ([builder.row(time_us=t, N=64, seed=1, spread=0.001)] for t in (100.0, 104.0))
    assert verdicts(tmp_path, a, b)[0] == ["SLOWER"]
    left = load(tmp_path, "a", a)
    for context, expected in (
        ({"spread_steady_pct": "6"}, "SAME"),
        ({"spread_burst_pct": "6"}, "SLOWER"),
    ):
        right = load(tmp_path, "b", b, **context)
        assert [v.verdict for v in compare(left, right, 5.0).verdicts] == [expected]
    right = load(tmp_path, "b", b, spread_steady_pct="much")
    with pytest.raises(UsageError, match="spread_steady_pct is 'much'"):
        compare(left, right, 5.0)


def test_a_burst_of_one_side_decides_nothing(tmp_path):
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
