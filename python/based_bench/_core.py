"""The C++ core: the operations of the registry, and functions that run them."""

import pathlib

import tvm_ffi

_library = tvm_ffi.load_module(str(pathlib.Path(__file__).with_name("libbased_bench.so")))
plans = {}  # those that plan() made, by their settings

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


def names(settings):
    """The names of the tensors of a call, in its order."""
    _, read, written, *_ = settings
    return [name for name in f"{read},{written}".split(",") if name]


def plan(settings):
    """The function that enqueues what all calls of these settings share. It takes the tensors, and
    after them a stream as a number; without, it takes the framework's current one. It allocates no
    output and never waits.

    settings: a tuple of the operation, the names of the tensors read and of those written (each
    joined by commas, in the order of the call), the layout, the implementation or None, the variant
    or None, and a tuple of axes' flags and values in turns, None for a default. Sizes of tensors
    are left out. Each call looks it up, and so it holds what takes no time to put together.
    """
    found = plans.get(settings)
    return _new_plan(settings) if found is None else found


def text_of(settings):
    """The settings as one text, which PyTorch's operators take."""
    *most, axes = settings
    return "|".join(["" if each is None else str(each) for each in (*most, *axes)])


def settings_of(text):
    parts = text.split("|")
    return (*parts[:6], tuple(parts[6:]))


def _new_plan(settings):
    operation, _, _, layout, implementation, variant, axes = settings
    if layout not in ("bhnd", "bnhd"):
        raise ValueError(f"layout is {layout!r}; want 'bhnd' or 'bnhd'")
    values = {
        flag: str(value)
        for flag, value in zip(axes[::2], axes[1::2], strict=True)
        if value not in (None, "")
    }
    made = _library.make_plan(
        operation, implementation or "", variant or "", values, names(settings), layout
    )
    if len(plans) >= MOST_PLANS:
        plans.clear()
    plans[settings] = made
    return made
