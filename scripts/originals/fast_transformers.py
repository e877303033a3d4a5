"""Fast Transformers' causal product, on the features of Based that PyTorch makes before it: 273 as
the papers have them, and the 153 distinct ones, for which it has a faster kernel."""

from based_bench.harness import Original

from originals import version_of

_SCALE = 16**-0.5


def _cannot(count: int):
    def reason(params: dict) -> str | None:
        elements = params["batch"] * params["heads"] * params["seqlen"] * count
        return f"{elements} features; its offsets have 32 bits" if elements >= 2**31 else None

    return reason


def _by(distinct: bool):
    def prepare(given: dict, params: dict):
        import torch
        from fast_transformers.causal_product import causal_dot_product

        q, k, v = (given[name] for name in "qkv")
        dim = q.shape[-1]
        rows, columns = torch.triu_indices(dim, dim, device=q.device)
        weights = torch.where(rows == columns, 0.5**0.5, 1.0) * _SCALE

        def features(x):
            x = x.float()
            if distinct:
                products = x[..., rows] * x[..., columns] * weights
            else:
                products = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2) * (_SCALE / 2**0.5)
            return torch.cat([torch.ones_like(x[..., :1]), x * _SCALE**0.5, products], dim=-1)

        return lambda: causal_dot_product(features(q), features(k), v.float()).to(v.dtype)

    return prepare


ORIGINALS = tuple(
    Original(
        f"fast_transformers_{count}",
        "prefill",
        _by(distinct),
        cannot=_cannot(count),
        module="fast_transformers.causal_product.causal_product_cuda",
        install="pip install --no-build-isolation pytorch-fast-transformers",
        version=version_of("pytorch-fast-transformers"),
        on_default_stream=True,
    )
    for count, distinct in ((273, False), (153, True))
)
