"""The operators on NumPy arrays, against the definitions in float64."""

import threading

import based_bench
import numpy as np
import pytest
from reference import inputs, relative_error, softmax, taylor

TOLERANCE = 1e-5


def bnhd(array):
    return np.ascontiguousarray(array.swapaxes(1, 2))


@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"scale": 0.5}])
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_prefill(tokens, options, layout):
    q, k, v = inputs(2, 3, tokens)
    wanted = taylor(q, k, v, **options)
    if layout == "bnhd":
        q, k, v, wanted = map(bnhd, (q, k, v, wanted))
    got = based_bench.prefill(q, k, v, layout=layout, **options)
    assert relative_error(got, wanted) < TOLERANCE


@pytest.mark.parametrize("name", [e["name"] for e in based_bench.implementations("prefill", "cpu")])
def test_every_implementation_can_be_forced(name):
    q, k, v = inputs(1, 2, 70)
    got = based_bench.prefill(q, k, v, implementation=name)
    assert relative_error(got, taylor(q, k, v)) < TOLERANCE


def test_eps():
    q, k, v = inputs(1, 1, 20)
    got = based_bench.prefill(q, k, v, normalize=True, eps=5.0)
    assert relative_error(got, taylor(q, k, v, normalize=True, eps=5.0)) < TOLERANCE


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_pieces_are_the_whole(normalize, layout):
    """Prefill 70 tokens, 30 more, decode 3: what prefill of 103 gives."""
    q, k, v = inputs(2, 3, 103)
    wanted = taylor(q, k, v, normalize=normalize)
    axis = 2 if layout == "bhnd" else 1
    if layout == "bnhd":
        q, k, v, wanted = map(bnhd, (q, k, v, wanted))
    options = {"normalize": normalize, "layout": layout}

    def part(begin, end):
        at = [slice(None)] * 4
        at[axis] = slice(begin, end)
        return [array[tuple(at)] for array in (q, k, v)]

    first, state = based_bench.prefill(*part(0, 70), return_state=True, **options)
    second, state = based_bench.prefill(
        *part(70, 100), initial_state=state, return_state=True, **options
    )
    rest = [based_bench.decode(*part(n, n + 1), state, **options) for n in range(100, 103)]
    assert relative_error(np.concatenate([first, second, *rest], axis), wanted) < TOLERANCE


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 7])
def test_attention(causal, window):
    if window and not causal:
        pytest.skip("a window is of causal attention")
    random = np.random.default_rng(1)
    q = random.standard_normal((2, 4, 50, 64), np.float32)
    k, v = random.standard_normal((2, 2, 2, 50, 64), np.float32)
    o, lse = based_bench.attention(q, k, v, causal=causal, window=window, return_lse=True)
    wanted, wanted_lse = softmax(q, k, v, causal, window)
    assert relative_error(o, wanted) < TOLERANCE
    assert relative_error(lse, wanted_lse) < TOLERANCE


@pytest.mark.parametrize("head_dim", [64, 128])
def test_sliding_window_is_attention_with_a_window(head_dim):
    window, tokens = 5, 17
    q, k, v = np.random.default_rng(2).standard_normal((3, 2, 3, tokens, head_dim), np.float32)
    wanted, _ = softmax(q, k, v, causal=True, window=window)
    k_cache, v_cache = np.zeros((2, 2, 3, window, head_dim), np.float32)
    for n in range(tokens):
        at = slice(n, n + 1)
        got = based_bench.sliding_window_decode(
            q[:, :, at], k[:, :, at], v[:, :, at], k_cache, v_cache, n
        )
        assert relative_error(got, wanted[:, :, at]) < TOLERANCE


def test_any_operation_by_its_description():
    q, k, v = inputs(1, 2, 33)
    out = {"o": np.empty_like(v)}
    got = based_bench.call("prefill", {"q": q, "k": k, "v": v}, out, options="normalize")
    assert got["o"] is out["o"]
    assert relative_error(out["o"], taylor(q, k, v, normalize=True)) < TOLERANCE


def test_views_are_taken_as_they_are():
    """Slices of one fused projection, and one sequence for all heads."""
    fused = 0.25 * np.random.default_rng(3).standard_normal((2, 40, 3, 96), np.float32)
    q, k, v = fused[..., :16], fused[..., 16:32], fused[..., 32:]
    wanted = taylor(*(array.swapaxes(1, 2) for array in (q, k, v)))
    got = based_bench.prefill(q, k, v, layout="bnhd")
    assert relative_error(got.swapaxes(1, 2), wanted) < TOLERANCE
    q, k, v = inputs(2, 1, 40)
    q, k, v = (np.broadcast_to(array, (2, 3, *array.shape[2:])) for array in (q, k, v))
    out = np.empty(v.shape, np.float32)
    assert based_bench.prefill(q, k, v, out=out) is out
    assert relative_error(out, taylor(q, k, v)) < TOLERANCE


def test_read_only_inputs():
    q, k, v = inputs(1, 1, 8)
    wanted = based_bench.prefill(q, k, v)
    for array in (q, k, v):
        array.flags.writeable = False
    assert np.array_equal(based_bench.prefill(q, k, v), wanted)
    with pytest.raises(ValueError, match=r"o, of shape .* is written, but read-only"):
        based_bench.prefill(q, k, v, out=v)


def test_nothing_to_write_is_an_empty_result():
    q, k, v = inputs(2, 3, 8)
    assert based_bench.prefill(q[:0], k[:0], v[:0]).shape == (0, 3, 8, 64)
    assert based_bench.prefill(q[:, :0], k[:, :0], v[:, :0]).shape == (2, 0, 8, 64)
    assert based_bench.prefill(q[:, :, :0], k[:, :, :0], v[:, :, :0]).shape == (2, 3, 0, 64)
    # A state of no tokens would have to be written.
    with pytest.raises(ValueError, match="size of 0"):
        based_bench.prefill(q[:, :, :0], k[:, :, :0], v[:, :, :0], return_state=True)


def misaligned(array):
    memory = np.empty(array.size + 1, np.float32)
    shifted = memory[1:] if memory.ctypes.data % 16 == 0 else memory[:-1]
    shifted = shifted.reshape(array.shape)
    shifted[...] = array
    return shifted


BAD_CALLS = {
    "k has other heads": (
        lambda q, k, v: based_bench.prefill(q, k[:, :1], v),
        ValueError,
        r"k is float32 \[2, 1, 8, 16\] on cpu.*want \[2, 3, 8, 16\].*heads 3 of q",
    ),
    "v has another dimension": (
        lambda q, k, v: based_bench.prefill(q, k, v[..., :32]),
        ValueError,
        r"v is float32 \[2, 3, 8, 32\].*want \[2, 3, 8, 64\]",
    ),
    "q has three dimensions": (
        lambda q, k, v: based_bench.prefill(q[0], k, v),
        ValueError,
        r"q is float32 \[3, 8, 16\].*want 4 dimensions",
    ),
    "all are float64": (
        lambda q, k, v: based_bench.prefill(*(a.astype(np.float64) for a in (q, k, v))),
        TypeError,
        "q is float64.*want float32",
    ),
    "all are float16": (
        lambda q, k, v: based_bench.prefill(*(a.astype(np.float16) for a in (q, k, v))),
        TypeError,
        "prefill on cpu takes elements of float16; want float32",
    ),
    "k is float16": (
        lambda q, k, v: based_bench.prefill(q, k.astype(np.float16), v),
        TypeError,
        "k is float16.*want float32",
    ),
    "q's last stride is 2": (
        lambda q, k, v: based_bench.prefill(np.repeat(q, 2, -1)[..., ::2], k, v),
        ValueError,
        r"q is .*strides \[768, 256, 32, 2\].*want a last dimension of stride 1",
    ),
    "q is misaligned": (
        lambda q, k, v: based_bench.prefill(misaligned(q), k, v),
        ValueError,
        "q at 0x.* is not aligned to 16 bytes",
    ),
    "out is v": (
        lambda q, k, v: based_bench.prefill(q, k, v, out=v),
        ValueError,
        "o is .*, which is written, and v is .*want them apart",
    ),
    "no such implementation": (
        lambda q, k, v: based_bench.prefill(q, k, v, implementation="fastest"),
        ValueError,
        "no implementation 'fastest' of prefill on cpu; want one of based, ",
    ),
    "no such variant": (
        lambda q, k, v: based_bench.prefill(q, k, v, variant="fastest"),
        ValueError,
        "has no variant 'fastest'",
    ),
    "no such layout": (
        lambda q, k, v: based_bench.prefill(q, k, v, layout="bndh"),
        ValueError,
        "layout is 'bndh'",
    ),
    "a scale that is none": (
        lambda q, k, v: based_bench.prefill(q, k, v, scale="a"),
        ValueError,
        "'a' is not a number",
    ),
    "a list": (
        lambda q, k, v: based_bench.prefill(q.tolist(), k, v),
        TypeError,
        "q is of type list",
    ),
    "k is None": (lambda q, k, v: based_bench.prefill(q, None, v), TypeError, "k is not a tensor"),
    "a state without z": (
        lambda q, k, v: based_bench.prefill(
            q, k, v, normalize=True, initial_state=np.zeros((2, 3, 153, 64), np.float32)
        ),
        ValueError,
        "the state has no z",
    ),
    "a state that is not contiguous": (
        lambda q, k, v: based_bench.prefill(
            q, k, v, initial_state=np.zeros((2, 3, 64, 153), np.float32).swapaxes(2, 3)
        ),
        ValueError,
        "initial_state.kv is .*want it contiguous",
    ),
    "a head dimension of 48": (
        lambda q, k, v: based_bench.attention(v[..., :48], v[..., :48], v[..., :48]),
        ValueError,
        "q is .*head-dim.*'48' is not 64 or 128 in dimension 3",
    ),
    "no such operation": (
        lambda q, k, v: based_bench.call("convolve", {"q": q}, {}),
        ValueError,
        "no operation 'convolve'; want one of attention, ",
    ),
    "no such axis": (
        lambda q, k, v: based_bench.call("prefill", {"q": q, "k": k, "v": v}, {"o": v}, width=3),
        ValueError,
        "prefill has no axis 'width'; want some of batch, ",
    ),
    "a tensor is missing": (
        lambda q, k, v: based_bench.call("prefill", {"q": q, "k": k}, {"o": v}),
        ValueError,
        "prefill has the tensors q, k, v, o; given were q, k, o",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_mistakes_name_the_argument_and_what_is_allowed(name):
    call, kind, message = BAD_CALLS[name]
    arrays = inputs(2, 3, 8)
    before = [array.copy() for array in arrays]
    with pytest.raises(kind, match=message):
        call(*arrays)
    for array, old in zip(arrays, before, strict=True):
        assert np.array_equal(array, old)


def test_threads_do_not_disturb_each_other():
    failures = []

    def work(seed):
        for tokens in range(1, 40, 3):
            q, k, v = inputs(1, 2, tokens, seed)
            if relative_error(based_bench.prefill(q, k, v), taylor(q, k, v)) > TOLERANCE:
                failures.append((seed, tokens))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_implementations_are_those_of_the_device():
    all_of_them = based_bench.implementations("based_prefill")
    on_cpu = based_bench.implementations("based_prefill", "cpu")
    assert on_cpu[0]["name"] == "based"
    assert on_cpu[0]["role"] == "ours"
    assert [e for e in all_of_them if e["device"] == "cpu"] == on_cpu
    with pytest.raises(ValueError, match="want 'cpu' or 'cuda'"):
        based_bench.implementations("prefill", "tpu")
