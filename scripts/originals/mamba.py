"""mamba-ssm's selective scan (Mamba), its CUDA kernel."""

from based_bench.harness import Original

from originals import version_of


def _prepare(given: dict, params: dict):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    b, c = given["B"], given["C"]  # [B, G * S, N]
    if params["groups"] > 1:
        b, c = (each.unflatten(1, (params["groups"], -1)) for each in (b, c))
    wants_state = "final_state" in str(params["options"]).split("+")
    options = {
        "D": given.get("D"),
        "z": given.get("z"),
        "delta_bias": given.get("bias"),
        "delta_softplus": "softplus" in str(params["options"]).split("+"),
        "return_last_state": wants_state,
    }
    u, delta, a = given["u"], given["delta"], given["A"]

    def outputs(result):
        return {"y": result[0], "final_state": result[1]} if wants_state else {"y": result}

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
