"""CuPy arrays, on CuPy's current stream."""

import cupy
import tvm_ffi

from based_bench import _core
from based_bench._frameworks import Framework


class _Cupy(Framework):
    def empty_like(self, array):
        return cupy.empty_like(array)

    def empty(self, like, shape):
        with like.device:
            return cupy.empty(shape, cupy.float32)

    def run(self, settings, read, written):
        # Stream -1 of DLPack: no wait is wanted, for the call runs on the stream of the arrays.
        tensors = [
            tvm_ffi.from_dlpack(array.__dlpack__(stream=-1))
            if isinstance(array, cupy.ndarray)
            else array
            for array in (*read, *written)
        ]
        _core.plan(settings)(*tensors, cupy.cuda.get_current_stream().ptr)
        return written


framework = _Cupy()
