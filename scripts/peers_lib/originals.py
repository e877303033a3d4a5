"""Who computes it: how each living original is called, on the suite's tensors.

An original is a function prepare(torch, given, params) of the operation's tensors (contiguous, in
the suite's layouts) that returns (call, view): `call()` launches the original and returns what it
returns, `view(result)` gives its outputs by name, in the suite's layouts. Layouts are changed in
prepare, outside what is timed.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from peers_lib.operations import (
    FEATURE_DIM,
    SCALE,
    Attention,
    BasedPrefill,
    Decode,
    Operation,
    SelectiveScan,
    SlidingWindow,
    StateSpaceDuality,
)

# A peer keeps its own precision; what this must catch is another function, which is off by 1e-1 and
# more. The error itself stands in the row.
_TOLERANCE = 2e-2
# PyTorch's running sum of bf16 rounds at each step: up to N = 32768, sqrt(N) * 2^-10.
_RUNNING_SUM_TOLERANCE = 2e-1


@dataclass(frozen=True)
class Original:
    name: str
    operation: Operation
    module: str  # what must import
    package: str  # what to install
    prepare: Callable
    tolerance: float = _TOLERANCE

    def missing(self) -> str | None:
        """Why it cannot run here; None where it can."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # a broken extension may raise anything
            reason = " ".join(str(error).split())
            return (
                f"{self.module} does not import ({type(error).__name__}: {reason}); {self.package}"
            )
        return None


def _only_o(result) -> dict:
    return {"o": result}


def _sequence_first(torch, given: dict) -> list:
    """q, k, v as [B, N, H, D]."""
    return [given[name].transpose(1, 2).contiguous() for name in "qkv"]


def _heads_first(result) -> dict:
    return {"o": result.transpose(1, 2)}


def _sdpa(backend_name: str) -> Callable:
    def prepare(torch, given: dict, params: dict):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backend = getattr(SDPBackend, backend_name)
        attend = torch.nn.functional.scaled_dot_product_attention
        q, k, v = (given[name] for name in "qkv")

        def call():
            with sdpa_kernel(backend):
                return attend(q, k, v, is_causal=bool(params["causal"]))

        return call, _only_o

    return prepare


def _flash_attn(torch, given: dict, params: dict):
    from flash_attn import flash_attn_func

    q, k, v = _sequence_first(torch, given)
    return lambda: flash_attn_func(q, k, v, causal=bool(params["causal"])), _heads_first


def _pytorch_naive(torch, given: dict, params: dict):
    q, k, v = (given[name] for name in "qkv")

    def features(x):
        """[..., 273], such that features(q) . features(k) = 1 + s + s^2/2."""
        products = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2) * (SCALE / 2**0.5)
        return torch.cat([torch.ones_like(x[..., :1]), x * SCALE**0.5, products], dim=-1)

    def call():
        phi_q, phi_k = features(q).unsqueeze(-2), features(k).unsqueeze(-2)  # [B, H, N, 1, 273]
        return (phi_q * (phi_k * v.unsqueeze(-1)).cumsum(dim=2)).sum(dim=-1)

    return call, _only_o


def _fla(name: str) -> Callable:
    def prepare(torch, given: dict, params: dict):
        function = getattr(importlib.import_module("fla.ops.based"), name)
        known = inspect.signature(function).parameters
        if not {"scale", "use_norm"} <= set(known):
            raise TypeError(f"{name} of this version takes no scale and use_norm; update it")
        options = {"scale": FEATURE_DIM**-0.5, "use_norm": False}
        # Versions that still know the other layout are told which one they get.
        if "head_first" in known:
            options["head_first"] = False
        # [B, N, H, D] over [B, H, N, D], which its kernels read: it copies no input of that layout.
        q, k, v = (given[name].transpose(1, 2) for name in "qkv")
        return lambda: function(q, k, v, **options), _heads_first

    return prepare


def _thunderkittens(torch, given: dict, params: dict):
    function = importlib.import_module("thunderkittens").based
    q, k, v = (given[name] for name in "qkv")
    return lambda: function(q, k, v)[0], _only_o


def _mamba(torch, given: dict, params: dict):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    decay = torch.from_numpy(SelectiveScan.decay(params)).cuda()
    a = decay.expand(params["d_inner"], -1).contiguous()  # [d_inner, d_state]
    u, delta, b, c = (given[name] for name in ("u", "delta", "B", "C"))
    return lambda: selective_scan_fn(u, delta, a, b, c, delta_softplus=True), _only_o


def _mamba2(torch, given: dict, params: dict):
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    a = torch.from_numpy(StateSpaceDuality.decay(params)).cuda()
    x, delta, b, c = (given[name] for name in ("x", "delta", "B", "C"))
    chunk = params["chunk"]
    return lambda: mamba_chunk_scan_combined(x, delta, a, b, c, chunk, dt_softplus=True), _only_o


def _bmm_step(torch, given: dict, params: dict):
    flat = {name: tensor.flatten(0, 1) for name, tensor in given.items()}
    q, k, v = flat["q"].unsqueeze(1), flat["k"].unsqueeze(2), flat["v"].unsqueeze(1)
    state = flat["kv"]  # [B*H, 320, 64], a view: updated in place

    def call():
        state.add_(torch.bmm(k, v))
        return torch.bmm(q, state)

    return call, lambda result: {"o": result.view(given["v"].shape), "kv": given["kv"]}


def _window(attend: Callable) -> Callable:
    """The append, then `attend(torch, q, k_cache, v_cache)`."""

    def prepare(torch, given: dict, params: dict):
        slot = SlidingWindow.slot(params)
        q, k, v, k_cache, v_cache = (given[n] for n in ("q", "k", "v", "k_cache", "v_cache"))

        def call():
            k_cache[:, :, slot] = k
            v_cache[:, :, slot] = v
            return attend(torch, q, k_cache, v_cache)

        return call, lambda result: {
            "o": result.view(q.shape),
            "k_cache": k_cache,
            "v_cache": v_cache,
        }

    return prepare


def _einsum_window(torch, q, k_cache, v_cache):
    scores = torch.einsum("bhd,bhwd->bhw", q, k_cache) * q.shape[-1] ** -0.5
    return torch.einsum("bhw,bhwd->bhd", torch.softmax(scores, dim=-1), v_cache)


def _sdpa_window(torch, q, k_cache, v_cache):
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q.unsqueeze(2), k_cache, v_cache)


_TORCH = "install PyTorch built for CUDA"
_FLA = "install flash-linear-attention"
_MAMBA = "install mamba-ssm"

# The surest first: a peer that breaks the GPU's context ends the run for those after it.
ORIGINALS = (
    Original("torch_bmm", Decode(), "torch", _TORCH, _bmm_step),
    Original("torch_einsum", SlidingWindow(), "torch", _TORCH, _window(_einsum_window)),
    Original("torch_sdpa", SlidingWindow(), "torch", _TORCH, _window(_sdpa_window)),
    Original("torch_sdpa_flash2", Attention(), "torch", _TORCH, _sdpa("FLASH_ATTENTION")),
    Original("torch_sdpa_cudnn", Attention(), "torch", _TORCH, _sdpa("CUDNN_ATTENTION")),
    Original(
        "pytorch_naive", BasedPrefill(), "torch", _TORCH, _pytorch_naive, _RUNNING_SUM_TOLERANCE
    ),
    Original("flash_attention_2", Attention(), "flash_attn", "install flash-attn", _flash_attn),
    Original("fla_parallel_based", BasedPrefill(), "fla.ops.based", _FLA, _fla("parallel_based")),
    Original(
        "fla_fused_chunk_based", BasedPrefill(), "fla.ops.based", _FLA, _fla("fused_chunk_based")
    ),
    Original(
        "mamba",
        SelectiveScan(),
        "mamba_ssm.ops.selective_scan_interface",
        _MAMBA,
        _mamba,
    ),
    Original(
        "mamba2",
        StateSpaceDuality(),
        "mamba_ssm.ops.triton.ssd_combined",
        _MAMBA,
        _mamba2,
    ),
    Original(
        "thunderkittens_based",
        BasedPrefill(),
        "thunderkittens",
        "build ThunderKittens' extension with its kernel `based`",
        _thunderkittens,
    ),
)
