"""JAX arrays on the CPU. They are immutable, so that the arrays that a call writes are new ones: it
neither takes `out` nor updates a state or cache in place.
"""

import jax
import jax.numpy as jnp
import tvm_ffi

from based_bench import _core
from based_bench._frameworks import Framework


class _Empty:
    """A place for an array of JAX's that the call makes."""

    def __init__(self, device, shape, dtype):
        self.device, self.shape, self.dtype = device, shape, dtype


class _Ready:
    """What a call wrote, for JAX to import: its stream is the one that JAX asks about."""

    def __init__(self, tensor):
        self._tensor = tensor

    def __dlpack__(self, **_):
        return self._tensor.__dlpack__()

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()


class _Jax(Framework):
    def empty_like(self, array):
        return _Empty(array.device, array.shape, array.dtype)

    def empty(self, like, shape):
        return _Empty(like.device, shape, jnp.float32)

    def require_mutable(self, name):
        raise TypeError(f"{name} is updated in place, which JAX's arrays are not")

    def run(self, settings, read, written):
        if read[0].device.platform == "gpu":  # zeros came back; the cause is not known
            raise NotImplementedError("JAX arrays on a GPU do not work yet; pass them as NumPy's")

        def importable(array):
            return tvm_ffi.from_dlpack(array.__dlpack__())

        for each in written:
            if not isinstance(each, _Empty):
                raise TypeError("a JAX array cannot be written: leave `out` away")
        inputs = [importable(array) for array in read]
        # Uninitialised memory of JAX's, which the imported tensor keeps alive.
        outputs = [
            importable(jnp.empty(each.shape, each.dtype, device=each.device)) for each in written
        ]
        _core.plan(settings)(None, *inputs, *outputs)
        return [jax.dlpack.from_dlpack(_Ready(tensor)) for tensor in outputs]


framework = _Jax()
