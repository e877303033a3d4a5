"""NumPy arrays: on the CPU, float32."""

import numpy
import tvm_ffi

from based_bench import _core
from based_bench._frameworks import Framework


def _importable(array):
    """An array that the core may read: DLPack's first version knows no read-only memory."""
    if not isinstance(array, numpy.ndarray) or array.flags.writeable:
        return array
    return tvm_ffi.from_dlpack(array.__dlpack__(max_version=(1, 0)))


class _Numpy(Framework):
    def empty_like(self, array):
        return numpy.empty_like(array, subok=False)

    def empty(self, like, shape):
        return numpy.empty(shape, numpy.float32)

    def run(self, settings, read, written):
        for i, array in enumerate(written, len(read)):
            if isinstance(array, numpy.ndarray) and not array.flags.writeable:
                name = _core.names(settings)[i]
                raise ValueError(f"{name}, of shape {array.shape}, is written, but read-only")
        _core.plan(settings)(*map(_importable, read), *written)
        return written


framework = _Numpy()
