"""Based's functions with the signatures of those that people have, and a layer, for PyTorch.

parallel_based and fused_chunk_based are flash-linear-attention's (fla.ops.based), based() is
ThunderKittens'. Ours have no backward: they are for inference.
"""

import functools

import torch

from based_bench.operators import decode, prefill


def parallel_based(q, k, v, scale=None, use_norm=True, head_first=False):
    """q, k: [B, T, H, 16], v and the result: [B, T, H, 64]; [B, H, T, D] with head_first. scale:
    1/4 unless given. use_norm: divide by the sum of weights + 1e-6.
    """
    layout = "bhnd" if head_first else "bnhd"
    return prefill(q, k, v, scale=scale, normalize=use_norm, eps=1e-6, layout=layout)


def fused_chunk_based(q, k, v, scale=None, use_norm=True, head_first=False):
    """As parallel_based(): the two differ in their kernels, for which ours stands."""
    return parallel_based(q, k, v, scale, use_norm, head_first)


def based(q, k, v):
    """q, k: [B, H, N, 16], v: [B, H, N, 64], bfloat16. Returns o [B, H, N, 64] and the state
    [B, H, 273, 64] in bfloat16: a row a feature, 1, then k_i / 2, then k_i k_j / (4 sqrt 2).
    """
    o, state = prefill(q, k, v, return_state=True)
    rows, weights = _source_features(state.kv.device)
    return o, (state.kv.index_select(2, rows) * weights[:, None]).to(v.dtype)


@functools.lru_cache(maxsize=64)
def _source_features(device):
    """Of each of the 273 features its row in the compact state, whose products k_i k_j have i <= j,
    and the weight that its source gives it at the scale 1/4 (kernels/based/source_state.h).
    """
    dim, scale = 16, 0.25
    pairs = [(i, j) for i in range(dim) for j in range(dim)]
    products = {pair: row for row, pair in enumerate(pair for pair in pairs if pair[0] <= pair[1])}
    rows = [*range(1 + dim), *(1 + dim + products[min(p), max(p)] for p in pairs)]
    weights = [1.0, *[scale**0.5] * dim, *[scale / 2**0.5] * len(pairs)]
    return torch.tensor(rows, device=device), torch.tensor(weights, device=device)


class BasedLinearAttention(torch.nn.Module):
    """A layer of Based's linear attention: projections of [B, N, hidden_size] to `num_heads` heads
    of queries and keys of 16 and values of 64, attention, and a projection back.

    layer(x) stands alone. layer(x, keep_state=True) continues after what it was given with
    keep_state before, as one longer sequence, until reset().
    """

    FEATURE_DIM, HEAD_DIM = 16, 64

    def __init__(self, hidden_size, num_heads=12, *, normalize=True, eps=1e-6, **factory):
        super().__init__()
        self.num_heads, self.normalize, self.eps = num_heads, normalize, eps

        def projection(inputs, outputs):
            return torch.nn.Linear(inputs, outputs, bias=False, **factory)

        self.q_proj = projection(hidden_size, num_heads * self.FEATURE_DIM)
        self.k_proj = projection(hidden_size, num_heads * self.FEATURE_DIM)
        self.v_proj = projection(hidden_size, num_heads * self.HEAD_DIM)
        self.o_proj = projection(num_heads * self.HEAD_DIM, hidden_size)
        self.state = None

    def reset(self):
        self.state = None

    def forward(self, x, keep_state=False):
        batch, tokens, _ = x.shape

        def heads(projection, dim):
            return projection(x).view(batch, tokens, self.num_heads, dim)

        q = heads(self.q_proj, self.FEATURE_DIM)
        k = heads(self.k_proj, self.FEATURE_DIM)
        v = heads(self.v_proj, self.HEAD_DIM)
        options = {"normalize": self.normalize, "eps": self.eps, "layout": "bnhd"}
        if not keep_state:
            o = prefill(q, k, v, **options)
        elif tokens == 1 and self.state is not None:
            o = decode(q, k, v, self.state, **options)
        else:
            o, self.state = prefill(q, k, v, initial_state=self.state, return_state=True, **options)
        return self.o_proj(o.reshape(batch, tokens, -1))


__all__ = ["BasedLinearAttention", "based", "fused_chunk_based", "parallel_based"]
