"""Input that nobody means: figures, or one clear line, never a traceback; and UTF-8 in any case."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import builder
import pytest

from plots.cli import main

ROOT = Path(__file__).parents[2]
FIGURE = ["--figure", "prefill_time_batch", "--figure", "roofline"]


def document(*changes, **context):
    """A results file's text: a small sweep, its first rows changed."""
    rows = [builder.row("based", 10.0 * b, B=b, N=64) for b in (1, 2, 4)]
    rows += [builder.row("naive", 30.0 * b, B=b, N=64) for b in (1, 2, 4)]
    for row, change in zip(rows, changes, strict=False):
        row |= change
    return json.dumps(builder.document(rows, **context))


def nested(depth):
    return document().replace('"samples": 25', '"samples": ' + "[" * depth + "]" * depth, 1)


def runs(tmp_path, text, capsys):
    """Everything that reads the file, on it: (exit statuses, what was said on stderr)."""
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out = tmp_path / "out"
    statuses = [
        main(["render", str(path), "--out", str(out), "--published", *FIGURE]),
        main(["table", str(path), "--out", str(tmp_path / "table.md")]),
        main(["report", str(path), "--out", str(out), "--published"]),
        main(["compare", str(path), str(path)]),
    ]
    return statuses, capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (document({"real_time": math.inf}), "real_time is inf"),
        (document({"real_time": 1e300}), "real_time is 1e+300"),
        (document({"real_time": math.nan}), "real_time is nan"),
        (document({"real_time": 10**400}), "real_time is 1000"),
        (document({"real_time": -1}), "real_time is -1"),
        (document({"mem_MiB": math.inf}), "mem_MiB is inf"),
        (document({"mem_MiB": 10**400}), "mem_MiB is 1000"),
        (document({"roofline_pct": 1e300}), "roofline_pct is 1e+300"),
        (document({"burst_us": math.inf}), "burst_us is inf"),
        (document({"samples_us": [1.0, math.inf]}), "samples_us"),
        (document({"samples_us": [10**400]}), "samples_us"),
        (document({"params": {"B": math.inf, "H": 1}}), "B is inf"),
        (document({"params": {"B": 10**400, "H": 1}}), "B is 1000"),
        (document({"params": {"B": math.nan, "H": 1}}), "B is nan"),
        (document({"params": {"B": 1, "H": 1, "Dh": [64]}}), "its param Dh is [64]"),
        (document({"status": {}}), "status is {}"),
        (document({"device": []}), "device"),
        (document({"time_unit": []}), "time_unit is []"),
        (document(gpu_copy_GBps="inf"), "gpu_copy_GBps is 'inf'"),
        (document(gpu_copy_GBps=10**400), "gpu_copy_GBps is 1000"),
        (document(gpu_gemm_TFLOPs="1e300"), "gpu_gemm_TFLOPs is '1e300'"),
        (document(gpu_name=[1]), "no gpu_name"),
        (document().replace('"H": 16', f'"H": {"9" * 5000}'), "a number that is too long"),
        (nested(100_000), "nested too deeply"),
        (document().encode("utf-16"), "is no text"),
        (document().encode() + b"\xff", "is no text"),
        (document()[:-30], "no complete JSON"),
    ],
)
def test_one_clear_line(tmp_path, capsys, text, says):
    statuses, said = runs(tmp_path, text, capsys)
    assert statuses == [2, 2, 2, 2]
    lines = said.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1
    assert lines[0].startswith("plots: ")
    assert "r.json" in lines[0]
    assert says in lines[0]
    assert len(lines[0]) < 400


HOSTILE = "quote\" ' <b> & | $x^2$ \\ ` {{}} % \t\n\u2028 \ud800 ü 速 " + "x" * 500


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + document(),
        document().replace(", ", ",\r\n"),
        document({"params": {"B": 1, "H": 16, "N": 64, "state": HOSTILE}}),
        document(*[{"implementation": HOSTILE}] * 3),
        document(*[{"operation": HOSTILE}] * 3),
        document(*[{"implementation": name} for name in ("a.b[0]", "datum", "'")]),
        document({"status": "error", "reason": HOSTILE}),
        document(*[{"reimplements": [HOSTILE], "role": "baseline"}] * 3),
        document(*[{"label": HOSTILE, "throttle_reasons": HOSTILE}] * 3),
        document(gpu_name=HOSTILE, host_name=HOSTILE, revision=HOSTILE, date=HOSTILE),
        document(**{HOSTILE: HOSTILE}),
        document({"a_counter": math.inf, "another": 10**400, "rel_err": math.nan}),
        document({"real_time": 1e-9}),
        document({"real_time": 1e14}),
        nested(50),
        json.dumps(builder.document([builder.row(N=64)])),
        json.dumps(builder.document([builder.row(N=64) | {"role": "original"}])),
        json.dumps(
            builder.document(
                [builder.row(N=n, status="skipped", reason="too long") for n in (64, 128)]
            )
        ),
    ],
)
def test_figures_or_why_there_are_none(tmp_path, capsys, text):
    statuses, said = runs(tmp_path, text, capsys)
    assert statuses == [0, 0, 0, 0]
    assert said == ""
    for path in [*(tmp_path / "out").iterdir(), tmp_path / "table.md"]:
        if path.suffix != ".png":
            written = path.read_text(encoding="utf-8")
            assert written.strip()
            assert "<b>" not in written


def test_names_of_500_characters_are_cut_in_figures_and_whole_in_the_hover(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(document(*[{"implementation": "x" * 500}] * 3))
    main(["render", str(path), "--out", str(tmp_path / "out"), "--figure", "prefill_time_batch"])
    svg = (tmp_path / "out" / "prefill_time_batch-cuda.svg").read_text(encoding="utf-8")
    assert "x…" in svg
    assert float(svg.partition('width="')[2].partition('"')[0]) < 1000


def in_a_process(tmp_path, *arguments, stdout=subprocess.PIPE, **environment):
    """`python -m plots` in a process of its own, with only these variables."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "plots", *map(str, arguments)],
        cwd=tmp_path,
        env=kept | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "iso-8859-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"HOME": "/nonexistent/home", "MPLCONFIGDIR": "/nonexistent"},
    ],
)
def test_any_locale_and_no_home(tmp_path, environment):
    name = "naïve 速 µ"
    rows = [builder.row(i, 10.0 * b, B=b, N=64) for b in (1, 2) for i in ("based", name)]
    path = builder.write(tmp_path / "ü.json", rows)
    table = in_a_process(tmp_path, "table", path, **environment)
    assert (table.returncode, table.stderr) == (0, b"")
    assert name in table.stdout.decode("utf-8")
    drawn = in_a_process(tmp_path, "render", path, "--out", tmp_path, *FIGURE[:2], **environment)
    assert (drawn.returncode, drawn.stderr) == (0, b"")
    assert name in (tmp_path / "prefill_time_batch-cuda.svg").read_text(encoding="utf-8")


def test_output_that_cannot_be_written_is_no_regression(tmp_path):
    path = builder.write(tmp_path / "r.json", [builder.row(N=64)])
    for arguments in (["compare", path, path], ["table", path]):
        with Path("/dev/full").open("w") as full:
            done = in_a_process(tmp_path, *arguments, stdout=full)
        said = b"plots: standard output: No space left on device\n"
        assert (done.returncode, done.stderr) == (2, said)


def test_a_missing_package_is_named(tmp_path):
    (tmp_path / "vl_convert.py").write_text("import absent_here")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = in_a_process(tmp_path, "--help", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, b"")
    said = "plots: No module named 'absent_here'; pip install -r plots/requirements.txt\n"
    assert done.stderr.decode() == said


def test_a_users_own_theme_changes_nothing(tmp_path):
    """Altair takes a theme from whoever imports it before."""
    path = builder.write(tmp_path / "r.json", [builder.row(B=b, N=64) for b in (1, 2)])
    command = ["render", str(path), *FIGURE[:2], "--out"]
    main([*command, str(tmp_path / "plain")])
    code = (
        "import altair, sys\n"
        "altair.theme.enable('dark')\n"
        "altair.data_transformers.enable('csv')\n"
        "from plots.cli import main\n"
        f"sys.exit(main({[*command, str(tmp_path / 'themed')]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    texts = [
        (tmp_path / folder / "prefill_time_batch-cuda.svg").read_text(encoding="utf-8")
        for folder in ("plain", "themed")
    ]
    assert texts[0] == texts[1]
