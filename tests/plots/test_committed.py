"""The committed results: every figure is drawn from them, and every row in them was verified."""

from pathlib import Path

from plots import cli, results

DATA = Path(__file__).parents[2] / "plots" / "data" / "h200.json"


def test_every_figure_is_drawn(tmp_path, capsys):
    files = [str(DATA), str(DATA.with_name("originals_h200.json"))]
    assert cli.main(["render", *files, "--out", str(tmp_path), "--published"]) == 0
    printed = capsys.readouterr()
    assert "not drawn" not in printed.out + printed.err
    for name in cli.figure_names():
        for suffix in ("png", "svg"):
            assert (tmp_path / f"{name}-cuda.{suffix}").stat().st_size > 0


def test_every_row_is_within_its_tolerance():
    rows = results.load(DATA).rows
    timed = rows[rows["status"].eq("ok")]
    assert not timed.empty
    assert timed["rel_err"].le(timed["tolerance"]).all()
    assert not rows["status"].eq("error").any()


def test_based_prefill_is_within_a_tighter_bound_on_these_inputs():
    rows = results.load(DATA).rows
    ours = rows[rows["operation"].eq("prefill") & rows["implementation"].str.startswith("based")]
    assert ours["rel_err"].dropna().le(2.5e-3).all()
