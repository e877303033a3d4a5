"""JAX arrays, through XLA's foreign functions (package jax-tvm-ffi): XLA allocates what a call
writes and tells the stream that it runs on, so that a call may stand inside jax.jit too. Sharing
memory by DLPack alone goes wrong on a GPU: JAX computes on streams of its own, and its empty arrays
are zeros that may be written only after the call.

JAX's arrays are immutable. A call neither takes `out` nor updates a state or cache in place.
"""

import functools

import jax
import jax.numpy as jnp

from based_bench import _core
from based_bench._frameworks import Framework

try:
    import jax_tvm_ffi
except ImportError as error:
    raise ImportError("JAX arrays need a package more: pip install jax-tvm-ffi") from error


@functools.cache
def _target(settings):
    """The name by which XLA knows the plan of settings. It tells all of them, for XLA's cache of
    compiled programs, which may be kept on disk, knows a plan by its name alone.
    """
    name = f"based_bench.{_core.text_of(settings)}"
    for platform in {"cpu", jax.default_backend()}:
        jax_tvm_ffi.register_ffi_target(name, _core.plan(settings), platform=platform)
    return name


@functools.lru_cache(maxsize=_core.MOST_PLANS)
def _require(settings, device, tensors):
    """Raises what a call would raise on tensors of these shapes and types; what is raised in XLA
    arrives as one exception for all mistakes.
    """
    made = [_core.library().abstract(shape, str(dtype), device) for shape, dtype in tensors]
    _core.plan(settings)(*made)


class _Jax(Framework):
    def empty_like(self, array):
        return jax.ShapeDtypeStruct(array.shape, array.dtype)

    def empty(self, like, shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def require_mutable(self, name):
        raise TypeError(f"{name} is updated in place, which JAX's arrays are not")

    def run(self, settings, read, written):
        for each in written:
            if not isinstance(each, jax.ShapeDtypeStruct):
                raise TypeError("a JAX array cannot be written: leave `out` away")
        if not any(isinstance(array, jax.core.Tracer) for array in read):
            kinds = {device.platform for array in read for device in array.devices()}
            if len(kinds) > 1:
                raise ValueError(f"the arrays are on {' and '.join(kinds)}; want one device")
            device = "cpu" if kinds == {"cpu"} else "cuda"
            _require(settings, device, tuple((a.shape, a.dtype) for a in (*read, *written)))
        return jax.ffi.ffi_call(_target(settings), written)(*read)


framework = _Jax()
