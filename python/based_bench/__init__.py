"""Sequence mixers for NumPy, PyTorch, CuPy and JAX arrays: Based's linear attention, softmax
attention and their decode steps, each as the fastest kernel of this project. call() runs the other
operations of the registry, such as "ssd" and "selective_scan"; based_bench.models has whole models.

A call takes arrays of one device and enqueues on the caller's stream; it never waits and copies
nothing. On the CPU elements are float32, on a GPU bfloat16 (attention: float16 too). Mistakes are
ValueError or TypeError, raised before anything runs. A call that would write nothing, such as one
of a batch of 0, returns its empty result.
"""

import importlib
import sys

from based_bench._core import describe
from based_bench.harness import measure
from based_bench.operators import (
    State,
    attention,
    call,
    decode,
    implementations,
    prefill,
    sliding_window_decode,
)

if "torch" in sys.modules:  # TVM-FFI imports it where it is: its operators are there from now on
    importlib.import_module("based_bench._torch")

__all__ = [
    "State",
    "attention",
    "call",
    "decode",
    "describe",
    "implementations",
    "measure",
    "prefill",
    "sliding_window_decode",
]
