"""mamba-ssm's selective scan (Mamba), its CUDA kernel."""

from based_bench.harness import Original

from originals import version_of


def _prepare(given: dict, params: dict):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    # Its sequences are [B, channels, N]; B and C have S channels a group.
    u, delta, b, c, z = (
        given[name].squeeze(-1) if name in given else None for name in ("u", "delta", "B", "C", "z")
    )
    b, c = (each.unflatten(1, (params["groups"], -1)) for each in (b, c))
    asked = str(params["options"]).split("+")
    wants_state = "final_state" in asked
    options = {
        "D": given.get("D"),
        "z": z,
        "delta_bias": given.get("bias"),
        "delta_softplus": "softplus" in asked,
        "return_last_state": wants_state,
    }
    a = given["A"]

    def outputs(result):
        if not wants_state:
            return {"y": result.unsqueeze(-1)}
        return {"y": result[0].unsqueeze(-1), "final_state": result[1]}

    return lambda: selective_scan_fn(u, delta, a, b, c, **options), outputs


def _cannot(params: dict) -> str | None:
    if "initial_state" in str(params["options"]).split("+"):
        return "the original takes no initial state"
    return None


ORIGINALS = (
    Original(
        "mamba",
        "selective_scan",
        _prepare,
        module="mamba_ssm.ops.selective_scan_interface",
        install="pip install --no-build-isolation mamba-ssm",
        version=version_of("mamba-ssm"),
        takes=frozenset({"options", "groups", "inputs"}),
        cannot=_cannot,
    ),
)
