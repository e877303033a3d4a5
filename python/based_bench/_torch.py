"""PyTorch: tensors of the current stream, and operators torch.ops.based_bench.<operation>.

An eager call goes straight to the core, which takes a few microseconds less than PyTorch's
dispatcher. Where something listens to the dispatcher (torch.compile, fake tensors, a dispatch
mode), the call goes through the operator: (Tensor[] read, Tensor(a!)[] written, str settings).
"""

import torch

from based_bench import _core
from based_bench._frameworks import Framework, known

# Looked up once, for a call takes a few microseconds in all.
_plans = _core.plans
_is_grad_enabled = torch.is_grad_enabled
_is_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _require_no_grad(settings, tensors):
    for i, tensor in enumerate(tensors):
        if tensor.requires_grad:
            raise ValueError(
                f"{_core.names(settings)[i]} is of shape {tuple(tensor.shape)} and requires grad, "
                "but there is no backward; detach it, or call under torch.no_grad() or "
                "torch.inference_mode()"
            )


class _Torch(Framework):
    empty_like = staticmethod(torch.empty_like)

    def empty(self, like, shape):
        # torch.empty on a named device takes half again as long.
        return like.new_empty(shape, dtype=torch.float32)

    def run(self, settings, read, written):
        if _is_grad_enabled():
            _require_no_grad(settings, (*read, *written))
        if _is_compiling() or type(read[0]) not in _PLAIN or _dispatch_modes() > 0:
            operator = getattr(torch.ops.based_bench, settings[0])
            operator(list(read), list(written), _core.text_of(settings))
        else:
            (_plans.get(settings) or _core.plan(settings))(*read, *written)
        return written


framework = _Torch()
known[torch.Tensor] = known[torch.nn.Parameter] = framework

_operators = torch.library.Library("based_bench", "DEF")


def _define(name):
    def run(read, written, settings):
        _core.plan(_core.settings_of(settings))(*read, *written)

    def refuse_grad(keys, read, written, settings):
        if torch.is_grad_enabled():
            _require_no_grad(_core.settings_of(settings), (*read, *written))
        operator = getattr(torch.ops.based_bench, name).default
        operator.redispatch(keys & torch._C._after_autograd_keyset, read, written, settings)

    def nothing(read, written, settings):
        """All that is written is allocated by the caller: a fake call has nothing to tell."""

    _operators.define(f"{name}(Tensor[] read, Tensor(a!)[] written, str settings) -> ()")
    for key in ("CPU", "CUDA"):
        _operators.impl(name, run, key)
    _operators.impl(name, refuse_grad, "Autograd", with_keyset=True)
    torch.library.register_fake(f"based_bench::{name}", nothing, lib=_operators)


for _name in _core.describe():
    _define(_name)
