"""FlashAttention-2, from its own package."""

from based_bench.harness import Original

from originals import heads_last, o_of_heads_last, version_of


def _prepare(given: dict, params: dict):
    from flash_attn import flash_attn_func

    q, k, v = heads_last(given, "qkv")
    causal = bool(int(params["causal"]))
    return lambda: flash_attn_func(q, k, v, causal=causal), o_of_heads_last


ORIGINALS = (
    Original(
        "flash_attention_2",
        "attention",
        _prepare,
        module="flash_attn",
        install="pip install flash-attn",
        version=version_of("flash-attn"),
        takes=frozenset({"kv-heads"}),
    ),
)
