"""Based's prefill as the papers have it without a kernel: features in memory, a running sum."""

from based_bench.harness import Original

from originals import version_of

_SCALE = 16**-0.5


def _prepare(given: dict, params: dict):
    import torch

    q, k, v = (given[name] for name in "qkv")

    def features(x):
        """[..., 273], such that features(q) . features(k) = 1 + s + s^2/2."""
        products = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2) * (_SCALE / 2**0.5)
        return torch.cat([torch.ones_like(x[..., :1]), x * _SCALE**0.5, products], dim=-1)

    def call():
        phi_q, phi_k = features(q).unsqueeze(-2), features(k).unsqueeze(-2)  # [B, H, N, 1, 273]
        return (phi_q * (phi_k * v.unsqueeze(-1)).cumsum(dim=2)).sum(dim=-1)

    return call


ORIGINALS = (
    Original(
        "pytorch_naive",
        "prefill",
        _prepare,
        version=version_of("torch"),
        tolerance=2e-1,  # its running sum of bf16 rounds at each step: sqrt(N) * 2^-10
    ),
)
