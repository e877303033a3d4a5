"""The operators on a GPU: PyTorch, CuPy and JAX, their streams, graphs and compilation."""

import threading

import based_bench
import numpy as np
import pytest
from reference import inputs, relative_error, softmax, taylor

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)
if not based_bench.implementations("prefill", "cuda"):
    pytest.skip("the package was built without CUDA", allow_module_level=True)

TOLERANCE = 5e-3  # bfloat16


def on_gpu(*sizes):
    return [torch.from_numpy(array).cuda().bfloat16() for array in inputs(*sizes)]


def exact(tensor):
    return tensor.float().cpu().numpy()


def taylor_of(q, k, v, **options):
    return taylor(exact(q), exact(k), exact(v), **options)


@pytest.mark.parametrize("tokens", [1, 63, 65, 1000])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_prefill(tokens, normalize, layout):
    q, k, v = on_gpu(2, 3, tokens)
    wanted = taylor_of(q, k, v, normalize=normalize)
    if layout == "bnhd":
        q, k, v = (tensor.transpose(1, 2).contiguous() for tensor in (q, k, v))
    o = based_bench.prefill(q, k, v, normalize=normalize, layout=layout)
    o = o if layout == "bhnd" else o.transpose(1, 2)
    assert relative_error(exact(o), wanted) < TOLERANCE


@pytest.mark.parametrize("state_type", [torch.float32, torch.bfloat16])
def test_pieces_are_the_whole(state_type):
    q, k, v = on_gpu(2, 3, 130)
    wanted = taylor_of(q, k, v, normalize=True)

    def part(begin, end):
        return [tensor[:, :, begin:end] for tensor in (q, k, v)]

    first, state = based_bench.prefill(*part(0, 70), normalize=True, return_state=True)
    second, state = based_bench.prefill(
        *part(70, 128), normalize=True, initial_state=state, return_state=True
    )
    state = based_bench.State(state.kv.to(state_type), state.z)
    rest = [based_bench.decode(*part(n, n + 1), state, normalize=True) for n in range(128, 130)]
    assert relative_error(exact(torch.cat([first, second, *rest], 2)), wanted) < 2 * TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention(dtype):
    q, k, v = torch.randn(3, 2, 4, 200, 64, device="cuda").to(dtype)
    o, lse = based_bench.attention(q, k, v, causal=True, return_lse=True)
    wanted, wanted_lse = softmax(exact(q), exact(k), exact(v), causal=True)
    assert relative_error(exact(o), wanted) < TOLERANCE
    assert relative_error(exact(lse), wanted_lse) < TOLERANCE


@pytest.mark.parametrize("tokens", [200, 8192])  # the longer one with a workspace
def test_graph_of_a_side_stream(tokens):
    q, k, v = on_gpu(1, 2, tokens)
    out = torch.empty_like(v)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        based_bench.prefill(q, k, v, out=out)
    stream.synchronize()
    wanted = out.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        inside = based_bench.prefill(q, k, v)
    inside.zero_()
    graph.replay()
    assert torch.equal(inside, wanted)
    q.zero_()
    graph.replay()
    assert not torch.equal(inside, wanted)


def test_a_call_waits_for_nothing():
    q, k, v = on_gpu(1, 16, 1000)
    based_bench.prefill(q, k, v)
    torch.cuda.synchronize()
    torch.cuda._sleep(400_000_000)
    based_bench.prefill(q, k, v, normalize=True, return_state=True)
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


def test_the_callers_stream_orders_the_call():
    q, k, v = on_gpu(1, 2, 500)
    wanted = based_bench.prefill(q, k, v)
    late = torch.zeros_like(v)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)
        late.copy_(v)
        got = based_bench.prefill(q, k, late)
        torch.cuda.current_stream().synchronize()
    assert torch.equal(got, wanted)


def test_an_original_whose_kernel_is_on_the_default_stream():
    """As Fast Transformers': PyTorch makes its inputs and casts what it adds to zeros."""
    harness = pytest.importorskip("based_bench.harness")

    def prepare(given, params):
        def call():
            q, k, v = (given[name].float() for name in "qkv")
            o = torch.zeros_like(v)
            with torch.cuda.stream(torch.cuda.default_stream()):
                torch.cuda._sleep(10_000_000)
                s = q @ k.mT / 4
                o += torch.tril(1 + s + s**2 / 2) @ v
            return o.bfloat16()

        return call

    try:
        harness.add(harness.Original("late", "prefill", prepare, on_default_stream=True))
    except harness.UnavailableError as error:
        pytest.skip(str(error))
    sizes = ["--batch=1", "--heads=2", "--seqlen=100", "--time-cap=0.1"]
    with torch.cuda.stream(torch.cuda.current_stream()):  # the harness leaves its own behind
        assert harness.run(["--device=cuda", "--implementation=late", *sizes]) == 0


def test_threads_with_streams_of_their_own():
    q, k, v = on_gpu(1, 2, 3000)
    wanted = based_bench.prefill(q, k, v)
    torch.cuda.synchronize()
    wrong = []

    def work():
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(30):
                got = based_bench.prefill(q, k, v)
                torch.cuda.current_stream().synchronize()
                if not torch.equal(got, wanted):
                    wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_compile():
    def f(q, k, v):
        o, state = based_bench.prefill(2 * q, k, v, normalize=True, return_state=True)
        return o + 1, state.kv

    q, k, v = on_gpu(1, 2, 300)
    for got, wanted in zip(torch.compile(f, fullgraph=True)(q, k, v), f(q, k, v), strict=True):
        assert torch.allclose(got.float(), wanted.float(), atol=1e-2, rtol=1e-2)


def test_mistakes():
    q, k, v = on_gpu(1, 2, 64)
    with pytest.raises(ValueError, match=r"k is bfloat16 .* on cpu.*want it on cuda:0, as q is"):
        based_bench.prefill(q, k.cpu(), v)
    with pytest.raises(TypeError, match="takes elements of float32; want bfloat16"):
        based_bench.prefill(q.float(), k.float(), v.float())
    with pytest.raises(ValueError, match="not aligned to 16 bytes"):
        padded = torch.empty(q.numel() + 1, dtype=q.dtype, device="cuda")[1:].view(q.shape)
        based_bench.prefill(padded, k, v)
    if torch.cuda.device_count() > 1:
        with pytest.raises(ValueError, match="want it on cuda:0"):
            based_bench.prefill(q, k.to("cuda:1"), v)


def test_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    random = np.random.default_rng(0)
    q, k, v = (
        cupy.asarray(random.standard_normal((1, 2, 200, 64)).astype(np.float16)) for _ in "qkv"
    )
    wanted, _ = softmax(*(cupy.asnumpy(array) for array in (q, k, v)), causal=True)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        o = based_bench.attention(q, k, v, causal=True)
        stream.synchronize()
    assert isinstance(o, cupy.ndarray)
    assert relative_error(cupy.asnumpy(o), wanted) < TOLERANCE


def test_jax():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("jax_tvm_ffi", reason="jax-tvm-ffi is not installed")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    q, k, v = (jax.numpy.asarray(array, jax.numpy.bfloat16) for array in inputs(1, 2, 3000))
    wanted = taylor(*(np.asarray(array, np.float32) for array in (q, k, v)))

    def f(q, k, v):
        o, state = based_bench.prefill(1.0 * q, k, v, return_state=True)
        return 2 * o, state.kv

    compiled = jax.jit(f)
    for call in (f, compiled) * 5:  # what a stream would have to order is in flight
        twice, kv = call(q, k, v)
        assert isinstance(twice, jax.Array)
        assert relative_error(np.asarray(twice, np.float32), 2 * wanted) < TOLERANCE
    assert kv.shape == (1, 2, 153, 64)
    with pytest.raises(ValueError, match=r"k is bfloat16 .* want \[1, 2, 3000, 16\]"):
        based_bench.prefill(q, k[:, :, :5], v)


def test_jax_with_a_workspace():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("jax_tvm_ffi", reason="jax-tvm-ffi is not installed")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    arrays = inputs(1, 2, 8192)
    wanted = based_bench.prefill(*(torch.from_numpy(a).cuda().bfloat16() for a in arrays))
    got = based_bench.prefill(*(jax.numpy.asarray(a, jax.numpy.bfloat16) for a in arrays))
    assert np.array_equal(np.asarray(got, np.float32), exact(wanted))
