"""The definitions, in NumPy and float64, in the order [B, H, N, D]."""

import numpy as np


def taylor(q, k, v, scale=0.25, normalize=False, eps=1e-6):
    """o_i = sum_{j <= i} (1 + s + s^2/2) v_j, s = scale q_i . k_j."""
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    s = scale * q @ k.swapaxes(-1, -2)
    weights = np.tril(1 + s + s * s / 2)
    o = weights @ v
    return o / (weights.sum(-1, keepdims=True) + eps) if normalize else o


def softmax(q, k, v, causal=False, window=None):
    """Softmax attention at the scale 1/sqrt(Dh), and its log-sum-exp; keys aligned at the end."""
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    k, v = (np.repeat(array, q.shape[1] // array.shape[1], axis=1) for array in (k, v))
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    queries, keys = s.shape[-2:]
    last = np.arange(queries)[:, None] + keys - queries
    key = np.arange(keys)[None, :]
    seen = np.ones((queries, keys), bool)
    if causal:
        seen &= key <= last
    if window:
        seen &= key > last - window
    weights = np.where(seen, np.exp(s), 0)
    total = weights.sum(-1, keepdims=True)
    return weights / total @ v, np.log(total[..., 0])


def relative_error(got, wanted):
    got = np.asarray(got, np.float64)
    assert got.shape == wanted.shape
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


def inputs(batch, heads, tokens, seed=0):
    """q, k of deviation 1/4 and v of deviation 1, float32."""
    random = np.random.default_rng(seed)

    def draw(dim, deviation):
        return deviation * random.standard_normal((batch, heads, tokens, dim), np.float32)

    return draw(16, np.float32(0.25)), draw(16, np.float32(0.25)), draw(64, np.float32(1))
