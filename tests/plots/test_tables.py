"""The READMEs' measured tables: what a cell says, and that nothing else is touched."""

import json
import math
import shutil

import builder
import pytest

from plots import cli, published, readme, style, tables
from plots.files import UsageError

README = """# Title

<!-- table: headline -->
stale
<!-- end table -->
between | the tables
<!-- table: decode -->
<!-- end table -->
"""
AUDITED = "<!-- table: audit -->\n<!-- end table -->\n"
AUDIT = {
    "schema": "based-bench-audit/1",
    "device": "Some GPU",
    "date": "2030-01-02T03:04:05+00:00",
    "revision": "abc",
    "rows": [
        {
            "row": "prefill/based/cuda/B:16/H:16/N:8192",
            "kernels": 1,
            "duration_us": 208.3,
            "DRAM_MB": 653.5,
            "compulsory_MB": 671.1,
            "DRAM_over_compulsory": 0.9738,
            "executed_GFLOP": 107.04,
            "model_GFLOP": 107.37,
            "executed_over_model": 0.9969,
            "units": "tensor cores",
            "tensor_pct": 59.83,
            "shared_pct": 73.02,
            "DRAM_pct": 65.21,
        },
        {"row": "decode/naive/cuda/B:256/H:16/state:bf16", "kernels": 3, "DRAM_MB": 250.0},
    ],
}
LONG = {"B": 16, "N": 8192}


def rows():
    return [
        builder.row("based", 200.0, counters={"burst_us": 180.0, "roofline_pct": 45.0}, **LONG),
        builder.row("based_sm80", 300.0, **LONG),
        builder.row("based", 100.0, N=1024),
        builder.row("based", 50.0, B=1, N=8192, options="normalize"),  # no plain row beside it
        builder.row("based", B=128, N=8192, status="error", reason="too | wrong"),
        builder.row("chunked_parallel", 4000.0, **LONG),
        builder.row("naive", status="out_of_memory", reason="needs 140 GiB", **LONG),
        builder.attention("softmax_attention", 7000.0, **LONG),
        builder.row("based", 60.0, operation="decode", B=256, state="bf16"),
        builder.row("based", 120.0, operation="decode", B=256, H=32, state="bf16"),  # not 16 heads
        builder.row("based", 100.0, operation="decode", B=256, state="f32"),
        builder.row("based", 20.0, operation="sliding_window", B=256, W=64),
        builder.row("based", 9.0, device="cpu", **LONG),
    ]


def originals():
    return [
        builder.row("thunderkittens_based", 540.0, **LONG),
        builder.row("fla_parallel_based", 5600.0, **LONG),
        builder.row("fla_fused_chunk_based", 3900.0, counters={"burst_us": 3800.0}, **LONG),
        builder.row("mamba2", 1800.0, operation="ssd", P=64, S=256, **LONG),
        builder.row("mamba2", 99.0, operation="ssd", P=128, S=256, **LONG),
        builder.row("mamba", 4300.0, operation="selective_scan", d_state=16, **LONG),
        builder.attention("torch_sdpa_flash2", 7350.0, **LONG),
        builder.row("torch_bmm", 240.0, operation="decode", B=256, state="bf16"),
        builder.row("torch_sdpa", 40.0, operation="sliding_window", B=256, W=64),
        builder.row("torch_einsum", 50.0, operation="sliding_window", B=256, W=64),
    ]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    builder.write(folder / "h200.json", rows())
    builder.write(folder / "originals_h200.json", originals())
    builder.write(folder / "peers_h200.json", [builder.row("other", 1.0, N=7)])
    return folder


def cells(table, *starts):
    """The cells of the only line whose first cells are `starts`."""
    found = [
        split
        for line in table.splitlines()
        if (split := [cell.strip() for cell in line.strip("|").split(" | ")])[: len(starts)]
        == list(starts)
    ]
    assert len(found) == 1, (starts, table)
    return found[0]


def table_of(data, name):
    return tables.TABLES[name](tables.load(data))


def test_headline_has_one_number_a_cell(data):
    table = table_of(data, "headline")
    assert cells(table, "shape") == [
        "shape",
        "ours",
        "ThunderKittens",
        "best other Based",
        "Mamba-2",
        "softmax attention",
        "share of the roofline",
    ]
    assert cells(table, "B = 16, N = 8192")[1:] == [
        "**180.0**",  # the burst's; the fastest is in bold type
        "540.0",
        "3800",  # of an original, faster than the rewritten one
        "1800",  # with heads of 64, though 128 are faster here
        "7000",  # of the rewritten one, faster than its original
        "50 %",  # of the burst: 90 us of 180
    ]
    assert cells(table, "B = 16, N = 1024")[1:] == ["100.0", "–", "–", "–", "–", "50 %"]
    assert cells(table, "B = 128, N = 8192")[1] == "error"
    assert not set("†‡") & set(table)
    assert "–: not measured." in table
    assert "revision 0000000" in table


def test_mixers_stand_beside_their_originals_with_the_state_of_a_sequence(data):
    ssd = {"operation": "ssd", "P": 64, "S": 256}
    state = {"counters": {"state_KiB": 1024.0, "roofline_pct": 60.0}}
    ours = [
        builder.row("fused_chunked", 300.0, **ssd, **LONG, **state),
        builder.row("fused_chunked", 9.0, options="all", **ssd, **LONG),
        builder.row("fused_chunked", 50.0, B=1, N=8192, **ssd),
    ]
    builder.write(data / "h200.json", [*rows(), *ours])
    table = table_of(data, "mixers")
    line = cells(table, "Mamba-2, 16 × 64 × 256")
    times = ["50.00", "–", "–", "–", "**300.0**", "1800"]
    assert line[1:] == ["1.00 MiB", *times, "60 %", "Mamba-2"]
    assert "Mamba-2, 32" not in table  # not measured


def model(name, us, **at):
    return builder.row("forward", us, model=name, H=None, **at) | {"role": "ours"}


def test_the_answer_is_computed(data):
    ssd = {"operation": "ssd", "P": 64, "S": 256}
    builder.write(data / "h200.json", [*rows(), builder.row("fused_chunked", 360.0, **ssd, **LONG)])
    said = table_of(data, "answer")
    assert "Based is the fastest**" in said
    assert "tokens it takes 180.0 µs, and Mamba-2 2.0 times as long" in said
    assert "originals of the others it would be Mamba-2 10 and softmax attention 41 times" in said
    assert "whole model" not in said
    prompts, step = {"operation": "model_prefill", "N": 8000}, {"operation": "model_decode"}
    models = [
        model("based-360m", 1e5, **prompts),
        model("mamba2-370m", 1.5e5, **prompts),
        model("based-360m", 1e3, B=256, context=2048, **step),
        model("mamba2-370m", 4e3, B=256, context=2048, **step),
    ]
    fast = builder.row("fused_chunked", 90.0, **ssd, **LONG)
    slow = builder.row("fused_chunked", 360.0, **ssd, **LONG)
    builder.write(data / "h200.json", [*rows(), slow, *models])
    said = table_of(data, "answer")
    assert "less of this is left in prefill, more in generation" in said
    assert "`based-360m` 100.0, `mamba2-370m` 150.0 ms, up to 1.5 times" in said
    assert "up to 4.0 times" in said
    builder.write(data / "h200.json", [*rows(), fast])
    assert "Mamba-2 is the fastest at B = 16, N = 8192**" in table_of(data, "answer")


def test_limits_name_what_is_faster_and_what_the_power_cap_costs(data):
    lost = builder.row("chunked_parallel", 50.0, B=16, N=1024)
    steady = builder.row("based", 300.0, B=16, N=4096, counters={"burst_us": 200.0})
    builder.write(data / "h200.json", [*rows(), lost, steady])
    said = table_of(data, "limits")
    assert "Ours is not the fastest at 1 of" in said
    assert "2.00 times as fast" in said
    assert "by up to 50 % (`prefill/based/cuda/B:16/H:16/N:4096`)" in said


def test_attention_has_a_line_a_form_and_shape_and_says_what_a_form_costs(data):
    at = {"operation": "attention", "B": 4, "N": 2048}
    causal, full = {"Dh": 64, "causal": 1}, {"Dh": 128, "causal": 0}
    ours = [
        builder.row("forward_sm90", 100.0, **at, **causal),
        builder.row("forward_sm90", 250.0, **at, **full),
        builder.row(
            "forward_sm90", 150.0, counters={"redone": 1024.0}, inputs="sink", **at, **causal
        ),
        builder.row("forward_sm90", 20.0, W=128, **at, **causal),
        builder.row("forward_sm90", 70.0, Hkv=8, **at | {"H": 64}, **causal),
        builder.row("forward_sm90", 60.0, variant="blocks_192", **at, **causal),
        builder.row("softmax_attention", 90.0, **at, **causal),
    ]
    builder.write(data / "h200.json", [*rows(), *ours])
    theirs = [builder.row("torch_sdpa_cudnn", 140.0, **at, **causal)]
    theirs += [builder.row("torch_sdpa_cudnn", 15.0, W=128, **at, **causal)]
    builder.write(data / "originals_h200.json", [*originals(), *theirs])
    table = table_of(data, "attention")
    own, baseline, cudnn = (
        cells(table, "heads, mask").index(f"`{name}`")
        for name in ("forward_sm90", "softmax_attention", "torch_sdpa_cudnn")
    )
    line = cells(table, "64, causal", "4, 2048")
    assert [line[own], line[baseline], line[cudnn], line[-1]] == [
        "100.0",
        "**90.00**",
        "140.0",
        "1.40×",
    ]
    line = cells(table, "128, full", "4, 2048")
    assert [line[own], line[cudnn], line[-1]] == ["250.0", "–", "–"]
    forms = table_of(data, "attention forms")
    place = ["`forward_sm90`", "B = 4, H = 16, N = 2048", "64, causal"]
    assert cells(forms, *place, "inputs sink")[4:] == ["150.0", "1.50×", "–", "1.7e-03", "1020"]
    assert cells(forms, *place, "window 128")[4:7] == ["20.00", "0.20×", "**15.00**, cuDNN"]
    assert cells(forms, place[0], "B = 4, H = 64, N = 2048")[3:6] == ["key heads 8", "70.00", "–"]
    assert "variant" not in forms


def test_headline_says_where_ours_is_not_the_fastest(data):
    # Prefill at B = 16, decode and the sliding window.
    assert "Ours is the fastest at each of the 3 shapes" in table_of(data, "headline")
    faster = [builder.row("thunderkittens_based", 90.0, **LONG), *originals()[1:]]
    builder.write(data / "originals_h200.json", faster)
    table = table_of(data, "headline")
    assert "Ours is not the fastest at 1 of 3 shapes" in table
    assert "Based, ThunderKittens is 2.00 times as fast" in table


def test_an_original_of_the_suites_own_file_comes_before_its_run_elsewhere(data):
    peers = [builder.row("thunderkittens_based", 500.0, **LONG), builder.row("mamba2", 7.0, N=7)]
    builder.write(data / "peers_h200.json", peers)
    assert cells(table_of(data, "headline"), "B = 16, N = 8192")[2] == "540.0"
    builder.write(data / "originals_h200.json", originals()[1:])
    assert cells(table_of(data, "headline"), "B = 16, N = 8192")[2] == "500.0"


def test_prefill_has_all_kernels_of_ours(data):
    table = table_of(data, "prefill")
    assert cells(table, "`based`", "16, 8192")[2:] == [
        "180.0",
        "90.0",
        "50 %",
        "200.0",
        "540.0",
        "3800",
        "1800",
        "4300",
        "7000",
        "3.00×",
    ]
    assert cells(table, "`based_sm80`", "16, 8192")[2] == "300.0"
    assert cells(table, "`based`", "16, 1024")[-1] == "–"


def test_an_original_out_of_memory_says_so(data):
    full = builder.row("mamba2", operation="ssd", status="out_of_memory", N=8192, Dh=64)
    builder.write(data / "originals_h200.json", [full])
    assert cells(table_of(data, "headline"), "B = 16, N = 8192")[4] == "out of memory"


def test_options_beside_none(data):
    every = "final_state+initial_state+normalize"
    times = (
        ({}, 200.0, 180.0),
        ({"options": "normalize"}, 220.0, 189.0),
        ({"options": every}, 240.0, 216.0),
    )
    timed = [
        builder.row("based", us, N=8192, counters={"burst_us": burst}, **options)
        for options, us, burst in times
    ]
    builder.write(data / "h200.json", timed)
    assert cells(table_of(data, "options"), "`based`", "16, 8192")[2:] == [
        "180.0",
        "189.0, +5 %",
        "216.0, +20 %",
        "200.0",
        "220.0, +10 %",
        "240.0, +20 %",
    ]


def test_baselines_beside_the_originals_that_they_name(data):
    table = table_of(data, "baselines")
    softmax = cells(table, "`softmax_attention`", "`torch_sdpa_flash2`")
    assert softmax[2:6] == ["B = 16, N = 8192", "7000", "7350", "0.95"]
    parallel = cells(table, "`chunked_parallel`", "`fla_parallel_based`")
    assert parallel[3:6] == ["4000", "5600", "0.71"]
    assert "`naive`" not in table  # it has no time
    document = json.loads((data / "h200.json").read_text())
    for row in document["benchmarks"]:
        row["reimplements"] = []
    (data / "h200.json").write_text(json.dumps(document))
    assert "`chunked_parallel`" not in table_of(data, "baselines")


def test_steps_beside_every_other(data):
    table = table_of(data, "decode")
    assert cells(table, "256", "bf16")[2:] == ["60.00", "30.0", "50 %", "240.0", "4.00×"]
    assert cells(table, "256", "f32")[2:] == ["100.0", "50.0", "50 %", "–", "–"]
    table = table_of(data, "sliding window")
    assert cells(table, "256, 64")[1:] == ["20.00", "10.0", "50 %", "40.00", "50.00", "2.00×"]


def test_audit_of_the_profiled_rows(data):
    (data / "h200_audit.json").write_text(json.dumps(AUDIT))
    table = table_of(data, "audit")
    assert cells(table, "`prefill/based/cuda/B:16/H:16/N:8192`")[1:] == [
        "tensor cores",
        "107",
        "1.00",
        "654",
        "0.97",
        "60 %",
        "73 %",
        "65 %",
    ]
    naive = cells(table, "`decode/naive/cuda/B:256/H:16/state:bf16`")
    assert naive[1:] == ["–", "–", "–", "250", "–", "–", "–", "–"]
    assert table.endswith("–: not measured. Some GPU · 2030-01-02 · revision abc.")


def test_without_an_audit_its_table_says_so(data):
    text = readme.rewritten(AUDITED, tables.load(data), "README.md")
    assert text == AUDITED.replace("-->\n<!--", f"-->\n{tables.NOT_MEASURED}\n<!--")


def test_a_foreign_audit_is_refused(data):
    (data / "h200_audit.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(UsageError, match="is no audit"):
        tables.load(data)


def test_only_the_tables_change(data):
    measured = tables.load(data)
    text = readme.rewritten(README, measured, "README.md")
    assert text.startswith("# Title\n\n<!-- table: headline -->\n| shape |")
    assert "\n<!-- end table -->\nbetween | the tables\n<!-- table: decode -->\n" in text
    assert "stale" not in text
    assert readme.rewritten(text, measured, "README.md") == text


def test_without_results_it_says_so():
    text = readme.rewritten(README, None, "README.md")
    assert text.count("-->\nnot measured yet\n<!-- end") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "<!-- table: nonsense -->\n<!-- end table -->\n",
            "there are headline, prefill, baselines",
        ),
        ("<!-- table: decode -->\n", "has no '<!-- end table -->'"),
        ("<!-- table: decode -->\n<!-- table: decode -->\n<!-- end table -->\n", "has no"),
    ],
)
def test_bad_markers_are_refused(text, said):
    with pytest.raises(UsageError, match=said):
        readme.rewritten(text, None, "README.md")


def test_results_of_two_gpus_are_refused(data):
    builder.write(data / "h200_other.json", rows(), gpu_name="Another GPU")
    with pytest.raises(UsageError, match="hold 2 GPUs"):
        tables.load(data)


def test_originals_of_another_card_are_refused(data):
    builder.write(data / "originals_h200.json", originals(), gpu_name="Another GPU")
    with pytest.raises(UsageError, match="expected one kind of card"):
        tables.load(data)


def test_check_compares_and_update_rewrites(data, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text(README + AUDITED)
    command = ["readme", "--data", str(data), str(path)]
    assert cli.main([*command, "--check"]) == 1
    assert path.read_text() == README + AUDITED
    assert str(path) in capsys.readouterr().out
    assert cli.main(command) == 0
    assert cli.main([*command, "--check"]) == 0

    (data / "h200_audit.json").write_text(json.dumps(AUDIT))
    assert cli.main([*command, "--check"]) == 1
    assert cli.main(command) == 0
    document = json.loads((data / "h200.json").read_text())
    document["benchmarks"][0]["burst_us"] = 181.0
    (data / "h200.json").write_text(json.dumps(document))
    assert cli.main([*command, "--check"]) == 1


def test_the_committed_tables_are_those_of_the_committed_results():
    assert cli.main(["readme", "--check"]) == 0


def test_the_committed_tables_would_be_found_stale(tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(published.DATA, folder)
    text = (folder / "h200.json").read_text(encoding="utf-8")
    (folder / "h200.json").write_text(text.replace('"burst_us":', '"burst_us":1'), encoding="utf-8")
    assert cli.main(["readme", "--check", "--data", str(folder)]) == 1
    assert "plots/README.md" in capsys.readouterr().out


def test_the_committed_headline_has_the_files_own_numbers():
    """Read here without the package."""
    times = {}
    # The later file's rows count first.
    for name in ("peers_h200.json", "originals_h200.json", "h200_mixers.json"):
        for row in json.loads((published.DATA / name).read_text(encoding="utf-8"))["benchmarks"]:
            if row["status"] == "ok" and row["role"] == "original":
                times[row["row"]] = row.get("burst_us", row["real_time"])
    table = tables.headline(tables.load())
    for batch, length in ((1, 8192), (16, 8192), (16, 32768)):
        shape = f"cuda/B:{batch}/H:16/N:{length}"
        line = cells(table, f"B = {batch}, N = {length}")
        tk = min(
            times.get(f"prefill/{name}/{shape}", math.inf)
            for name in ("thunderkittens", "thunderkittens_based")
        )
        assert line[2] == style.significant(tk, 4)
        ssd = [t for r, t in times.items() if f"{shape}/P:64/S:256" in r and "ssd/" in r]
        attention = [t for row, t in times.items() if row.endswith(f"{shape}/Dh:64/causal:1")]
        assert len(attention) >= 3
        for column, found in ((4, ssd), (5, attention)):
            assert float(line[column]) <= min(found) * 1.001  # a rewritten one may be faster


def test_a_missing_file_is_bad_usage(tmp_path, capsys):
    assert cli.main(["readme", str(tmp_path / "none.md")]) == 2
    assert "cannot be read" in capsys.readouterr().err
