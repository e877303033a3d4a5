"""The READMEs' measured tables: what a cell says, and that nothing else is touched."""

import json
import math
import shutil

import builder
import pytest

from plots import cli, published, readme, readme_tables, style
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


def rows():
    long = {"B": 16, "N": 8192}
    return [
        builder.row("based", 200.0, **long),
        builder.row("based", 100.0, N=1024, counters={"near_timer_floor": 1}),
        builder.row("based", 90.0, B=8, N=8192) | {"throttle_reasons": "power cap"},
        builder.row("based", 50.0, B=1, N=8192, options="normalize"),  # another row: no option here
        builder.row("based", B=1, N=131072, status="error", reason="too | wrong"),
        builder.row("naive", status="out_of_memory", reason="needs 140 GiB", **long),
        builder.row("softmax_attention", 7000.0, Dh=64, causal=1, **long),
        builder.row("softmax_attention", 9000.0, Dh=128, causal=1, **long),
        builder.row("based", 60.0, operation="decode", B=256, state="bf16"),
        builder.row("based", 120.0, operation="decode", B=256, H=32, state="bf16"),  # not 16 heads
        builder.row("based", 100.0, operation="decode", B=256, state="f32"),
        builder.row("based", 20.0, operation="sliding_window", B=256, W=64),
        builder.row("based", 9.0, device="cpu", **long),
    ]


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


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(published.DATA / "peers_h200.json", folder)
    builder.write(folder / "h200.json", rows())
    suite_rows(folder, builder.row("mamba2", 30.0, N=64, Dh=64, d_state=256))  # in no table
    return folder


def suite_rows(folder, *found):
    """Write what scripts/peers measured: these rows."""
    builder.write(folder / "originals_h200.json", list(found))


def peer_rows(folder, *found):
    """Write the originals' runs of their own: these rows, with the committed file's context."""
    path = folder / "peers_h200.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"rows": list(found)}))


def peer_row(implementation, seqlen, **others):
    found = {"operation": "prefill", "implementation": implementation, "batch": 16, "heads": 16}
    return found | {"seqlen": seqlen} | others


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


def test_headline_stands_beside_the_fastest_original(data):
    table = readme_tables.headline(readme_tables.load(data))
    assert cells(table, "`based`", "16", "8192")[3:] == [
        "200.0",
        "100",
        "50 %",
        "531.2",
        "5229",  # the fused chunk; the parallel form takes 5683
        "1800",
        "5156",
        "4675",  # cuDNN, causal, head dimension 64
        "2.66×",
    ]


def test_headline_takes_each_peer_from_the_file_where_it_is_faster(data):
    peer_rows(
        data,
        peer_row("fla_parallel_based", 1024, cold_us=224.0),
        peer_row("fla_parallel_based", 8192, cold_us=5600.0),
        peer_row("mamba2_ssd_triton", 1024, head_dim=64, d_state=256, chunk=256, cold_us=466.0),
        peer_row("mamba2_ssd_triton", 1024, head_dim=128, d_state=256, chunk=64, cold_us=99.0),
    )
    suite_rows(
        data,
        builder.row("fla_parallel_based", 226.0, N=1024),
        builder.row("fla_fused_chunk_based", 5213.0, N=8192),
        builder.row("mamba2", 225.0, N=1024, Dh=64, d_state=256, chunk=256),
        builder.row("mamba", 534.0, N=1024, d_inner=2048, d_state=16),
        builder.row("flash_attention_2", 160.0, N=1024, Dh=64, causal=1),
    )
    table = readme_tables.headline(readme_tables.load(data))
    peers = ["TK", "FLA", "Mamba-2", "Mamba", "FlashAttention"]
    assert cells(table, "kernel")[6:11] == peers
    assert cells(table, "`based`", "16", "1024")[6:11] == [
        "–",  # in neither file
        "224.0",
        "225.0‡",  # heads of 64 only, as the legend says
        "534.0‡",
        "160.0‡",
    ]
    assert cells(table, "`based`", "16", "8192")[6:11] == ["–", "5213‡", "–", "–", "–"]
    assert "Mamba-2: `mamba2` with Dh = 64, d_state = 256." in table


def test_headline_says_where_a_peer_ran_out_of_memory(data):
    suite_rows(
        data,
        builder.row("fla_parallel_based", N=8192, B=1, status="out_of_memory", reason="60 GiB"),
        builder.row("mamba", N=8192, B=8, d_inner=2048, d_state=16, status="error", reason="lost"),
    )
    peer_rows(data, peer_row("fla_fused_chunk_based", 1024, skipped="out of memory"))
    table = readme_tables.headline(readme_tables.load(data))
    assert cells(table, "`based`", "1", "8192")[7] == "OOM"
    assert cells(table, "`based`", "16", "1024")[7] == "OOM"
    assert cells(table, "`based`", "8", "8192")[9] == "– (error: lost)"
    assert "OOM: out of memory." in table
    peer_rows(data)
    suite_rows(data, builder.row("mamba", 1.0, N=64, d_inner=2048, d_state=16))
    assert "OOM" not in readme_tables.headline(readme_tables.load(data))


def test_the_legend_says_where_the_originals_are_from(data):
    document = json.loads((data / "peers_h200.json").read_text())
    document |= {"device": "Their GPU", "date": "2031-02-03", "method": "median of 7, with events"}
    (data / "peers_h200.json").write_text(json.dumps(document))
    for table in ("headline", "baselines", "decode"):
        text = readme_tables.TABLES[table](readme_tables.load(data))
        assert "peers_h200.json (Their GPU · 2031-02-03 · cold cache · median of 7)" in text
        assert (
            "‡ from originals_h200.json "
            "(Synthetic GPU · 2030-01-02 · cold cache · revision 0000000 · scripts/peers, " in text
        )


def test_headline_names_what_is_missing(data):
    table = readme_tables.headline(readme_tables.load(data))
    assert cells(table, "`based`", "16", "1024")[3] == "100.0\\*"
    assert cells(table, "`based`", "8", "8192")[3] == "90.00†"
    assert "†: the driver held the clock down." in table
    wrong = next(line for line in table.splitlines() if "| 131072 |" in line)
    assert "– (error: too \\| wrong)" in wrong
    assert cells(table, "`based`", "1", "8192")[3] == "–"
    assert cells(table, "`based`", "1", "8192")[-1] == "–"
    assert cells(table, "`based_sm80`", "16", "8192")[3:7] == ["–", "–", "–", "531.2"]
    assert "–: not measured." in table


def before_origin(table):
    """A table and its legend up to where the originals are from, which names their bursts."""
    before, found, _ = table.partition("; originals: ")
    assert found
    return before


def test_headline_shows_the_burst_beside_the_steady_state(data):
    measured = readme_tables.load(data)
    plain = readme_tables.headline(measured)
    assert "burst" not in before_origin(plain)
    held_down = builder.row("based", 200.0, B=16, N=8192, counters={"burst_us": 180.0})
    builder.write(data / "h200.json", [held_down, *rows()[1:]])
    table = readme_tables.headline(readme_tables.load(data))
    assert cells(table, "kernel")[3:6] == ["µs", "burst µs", "floor µs"]
    assert cells(table, "`based`", "16", "8192")[3:6] == ["200.0", "180.0", "100"]
    assert cells(table, "`based`", "16", "8192")[-1] == "2.66×"  # the steady state's
    assert cells(table, "`based`", "16", "1024")[4] == "–"  # not held down
    assert cells(table, "`based`", "1", "131072")[4] == "–"  # an error
    assert "burst µs: in 11 launches after a rest" in table
    decode = readme_tables.decode(readme_tables.load(data))
    assert all("burst" not in before_origin(part) for part in decode.split("\n\nSliding window:"))


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
    table = readme_tables.options(readme_tables.load(data))
    assert cells(table, "`based`", "16", "8192")[3:] == [
        "180.0",
        "189.0, +5 %",
        "216.0, +20 %",
        "200.0",
        "220.0, +10 %",
        "240.0, +20 %",
    ]
    assert cells(table, "`based`", "8", "8192")[3:] == ["–"] * 6


def test_baselines_beside_their_originals(data):
    table = readme_tables.baselines(readme_tables.load(data))
    naive = cells(table, "`naive`", "`pytorch_naive`", "B = 16, N = 8192")
    assert naive[3:6] == ["OOM", "OOM", "–"]
    assert "OOM: out of memory." in table
    softmax = cells(table, "`softmax_attention`")
    assert softmax[3:6] == ["7000", "7364", "0.95"]
    assert cells(table, "`causal_dot_product`")[4:10:5] == ["45090", "9.2e-06"]


def test_baselines_and_decode_take_the_faster_file_too(data):
    suite_rows(
        data,
        builder.row("torch_sdpa_flash2", 7000.0, N=8192, Dh=64, causal=1),
        builder.row("torch_bmm", 305.0, operation="decode", B=256, state="bf16"),
        builder.row("torch_sdpa", 30.0, operation="sliding_window", B=256, W=64),
    )
    measured = readme_tables.load(data)
    softmax = cells(readme_tables.baselines(measured), "`softmax_attention`")
    assert softmax[3:6] == ["7000", "7000‡", "1.00"]
    assert softmax[-1] == "1.7e-03"  # of the same row
    table = readme_tables.decode(measured)
    assert cells(table, "256", "bf16")[5] == "238.1"
    assert cells(table, "256", "64")[5:] == ["41.30", "30.00‡", "1.50×"]


def test_decode_beside_pytorch(data):
    table = readme_tables.decode(readme_tables.load(data))
    assert cells(table, "256", "bf16")[2:] == ["60.00", "30.0", "50 %", "238.1", "3.97×"]
    assert cells(table, "256", "f32")[2:] == ["100.0", "50.0", "50 %", "–", "–"]
    assert cells(table, "256", "64")[2:] == ["20.00", "10.0", "50 %", "41.30", "39.50", "1.98×"]
    assert cells(table, "32", "64")[2:] == ["–"] * 6


def test_audit_of_the_profiled_rows(data):
    (data / "h200_audit.json").write_text(json.dumps(AUDIT))
    table = readme_tables.audit(readme_tables.load(data))
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
    text = readme.rewritten(AUDITED, readme_tables.load(data), "README.md")
    assert text == AUDITED.replace("-->\n<!--", f"-->\n{readme_tables.NOT_MEASURED}\n<!--")


def test_check_covers_the_audit(data, tmp_path):
    (data / "h200_audit.json").write_text(json.dumps(AUDIT))
    path = tmp_path / "README.md"
    path.write_text(AUDITED)
    command = ["readme", "--data", str(data), str(path)]
    assert cli.main([*command, "--check"]) == 1
    assert cli.main(command) == 0
    assert cli.main([*command, "--check"]) == 0
    (data / "h200_audit.json").write_text(json.dumps(AUDIT | {"date": "2031-01-02"}))
    assert cli.main([*command, "--check"]) == 1


def test_a_foreign_audit_is_refused(data):
    (data / "h200_audit.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(UsageError, match="is no audit"):
        readme_tables.load(data)


def test_only_the_tables_change(data):
    measured = readme_tables.load(data)
    text = readme.rewritten(README, measured, "README.md")
    assert text.startswith("# Title\n\n<!-- table: headline -->\n| kernel |")
    assert "\n<!-- end table -->\nbetween | the tables\n<!-- table: decode -->\n" in text
    assert "stale" not in text
    assert readme.rewritten(text, measured, "README.md") == text


def test_without_results_it_says_so():
    text = readme.rewritten(README, None, "README.md")
    assert text.count("-->\nnot measured yet\n<!-- end") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- table: nonsense -->\n<!-- end table -->\n", "there are headline, baselines, decode"),
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
        readme_tables.load(data)


def test_check_compares_and_update_rewrites(data, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text(README)
    command = ["readme", "--data", str(data), str(path)]
    assert cli.main([*command, "--check"]) == 1
    assert path.read_text() == README
    assert str(path) in capsys.readouterr().out
    assert cli.main(command) == 0
    assert cli.main([*command, "--check"]) == 0

    document = json.loads((data / "h200.json").read_text())
    document["benchmarks"][0]["real_time"] = 201.0
    (data / "h200.json").write_text(json.dumps(document))
    assert cli.main([*command, "--check"]) == 1


def test_the_committed_tables_are_those_of_the_committed_results():
    assert cli.main(["readme", "--check"]) == 0


# A peer's column -> its names in both files, and the head dimension of what stands there.
COMMITTED = {
    "TK": (("thunderkittens_based",), None),
    "FLA": (("fla_parallel_based", "fla_fused_chunk_based"), None),
    "Mamba-2": (("mamba2", "mamba2_ssd_triton"), 64),
    "Mamba": (("mamba", "mamba_selective_scan"), None),
    "FlashAttention": (("torch_sdpa_flash2", "torch_sdpa_cudnn", "flash_attention_2"), 64),
}


def committed_times():
    """(implementation, head dimension, (B, N)) -> the least time in the committed files, in µs and
    with a cold L2, read here without the package."""
    least = {}

    def add(key, *times):
        least[key] = min([*times, least.get(key, math.inf)])

    for row in json.loads((published.DATA / "peers_h200.json").read_text())["rows"]:
        if "seqlen" in row and "cold_us" in row and row.get("causal", True):
            shape = (row["batch"], row["seqlen"])
            add((row["implementation"], row.get("head_dim"), shape), row["cold_us"])
    for row in json.loads((published.DATA / "originals_h200.json").read_text())["benchmarks"]:
        params = row["params"]
        if row["operation"] == "prefill" and row["status"] == "ok" and params.get("causal", 1):
            times = (row["real_time"], row.get("burst_us", math.inf))
            shape = (params["B"], params["N"])
            add((row["implementation"], params.get("Dh"), shape), *times)
    return least


def test_no_committed_time_of_a_peer_is_faster_than_the_headline():
    table = readme_tables.headline(readme_tables.load())
    header, _, *lines = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    times = committed_times()
    absent = 0
    for line in lines:
        found = dict(zip(header, line, strict=True))
        shape = (int(found["B"]), int(found["N"]))
        for column, (names, head_dim) in COMMITTED.items():
            fastest = min(times.get((name, head_dim, shape), math.inf) for name in names)
            absent += math.isinf(fastest)
            wanted = "–" if math.isinf(fastest) else style.significant(fastest, 4)
            assert found[column].removesuffix("‡") == wanted, (column, shape)
    assert absent < len(lines) * len(COMMITTED) / 2


def test_mamba2_is_slower_with_head_dim_128_as_the_readme_says():
    least = {}
    for (name, head_dim, shape), time in committed_times().items():
        if name in COMMITTED["Mamba-2"][0]:
            least[head_dim, shape] = min(time, least.get((head_dim, shape), math.inf))
    wide = {shape for head_dim, shape in least if head_dim == 128}
    assert len(wide) > 20
    assert all(least[64, shape] < least[128, shape] for shape in wide)


def test_a_missing_file_is_bad_usage(tmp_path, capsys):
    assert cli.main(["readme", str(tmp_path / "none.md")]) == 2
    assert "cannot be read" in capsys.readouterr().err
