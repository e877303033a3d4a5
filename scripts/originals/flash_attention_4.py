"""FlashAttention-4, whose kernel for Hopper is compiled at its first call."""

from based_bench.harness import Original

from originals import heads_last, o_of_heads_last, version_of


def _prepare(given: dict, params: dict):
    from flash_attn.cute import flash_attn_func

    q, k, v = heads_last(given, "qkv")
    causal = bool(int(params["causal"]))

    def outputs(result):
        return o_of_heads_last(result[0] if isinstance(result, tuple) else result)

    return lambda: flash_attn_func(q, k, v, causal=causal), outputs


ORIGINALS = (
    Original(
        "flash_attention_4",
        "attention",
        _prepare,
        module="flash_attn.cute",
        install="pip install --pre flash-attn-4 'nvidia-cutlass-dsl[cu13]'",
        version=version_of("flash-attn-4"),
        takes=frozenset({"kv-heads"}),
    ),
)
