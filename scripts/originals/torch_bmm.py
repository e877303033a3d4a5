"""Based's decode step as two batched products of PyTorch, on the padded state of 320 rows."""

from based_bench.harness import Original

from originals import version_of


def _prepare(given: dict, params: dict):
    import torch

    q, k, v = given["q"].flatten(0, 1), given["k"].flatten(0, 1), given["v"].flatten(0, 1)
    k = k.transpose(1, 2)  # [B*H, 320, 1]
    state = given["kv"].flatten(0, 1)  # [B*H, 320, 64], a view: updated in place
    shape = given["v"].shape

    def call():
        state.add_(torch.bmm(k, v))
        return torch.bmm(q, state)

    return call, lambda result: {"o": result.view(shape)}


ORIGINALS = (
    Original(
        "torch_bmm",
        "decode",
        _prepare,
        version=version_of("torch"),
        form="expanded",
        cannot=lambda params: None if params["state"] == "bf16" else "keeps its state in bf16",
    ),
)
