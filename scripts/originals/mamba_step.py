"""mamba-ssm's decode step of Mamba and of Mamba-2, one Triton kernel. Without D or a bias of dt its
wrapper fails, so that absent ones are zeros here."""

from based_bench.harness import Original

from originals import version_of


def _step():
    from mamba_ssm.ops.triton.selective_state_update import selective_state_update

    return selective_state_update


def _softplus(params: dict) -> bool:
    return "softplus" in str(params["options"]).split("+")


def _prepare_mamba(given: dict, params: dict):
    step = _step()
    x, dt, b, c = (given[name].flatten(1) for name in ("u", "delta", "B", "C"))  # [B, channels]
    z = given["z"].flatten(1) if "z" in given else None
    state, a = given["state"], given["A"]
    d, bias = (given.get(name, a.new_zeros(a.shape[0])) for name in ("D", "bias"))
    softplus = _softplus(params)

    def call():
        return step(state, x, dt, a, b, c, D=d, z=z, dt_bias=bias, dt_softplus=softplus)

    return call, lambda y: {"y": y[:, :, None, None]}


def _prepare_mamba2(given: dict, params: dict):
    step = _step()
    x, b, c = (given[name].squeeze(2) for name in "xbc")  # [B, H, P], [B, G, S]
    z = given["z"].squeeze(2) if "z" in given else None
    state = given["state"]  # [B, H, P, S]
    # One value a head is a stride of 0, which the kernel knows as such.
    dt = given["dt"].squeeze(2).expand_as(x)
    a = given["a"][:, None, None].expand(state.shape[1:])
    d, bias = (
        given.get(name, given["a"].new_zeros(state.shape[1]))[:, None].expand(state.shape[1:3])
        for name in ("d", "dt_bias")
    )
    softplus = _softplus(params)

    def call():
        return step(state, x, dt, a, b, c, D=d, z=z, dt_bias=bias, dt_softplus=softplus)

    return call, lambda y: {"y": y.unsqueeze(2)}


ORIGINALS = tuple(
    Original(
        name,
        operation,
        prepare,
        module="mamba_ssm.ops.triton.selective_state_update",
        install="pip install --no-build-isolation mamba-ssm",
        version=version_of("mamba-ssm"),
        takes=frozenset({"options", *others}),
    )
    for name, operation, prepare, others in (
        ("mamba_step", "selective_scan_decode", _prepare_mamba, {"inputs"}),  # of one group
        ("mamba2_step", "ssd_decode", _prepare_mamba2, {"groups"}),
    )
)
