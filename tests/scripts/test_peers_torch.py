"""The originals' calls and the runner, on PyTorch's CPU tensors; skipped where there is none.

The CPU stands for the GPU, so no time means anything here.
"""

import dataclasses
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from peers_lib import inputs, measure  # noqa: E402
from peers_lib.document import Document  # noqa: E402
from peers_lib.operations import Axes  # noqa: E402
from peers_lib.originals import ORIGINALS, _sdpa  # noqa: E402
from peers_lib.run import Runner  # noqa: E402

from plots import results  # noqa: E402

AXES = Axes(batch=[2], heads=[3], seqlen=[80], window=[64], head_dim=[64], causal=[1, 0])


class Event:
    def __init__(self, enable_timing):
        self.at = 0.0

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return (other.at - self.at) * 1e3


class CpuTorch:
    """The module torch, its GPU replaced by the CPU."""

    OutOfMemoryError = MemoryError

    def __init__(self):
        nothing = lambda *_: None  # noqa: E731
        self.cuda = SimpleNamespace(
            Event=Event,
            OutOfMemoryError=MemoryError,
            _sleep=nothing,
            synchronize=nothing,
            empty_cache=nothing,
            reset_peak_memory_stats=nothing,
            memory_allocated=lambda: 0,
            max_memory_allocated=lambda: 5 << 20,
            mem_get_info=lambda: (1 << 33, 1 << 34),
            is_available=lambda: True,
            get_device_properties=lambda _: SimpleNamespace(
                L2_cache_size=1 << 16, name="CPU", multi_processor_count=1
            ),
        )

    def __getattr__(self, name):
        found = getattr(torch, name)
        if name not in ("empty", "zeros", "full", "arange", "randn", "empty_like"):
            return found
        return lambda *sizes, device=None, **options: found(*sizes, **options)


@pytest.fixture(autouse=True)
def neither_rest_nor_long_flush(monkeypatch):
    monkeypatch.setattr(measure, "BURST_REST_S", 0.0)
    monkeypatch.setattr(measure, "LEAST_FLUSH_BYTES", 1)


@pytest.fixture
def runner():
    return Runner(CpuTorch(), seed=1, cap_s=0.2, ceilings=(4000.0, 800.0))


def named(name):
    return next(original for original in ORIGINALS if original.name == name)


def test_the_generator_is_numpys():
    made = inputs.torch_values(CpuTorch(), 1, "q", 0.25, (3, 1000))
    expected = inputs.numpy_values(1, "q", 0.25, 0, 3000).reshape(3, 1000)
    assert np.array_equal(made.float().numpy(), expected)


@pytest.mark.parametrize(
    "name", ["torch_bmm", "torch_einsum", "torch_sdpa", "pytorch_naive", "torch_sdpa_math"]
)
def test_an_original_computes_what_it_should(runner, name):
    original = named(name.replace("_math", "_flash2"))
    if name.endswith("_math"):  # flash and cuDNN want a GPU; the call is the same
        original = dataclasses.replace(original, prepare=_sdpa("MATH"))
    for params in original.operation.parameters(AXES):
        row = runner.row(original, params)
        assert row["status"] == "ok", row["reason"]
        assert 1e-4 < row["rel_err"] < original.tolerance
        assert len(row["samples_us"]) >= 1
        assert len(row.get("burst_samples_us", [])) in (0, measure.BURST_CALLS)
        assert row["timing"] == "calls" or "burst_us" not in row


def test_another_function_is_an_error(runner):
    def unscaled(torch, given, params):
        q, k, v = (given[name].float() for name in "qkv")
        return lambda: torch.tril(1 + q @ k.mT + (q @ k.mT) ** 2 / 2) @ v, lambda o: {"o": o}

    row = runner.row(replaced(prepare=unscaled), AXES.shapes()[0])
    assert row["status"] == "error"
    assert "computes another function: relative error" in row["reason"]


def replaced(**changes):
    return dataclasses.replace(named("fla_parallel_based"), **changes)


def test_failures_stay_in_their_rows(runner):
    def raises(error):
        def prepare(torch, given, params):
            raise error

        return replaced(prepare=prepare)

    params = AXES.shapes()[0]
    row = runner.row(raises(ValueError("a b\nc")), params)
    assert (row["status"], row["reason"]) == ("error", "ValueError: a b c")
    row = runner.row(raises(MemoryError("CUDA out of memory. Tried 3 GiB. GPU 0 has 2")), params)
    assert (row["status"], row["reason"]) == (
        "out_of_memory",
        "CUDA out of memory. Tried 3 GiB",
    )
    row = runner.row(named("pytorch_naive"), params)
    assert row["status"] == "ok"


def test_unwritten_outputs_are_an_error(runner):
    def prepare(torch, given, params):
        made = torch.full(given["v"].shape, float("nan"))
        return lambda: made, lambda o: {"o": o}

    row = runner.row(replaced(prepare=prepare), AXES.shapes()[0])
    assert (row["status"], row["reason"]) == ("error", "not all of o is finite")


def test_a_lost_gpu_ends_the_rows_after_it(runner):
    def lost():
        raise RuntimeError("illegal memory access")

    runner._torch.cuda.synchronize = lost
    first = runner.row(named("pytorch_naive"), AXES.shapes()[0])
    second = runner.row(named("torch_bmm"), {"B": 1, "H": 1, "state": "bf16"})
    assert "illegal memory access" in first["reason"]
    assert second["reason"].startswith("not run: the GPU was lost in a row of pytorch_naive")


def test_fla_is_called_with_its_layout_and_scale(runner, monkeypatch):
    def parallel_based(q, k, v, scale=None, use_norm=True):
        assert q.shape == (2, 80, 3, 16)
        assert all(x.transpose(1, 2).is_contiguous() for x in (q, k, v))
        assert not use_norm
        s = scale * torch.einsum("bthd,bshd->bhts", q.float(), k.float())
        return torch.einsum("bhts,bshd->bthd", torch.tril(1 + s + s * s / 2), v.float())

    fake = SimpleNamespace(parallel_based=parallel_based)
    monkeypatch.setitem(sys.modules, "fla", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fla.ops", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fla.ops.based", fake)
    original = named("fla_parallel_based")
    assert original.missing() is None
    row = runner.row(original, AXES.shapes()[0])
    assert row["status"] == "ok", row["reason"]


def test_short_calls_rotate(runner):
    made = []

    def replicate(sets):
        made.extend([lambda: None] * sets)
        return made

    timing = runner.timer.measure(lambda: None, replicate, measure.Rule(cap_s=0.2))
    assert timing.rotated
    assert len(made) == measure.ROTATION_CALLS


@pytest.fixture
def command(monkeypatch, capsys):
    """command(arguments...): scripts/peers in this process; its status and what it said."""
    loader = SourceFileLoader("peers_command", str(ROOT / "scripts" / "peers"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "ceilings", lambda _: (4000.0, 800.0))
    monkeypatch.setitem(sys.modules, "torch", CpuTorch())

    def execute(*arguments):
        monkeypatch.setattr(sys, "argv", ["peers", *map(str, arguments)])
        return module.main(), capsys.readouterr().err

    return execute


SMALL = ("--batch=1", "--heads=2", "--seqlen=64", "--time-cap=0.1")


def test_sweeps_go_into_one_file(command, tmp_path):
    out = tmp_path / "peers.json"
    status, said = command(*SMALL, "--operation=decode", "--out", out)
    assert status == 0, said
    assert "[1/1] decode/torch_bmm/cuda/B:1/H:2/state:bf16: " in said
    status, said = command(*SMALL, "--peer=pytorch_naive", "--budget=0", "--out", out, "--resume")
    assert status == 0, said
    status, said = command(*SMALL, "--peer=mamba,pytorch_naive", "--out", out, "--resume")
    assert status == 0, said
    assert "mamba: mamba_ssm.ops.selective_scan_interface does not import" in said
    loaded = results.load(out)
    assert dict(zip(loaded.rows["key"], loaded.rows["status"], strict=True)) == {
        "decode/torch_bmm/cuda/B:1/H:2/state:bf16": "ok",
        "prefill/pytorch_naive/cuda/B:1/H:2/N:64": "ok",
    }
    (context,) = loaded.contexts
    assert "does not import" in context["missing_mamba"]
    _, said = command(*SMALL, "--peer=pytorch_naive", "--out", out, "--resume")
    assert "[1/1]" not in said  # it is there


def test_the_budget_ends_the_sweep(command, tmp_path):
    out = tmp_path / "peers.json"
    status, _ = command(*SMALL, "--operation=decode", "--budget=0", "--out", out)
    assert status == 0
    row = results.load(out).rows.iloc[0]
    assert (row["status"], row["reason"]) == ("skipped", "the budget of 0 s was spent")


def test_rows_make_a_file_that_plots_read(runner, tmp_path):
    context = {
        "schema": results.SCHEMA,
        "seed": "1",
        "gpu_name": "CPU",
        "l2_policy": "cold: x",
        "gpu_copy_GBps": "1",
        "gpu_gemm_TFLOPs": "1",
    }
    document = Document(tmp_path / "peers.json", context)
    document.add(runner.row(named("pytorch_naive"), AXES.shapes()[0]))
    rows = results.load(document.path).rows
    assert rows["key"].tolist() == ["prefill/pytorch_naive/cuda/B:2/H:3/N:80"]
    assert rows["mem_MiB"].tolist() == [5.0]
