"""PyTorch's scaled_dot_product_attention, by FlashAttention-2 and by cuDNN."""

from based_bench.harness import Original

from originals import version_of


def _cudnn_version() -> str:
    import torch

    return f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"


def _by(backend_name: str):
    def prepare(given: dict, params: dict):
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backend = getattr(SDPBackend, backend_name)
        attend = torch.nn.functional.scaled_dot_product_attention
        q, k, v = (given[name] for name in "qkv")
        options = {"is_causal": bool(int(params["causal"]))}
        if k.shape[1] != q.shape[1]:
            options["enable_gqa"] = True

        def call():
            with sdpa_kernel(backend):
                return attend(q, k, v, **options)

        return call

    return prepare


_TAKES = frozenset({"kv-heads"})
ORIGINALS = (
    Original(
        "torch_sdpa_flash2",
        "attention",
        _by("FLASH_ATTENTION"),
        version=version_of("torch"),
        takes=_TAKES,
    ),
    Original(
        "torch_sdpa_cudnn",
        "attention",
        _by("CUDNN_ATTENTION"),
        version=_cudnn_version,
        takes=_TAKES,
    ),
)
