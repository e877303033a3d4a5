"""mamba-ssm's state-space duality (Mamba-2), its Triton kernels."""

from based_bench.harness import Original

from originals import version_of

# Its default of 256 makes illegal accesses at heads of 128 and states of 256.
_CHUNKS = {64: 256, 128: 64}


def _prepare(given: dict, params: dict):
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    asked = set(str(params["options"]).split("+"))

    def heads_last(name):
        return given[name].transpose(1, 2).contiguous()

    x, b, c = (heads_last(name) for name in "xbc")
    dt = heads_last("dt").squeeze(-1)  # [B, N, H]
    wants_state = "final_state" in asked
    options = {
        "D": given.get("d"),
        "z": heads_last("z") if "gate" in asked else None,
        "dt_bias": given.get("dt_bias"),
        "initial_states": given.get("initial_state"),
        "dt_softplus": "softplus" in asked,
        "return_final_states": wants_state,
    }
    a, chunk = given["a"], _CHUNKS[int(params["head-dim"])]

    def outputs(result):
        y = (result[0] if wants_state else result).transpose(1, 2)
        return {"y": y, "final_state": result[1]} if wants_state else {"y": y}

    return lambda: mamba_chunk_scan_combined(x, dt, a, b, c, chunk, **options), outputs


ORIGINALS = (
    Original(
        "mamba2",
        "ssd",
        _prepare,
        module="mamba_ssm.ops.triton.ssd_combined",
        install="pip install --no-build-isolation mamba-ssm",
        version=version_of("mamba-ssm"),
        takes=frozenset({"options", "groups", "inputs"}),
    ),
)
