"""Whole models in float64, plainly: what the logits are, by the definitions, from a checkpoint's
tensors. Nothing here knows the engine: names and shapes are those of the published checkpoints.
"""

import numpy as np

HEAD_DIM, FEATURES, EPS = 64, 16, 1e-5


def silu(x):
    return x / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def rms_norm(x, weight):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight


def causal_conv(x, weight, bias=0):
    """x [N, C], weight [C, 1, taps]."""
    taps = weight.shape[2]
    padded = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
    return sum(padded[t : t + len(x)] * weight[:, 0, t] for t in range(taps)) + bias


def heads_of(x, dim):
    """[N, H * dim] as [H, N, dim]."""
    return x.reshape(len(x), -1, dim).swapaxes(0, 1)


def rotated(x, dims, base):
    """x [H, N, 64]: the first `dims` of a head turn in pairs of its two halves."""
    angles = np.arange(x.shape[1])[:, None] * base ** (-np.arange(0, dims, 2) / dims)
    first, second, rest = np.split(x, [dims // 2, dims], axis=2)
    turned = first * np.cos(angles) - second * np.sin(angles)
    other = second * np.cos(angles) + first * np.sin(angles)
    return np.concatenate([turned, other, rest], axis=2)


def softmax_attention(x, w, config, window=None):
    qkv = x @ w["Wqkv.weight"].T
    q, k, v = (heads_of(part, HEAD_DIM) for part in np.split(qkv, 3, axis=1))
    q, k = (rotated(part, config["rotated"], config["rotary_base"]) for part in (q, k))
    scores = q @ k.swapaxes(1, 2) / HEAD_DIM**0.5
    at, key = np.indices(scores.shape[1:])
    seen = (key <= at) & (key > at - (window or len(x)))
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    o = weights / weights.sum(-1, keepdims=True) @ v
    return o.swapaxes(0, 1).reshape(len(x), -1) @ w["out_proj.weight"].T


def linear_attention(x, w, config):
    q, k = (heads_of(x @ w[f"proj_{n}.weight"].T, FEATURES) for n in "qk")
    v = heads_of(x @ w["proj_v.weight"].T, HEAD_DIM)
    s = q @ k.swapaxes(1, 2) / FEATURES**0.5
    weights = np.tril(1 + s + s**2 / 2)
    o = weights @ v
    if config["head_norm"]:
        o = rms_norm(o, w["g_norm.weight"])
    else:
        o = o / (weights.sum(-1, keepdims=True) + 1e-6)
    return o.swapaxes(0, 1).reshape(len(x), -1) @ w["out_proj.weight"].T


def base_conv(x, w, config):
    u1, u2 = np.split(x @ w["in_proj.weight"].T + w["in_proj.bias"], 2, axis=1)
    u = silu(causal_conv(u1, w["conv.conv.weight"])) * u2
    return u @ w["out_proj.weight"].T + w["out_proj.bias"]


def mamba(x, w, config):
    u, z = np.split(x @ w["in_proj.weight"].T, 2, axis=1)
    u = silu(causal_conv(u, w["conv1d.weight"], w["conv1d.bias"]))
    rank, states = config["dt_rank"], config["d_state"]
    dt, b, c = np.split(u @ w["x_proj.weight"].T, [rank, rank + states], axis=1)
    dt = softplus(dt @ w["dt_proj.weight"].T + w["dt_proj.bias"])
    a, state, y = -np.exp(w["A_log"]), np.zeros((u.shape[1], states)), np.zeros_like(u)
    for n in range(len(x)):
        state = np.exp(dt[n, :, None] * a) * state + (dt[n] * u[n])[:, None] * b[n]
        y[n] = state @ c[n] + w["D"] * u[n]
    return y * silu(z) @ w["out_proj.weight"].T


def mamba2(x, w, config):
    inner, states = config["inner"], config["d_state"]
    z, mixed, dt = np.split(x @ w["in_proj.weight"].T, [inner, 2 * inner + 2 * states], axis=1)
    mixed = silu(causal_conv(mixed, w["conv1d.weight"], w["conv1d.bias"]))
    u, b, c = np.split(mixed, [inner, inner + states], axis=1)
    dt, a = softplus(dt + w["dt_bias"]), -np.exp(w["A_log"])
    u = u.reshape(len(x), -1, HEAD_DIM)
    state, y = np.zeros((*u.shape[1:], states)), np.zeros_like(u)
    for n in range(len(x)):
        state = np.exp(dt[n] * a)[:, None, None] * state
        state += (dt[n, :, None] * u[n])[:, :, None] * b[n]
        y[n] = state @ c[n] + w["D"][:, None] * u[n]
    y = rms_norm(y.reshape(len(x), -1) * silu(z), w["norm.weight"])
    return y @ w["out_proj.weight"].T


MIXERS = {
    "base_conv": base_conv,
    "linear_attention": linear_attention,
    "window_attention": lambda x, w, config: softmax_attention(x, w, config, config["window"]),
    "attention": softmax_attention,
    "mamba": mamba,
    "mamba2": mamba2,
}


def below(tensors, prefix):
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def logits(tensors, config, ids):
    """[N, vocabulary] of one sequence of ids; `config` is config.json of convert_checkpoint."""
    tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    is_gpt = "transformer.ln_f.weight" in tensors
    root = "transformer." if is_gpt else "backbone."
    embedding = tensors[
        root + ("embeddings.word_embeddings" if is_gpt else "embedding") + ".weight"
    ]
    residual = embedding[ids]
    for index, mixer in enumerate(config["mixers"]):
        layer = below(tensors, f"{root}layers.{index}.")
        norm = layer["norm1.weight" if "norm1.weight" in layer else "norm.weight"]
        residual = residual + MIXERS[mixer](
            rms_norm(residual, norm), below(layer, "mixer."), config
        )
        if "mlp.fc1.weight" in layer:
            x = rms_norm(residual, layer["norm2.weight"])
            value, gate = np.split(x @ layer["mlp.fc1.weight"].T, 2, axis=1)
            residual = residual + value * silu(gate) @ layer["mlp.fc2.weight"].T
    final = tensors[root + ("ln_f.weight" if is_gpt else "norm_f.weight")]
    return rms_norm(residual, final) @ embedding.T
