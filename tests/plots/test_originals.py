"""The originals' times: of two files the fastest, and nothing of another configuration."""

import json
import math

import builder
import pytest

from plots import originals
from plots.files import UsageError

SHAPE = {"B": 16, "H": 16, "N": 1024}


def peer(implementation="fla_parallel_based", **fields):
    shape = {"batch": 16, "heads": 16, "seqlen": 1024}
    return {"operation": "prefill", "implementation": implementation} | shape | fields


@pytest.fixture
def fastest(tmp_path):
    """fastest(peers, suite, names, form): the pick of files of these rows at SHAPE."""

    def pick(peers, suite, names=("fla_parallel_based",), form=None, operation="prefill"):
        document = {"device": "GPU", "date": "2030-01-02", "method": "median of 7", "rows": peers}
        (tmp_path / "peers_h200.json").write_text(json.dumps(document))
        elsewhere = builder.row("other", 1.0, N=7)  # a results file has rows
        builder.write(tmp_path / "originals_h200.json", [elsewhere, *suite])
        rows, _ = originals.load(tmp_path)
        return originals.fastest(rows, operation, names, SHAPE | (form or {}))

    return pick


@pytest.mark.parametrize(("theirs", "suite", "by_suite"), [(5.0, 6.0, False), (6.0, 5.0, True)])
def test_the_faster_of_two_files(fastest, theirs, suite, by_suite):
    row = fastest([peer(cold_us=theirs)], [builder.row("fla_parallel_based", suite, N=1024)])
    assert (row["time_us"], row["by_suite"], row["status"]) == (5.0, by_suite, "ok")


def test_the_fastest_of_several_originals(fastest):
    names = ("fla_parallel_based", "fla_fused_chunk_based")
    suite = [builder.row(name, time, N=1024) for name, time in zip(names, (9.0, 4.0), strict=True)]
    assert fastest([peer(cold_us=5.0)], suite, names)["implementation"] == "fla_fused_chunk_based"
    assert fastest([peer(cold_us=5.0)], suite)["time_us"] == 5.0


def test_a_burst_counts_where_it_is_faster(fastest):
    for burst, expected in ((4.0, 4.0), (8.0, 6.0)):
        suite = [builder.row("fla_parallel_based", 6.0, N=1024, counters={"burst_us": burst})]
        assert fastest([], suite)["time_us"] == expected


def test_a_row_that_only_one_file_has(fastest):
    assert fastest([peer(cold_us=5.0)], [])["by_suite"] is False
    assert fastest([], [builder.row("fla_parallel_based", 5.0, N=1024)])["by_suite"] is True
    assert fastest([], []) is None


def test_other_shapes_and_operations_do_not_count(fastest):
    others = [
        builder.row("fla_parallel_based", 1.0, **(SHAPE | size))
        for size in ({"B": 1}, {"H": 8}, {"N": 512})
    ]
    others.append(builder.row("fla_parallel_based", 1.0, operation="decode", N=1024))
    assert fastest([peer(cold_us=5.0), peer(seqlen=512, cold_us=1.0)], others)["time_us"] == 5.0


def test_out_of_memory_in_both_files(fastest):
    full = builder.row("fla_parallel_based", N=1024, status="out_of_memory", reason="68 GiB")
    row = fastest([peer(skipped="out of memory")], [full])
    assert (row["status"], row["time_us"]) == ("out_of_memory", math.inf)
    assert fastest([], [full])["status"] == "out_of_memory"
    assert fastest([peer(cold_us=5.0)], [full])["status"] == "ok"
    skipped = fastest([peer(skipped="too long")], [])
    assert (skipped["status"], skipped["reason"]) == ("skipped", "too long")


def test_names_and_sizes_are_those_of_results_files(fastest):
    mamba2 = {"head_dim": 64, "d_state": 256, "chunk": 256, "cold_us": 5.0}
    wide = builder.row("mamba2", 4.0, N=1024, Dh=128, d_state=256, chunk=64)
    row = fastest([peer("mamba2_ssd_triton", **mamba2)], [wide], ("mamba2",), {"Dh": 64})
    assert row["params"] == SHAPE | {"Dh": 64, "d_state": 256, "chunk": 256}

    mamba = peer("mamba_selective_scan", d_inner=2048, d_state=16, cold_us=5.0)
    del mamba["heads"]
    assert fastest([mamba], [], ("mamba",))["params"]["H"] == 16

    attention = peer("torch_sdpa_cudnn", head_dim=64, causal=True, cold_us=5.0)
    attention["operation"] = "attention"
    suite = builder.row("torch_sdpa_cudnn", 4.0, N=1024, Dh=64, causal=1)
    form = {"Dh": 64, "causal": True}
    assert fastest([attention], [], ("torch_sdpa_cudnn",), form)["time_us"] == 5.0
    assert fastest([attention], [suite], ("torch_sdpa_cudnn",), form)["time_us"] == 4.0


def test_memory_and_error_are_of_the_row_that_is_taken(fastest):
    slow = peer(cold_us=9.0, peak_MiB=1, rel_err=0.5)
    fast = builder.row("fla_parallel_based", 5.0, N=1024, counters={"mem_MiB": 2.0})
    row = fastest([slow], [fast])
    assert (row["mem_MiB"], row["rel_err"]) == (2.0, 1.7e-3)
    assert math.isnan(fastest([peer(cold_us=5.0)], [])["mem_MiB"])


def test_two_devices_in_the_suites_file_are_refused(fastest):
    with pytest.raises(UsageError, match="holds 2 devices"):
        fastest([], [builder.row("fla_parallel_based", N=1024, device="cpu")])
