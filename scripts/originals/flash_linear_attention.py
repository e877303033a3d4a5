"""flash-linear-attention's two kernels of Based's prefill, in Triton."""

import importlib
import inspect

from based_bench.harness import Original

from originals import o_of_heads_last, version_of


def _by(name: str):
    def prepare(given: dict, params: dict):
        function = getattr(importlib.import_module("fla.ops.based"), name)
        known = inspect.signature(function).parameters
        if not {"scale", "use_norm"} <= set(known):
            raise TypeError(f"{name} of this version takes no scale and use_norm; update it")
        options = {"scale": 16**-0.5, "use_norm": False}
        # Versions that still know the other layout are told which one they get.
        if "head_first" in known:
            options["head_first"] = False
        # [B, N, H, D] over [B, H, N, D], which its kernels read: it copies no input of that layout.
        q, k, v = (given[each].transpose(1, 2) for each in "qkv")
        return lambda: function(q, k, v, **options), o_of_heads_last

    return prepare


ORIGINALS = tuple(
    Original(
        f"fla_{name}",
        "prefill",
        _by(name),
        module="fla.ops.based",
        install="pip install flash-linear-attention",
        version=version_of("fla-core"),
    )
    for name in ("parallel_based", "fused_chunk_based")
)
