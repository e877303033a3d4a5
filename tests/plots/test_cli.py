"""The command line: exit codes, messages, and what it leaves behind."""

from pathlib import Path

import builder
import pytest

import plots
from plots.cli import figure_names, main


@pytest.fixture
def good(tmp_path):
    return builder.write(tmp_path / "good.json", builder.sweep(batches=(1, 4), lengths=(256, 512)))


def fails(capsys, *arguments):
    """Runs a command that must fail as bad usage; its message, one line."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    return message


def test_render_writes_png_and_svg_and_nothing_else(tmp_path, good, capsys):
    out = tmp_path / "out"
    assert main(["render", str(good), "--out", str(out), "--figure", "prefill_time_batch"]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"prefill_time_batch-cuda.png", "prefill_time_batch-cuda.svg"}
    assert (out / "prefill_time_batch-cuda.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "prefill_time_batch-cuda.svg").read_text()
    assert str(out / "prefill_time_batch-cuda.png") in capsys.readouterr().out


def test_the_same_results_give_the_same_svg_and_others_another(tmp_path, good):
    other = builder.sweep(batches=(1, 4), lengths=(256, 512))
    for row in other:
        row["real_time"] *= 1.5
    changed = builder.write(tmp_path / "other.json", other)
    texts = []
    for number, path in enumerate((good, good, changed)):
        out = tmp_path / str(number)
        main(["render", str(path), "--out", str(out), "--figure", "prefill_time_batch"])
        texts.append((out / "prefill_time_batch-cuda.svg").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_figure_that_cannot_be_drawn_is_named_with_its_reason(tmp_path, capsys):
    path = builder.write(tmp_path / "one.json", [builder.row(N=64)])
    assert main(["render", str(path), "--out", str(tmp_path / "out")]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not drawn")]
    assert len(told) == len(figure_names()) - 2  # the roofline and the energy need one row only
    assert any("decode_time_batch-cuda: the file has no rows of Based decode" in t for t in told)


def test_an_unknown_figure(tmp_path, good, capsys):
    message = fails(capsys, "render", good, "--out", tmp_path / "out", "--figure", "pie")
    assert "pie" in message
    assert "roofline" in message
    assert not (tmp_path / "out").exists()


def test_a_truncated_file(tmp_path, good, capsys):
    good.write_text(good.read_text()[:1000])
    assert str(good) in fails(capsys, "render", good, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    fails(capsys, "table", good)
    fails(capsys, "compare", good, good)


def test_a_folder_that_cannot_be_made(tmp_path, good, capsys):
    assert "parent folder" in fails(capsys, "render", good, "--out", tmp_path / "no" / "out")
    assert "is a file" in fails(capsys, "render", good, "--out", good)


def test_a_failed_write_leaves_nothing(tmp_path, good, capsys, monkeypatch):
    def full(self, content):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    out = tmp_path / "out"
    assert "No space left" in fails(capsys, "render", good, "--out", out, "--figure", "roofline")
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["paint"], "paint"),
        (["render"], "RESULTS.json"),
        (["render", "none.json", "--out", "."], "none.json"),
        (["compare", "a.json", "b.json", "--threshold", "-1"], "-1"),
        (["compare", "a.json", "b.json", "--threshold", "much"], "much"),
    ],
)
def test_bad_usage(capsys, arguments, says):
    assert says in fails(capsys, *arguments)


def test_table_has_a_line_for_every_row(tmp_path, capsys):
    rows = [
        builder.row("based", 203.5, N=8192) | {"throttle_reasons": "power cap"},
        builder.row("naive", N=8192, status="out_of_memory", reason="needs 71 GiB | has 4"),
    ]
    path = builder.write(tmp_path / "r.json", rows)
    assert main(["table", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (based,) = [line for line in lines if "| based |" in line]
    for text in (
        "B=16 H=16 N=8192",
        "204 µs",
        "50 %",
        "1.7e-03",
        "| ok (throttled: power cap) |",
    ):
        assert text in based
    (naive,) = [line for line in lines if "| naive |" in line]
    assert "out of memory: needs 71 GiB \\| has 4" in naive
    assert "| 0" not in naive


def test_table_to_a_file(tmp_path, good):
    assert main(["table", str(good), "--out", str(tmp_path / "summary.md")]) == 0
    assert (tmp_path / "summary.md").read_text().startswith("## Synthetic GPU")


@pytest.fixture
def cards(tmp_path):
    """Results files of two cards, the second twice as slow."""
    rows = builder.sweep(batches=(1, 4), lengths=(256, 512))
    slow = [row | {"real_time": row["real_time"] * 2} for row in rows]
    return [
        str(builder.write(tmp_path / f"{name}.json", found, gpu_name=f"NVIDIA {name}"))
        for name, found in (("One", rows), ("Two", slow))
    ]


def test_cards_are_compared_in_one_figure_and_a_table_of_ratios(tmp_path, cards, capsys):
    out = tmp_path / "out"
    only = ["--figure", "prefill_time_batch"]
    assert main(["render", *cards, "--device", "--out", str(out), *only]) == 0
    assert {path.name for path in out.iterdir()} == {
        "prefill_time_batch-cuda.png",
        "prefill_time_batch-cuda.svg",
    }
    capsys.readouterr()
    assert main(["table", *cards, "--device"]) == 0
    header, rule, *lines = capsys.readouterr().out.splitlines()
    assert header == "| row | NVIDIA One | NVIDIA Two | ratio |"
    assert rule == "| --- | ---: | ---: | ---: |"
    assert len(lines) > 20
    assert all(line.endswith("| 2.00 |") for line in lines)


def test_one_card_is_no_comparison(good, tmp_path, capsys):
    said = fails(capsys, "render", good, "--device", "--out", tmp_path / "out")
    assert "all rows are of Synthetic GPU" in said


def test_compare_exits_with_its_verdict(tmp_path, capsys):
    a = str(builder.write(tmp_path / "a.json", [builder.row(time_us=100.0, N=64)]))
    b = str(builder.write(tmp_path / "b.json", [builder.row(time_us=120.0, N=64)]))
    assert main(["compare", a, a]) == 0
    assert "1 SAME" in capsys.readouterr().out
    assert main(["compare", a, b]) == 1
    assert "SLOWER" in capsys.readouterr().out
    assert main(["compare", a, b, "--threshold", "50"]) == 0
    assert main(["compare", b, a]) == 0
    other = builder.write(tmp_path / "c.json", [builder.row(N=64)], gpu_name="Other GPU")
    assert "Other GPU" in fails(capsys, "compare", a, other)
    assert main(["compare", a, str(other), "--force"]) == 0


def test_a_figure_costs_one_file(tmp_path, good, capsys, monkeypatch):
    (tmp_path / "figure_mine.py").write_text(
        '"""Mine."""\n'
        "from plots.axes import TIME\n"
        "from plots.curves import Curves\n"
        "ORDER = 1\n"
        'figure = Curves("How long does mine take?", "N", TIME, ("prefill",))\n'
    )
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path)])
    assert figure_names()[0] == "mine"
    assert main(["render", str(good), "--out", str(tmp_path), "--figure", "mine"]) == 0
    svg = (tmp_path / "mine-cuda.svg").read_text(encoding="utf-8")
    assert "How long does mine take?" in svg


@pytest.mark.parametrize("command", ["table", "merge"])
def test_an_input_is_not_overwritten(tmp_path, good, capsys, command):
    before = good.read_bytes()
    link = tmp_path / "link.json"
    link.symlink_to(good)
    for out in (good, link):
        message = fails(capsys, command, good, "--out", out)
        assert "is one of the results to read" in message
        assert good.read_bytes() == before


def test_readme_of_a_missing_folder_writes_nothing(tmp_path, capsys):
    readme = tmp_path / "README.md"
    text = "<!-- table: headline -->\nkept\n<!-- end table -->\n"
    readme.write_text(text)
    assert "/nope: is no folder" in fails(capsys, "readme", "--data", "/nope", readme)
    assert readme.read_text() == text


def test_a_profiled_row_has_no_time_and_its_reason(tmp_path, capsys):
    rows = builder.sweep(batches=(1, 4), lengths=(256, 512))
    rows[0] |= {"status": "profiled", "reason": "profiled, not timed", "real_time": 0}
    path = builder.write(tmp_path / "profiled.json", rows)
    assert main(["table", str(path)]) == 0
    assert "profiled: profiled, not timed" in capsys.readouterr().out
