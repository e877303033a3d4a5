"""The living originals, as far as they run on the CPU: each gets its operation's tensors in the
layouts that it takes, and its rows have the names of that operation's axes."""

import dataclasses
import json
import pathlib
import sys
import types

import pytest

based_bench = pytest.importorskip("based_bench")
from based_bench import harness  # noqa: E402

try:
    harness.run(["--describe"])
except harness.UnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts"))
from originals import all_originals  # noqa: E402

ORIGINALS = {(each.operation, each.name): each for each in all_originals()}


@pytest.fixture
def rows(tmp_path):
    """rows(operation, name, flag=..): what an original gives in float32, on tensors of PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def call(operation, name, **flags):
        original = ORIGINALS[operation, name]

        def prepare(given, params):
            prepared = original.prepare({n: torch.from_numpy(a) for n, a in given.items()}, params)
            launch, view = prepared if isinstance(prepared, tuple) else (prepared, lambda o: o)

            def outputs(result):
                shown = view(result)
                return {
                    n: a.numpy()
                    for n, a in (shown if isinstance(shown, dict) else {"o": shown}).items()
                }

            return launch, outputs

        harness.add(
            dataclasses.replace(original, prepare=prepare, device="cpu", type="f32", form="")
        )
        out = tmp_path / "rows.json"
        with torch.no_grad():
            harness.run(
                [
                    "--device=cpu",
                    f"--implementation={name}",
                    f"--benchmark_filter=^{operation}/{name}/",
                    "--time-cap=0.05",
                    f"--benchmark_out={out}",
                    *(f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()),
                ]
            )
        return json.loads(out.read_text(encoding="utf-8"))["benchmarks"]

    return call


def test_what_they_take_are_axes_of_their_operations():
    known = based_bench.describe()
    for original in ORIGINALS.values():
        assert original.operation in known
        flags = {axis["flag"] for axis in known[original.operation]["axes"]}
        assert original.takes <= flags


@pytest.mark.parametrize(
    ("operation", "name", "flags"),
    [
        ("prefill", "pytorch_naive", {"seqlen": 65}),
        ("attention", "torch_sdpa_flash2", {"seqlen": 65, "causal": "0,1", "head_dim": "64,128"}),
        ("sliding_window", "torch_einsum", {"window": 64}),
        ("sliding_window", "torch_sdpa", {"window": 64}),
        ("model_prefill", "torch_model", {"model": "tiny-attention", "seqlen": 65}),
    ],
)
def test_pytorch(rows, operation, name, flags):
    labels = {axis["label"] for axis in based_bench.describe()[operation]["axes"]}
    for row in rows(operation, name, batch=2, heads=3, **flags):
        assert row["status"] == "ok", row["reason"]
        assert row["rel_err"] < 1e-5
        assert set(row["params"]) <= labels


@pytest.mark.parametrize(("name", "longest"), [("273", 30720), ("153", 54272)])
def test_fast_transformers_offsets_have_32_bits(name, longest):
    """B * H * N * 273 or 153 elements, at 16 sequences of 16 heads."""
    cannot = ORIGINALS["prefill", f"fast_transformers_{name}"].cannot
    sizes = {"batch": 16, "heads": 16}
    assert cannot(sizes | {"seqlen": longest}) is None
    assert "32 bits" in cannot(sizes | {"seqlen": longest + 1024})


def selective_scan_fn(u, delta, a, b, c, *, z, delta_bias, delta_softplus, return_last_state, **d):
    """As mamba-ssm's: u, delta, z [B, D, N], a [D, S], b and c [B, G, S, N], its argument D [D]."""
    import torch

    assert u.ndim == delta.ndim == 3
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = torch.nn.functional.softplus(delta) if delta_softplus else delta
    b, c = (each.repeat_interleave(u.shape[1] // each.shape[1], 1) for each in (b, c))
    state, out = torch.zeros(*u.shape[:2], a.shape[1]), []
    for n in range(u.shape[2]):
        step = delta[:, :, n, None]
        state = torch.exp(step * a) * state + step * b[..., n] * u[:, :, n, None]
        out.append((state * c[..., n]).sum(-1))
    y = torch.stack(out, -1)
    y = y if d["D"] is None else y + d["D"][:, None] * u
    y = y if z is None else y * torch.nn.functional.silu(z)
    return (y, state) if return_last_state else y


def test_mamba(rows, monkeypatch):
    """Through a stand-in for its package, whose tensors have other shapes than ours."""
    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    options = "none,softplus,softplus+bias+skip+gate+final_state"
    sizes = {"seqlen": 33, "d_inner": 12, "d_state": 5}
    found = rows("selective_scan", "mamba", batch=2, groups="1,3", options=options, **sizes)
    assert [row["status"] for row in found] == ["ok"] * 6, [row.get("reason") for row in found]


def parallel_based(q, k, v, *, scale, use_norm):
    """As flash-linear-attention's: [B, N, H, D]."""
    import torch

    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    s = scale * q @ k.mT
    weights = torch.tril(1 + s + s**2 / 2)
    o = weights @ v
    o = o / (weights.sum(-1, keepdim=True) + 1e-6) if use_norm else o
    return o.transpose(1, 2)


def test_based_model(rows, monkeypatch):
    """Through a stand-in for the package of its linear attention."""
    stand_in = types.ModuleType("fla.ops.based")
    stand_in.parallel_based = parallel_based
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    models = "tiny-based,tiny-based-gnorm"
    found = rows("model_prefill", "fla_model_compiled", model=models, batch=2, seqlen="5,65")
    assert [row["status"] for row in found] == ["ok"] * 4, [row.get("reason") for row in found]
    assert all(row["rel_err"] < 1e-5 for row in found)


def test_weights_have_the_published_names_and_forms(rows, monkeypatch):
    """A model that is written for the published tensors gives the logits that the row wants."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import model_reference
    import numpy as np
    from originals import torch_models

    def prepare(given, params):
        tensors = {n: t.double().numpy() for n, t in torch_models.weights(given, params).items()}
        config = torch_models.configuration(params)

        def call():
            ids = given["ids"].numpy()
            all_tokens = [model_reference.logits(tensors, config, each) for each in ids]
            logits = np.stack(all_tokens).astype(np.float32)
            early = min(ids.shape[1] - 1, torch_models.EARLY_TOKEN)
            at = {"early_logits": early, "logits": -1}
            return {n: torch.from_numpy(logits[:, t].copy()) for n, t in at.items()}

        return call, lambda logits: logits

    of = ("model_prefill", "torch_model")
    plain = dataclasses.replace(ORIGINALS[of], prepare=prepare, cannot=lambda params: None)
    monkeypatch.setitem(ORIGINALS, of, plain)
    models = "tiny-based,tiny-attention,tiny-mamba,tiny-mamba2"
    found = rows(*of, model=models, batch=1, seqlen=19)
    assert [row["status"] for row in found] == ["ok"] * 4, [row.get("reason") for row in found]
    assert all(row["rel_err"] < 1e-5 for row in found)
