"""The operations as functions. The registry knows their tensors and options; what stands here is
how Python names them.

Sequences are [B, H, N, D] (layout "bhnd") or [B, N, H, D] ("bnhd"). Their first three dimensions
may have any strides that are multiples of 16 bytes, and 0 where a sequence is shared. States and
caches are contiguous. `out` is a tensor to write to. `implementation` and `variant` force one of
implementations().
"""

from collections import namedtuple

from based_bench import _core
from based_bench._frameworks import framework_of, known

State = namedtuple("State", ["kv", "z"], defaults=[None])
State.__doc__ = """The state of Based after some tokens, float32: kv [B, H, 153, 64], and with
normalisation z [B, H, 153]. decode() takes a kv of bfloat16 too."""

FEATURES = 153  # rows of the state

# As the papers call what the registry names after its rows.
_OPERATIONS = {
    "based_prefill": "prefill",
    "based_decode": "decode",
    "sliding_window_decode": "sliding_window",
}


def implementations(operation, device=None):
    """The implementations of an operation that this build holds, ours first, as dictionaries: name,
    summary, role, device, types, variants, reimplements, tolerance. `device`: "cpu", "cuda", or
    what a framework calls a device; None: all.
    """
    operation = _OPERATIONS.get(operation, operation)
    known = _core.describe()
    if operation not in known:
        raise ValueError(f"there is no operation {operation!r}; want one of {', '.join(known)}")
    found = known[operation]["implementations"]
    if device is None:
        return found
    kind = str(device).split(":")[0].lower()
    kind = "cuda" if kind in ("gpu", "cuda") or kind.startswith("<cuda") else kind
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; want 'cpu' or 'cuda'")
    return [entry for entry in found if entry["device"] == kind]


def call(operation, read, written, *, layout="bhnd", implementation=None, variant=None, **axes):
    """Any operation of the registry, on tensors by their names in its description.

    read: inputs. written: outputs, and what is updated in place. axes: values of the command line's
    flags with _ for -, but for those that are the size of a tensor. Returns `written` (with JAX the
    arrays that took their place).
    """
    framework = framework_of(next(iter(read.values()), None), operation)
    settings = (
        _OPERATIONS.get(operation, operation),
        ",".join(read),
        ",".join(written),
        layout,
        implementation,
        variant,
        sum(((name.replace("_", "-"), value) for name, value in axes.items()), ()),
    )
    results = framework.run(settings, tuple(read.values()), tuple(written.values()))
    return dict(zip(written, results, strict=True))


def prefill(
    q,
    k,
    v,
    *,
    scale=None,
    normalize=False,
    eps=1e-6,
    initial_state=None,
    return_state=False,
    layout="bhnd",
    out=None,
    implementation=None,
    variant=None,
):
    """Based's causal linear attention (arXiv 2402.18668, eq. 4):
    o_i = sum_{j <= i} (1 + s + s^2/2) v_j with s = scale q_i . k_j, divided by the sum of these
    weights + eps where `normalize`.

    q, k: [B, H, N, 16]. v and the result: [B, H, N, 64]. scale: 1/4 unless given.
    initial_state: a State, or its kv alone. Returns o, and with return_state (o, State).
    """
    framework = known.get(type(q)) or framework_of(q, "q")
    o = framework.empty_like(v) if out is None else out
    read, read_names = (q, k, v), "q,k,v"
    written, written_names = (o,), "o"
    options = "normalize" if normalize else "none"
    if initial_state is not None:
        options = "normalize+initial_state" if normalize else "initial_state"
        kv, z = _parts(initial_state, normalize)
        read += (kv, z) if normalize else (kv,)
        read_names += ",initial_state.kv,initial_state.z" if normalize else ",initial_state.kv"
    state = None
    if return_state:
        options = "final_state" if options == "none" else f"{options}+final_state"
        state = _new_state(framework, q, layout, normalize)
        written += tuple(state) if normalize else (state.kv,)
        written_names += ",final_state.kv,final_state.z" if normalize else ",final_state.kv"
    axes = ("eps", eps, "options", options, "scale", scale)
    settings = ("prefill", read_names, written_names, layout, implementation, variant, axes)
    results = framework.run(settings, read, written)
    return (results[0], State(*results[1:])) if return_state else results[0]


def decode(
    q,
    k,
    v,
    state,
    *,
    scale=None,
    normalize=False,
    eps=1e-6,
    layout="bhnd",
    out=None,
    implementation=None,
    variant=None,
):
    """One token after those of `state`, which is updated in place: what prefill() gives for the
    last token of the longer sequence.

    q, k: [B, H, 1, 16]. v and the result: [B, H, 1, 64]. state: a State, or its kv alone, float32
    or bfloat16.
    """
    framework = known.get(type(q)) or framework_of(q, "q")
    framework.require_mutable("state")
    o = framework.empty_like(v) if out is None else out
    kv, z = _parts(state, normalize)
    options = "normalize" if normalize else "none"
    state_type = "bf16" if kv.dtype.itemsize == 2 else "f32"
    axes = ("eps", eps, "options", options, "state", state_type, "scale", scale)
    names = "o,kv,z" if normalize else "o,kv"
    settings = ("decode", "q,k,v", names, layout, implementation, variant, axes)
    return framework.run(settings, (q, k, v), (o, kv, z) if normalize else (o, kv))[0]


def sliding_window_decode(
    q,
    k,
    v,
    k_cache,
    v_cache,
    position,
    *,
    layout="bhnd",
    out=None,
    implementation=None,
    variant=None,
):
    """Softmax attention of one token over the last W of its sequence, itself included, whose keys
    and values lie in rings: token n in slot n mod W. The scale is 1/sqrt(Dh).

    q, k, v and the result: [B, H, 1, Dh], Dh 64 or 128. k_cache, v_cache: [B, H, W, Dh]. position:
    of the token in its sequence, from 0. The call writes k and v to the token's slot; where k and v
    are None the caller has done so.
    """
    framework = known.get(type(q)) or framework_of(q, "q")
    o = framework.empty_like(q) if out is None else out
    if (k is None) != (v is None):
        raise TypeError("one of k and v is None; want both, or neither")
    # What counts is the slot, and how many slots are filled: the positions of one ring suffice.
    window = k_cache.shape[2] if len(k_cache.shape) == 4 else 0
    if position >= 2 * window > 0:
        position = window + position % window
    append = k is not None
    if append:
        framework.require_mutable("k_cache")
        read, written, names = (q, k, v), (o, k_cache, v_cache), ("q,k,v", "o,k_cache,v_cache")
    else:
        read, written, names = (q, k_cache, v_cache), (o,), ("q,k_cache,v_cache", "o")
    axes = ("append", int(append), "position", position)
    settings = ("sliding_window", *names, layout, implementation, variant, axes)
    return framework.run(settings, read, written)[0]


def attention(
    q,
    k,
    v,
    *,
    causal=False,
    window=None,
    scale=None,
    return_lse=False,
    layout="bhnd",
    out=None,
    implementation=None,
    variant=None,
):
    """Softmax attention.

    q and the result: [B, H, N, Dh], Dh 64 or 128. k, v: [B, Hkv, Nkv, Dh], H a multiple of Hkv.
    With `causal` the last query sees all keys, the one before it one fewer, and so on; with
    `window` each sees the last so many of these. scale: 1/sqrt(Dh) unless given. Returns o, and
    with return_lse (o, the log-sum-exp of each query's scores [B, H, N] in float32).
    """
    framework = known.get(type(q)) or framework_of(q, "q")
    o = framework.empty_like(q) if out is None else out
    written = (o,)
    if return_lse:
        batch, heads, tokens, _ = _sizes(q, layout)
        written += (framework.empty(q, (batch, heads, tokens)),)
    names, options = ("o,lse", "lse") if return_lse else ("o", "none")
    axes = ("causal", int(causal), "options", options, "window", window, "scale", scale)
    settings = ("attention", "q,k,v", names, layout, implementation, variant, axes)
    results = framework.run(settings, (q, k, v), written)
    return tuple(results) if return_lse else results[0]


def _sizes(sequence, layout):
    """B, H, N, D of a sequence."""
    if len(sequence.shape) != 4:
        raise ValueError(f"q has shape {tuple(sequence.shape)}; want 4 dimensions")
    first, second, third, last = sequence.shape
    return (first, second, third, last) if layout == "bhnd" else (first, third, second, last)


def _new_state(framework, like, layout, normalize):
    batch, heads, _, _ = _sizes(like, layout)
    kv = framework.empty(like, (batch, heads, FEATURES, 64))
    return State(kv, framework.empty(like, (batch, heads, FEATURES)) if normalize else None)


def _parts(state, normalize):
    kv, z = state if isinstance(state, tuple) else (state, None)
    if normalize and z is None:
        raise ValueError("the state has no z, which normalize needs; want a State with both")
    return kv, z
