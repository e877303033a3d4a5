"""Whole models in PyTorch, eager and compiled, with the weights that ours have.

Transformers and Based are written here around what others have made fast: cuDNN's attention or
FlashAttention-4, PyTorch's FlashAttention-2 with a window, flash-linear-attention's kernels.
Mamba and Mamba-2 are mamba-ssm's own model. Matrices are bfloat16, vectors and the residual stream
float32, as in ours, and the head reads the two wanted tokens alone.

torch.compile compiles a kind of layer at a time: an addition to the residual stream, a norm and a
mixer, and the same with an MLP. So it fuses what it would in the whole model, in a fraction of the
time. What it cannot look into (the kernels of others) is called as it is.
"""

import importlib.util

from based_bench.harness import Original

from originals import version_of

try:
    import torch
    from torch.nn import functional
except ImportError:  # Original.missing() says so
    torch = None

HEAD_DIM, FEATURES, EPS, EARLY_TOKEN = 64, 16, 1e-5, 6
# What ours may have: activations are rounded to bfloat16 in the same places.
TOLERANCE = 5e-2
_PROJECTIONS = (("q", FEATURES), ("k", FEATURES), ("v", HEAD_DIM))
# From here on flash-linear-attention's kernel with a state is the faster one (H200).
RECURRENT_FROM = (8, 7168)  # batch, seqlen


def _library():
    from based_bench import _core

    return _core.library()


def configuration(params: dict) -> dict:
    return {str(n): v for n, v in _library().model_configuration(params["model"]).items()}


def weights(given: dict, params: dict) -> dict:
    """The model's tensors by the names, and in the shapes, of the published checkpoints: views of
    the two buffers but where ours has another form."""
    found = {}
    for each in _library().model_weights(params["model"]):
        shape, offset = tuple(each["shape"]), each["offset"]
        count = torch.Size(shape).numel()
        tensor = given[str(each["buffer"])][offset : offset + count].view(shape)
        if each["form"] == "taps_first":
            tensor = tensor.T.unsqueeze(1).contiguous()
        elif each["form"] == "negative_exponential":
            tensor = tensor.neg().log()
        found[str(each["key"])] = tensor
    return found


def _below(tensors: dict, prefix: str) -> dict:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def rms_norm(x, weight, dtype):
    return functional.rms_norm(x.float(), weight.shape, weight, EPS).to(dtype)


def linear(x, w: dict, name: str):
    bias = w.get(f"{name}.bias")
    return functional.linear(x, w[f"{name}.weight"], None if bias is None else bias.to(x.dtype))


def turned(x, cos, sin):
    """Rotary embedding of x [B, N, .., 64]: the first dimensions turn in pairs of their two
    halves. cos, sin: [N, 1, 1, half]."""
    half = cos.shape[-1]
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    parts = [first * cos - second * sin, second * cos + first * sin, rest]
    return torch.cat([part.to(x.dtype) for part in parts], dim=-1)


def sdpa(q, k, v):
    """q, k, v and the result: [B, N, H, 64]."""
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return o.transpose(1, 2)


def window_attention(q, k, v, window: int):
    if q.is_cuda:
        seqlen = q.shape[1]
        forward = torch.ops.aten._flash_attention_forward
        sizes = {"window_size_left": window - 1, "window_size_right": 0}
        return forward(q, k, v, None, None, seqlen, seqlen, 0.0, True, False, **sizes)[0]
    at = torch.arange(q.shape[1])
    seen = (at[:, None] >= at) & (at[:, None] < at + window)
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


def short_convolution(x, weight):
    """As torch.compile fuses it. x [B, N, C], weight [C, 1, taps]."""
    taps, seqlen = weight.shape[2], x.shape[1]
    padded = functional.pad(x, (0, 0, taps - 1, 0))
    summed = sum(padded[:, t : t + seqlen] * weight[:, 0, t] for t in range(taps))
    return functional.silu(summed).to(x.dtype)


class Model:
    """A transformer, or Based. attend(q, k, v) and attend_linearly(q, k, v, normalize) are of
    [B, N, H, D]; convolve(x, weight) is a causal convolution and SiLU."""

    def __init__(self, given, params, attend, attend_linearly=None, convolve=short_convolution):
        self._config = config = configuration(params)
        self._ids, self._dtype = given["ids"], given["matrices"].dtype
        tensors = weights(given, params)
        self._embedding = tensors["transformer.embeddings.word_embeddings.weight"]
        self._norm = tensors["transformer.ln_f.weight"]
        self._mixers = [str(mixer) for mixer in config["mixers"]]
        self._layers = [
            _below(tensors, f"transformer.layers.{index}.") for index in range(len(self._mixers))
        ]
        self._attend, self._convolve = attend, convolve
        self._attend_linearly = attend_linearly
        self._window, self._head_norm = int(config["window"]), bool(config["head_norm"])
        dims = torch.arange(0, config["rotated"], 2, device=self._ids.device)
        at = torch.arange(self._ids.shape[1], device=self._ids.device)
        frequencies = float(config["rotary_base"]) ** (-dims.double() / config["rotated"])
        angles = (at[:, None] * frequencies)[:, None, None]
        self._turn = angles.cos().float(), angles.sin().float()
        self.layer = self._layer

    def __call__(self) -> dict:
        hidden, residual = functional.embedding(self._ids, self._embedding), None
        for mixer, w in zip(self._mixers, self._layers, strict=True):
            hidden, residual = self.layer(mixer, hidden, residual, w)
        early = min(self._ids.shape[1] - 1, EARLY_TOKEN)
        x = torch.stack([residual[:, at] + hidden[:, at] for at in (early, -1)])
        logits = functional.linear(rms_norm(x, self._norm, self._dtype), self._embedding).float()
        return {"early_logits": logits[0], "logits": logits[1]}

    def _layer(self, mixer, hidden, residual, w):
        residual = hidden.float() if residual is None else residual + hidden
        mix = getattr(self, f"_{mixer}")
        hidden = mix(rms_norm(residual, w["norm1.weight"], self._dtype), _below(w, "mixer."))
        residual = residual + hidden
        x = rms_norm(residual, w["norm2.weight"], self._dtype)
        value, gate = linear(x, w, "mlp.fc1").chunk(2, dim=-1)
        return linear(value * functional.silu(gate), w, "mlp.fc2"), residual

    def _base_conv(self, x, w):
        convolved, gate = linear(x, w, "in_proj").chunk(2, dim=-1)
        return linear(self._convolve(convolved, w["conv.conv.weight"]) * gate, w, "out_proj")

    def _linear_attention(self, x, w):
        q, k, v = (linear(x, w, f"proj_{n}").unflatten(-1, (-1, d)) for n, d in _PROJECTIONS)
        o = self._attend_linearly(q, k, v, not self._head_norm)
        if self._head_norm:
            o = rms_norm(o, w["g_norm.weight"], self._dtype)
        return linear(o.flatten(2), w, "out_proj")

    def _attention(self, x, w, window=0):
        qkv = linear(x, w, "Wqkv").unflatten(-1, (3, -1, HEAD_DIM))
        q, k = turned(qkv[:, :, :2], *self._turn).unbind(2)
        v = qkv[:, :, 2]
        o = window_attention(q, k, v, window) if window else self._attend(q, k, v)
        return linear(o.flatten(2), w, "out_proj")

    def _window_attention(self, x, w):
        return self._attention(x, w, self._window)


def _prepared(model: Model, is_compiled: bool):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if is_compiled:
        torch._dynamo.reset()  # what another row compiled has other sizes
        model.layer = torch.compile(model.layer, dynamic=False)
    backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]

    def call():
        with sdpa_kernel(backends, set_priority=True):
            return model()

    return call, lambda logits: logits


def _attention_model(attention: str, is_compiled: bool):
    def prepare(given: dict, params: dict):
        attend = sdpa
        if attention == "flash4":
            from flash_attn.cute import flash_attn_func

            @torch.compiler.disable
            def attend(q, k, v):
                o = flash_attn_func(q, k, v, causal=True)
                return o[0] if isinstance(o, tuple) else o

        return _prepared(Model(given, params, attend), is_compiled)

    return prepare


def _based_model(is_compiled: bool):
    def prepare(given: dict, params: dict):
        based = importlib.import_module("fla.ops.based")
        is_long = all(given["ids"].shape[i] >= n for i, n in enumerate(RECURRENT_FROM))
        function = based.fused_chunk_based if is_long else based.parallel_based

        @torch.compiler.disable
        def attend_linearly(q, k, v, normalize):
            return function(q, k, v, scale=FEATURES**-0.5, use_norm=normalize)

        def convolve(x, weight):
            from fla.modules.causal_conv1d import causal_conv1d

            return causal_conv1d(x, weight.squeeze(1), activation="silu")[0]

        kernel = short_convolution if is_compiled else convolve
        return _prepared(Model(given, params, sdpa, attend_linearly, kernel), is_compiled)

    return prepare


def _mamba_model(is_compiled: bool):
    def prepare(given: dict, params: dict):
        from mamba_ssm.models.config_mamba import MambaConfig
        from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel

        sizes = configuration(params)
        width, inner = sizes["width"], sizes["inner"]
        layer = {"d_state": sizes["d_state"]}
        if sizes["mixers"][0] == "mamba":
            layer |= {"layer": "Mamba1", "expand": inner / width, "dt_rank": sizes["dt_rank"]}
        else:  # Mamba2 multiplies by a whole number, and keeps its type
            layer |= {"layer": "Mamba2", "expand": inner // width}
        config = MambaConfig(
            d_model=width,
            n_layer=len(sizes["mixers"]),
            vocab_size=sizes["vocabulary"],
            ssm_cfg=layer,
            pad_vocab_size_multiple=8,
        )
        model = MambaLMHeadModel(config, device="meta", dtype=given["matrices"].dtype)
        tensors = weights(given, params)
        head = {"lm_head.weight": tensors["backbone.embedding.weight"]}
        model.load_state_dict(tensors | head, assign=True)
        if is_compiled:
            torch._dynamo.reset()
            for each in model.backbone.layers:
                each.compile(dynamic=False)
        ids = given["ids"]
        early = min(ids.shape[1] - 1, EARLY_TOKEN)

        def call():
            hidden = model.backbone(ids)
            logits = model.lm_head(torch.stack([hidden[:, early], hidden[:, -1]])).float()
            return {"early_logits": logits[0], "logits": logits[1]}

        return call, lambda logits: logits

    return prepare


def _only(kinds: str, package: str = ""):
    """Why a model cannot run: it has other mixers, or a package is missing."""

    def cannot(params: dict) -> str | None:
        others = {str(mixer) for mixer in configuration(params)["mixers"]} - set(kinds.split())
        if others:
            return f"the original has no {', '.join(sorted(others))}"
        if package and importlib.util.find_spec(package) is None:
            return f"needs {package}: pip install --no-build-isolation causal-conv1d"
        return None

    return cannot


def _versions(*packages: str):
    return lambda: ", ".join(filter(None, (version_of(each)() for each in packages)))


_TRANSFORMER = _only("attention")
_BASED = _only("base_conv linear_attention window_attention")
_MAMBA = _only("mamba mamba2", "causal_conv1d")
ORIGINALS = tuple(
    Original(
        name + ("_compiled" if is_compiled else ""),
        "model_prefill",
        prepare(is_compiled),
        module=module,
        install=install,
        summary=summary + (", compiled" if is_compiled else ", eager"),
        version=_versions("torch", *packages),
        cannot=cannot,
        tolerance=TOLERANCE,
    )
    for name, summary, prepare, cannot, module, install, packages in (
        (
            "torch_model",
            "PyTorch with cuDNN's attention",
            lambda is_compiled: _attention_model("sdpa", is_compiled),
            _TRANSFORMER,
            "torch",
            "install PyTorch built for CUDA",
            (),
        ),
        (
            "torch_flash4_model",
            "PyTorch with FlashAttention-4",
            lambda is_compiled: _attention_model("flash4", is_compiled),
            _TRANSFORMER,
            "flash_attn.cute",
            "pip install flash-attn-4",
            ("flash-attn-4",),
        ),
        (
            "fla_model",
            "PyTorch with flash-linear-attention's kernels",
            _based_model,
            _BASED,
            "fla.modules.causal_conv1d",  # which fla-core lacks
            "pip install flash-linear-attention",
            ("fla-core",),
        ),
        (
            "mamba_ssm_model",
            "mamba-ssm's own model",
            _mamba_model,
            _MAMBA,
            "mamba_ssm.models.mixer_seq_simple",
            "pip install --no-build-isolation mamba-ssm causal-conv1d",
            ("mamba-ssm",),
        ),
    )
    for is_compiled in (False, True)
)
