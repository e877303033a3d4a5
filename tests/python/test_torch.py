"""PyTorch on the CPU: the dispatcher, compilation, gradients, drop-ins and the layer."""

import based_bench
import pytest
from reference import inputs, relative_error, taylor

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from based_bench import _core, drop_in  # noqa: E402


def tensors(*sizes):
    return [torch.from_numpy(array) for array in inputs(*sizes)]


def prefill_with_state(q, k, v):
    o, state = based_bench.prefill(q, k, v, normalize=True, return_state=True)
    return o, state.kv, state.z


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(backend):
    compiled = torch.compile(prefill_with_state, fullgraph=True, backend=backend)
    for tokens in (33, 70):
        arguments = tensors(2, 3, tokens)
        for got, wanted in zip(compiled(*arguments), prefill_with_state(*arguments), strict=True):
            assert torch.equal(got, wanted)


def test_compiled_decode_updates_its_state():
    q, k, v = tensors(2, 3, 21)
    head, last = slice(0, 20), slice(20, 21)
    _, state = based_bench.prefill(q[:, :, head], k[:, :, head], v[:, :, head], return_state=True)
    _, wanted = based_bench.prefill(q, k, v, return_state=True)
    step = torch.compile(based_bench.decode, fullgraph=True, backend="aot_eager")
    o = step(q[:, :, last], k[:, :, last], v[:, :, last], state)
    assert relative_error(o, taylor(q, k, v)[:, :, last]) < 1e-5
    assert torch.allclose(state.kv, wanted.kv, atol=1e-5)


def test_opcheck():
    q, k, v = tensors(2, 3, 9)
    kv = torch.zeros(2, 3, 153, 64)
    settings = _core.text_of(("prefill", "q,k,v", "o", "bhnd", None, None, ()))
    operator = torch.ops.based_bench.prefill.default
    torch.library.opcheck(operator, ([q, k, v], [torch.empty_like(v)], settings))
    settings = _core.text_of(("decode", "q,k,v", "o,kv", "bhnd", None, None, ("state", "f32")))
    token = [tensor[:, :, :1] for tensor in (q, k, v)]
    operator = torch.ops.based_bench.decode.default
    torch.library.opcheck(operator, (token, [torch.empty(2, 3, 1, 64), kv], settings))


def test_grad_is_refused_clearly():
    q, k, v = tensors(1, 1, 4)
    q.requires_grad_()
    with pytest.raises(
        ValueError, match=r"q is of shape .* requires grad, but there is no backward"
    ):
        based_bench.prefill(q, k, v)
    settings = _core.text_of(("prefill", "q,k,v", "o", "bhnd", None, None, ()))
    with pytest.raises(ValueError, match=r"q is .* requires grad"):
        torch.ops.based_bench.prefill([q, k, v], [torch.empty_like(v)], settings)
    with torch.no_grad():
        based_bench.prefill(q, k, v)
    with torch.inference_mode():
        assert based_bench.prefill(q, k, v).is_inference()


def test_a_dispatch_mode_sees_the_call():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Listener():
        based_bench.prefill(*tensors(1, 1, 4))
    assert "based_bench.prefill.default" in seen


@pytest.mark.parametrize("function", [drop_in.parallel_based, drop_in.fused_chunk_based])
@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize("head_first", [True, False])
def test_flash_linear_attention(function, use_norm, head_first):
    q, k, v = tensors(2, 3, 40)
    wanted = taylor(q, k, v, normalize=use_norm)
    if head_first:
        got = function(q, k, v, None, use_norm, head_first=True)
    else:
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        got = function(q, k, v, use_norm=use_norm).transpose(1, 2)
    assert relative_error(got, wanted) < 1e-5


def test_thunderkittens():
    """The state's rows are the features of the papers' map of k, summed over v."""
    q, k, v = tensors(2, 3, 40)
    o, state = drop_in.based(q, k, v)
    assert relative_error(o, taylor(q, k, v)) < 1e-5
    k = k.double()
    products = (k[..., :, None] * k[..., None, :]).flatten(-2) / (4 * 2**0.5)
    features = torch.cat([torch.ones(2, 3, 40, 1), k / 2, products], -1)
    assert relative_error(state, (features.mT @ v.double()).numpy()) < 1e-5


@pytest.mark.parametrize("normalize", [True, False])
def test_layer(normalize):
    """Against the definition, from its own weights; in pieces, the same."""
    torch.manual_seed(0)
    layer = drop_in.BasedLinearAttention(48, num_heads=3, normalize=normalize)
    x = torch.randn(2, 30, 48)
    with torch.no_grad():
        q, k, v = (
            projection(x).view(2, 30, 3, -1).transpose(1, 2)
            for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
        o = torch.from_numpy(taylor(q, k, v, normalize=normalize)).float()
        wanted = layer.o_proj(o.transpose(1, 2).reshape(2, 30, -1)).numpy()
        assert relative_error(layer(x), wanted) < 1e-5
        for _ in range(2):  # reset() forgets the first round
            pieces = [x[:, :17], x[:, 17:28], x[:, 28:29], x[:, 29:]]
            got = torch.cat([layer(piece, keep_state=True) for piece in pieces], 1)
            assert relative_error(got, wanted) < 1e-5
            layer.reset()
