"""The C++ core: the operations of the registry, and functions that run them."""

import pathlib

import tvm_ffi

_library = tvm_ffi.load_module(str(pathlib.Path(__file__).with_name("libbased_bench.so")))
_plans = {}

MOST_PLANS = 4096


def library():
    """Its functions, of which a build without the harness lacks some."""
    return _library


def describe():
    """What the registry tells: {operation: {"axes": [..], "implementations": [..]}}."""
    return {
        str(name): {
            part: [{str(key): value for key, value in entry.items()} for entry in entries]
            for part, entries in operation.items()
        }
        for name, operation in _library.describe().items()
    }


def settings(operation, read, written, layout, implementation, variant, axes):
    """One text for all that the calls of one kind share, which plan() understands.

    read, written: names of tensors, joined by commas, in the order of the call. axes: "flag=value",
    joined by commas; what is the size of a tensor is left out.
    """
    if layout != "bhnd" and layout != "bnhd":
        raise ValueError(f"layout is {layout!r}; want 'bhnd' or 'bnhd'")
    return f"{operation}|{read}|{written}|{layout}|{implementation or ''}|{variant or ''}|{axes}"


def names(text):
    """The names of the tensors of settings(), in the order of the call."""
    _, read, written, *_ = text.split("|")
    return [name for name in f"{read},{written}".split(",") if name]


def plan(text):
    """The function of settings(): called with a stream (a number; None: the framework's current
    one) and the tensors, it enqueues the operation. It allocates no output and never waits.
    """
    found = _plans.get(text)
    if found is None:
        operation, _, _, layout, implementation, variant, axes = text.split("|")
        values = dict(axis.split("=", 1) for axis in axes.split(",") if axis)
        found = _library.make_plan(operation, implementation, variant, values, names(text), layout)
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[text] = found
    return found
