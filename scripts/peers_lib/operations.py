"""What is computed: the studies of benchmarks/, with their tensors, their work and their float64
references, so that a peer's row means what the suite's own row of that name means.

Each operation has

    parameters(axes)       the rows' params, for the axes of the command line
    tensors(params)        name -> (shape, deviation) of the random inputs
    arranged(params, name, values)   a head's inputs where they are a function of the random values
    work(params)           nominal and least FLOPs (None: no formula), compulsory bytes
    error(params, given, got, seed)  the largest relative error of a sample of heads and rows;
                           given(name, head, rows=None) and got(name, head): fp32 arrays of one
                           head, the first `head_dims` dimensions counted as one; `rows` picks some
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from peers_lib.inputs import mix64, rounded_to_bf16

FEATURE_DIM, VALUE_DIM = 16, 64
SCALE = FEATURE_DIM**-0.5
EXPANDED_FEATURES = 1 + FEATURE_DIM + FEATURE_DIM**2
COMPACT_FEATURES = 1 + FEATURE_DIM + FEATURE_DIM * (FEATURE_DIM + 1) // 2
PADDED_FEATURES = 320
_BF16_BYTES = 2
_SAMPLED_HEADS = 4
_SAMPLED_ROWS = 128
_ROW_MARKS = (0, 1, 15, 16, 31, 32, 63, 64, 65, 127, 128, 129)


@dataclass(frozen=True)
class Work:
    nominal_flops: float | None
    least_flops: float | None
    compulsory_bytes: float
    tokens: int


@dataclass(frozen=True)
class Axes:
    batch: list[int]
    heads: list[int]
    seqlen: list[int]
    window: list[int]
    head_dim: list[int]
    causal: list[int]

    def shapes(self) -> list[dict]:
        return [
            {"B": b, "H": h, "N": n} for b, h, n in product(self.batch, self.heads, self.seqlen)
        ]


def scattered(size: int, count: int, seed: int, marks=()) -> list[int]:
    """`count` of 0 .. size - 1 with those of `marks` in range, in order."""
    if count >= size:
        return list(range(size))
    chosen = {mark for mark in marks if 0 <= mark < size}
    index = 0
    while len(chosen) < count:
        chosen.add(mix64((seed + index) % (1 << 64)) % size)
        index += 1
    return sorted(chosen)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """norm(got - expected) / norm(expected); NaN if any value is."""
    difference = np.linalg.norm(got.astype(np.float64) - expected)
    return float(difference / (np.linalg.norm(expected) or 1.0))


def _sampled_heads(params: dict, seed: int, count: int = _SAMPLED_HEADS) -> list[int]:
    heads = params["B"] * params["H"]
    return scattered(heads, count, seed, (0, heads - 1))


def _sampled_rows(seqlen: int, seed: int) -> np.ndarray:
    marks = (*_ROW_MARKS, seqlen // 2, seqlen - 64, seqlen - 2, seqlen - 1)
    return np.array(scattered(seqlen, _SAMPLED_ROWS, seed + 1, marks))


def _worst(errors: list[float]) -> float:
    return math.nan if any(math.isnan(error) for error in errors) else max(errors)


class Operation:
    name: str
    head_dims = 2  # of a tensor's leading dimensions: (B, H)
    arranged_names: tuple[str, ...] = ()

    def arranged(self, params: dict, name: str, values: np.ndarray) -> np.ndarray:
        return values


class BasedPrefill(Operation):
    """o_i = sum_{j <= i} (1 + s + s^2/2) v_j,   s = scale q_i . k_j"""

    name = "prefill"

    def parameters(self, axes: Axes) -> list[dict]:
        return axes.shapes()

    def tensors(self, params: dict) -> dict:
        heads = (params["B"], params["H"], params["N"])
        return {
            "q": ((*heads, FEATURE_DIM), 0.25),
            "k": ((*heads, FEATURE_DIM), 0.25),
            "v": ((*heads, VALUE_DIM), 1.0),
        }

    def work(self, params: dict) -> Work:
        tokens = params["B"] * params["H"] * params["N"]
        pair = 2 * FEATURE_DIM + 2 * VALUE_DIM + 3
        least = min(4 * COMPACT_FEATURES * VALUE_DIM, (params["N"] + 1) / 2 * pair)
        return Work(
            nominal_flops=tokens * EXPANDED_FEATURES * (2 + 4 * VALUE_DIM),
            least_flops=tokens * least,
            compulsory_bytes=tokens * 2 * (FEATURE_DIM + VALUE_DIM) * _BF16_BYTES,
            tokens=params["B"] * params["N"],
        )

    def error(self, params: dict, given, got, seed: int) -> float:
        rows = _sampled_rows(params["N"], seed)
        errors = []
        for head in _sampled_heads(params, seed):
            q, k, v = (given(name, head).astype(np.float64) for name in "qkv")
            s = SCALE * (q[rows] @ k.T)
            weights = np.where(np.arange(len(k)) <= rows[:, None], 1 + s + s * s / 2, 0)
            errors.append(relative_error(got("o", head)[rows], weights @ v))
        return _worst(errors)


class Attention(Operation):
    """softmax(q k^T / sqrt(Dh)) v"""

    name = "attention"

    def parameters(self, axes: Axes) -> list[dict]:
        return [
            shape | {"Dh": dim, "causal": causal}
            for dim, causal, shape in product(axes.head_dim, axes.causal, axes.shapes())
        ]

    def tensors(self, params: dict) -> dict:
        shape = (params["B"], params["H"], params["N"], params["Dh"])
        return {"q": (shape, 1.0), "k": (shape, 1.0), "v": (shape, 1.0)}

    def work(self, params: dict) -> Work:
        elements = params["B"] * params["H"] * params["N"] * params["Dh"]
        flops = 4 * elements * params["N"] / (2 if params["causal"] else 1)
        return Work(flops, flops, 4 * elements * _BF16_BYTES, params["B"] * params["N"])

    def error(self, params: dict, given, got, seed: int) -> float:
        rows = _sampled_rows(params["N"], seed)
        errors = []
        for head in _sampled_heads(params, seed):
            q, k, v = (given(name, head).astype(np.float64) for name in "qkv")
            mask = np.arange(len(k)) <= rows[:, None] if params["causal"] else None
            errors.append(relative_error(got("o", head)[rows], _attend(q[rows], k, v, mask)))
        return _worst(errors)


class Decode(Operation):
    """S += phi_k v^T, o = phi_q^T S, on the padded state of 320 rows, q and k mapped beforehand."""

    name = "decode"
    arranged_names = ("q", "k")

    def parameters(self, axes: Axes) -> list[dict]:
        return [{"B": b, "H": h, "state": "bf16"} for b, h in product(axes.batch, axes.heads)]

    def tensors(self, params: dict) -> dict:
        heads = (params["B"], params["H"])
        return {
            "q": ((*heads, PADDED_FEATURES), 0.25),
            "k": ((*heads, PADDED_FEATURES), 0.25),
            "v": ((*heads, VALUE_DIM), 1.0),
            "kv": ((*heads, PADDED_FEATURES, VALUE_DIM), 0.5),
        }

    def arranged(self, params: dict, name: str, values: np.ndarray) -> np.ndarray:
        """[..., 320]: the first 16 values of each head become their features, padded by zeros."""
        if name not in self.arranged_names:
            return values
        linear, square = (SCALE, SCALE * SCALE / 2) if name == "q" else (1.0, 1.0)
        x = values[..., :FEATURE_DIM].astype(np.float32)
        products = np.float32(square) * x[..., :, None] * x[..., None, :]
        features = np.zeros(values.shape, np.float32)
        features[..., 0] = 1
        features[..., 1 : 1 + FEATURE_DIM] = np.float32(linear) * x
        features[..., 1 + FEATURE_DIM : EXPANDED_FEATURES] = products.reshape(*x.shape[:-1], -1)
        return rounded_to_bf16(features)

    def work(self, params: dict) -> Work:
        heads = params["B"] * params["H"]
        elements = 2 * (PADDED_FEATURES + VALUE_DIM) + 2 * PADDED_FEATURES * VALUE_DIM
        return Work(
            nominal_flops=heads * EXPANDED_FEATURES * (2 + 4 * VALUE_DIM),
            least_flops=heads * COMPACT_FEATURES * 4 * VALUE_DIM,
            compulsory_bytes=heads * elements * _BF16_BYTES,
            tokens=params["B"],
        )

    def error(self, params: dict, given, got, seed: int) -> float:
        errors = []
        for head in _sampled_heads(params, seed):
            q, k, v, kv = (given(name, head).astype(np.float64) for name in ("q", "k", "v", "kv"))
            state = kv + np.outer(k, v)
            errors.append(relative_error(got("kv", head), state))
            errors.append(relative_error(got("o", head), q @ state))
        return _worst(errors)


class SlidingWindow(Operation):
    """The current token goes to its slot of the ring, then o = softmax(q K^T / sqrt(Dh)) V."""

    name = "sliding_window"
    head_dim = 64

    def parameters(self, axes: Axes) -> list[dict]:
        return [
            {"B": b, "H": h, "W": w} for w, b, h in product(axes.window, axes.batch, axes.heads)
        ]

    @staticmethod
    def slot(params: dict) -> int:
        """Of the current token: the window is full, and its next slot in the middle of the ring."""
        return (params["W"] + params["W"] // 2) % params["W"]

    def tensors(self, params: dict) -> dict:
        token = (params["B"], params["H"], self.head_dim)
        cache = (params["B"], params["H"], params["W"], self.head_dim)
        return {
            "q": (token, 1.0),
            "k": (token, 1.0),
            "v": (token, 1.0),
            "k_cache": (cache, 1.0),
            "v_cache": (cache, 1.0),
        }

    def work(self, params: dict) -> Work:
        token = params["B"] * params["H"] * self.head_dim
        flops = 4 * token * params["W"]
        return Work(flops, flops, token * (4 + 2 * params["W"]) * _BF16_BYTES, params["B"])

    def error(self, params: dict, given, got, seed: int) -> float:
        errors = []
        for head in _sampled_heads(params, seed):
            caches = []
            for name in "kv":
                cache = given(f"{name}_cache", head).astype(np.float64)
                cache[self.slot(params)] = given(name, head)
                errors.append(relative_error(got(f"{name}_cache", head), cache))
                caches.append(cache)
            q = given("q", head).astype(np.float64)[None]
            errors.append(relative_error(got("o", head), _attend(q, *caches, None)[0]))
        return _worst(errors)


class SelectiveScan(Operation):
    """Mamba: h_t = exp(dt A) h_{t-1} + dt B_t u_t,   y_t = C_t . h_t,   dt = softplus(delta), at
    the width of a model of H heads of 64 expanded twice."""

    name = "selective_scan"
    head_dims = 1
    d_state = 16
    sampled_channels = 8

    def parameters(self, axes: Axes) -> list[dict]:
        return [
            shape | {"d_inner": 2 * 64 * shape["H"], "d_state": self.d_state}
            for shape in axes.shapes()
        ]

    def tensors(self, params: dict) -> dict:
        wide = (params["B"], params["d_inner"], params["N"])
        narrow = (params["B"], params["d_state"], params["N"])
        return {"u": (wide, 1.0), "delta": (wide, 1.0), "B": (narrow, 1.0), "C": (narrow, 1.0)}

    def work(self, params: dict) -> Work:
        per_token = 3 * params["d_inner"] + 2 * params["d_state"]
        tokens = params["B"] * params["N"]
        return Work(None, None, tokens * per_token * _BF16_BYTES, tokens)

    @staticmethod
    def decay(params: dict) -> np.ndarray:
        """A, [d_state]: the same for every channel."""
        return -np.arange(1, params["d_state"] + 1, dtype=np.float32)

    def error(self, params: dict, given, got, seed: int) -> float:
        channels = scattered(params["d_inner"], self.sampled_channels, seed, (0,))
        errors = []
        for entry in scattered(params["B"], 2, seed, (0, params["B"] - 1)):
            u, delta = (given(name, entry, channels).astype(np.float64) for name in ("u", "delta"))
            b, c = (given(name, entry).astype(np.float64) for name in "BC")
            step = np.log1p(np.exp(delta))
            decay = np.exp(step[:, :, None] * self.decay(params).astype(np.float64))
            state = np.zeros((len(channels), params["d_state"]))
            expected = np.empty_like(u)
            for t in range(params["N"]):
                state = decay[:, t] * state + (step[:, t] * u[:, t])[:, None] * b[:, t]
                expected[:, t] = state @ c[:, t]
            errors.append(relative_error(got("o", entry)[channels], expected))
        return _worst(errors)


class StateSpaceDuality(Operation):
    """Mamba-2: S_t = exp(dt A) S_{t-1} + dt x_t B_t^T,   y_t = S_t C_t,   dt = softplus(delta),
    with one group of B and C, at heads of 64 in chunks of 256, and of 128 in chunks of 64."""

    name = "ssd"
    head_dims = 1
    d_state = 256
    forms = ((64, 256), (128, 64))  # head dimension, chunk

    def parameters(self, axes: Axes) -> list[dict]:
        return [
            shape | {"Dh": dim, "d_state": self.d_state, "chunk": chunk}
            for (dim, chunk), shape in product(self.forms, axes.shapes())
        ]

    def tensors(self, params: dict) -> dict:
        tokens = (params["B"], params["N"])
        return {
            "x": ((*tokens, params["H"], params["Dh"]), 1.0),
            "delta": ((*tokens, params["H"]), 1.0),
            "B": ((*tokens, 1, params["d_state"]), 1.0),
            "C": ((*tokens, 1, params["d_state"]), 1.0),
        }

    def work(self, params: dict) -> Work:
        per_token = params["H"] * (2 * params["Dh"] + 1) + 2 * params["d_state"]
        tokens = params["B"] * params["N"]
        return Work(None, None, tokens * per_token * _BF16_BYTES, tokens)

    @staticmethod
    def decay(params: dict) -> np.ndarray:
        """A, [H]."""
        return -(1 + np.arange(params["H"], dtype=np.float32) % 16)

    def error(self, params: dict, given, got, seed: int) -> float:
        errors = []
        for entry in scattered(params["B"], 2, seed, (0, params["B"] - 1)):
            x, delta, b, c = (
                given(name, entry).astype(np.float64) for name in ("x", "delta", "B", "C")
            )
            head = mix64((seed + entry) % (1 << 64)) % params["H"]
            step = np.log1p(np.exp(delta[:, head]))
            decay = np.exp(step * float(self.decay(params)[head]))
            state = np.zeros((params["Dh"], params["d_state"]))
            expected = np.empty((params["N"], params["Dh"]))
            for t in range(params["N"]):
                state = decay[t] * state + np.outer(step[t] * x[t, head], b[t, 0])
                expected[t] = state @ c[t, 0]
            errors.append(relative_error(got("o", entry)[:, head], expected))
        return _worst(errors)


def _attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    scores = q @ k.T / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights @ v / weights.sum(axis=-1, keepdims=True)
