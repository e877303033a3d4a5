"""The harness for Python callables, on NumPy: what is right is timed, what is not says why."""

import contextlib
import json
import types

import numpy as np
import pytest

based_bench = pytest.importorskip("based_bench")
harness = pytest.importorskip("based_bench.harness")
try:
    harness.run(["--describe"])
except harness.UnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)

SHAPE = {"batch": 1, "heads": 2, "seqlen": 65}


def based(q, k, v):
    """The definition, without options."""
    s = 0.25 * np.einsum("bhid,bhjd->bhij", q, k)
    return np.einsum("bhij,bhjd->bhid", np.tril(1 + s + s * s / 2), v)


def attention(q, k, v):
    s = np.einsum("bhid,bhjd->bhij", q, k) / np.sqrt(q.shape[-1])
    s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    weights = np.exp(s - s.max(-1, keepdims=True))
    return weights @ v / weights.sum(-1, keepdims=True)


def measure(call, operation="prefill", **options):
    return harness.measure(call, operation, **SHAPE | {"time_cap": 0.1} | options)


def test_a_callable_is_verified_and_timed():
    (row,) = measure(based, name="numpy")
    assert row["row"] == "prefill/numpy/cpu/B:1/H:2/N:65"
    assert (row["status"], row["role"], row["operation"]) == ("ok", "original", "prefill")
    assert 0 < row["rel_err"] < 1e-5
    assert row["real_time"] > 0
    assert len(row["samples_us"]) == row["samples"]
    assert row["nominal_GFLOP"] > 0
    assert "executed_GFLOP" not in row  # nobody knows
    assert row["tolerance"] == harness.TOLERANCE


def test_each_value_of_an_axis_is_a_row():
    rows = measure(based, seqlen="16:64:*2", heads="1,2")
    assert [(row["params"]["H"], row["params"]["N"]) for row in rows] == [
        (h, n) for h in (1, 2) for n in (16, 32, 64)
    ]


def test_it_is_called_with_the_inputs_of_its_operation_alone():
    seen = {}

    def call(**given):
        seen.update({name: (each.shape, each.dtype) for name, each in given.items()})
        return attention(**given)

    (row,) = measure(call, "attention", head_dim=64, causal=1)
    assert row["status"] == "ok"
    assert seen == dict.fromkeys("qkv", ((1, 2, 65, 64), np.float32))


def test_inputs_are_those_of_the_implementations():
    """The same bits for the same seed, and others for another."""
    seen = [[], [], []]

    def recorder(kept):
        def call(q, k, v):
            kept.append(q.copy())
            return based(q, k, v)

        return call

    for seed, kept in zip((1, 1, 2), seen, strict=True):
        measure(recorder(kept), seed=seed)
    assert np.abs(seen[0][0]).max() > 0
    assert np.array_equal(seen[0][0], seen[1][0])
    assert not np.array_equal(seen[0][0], seen[2][0])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda q, k, v: 1.1 * based(q, k, v), "relative error 1.00e-01 of o is over"),
        (lambda q, k, v: q, "o has the shape (1, 2, 65, 16), not (1, 2, 65, 64)"),
        (lambda q, k, v: {"y": v}, "returned no o"),
        (lambda q, k, v: np.full_like(v, np.nan), "of o are not finite"),
        (lambda q, k, v: 1 // 0, "ZeroDivisionError: integer division"),
    ],
)
def test_what_is_wrong_is_an_error_with_its_reason(call, reason):
    (row,) = measure(call)
    assert row["status"] == "error"
    assert reason in row["reason"]
    assert "samples_us" not in row


def test_what_finds_no_memory_is_out_of_memory():
    def call(q, k, v):
        raise MemoryError

    assert measure(call)[0]["status"] == "out_of_memory"


def test_what_it_updates_in_place_is_verified():
    def step(q, k, v, k_cache, v_cache, slot):
        k_cache[:, :, slot], v_cache[:, :, slot] = k[:, :, 0], v[:, :, 0]
        weights = np.exp(np.einsum("bhqd,bhwd->bhqw", q, k_cache) / np.sqrt(q.shape[-1]))
        return weights @ v_cache / weights.sum(-1, keepdims=True)

    def status(slot):
        (row,) = harness.measure(
            lambda **given: step(**given, slot=slot),
            "sliding_window",
            batch=1,
            heads=2,
            window=64,
            time_cap=0.1,
        )
        return row["status"]

    assert [status(32), status(33)] == ["ok", "error"]


def test_an_original_takes_only_what_it_says(tmp_path):
    original = harness.Original(
        "picky",
        "prefill",
        lambda given, params: lambda: based(**given),
        version="picky 3.1",
        cannot=lambda params: "takes even lengths" if params["seqlen"] % 2 else None,
        device="cpu",
        type="f32",
    )
    harness.add(original)
    out = tmp_path / "rows.json"
    status = harness.run(
        [
            "--device=cpu",
            "--implementation=picky",
            "--batch=1",
            "--heads=1",
            "--seqlen=64,65",
            "--scale=0.25,0.5",
            "--time-cap=0.1",
            f"--benchmark_out={out}",
        ]
    )
    assert status == 0
    rows = {
        row["row"].partition("cpu/")[2]: row for row in json.loads(out.read_text())["benchmarks"]
    }
    assert rows["B:1/H:1/N:64"]["status"] == "ok"
    assert rows["B:1/H:1/N:64"]["version"] == "picky 3.1"
    assert rows["B:1/H:1/N:65"]["reason"] == "takes even lengths"
    assert rows["B:1/H:1/N:64/scale:0.5"]["reason"] == "the original takes no --scale"


def test_a_second_run_keeps_the_rows_of_the_first(tmp_path):
    harness.add(
        harness.Original(
            "numpy",
            "prefill",
            lambda given, params: lambda: based(**given),
            device="cpu",
            type="f32",
        )
    )
    out = tmp_path / "rows.json"
    common = ["--device=cpu", "--batch=1", "--heads=1", "--time-cap=0.1", f"--benchmark_out={out}"]
    common.append("--benchmark_filter=^prefill/")
    assert harness.run([*common, "--implementation=naive", "--seqlen=64"]) == 0
    assert harness.run([*common, "--implementation=numpy", "--seqlen=64", f"--resume={out}"]) == 0
    rows = [row["row"] for row in json.loads(out.read_text())["benchmarks"]]
    assert rows == ["prefill/naive/cpu/B:1/H:1/N:64", "prefill/numpy/cpu/B:1/H:1/N:64"]


@pytest.mark.parametrize("on_default_stream", [False, True])
def test_all_of_a_call_is_on_the_stream_of_its_kernels(on_default_stream):
    """Of a stand-in for PyTorch: streams, the current one of them, and who waited for whom."""
    order = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            order.append(f"{self.name} waits for {other.name}")

    ours, default = Stream("ours"), Stream("default")
    current = [ours]

    @contextlib.contextmanager
    def stream(chosen):
        current.append(chosen)
        yield
        current.pop()

    cuda = types.SimpleNamespace(stream=stream, default_stream=lambda: default)
    call = object.__new__(harness._Torch)
    call._torch, call._stream = types.SimpleNamespace(cuda=cuda), ours
    call._on_default_stream = on_default_stream
    call._call = lambda: order.append(f"call on {current[-1].name}")
    call._eager()
    there = ["default waits for ours", "call on default", "ours waits for default"]
    assert order == (there if on_default_stream else ["call on ours"])
    assert current == [ours]


@pytest.mark.parametrize(
    ("operation", "axes", "said"),
    [
        ("training", {}, "there is no operation 'training'"),
        ("prefill", {"batch": 0}, "took no such call"),
        ("prefill", {"name": "naive"}, "has an implementation 'naive' of its own"),
    ],
)
def test_bad_usage_is_an_error_of_the_caller(operation, axes, said):
    with pytest.raises(ValueError, match=said):
        harness.measure(based, operation, **{"time_cap": 0.1} | axes)
