"""JAX on the CPU: eager, compiled, and its errors."""

import based_bench
import numpy as np
import pytest
from reference import inputs, relative_error, softmax, taylor

jax = pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("jax_tvm_ffi", reason="jax-tvm-ffi is not installed")
if jax.default_backend() != "cpu":
    pytest.skip("JAX's arrays are not on the CPU", allow_module_level=True)


def arrays(*sizes):
    return [jax.numpy.asarray(array) for array in inputs(*sizes)]


@pytest.mark.parametrize("compiled", [False, True])
def test_pieces_are_the_whole(compiled):
    q, k, v = arrays(2, 3, 100)
    options = {"normalize": True, "return_state": True}

    def in_pieces(q, k, v):
        first, state = based_bench.prefill(*(x[:, :, :70] for x in (q, k, v)), **options)
        second, _ = based_bench.prefill(
            *(x[:, :, 70:] for x in (q, k, v)), initial_state=state, **options
        )
        return jax.numpy.concatenate([first, second], 2)

    got = (jax.jit(in_pieces) if compiled else in_pieces)(q, k, v)
    assert isinstance(got, jax.Array)
    assert relative_error(got, taylor(q, k, v, normalize=True)) < 1e-5


def test_settings_are_told_apart():
    """Each has a function of its own in XLA."""
    q, k, v = arrays(1, 2, 20)
    for scale in (0.25, 0.5, 0.125):
        got = based_bench.prefill(q, k, v, scale=scale)
        assert relative_error(got, taylor(q, k, v, scale=scale)) < 1e-5


def test_attention():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 2, 40, 64))
    o, lse = based_bench.attention(q, k, v, causal=True, return_lse=True)
    wanted, wanted_lse = softmax(q, k, v, causal=True)
    assert relative_error(o, wanted) < 1e-5
    assert relative_error(lse, wanted_lse) < 1e-5


def test_mistakes():
    q, k, v = arrays(1, 2, 20)
    with pytest.raises(ValueError, match=r"k is float32 \[1, 2, 5, 16\] .*want \[1, 2, 20, 16\]"):
        based_bench.prefill(q, k[:, :, :5], v)
    with pytest.raises(TypeError, match="takes elements of bfloat16; want float32"):
        based_bench.prefill(*(x.astype(jax.numpy.bfloat16) for x in (q, k, v)))
    with pytest.raises(TypeError, match="a JAX array cannot be written"):
        based_bench.prefill(q, k, v, out=v)
    with pytest.raises(TypeError, match="updated in place, which JAX's arrays are not"):
        based_bench.decode(*(x[:, :, :1] for x in (q, k, v)), np.zeros((1, 2, 153, 64)))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"k is float32 .*want \[1, 2, 20, 16\]"):
        jax.jit(lambda q: based_bench.prefill(q, k[:, :, :5], v))(q).block_until_ready()
