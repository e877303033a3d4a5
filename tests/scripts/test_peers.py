"""scripts/peers without PyTorch: its inputs, references, statistics and results file."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from peers_lib import document, inputs, measure, operations  # noqa: E402
from peers_lib.originals import ORIGINALS  # noqa: E402
from peers_lib.run import Head  # noqa: E402

from plots import results  # noqa: E402

SEED = 1


# Inputs. The bits are those of kernels/core/random.h and tensor_spec::values of
# kernels/core/operation.cpp, compiled and printed.


@pytest.mark.parametrize(
    ("x", "mixed"),
    [(0, 0xE220A8397B1DCDAF), (1, 0x910A2DEC89025CC1), (2**64 - 1, 0xE4D971771B652C20)],
)
def test_mix64_is_the_suites(x, mixed):
    assert inputs.mix64(x) == mixed


@pytest.mark.parametrize(
    ("seed", "name", "stddev", "key", "bits"),
    [
        (1, "q", 0.25, 0x475B38E7EEDFB4C3, (0x3B34, 0x3E34, 0x3CF0, 0x3D8F, 0xBE92)),
        (1, "k_cache", 1.0, 0x1BC77A8326E5C409, (0x3F83, 0xBFB3, 0xBE0B, 0xBE4A, 0xBEE6)),
        (2**64 - 1, "v", 1.0, 0x860CFCBCA22D03E6, (0x3F98, 0xBF27, 0x3EAE, 0xBF5F, 0xBFBA)),
    ],
)
def test_values_are_the_suites(seed, name, stddev, key, bits):
    assert inputs.stream_key(seed, name) == key
    indices = (0, 1, 2, 1000, 1 << 40)
    found = [inputs.numpy_values(seed, name, stddev, index, 1)[0] for index in indices]
    assert [int(value.view(np.uint32)) >> 16 for value in found] == list(bits)


def test_a_part_of_a_tensor_is_that_part():
    whole = inputs.numpy_values(SEED, "q", 0.25, 0, 100)
    assert np.array_equal(inputs.numpy_values(SEED, "q", 0.25, 40, 7), whole[40:47])


def test_values_have_the_moments_they_promise():
    values = inputs.numpy_values(SEED, "v", 0.5, 0, 200_000)
    assert abs(values.mean()) < 4 * 0.5 / math.sqrt(len(values))
    assert values.std() == pytest.approx(0.5, rel=0.01)


def test_rounding_is_to_nearest_even():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    assert inputs.rounded_to_bf16(ties).tolist() == [1.0, 1 + 2**-6, 1 + 2**-7]


# References: an independent formula passes, another function does not.


def phi(x, linear, square):
    products = square * x[:, :, None] * x[:, None, :]
    return np.concatenate([np.ones((len(x), 1)), linear * x, products.reshape(len(x), -1)], axis=1)


def outputs_of(operation, params, compute):
    """got() of operations.py: compute(given of one head) gives the outputs of that head."""
    given = Head(operation, params, SEED)

    def got(name, head):
        return compute(lambda n: given(n, head).astype(np.float64))[name].astype(np.float32)

    return operation.error(params, given, got, SEED)


def based(scale):
    def compute(given):
        q, k, v = (given(name) for name in "qkv")
        states = np.cumsum(phi(k, 1, 1)[:, :, None] * v[:, None, :], axis=0)
        return {"o": np.einsum("nf,nfd->nd", phi(q, scale, scale**2 / 2), states)}

    return compute


def attention(causal):
    def compute(given):
        q, k, v = (given(name) for name in "qkv")
        scores = q @ k.T / math.sqrt(q.shape[1])
        weights = np.exp(scores) * (np.tri(len(q)) if causal else 1)
        return {"o": weights @ v / weights.sum(axis=1, keepdims=True)}

    return compute


def step(given):
    q, k, v, kv = (given(name) for name in ("q", "k", "v", "kv"))
    kv = kv + k[:, None] * v
    return {"kv": kv, "o": (q[:, None] * kv).sum(axis=0)}


def window(appends):
    def compute(given):
        caches = {name: given(name) for name in ("k_cache", "v_cache")}
        if appends:
            caches["k_cache"][32], caches["v_cache"][32] = given("k"), given("v")
        weights = np.exp(caches["k_cache"] @ given("q") / 8)
        return caches | {"o": weights @ caches["v_cache"] / weights.sum()}

    return compute


def scan(decays):
    def compute(given):
        u, delta, b, c = (given(name) for name in ("u", "delta", "B", "C"))
        dt = np.log1p(np.exp(delta))
        o = np.zeros_like(u)
        for n in range(b.shape[0]):
            h = np.zeros(len(u))
            for t in range(u.shape[1]):
                h = np.exp(-decays * (n + 1) * dt[:, t]) * h + dt[:, t] * b[n, t] * u[:, t]
                o[:, t] += h * c[n, t]
        return {"o": o}

    return compute


def duality(decays):
    def compute(given):
        x, delta, b, c = (given(name) for name in ("x", "delta", "B", "C"))
        dt = np.log1p(np.exp(delta))  # [N, H]
        total = np.cumsum(-decays * dt * (1 + np.arange(dt.shape[1])), axis=0)
        decay = np.exp(np.minimum(total[:, None] - total[None], 0))  # [N, N, H], the quadratic form
        weights = np.tril(c[:, 0] @ b[:, 0].T)[:, :, None] * decay * dt[None]
        return {"o": np.einsum("tsh,shp->thp", weights, x)}

    return compute


PREFILL = {"B": 2, "H": 3, "N": 70}
CASES = [
    (operations.BasedPrefill(), PREFILL, based(0.25), based(1.0)),
    (operations.Attention(), PREFILL | {"Dh": 64, "causal": 1}, attention(True), attention(False)),
    (operations.Attention(), PREFILL | {"Dh": 64, "causal": 0}, attention(False), attention(True)),
    (
        operations.Decode(),
        {"B": 2, "H": 3, "state": "bf16"},
        step,
        lambda g: step(g) | {"kv": g("kv")},
    ),
    (operations.SlidingWindow(), {"B": 2, "H": 3, "W": 64}, window(True), window(False)),
    (
        operations.SelectiveScan(),
        {"B": 2, "H": 1, "N": 20, "d_inner": 12, "d_state": 16},
        scan(1),
        scan(0),
    ),
    (
        operations.StateSpaceDuality(),
        {"B": 2, "H": 3, "N": 40, "Dh": 64, "d_state": 256, "chunk": 256},
        duality(1),
        duality(0.5),
    ),
]


@pytest.mark.parametrize(("operation", "params", "right", "wrong"), CASES)
def test_the_function_passes_and_another_does_not(operation, params, right, wrong):
    tolerance = min(o.tolerance for o in ORIGINALS if type(o.operation) is type(operation))
    assert outputs_of(operation, params, right) < 1e-5
    assert outputs_of(operation, params, wrong) > tolerance


def test_nan_never_passes():
    params = PREFILL | {"B": 1}
    error = outputs_of(
        operations.BasedPrefill(), params, lambda given: {"o": based(0.25)(given)["o"] * np.nan}
    )
    assert math.isnan(error)


def test_padded_features_are_the_suites():
    head = Head(operations.Decode(), {"B": 1, "H": 1, "state": "bf16"}, SEED)
    x = inputs.numpy_values(SEED, "q", 0.25, 0, 16).astype(np.float64)
    expected = np.zeros(320)
    expected[:273] = phi(x[None], 0.25, 0.25**2 / 2)[0]
    assert np.allclose(head("q", 0), expected, rtol=2**-8)


def test_rows_of_a_head_are_those_rows():
    params = {"B": 3, "H": 1, "N": 20, "d_inner": 12, "d_state": 16}
    head = Head(operations.SelectiveScan(), params, SEED)
    assert np.array_equal(head("u", 2, [3, 7]), head("u", 2)[[3, 7]])


def test_scattered_keeps_the_marks_and_the_count():
    chosen = operations.scattered(1000, 20, SEED, (0, 999, 5000))
    assert len(chosen) == 20
    assert {0, 999} <= set(chosen) <= set(range(1000))
    assert operations.scattered(5, 20, SEED) == [0, 1, 2, 3, 4]


def test_work_is_that_of_the_suite():
    """Figures of prefill/based, decode/naive and sliding_window/naive at these shapes."""
    prefill = operations.BasedPrefill().work({"B": 16, "H": 16, "N": 8192})
    assert prefill.nominal_flops == 16 * 16 * 8192 * 273 * 258
    assert prefill.least_flops == 16 * 16 * 8192 * 4 * 153 * 64
    assert prefill.compulsory_bytes == 16 * 16 * 8192 * 320
    window_work = operations.SlidingWindow().work({"B": 1, "H": 16, "W": 64})
    assert window_work.compulsory_bytes == 16 * 64 * (4 + 2 * 64) * 2


# Statistics.


def test_summary():
    summary = measure.summarize([3.0, 1.0, 2.0])
    assert (summary.median, summary.low, summary.high) == (2.0, 1.0, 3.0)
    assert summary.cv == pytest.approx(0.5)
    hundred = measure.summarize([float(i) for i in range(1, 101)])
    assert (hundred.median, hundred.low, hundred.high) == (50.5, 40.0, 61.0)
    assert measure.summarize([7.0]).cv == 0


class Clock:
    def __init__(self, cost):
        self.at, self.cost = 0.0, cost

    def __call__(self):
        return self.at

    def draw(self, values):
        def next_values(count):
            self.at += count * self.cost
            return [next(values) for _ in range(count)]

        return next_values


def test_sampling_stops_when_the_median_is_known():
    clock = Clock(cost=1e-3)
    steady = clock.draw(iter([5.0] * 10_000))
    samples = measure.sample(steady, measure.Rule(cap_s=10), until=10, now=clock)
    assert measure.Rule(cap_s=10).min_samples <= len(samples) <= 40


def test_sampling_stops_at_its_time_and_at_its_count():
    noise = np.random.default_rng(0).uniform(1, 9, 100_000)
    slow = Clock(cost=1.0)
    samples = measure.sample(slow.draw(iter(noise)), measure.Rule(cap_s=9), until=9, now=slow)
    assert 8 <= len(samples) <= 9
    fast = Clock(cost=1e-6)
    rule = measure.Rule(cap_s=9, half_width=1e-6, max_samples=100)
    assert len(measure.sample(fast.draw(iter(noise)), rule, until=9, now=fast)) == 100


# The burst, on a GPU whose clock the test winds.


class VirtualGpu:
    """The part of torch and of time that Timer uses. A call takes call_s; within 20 ms of a rest
    nine tenths of it, as on a GPU that is held down otherwise."""

    def __init__(self, call_s, l2_bytes=1 << 20):
        self.now, self.rested, self.call_s = 0.0, None, call_s
        nothing = lambda *_: None  # noqa: E731
        self.empty = self.zeros = lambda size, **_: self.allocate(size)
        self.uint8, self.allocated, self.flushes = None, [], 0
        self.cuda = SimpleNamespace(
            Event=lambda enable_timing: self.Event(self),
            _sleep=nothing,
            synchronize=nothing,
            get_device_properties=lambda _: SimpleNamespace(L2_cache_size=l2_bytes),
        )
        self.monotonic = self.perf_counter = lambda: self.now

    class Event:
        def __init__(self, gpu):
            self.gpu, self.at = gpu, 0.0

        def record(self):
            self.at = self.gpu.now

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return (other.at - self.at) * 1e3

    def allocate(self, size):
        self.allocated.append(size)
        return SimpleNamespace(fill_=self.flush, zero_=lambda: None)

    def flush(self, _):
        self.flushes += 1

    def sleep(self, seconds):
        self.now += seconds
        self.rested, self.flushes = self.now, 0

    def call(self):
        fresh = self.rested is not None and self.now < self.rested + 0.02
        self.now += self.call_s * (0.9 if fresh else 1)


def timed(monkeypatch, call_s, cap_s=0.8):
    gpu = VirtualGpu(call_s)
    monkeypatch.setattr(measure, "time", gpu)
    timer = measure.Timer(gpu)
    return gpu, timer.measure(gpu.call, lambda sets: [gpu.call] * sets, measure.Rule(cap_s))


def test_a_burst_is_what_the_gpu_does_after_a_rest(monkeypatch):
    gpu, timing = timed(monkeypatch, 1e-3)
    assert timing.cold_us == pytest.approx([1000.0] * len(timing.cold_us))
    assert timing.hot_us == pytest.approx([1000.0] * len(timing.hot_us))
    assert timing.burst_us == pytest.approx([900.0] * measure.BURST_CALLS)
    assert gpu.flushes == measure.BURST_CALLS  # one before each of its calls


def test_a_flush_is_the_suites():
    for l2_mib, flushed_mib in ((60, 256), (100, 300)):
        gpu = VirtualGpu(1e-3, l2_mib << 20)
        measure.Timer(gpu)
        assert gpu.allocated[0] == flushed_mib << 20


def test_short_calls_have_no_burst(monkeypatch):
    gpu, timing = timed(monkeypatch, 5e-6)
    assert timing.rotated
    assert (timing.burst_us, gpu.rested) == ([], None)


@pytest.mark.parametrize(("call_s", "fits"), [(5e-3, True), (20e-3, True), (100e-3, False)])
def test_the_cap_has_room_for_a_whole_burst_or_none_is_made(monkeypatch, call_s, fits):
    gpu, timing = timed(monkeypatch, call_s)
    assert len(timing.burst_us) == (measure.BURST_CALLS if fits else 0)
    assert (gpu.rested is not None) == fits
    assert gpu.now <= 0.8 + (measure.BURST_REST_S if fits else call_s)


# The results file.

CONTEXT = {
    "date": "2030-01-02T03:04:05+00:00",
    "schema": results.SCHEMA,
    "revision": "0000000",
    "seed": "1",
    "l2_policy": "cold: as the suite's",
    "gpu_name": "Synthetic GPU",
    "gpu_copy_GBps": "4000",
    "gpu_gemm_TFLOPs": "800",
}


def measured(operation, params, times=(100.0, 101.0, 102.0), name="peer", floor=2.0, burst=()):
    return document.measured_row(
        operation.name,
        name,
        params,
        operation.work(params),
        measure.Timing(list(times), [90.0], False, floor, list(burst)),
        peak_bytes=3 << 20,
        rel_err=1e-3,
        tolerance=2e-2,
        ceilings=(4000.0, 800.0),
    )


@pytest.fixture
def written(tmp_path):
    made = document.Document(tmp_path / "peers.json", CONTEXT)
    for operation, params, *_ in CASES:
        made.add(measured(operation, params))
    made.add(document.absent_row("prefill", "other", PREFILL, "skipped", "x does\nnot import"))
    made.add(document.absent_row("prefill", "broken", PREFILL, "error", "another function"))
    return made


def test_rows_are_what_plots_read(written):
    loaded = results.load(written.path)
    rows = loaded.rows.set_index("key")
    assert set(rows["role"]) == {"original"}
    row = rows.loc["prefill/peer/cuda/B:2/H:3/N:70"]
    assert (row["time_us"], row["hot_us"], row["mem_MiB"]) == (101.0, 90.0, 3.0)
    assert row["samples_us"].tolist() == [100.0, 101.0, 102.0]
    work = operations.BasedPrefill().work(PREFILL)
    assert row["TFLOPs"] == pytest.approx(work.nominal_flops / 101e-6 / 1e12)
    floor_us = max(work.compulsory_bytes / 4e12, work.least_flops / 8e14) * 1e6
    assert row["roofline_pct"] == pytest.approx(floor_us / 101 * 100)
    assert (row["policy"], row["hardware"]) == ("cold", "Synthetic GPU")
    assert rows.loc["decode/peer/cuda/B:2/H:3/state:bf16", "extras"] == "state=bf16"
    assert "sliding_window/peer/cuda/B:2/H:3/W:64" in rows.index
    attention_key = "attention/peer/cuda/B:2/H:3/N:70/Dh:64/causal:1"
    assert rows.loc[attention_key, "extras"] == "Dh=64, causal"
    mamba = rows.loc["selective_scan/peer/cuda/B:2/H:1/N:20/d_inner:12/d_state:16"]
    assert math.isnan(mamba["TFLOPs"]) and math.isnan(mamba["roofline_pct"])
    skipped = rows.loc["prefill/other/cuda/B:2/H:3/N:70"]
    assert (skipped["status"], skipped["reason"]) == ("skipped", "x does not import")
    assert math.isnan(skipped["time_us"])


def test_times_near_the_timers_floor_are_marked():
    row = measured(operations.BasedPrefill(), PREFILL, times=(15.0,))
    assert row["near_timer_floor"] == 1
    assert "near_timer_floor" not in measured(operations.BasedPrefill(), PREFILL)


def test_a_burst_stands_beside_the_time(tmp_path):
    made = document.Document(tmp_path / "peers.json", CONTEXT)
    made.add(measured(operations.BasedPrefill(), PREFILL, burst=(91.0, 95.0, 92.0)))
    made.add(measured(operations.BasedPrefill(), PREFILL, name="other"))
    assert made.rows[0]["burst_samples_us"] == [91.0, 95.0, 92.0]
    assert made.rows[1].keys().isdisjoint({"burst_us", "burst_samples_us"})
    rows = results.load(made.path).rows
    assert rows["time_us"].tolist() == [101.0, 101.0]
    assert rows["burst_us"].fillna(0).tolist() == [92.0, 0]


def test_one_process_writes_a_file(written):
    other = document.Document(written.path, CONTEXT)
    with pytest.raises(document.ForeignFileError, match="another process is writing it"):
        other.lock()
    written.add(document.absent_row("prefill", "later", PREFILL, "skipped", "of the test's making"))
    with pytest.raises(document.ForeignFileError, match="another process is writing it"):
        other.lock()  # the file that replaced the first is locked too


def test_resuming_keeps_rows_but_those_to_try_again(written, tmp_path):
    resumed = document.Document(tmp_path / "more.json", CONTEXT)
    again = [document.row_name("prefill", name, PREFILL) for name in ("peer", "broken")]
    resumed.keep(written.path, set(again))
    assert [resumed.has(name) for name in again] == [True, False]
    assert resumed.has(document.row_name("prefill", "other", PREFILL))


@pytest.mark.parametrize("changed", [{"seed": "2"}, {"gpu_name": "Another"}])
def test_resuming_refuses_other_runs(written, tmp_path, changed):
    other = document.Document(tmp_path / "more.json", CONTEXT | changed)
    with pytest.raises(document.ForeignFileError, match=next(iter(changed))):
        other.keep(written.path, set())


def test_resuming_refuses_what_is_no_results_file(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(document.ForeignFileError, match="is no results file"):
        document.Document(tmp_path / "y.json", CONTEXT).keep(tmp_path / "x.json", set())


# The command.


def test_the_originals_rows_have_names_of_their_own():
    names = [(original.operation.name, original.name) for original in ORIGINALS]
    assert len(set(names)) == len(names)


def test_a_missing_peer_is_named_and_not_fatal(run, tmp_path):
    """With this Python, which has neither PyTorch nor any other peer, or cannot reach a GPU."""
    done = run(sys.executable, ROOT / "scripts/peers", "--list")
    assert done.returncode == 0
    named = [line.split(":")[0] for line in done.stderr.splitlines()]
    names = [o.name for o in ORIGINALS]
    assert [name for name in named if name in names] == names  # a peer may warn as it imports
    assert "thunderkittens does not import (ModuleNotFoundError" in done.stderr
    done = run(
        sys.executable,
        ROOT / "scripts/peers",
        "--out",
        "x.json",
        "--peer",
        "thunderkittens_based,fla_parallel_based",
    )
    assert done.returncode == 0
    assert "nothing to measure" in done.stderr
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out FILE.json is needed"),
        (["--peer", "nonsense"], "'nonsense' is unknown; there are torch_bmm"),
        (["--operation", "training"], "'training' is unknown; there are attention"),
        (["--batch", "1:4"], "'1:4' is no number"),
        (["--batch", "0"], "'0' holds no number of 1 or more"),
        (["--seqlen", "64:1024:*1"], "is no number and no range"),
        (["--causal", "2"], "'2' is not some of 0, 1"),
        (["--out", "there.json"], "'there.json' exists: --resume goes on with it"),
    ],
)
def test_bad_usage_of_peers(run, tmp_path, arguments, said):
    (tmp_path / "there.json").write_text(json.dumps({}))
    done = run(sys.executable, ROOT / "scripts/peers", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
