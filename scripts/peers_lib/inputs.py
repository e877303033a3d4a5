"""The suite's counter-based random inputs (kernels/core/random.h, tensor_spec of
kernels/core/operation.cpp): value i of a tensor is a function of (seed, the tensor's name, i)
alone.

One formula for NumPy and for PyTorch: int64 wraps in both, as uint64 does in C++.
"""

import numpy as np

_WORD = 1 << 64
_UNIT = np.float32(2.642897e-5)  # 1 / sqrt(4 (2^32 - 1) / 12)
_MEAN = 2 * 0xFFFF
_AT_ONCE = 1 << 26  # values; their int64 intermediates are half a GiB each


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _shifted(x, bits: int):
    """x >> bits without the copies of the sign that int64 shifts in."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(x):
    """mix64 of int64 arrays; wraps."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def mix64(x: int) -> int:
    """SplitMix64's finaliser, of one unsigned 64-bit integer."""
    return int(_mixed(np.array([_signed(x)], np.int64))[0]) % _WORD


def stream_key(seed: int, name: str) -> int:
    """Of a tensor's stream of values."""
    identity = 0
    for letter in name.encode():
        identity = mix64(identity ^ letter)
    return mix64(seed ^ mix64(identity))


def _sums(key: int, indices):
    """Four uniform 16-bit integers of each counter, summed and centred: int64."""
    bits = _mixed(indices + _signed(key))
    low = (bits & 0xFFFF) + (_shifted(bits, 16) & 0xFFFF)
    return low + (_shifted(bits, 32) & 0xFFFF) + _shifted(bits, 48) - _MEAN


def rounded_to_bf16(values: np.ndarray) -> np.ndarray:
    """To nearest, ties to even; the result is fp32."""
    bits = values.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def numpy_values(seed: int, name: str, stddev: float, first: int, count: int) -> np.ndarray:
    """Values first .. first + count - 1 of a tensor, fp32 that bf16 holds exactly."""
    key = stream_key(seed, name)
    sums = _sums(key, np.arange(first, first + count, dtype=np.int64))
    return rounded_to_bf16(sums.astype(np.float32) * (_UNIT * np.float32(stddev)))


def torch_values(torch, seed: int, name: str, stddev: float, shape: tuple[int, ...]):
    """The whole tensor, bf16, on the GPU."""
    key, factor = stream_key(seed, name), float(_UNIT * np.float32(stddev))
    made = torch.empty(shape, dtype=torch.bfloat16, device="cuda")
    flat = made.view(-1)
    for first in range(0, flat.numel(), _AT_ONCE):
        part = flat[first : first + _AT_ONCE]
        indices = torch.arange(first, first + part.numel(), dtype=torch.int64, device="cuda")
        part.copy_(_sums(key, indices).to(torch.float32) * factor)
    return made
