"""The READMEs' measured tables: what a cell says, and that nothing else is touched."""

import json
import shutil

import builder
import pytest

from plots import cli, published, readme, readme_tables
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


def test_headline_shows_the_burst_beside_the_steady_state(data):
    measured = readme_tables.load(data)
    plain = readme_tables.headline(measured)
    assert "burst" not in plain
    held_down = builder.row("based", 200.0, B=16, N=8192, counters={"burst_us": 180.0})
    builder.write(data / "h200.json", [held_down, *rows()[1:]])
    table = readme_tables.headline(readme_tables.load(data))
    assert cells(table, "kernel")[3:6] == ["µs", "burst µs", "floor µs"]
    assert cells(table, "`based`", "16", "8192")[3:6] == ["200.0", "180.0", "100"]
    assert cells(table, "`based`", "16", "8192")[-1] == "2.66×"  # the steady state's
    assert cells(table, "`based`", "16", "1024")[4] == "–"  # not held down
    assert cells(table, "`based`", "1", "131072")[4] == "–"  # an error
    assert "burst µs: in 11 launches after a rest" in table
    assert "burst" not in readme_tables.decode(readme_tables.load(data))


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
    assert naive[3:6] == ["– (out of memory)", "– (out of memory)", "–"]
    softmax = cells(table, "`softmax_attention`")
    assert softmax[3:6] == ["7000", "7364", "0.95"]
    assert cells(table, "`causal_dot_product`")[4:10:5] == ["45090", "9.2e-06"]


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


def test_a_missing_file_is_bad_usage(tmp_path, capsys):
    assert cli.main(["readme", str(tmp_path / "none.md")]) == 2
    assert "cannot be read" in capsys.readouterr().err
