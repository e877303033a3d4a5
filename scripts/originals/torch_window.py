"""A step of sliding-window attention in PyTorch: the append, then einsum or its own attention."""

from based_bench.harness import Original

from originals import version_of


def _by(attend):
    def prepare(given: dict, params: dict):
        import torch

        # The window is full, and its next slot in the middle of the ring.
        slot = (params["window"] + params["window"] // 2) % params["window"]
        q, k, v, k_cache, v_cache = (given[n] for n in ("q", "k", "v", "k_cache", "v_cache"))

        def call():
            k_cache[:, :, slot] = k[:, :, 0]
            v_cache[:, :, slot] = v[:, :, 0]
            return attend(torch, q, k_cache, v_cache)

        return call

    return prepare


def _einsum(torch, q, k_cache, v_cache):
    scores = torch.einsum("bhd,bhwd->bhw", q[:, :, 0], k_cache) * q.shape[-1] ** -0.5
    attended = torch.einsum("bhw,bhwd->bhd", torch.softmax(scores, dim=-1), v_cache)
    return attended.unsqueeze(2)


def _sdpa(torch, q, k_cache, v_cache):
    return torch.nn.functional.scaled_dot_product_attention(q, k_cache, v_cache)


ORIGINALS = (
    Original("torch_einsum", "sliding_window", _by(_einsum), version=version_of("torch")),
    Original("torch_sdpa", "sliding_window", _by(_sdpa), version=version_of("torch")),
)
