"""report.html: self-contained, and alive in a browser where one is installed."""

import html
import json
import re
import shutil
import subprocess

import builder
import pytest

from plots.cli import figure_names, main

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser among {', '.join(BROWSERS)}"
)

# Hides the first series of every figure, points at a value, and leaves what it saw in the page.
PROBE = """
<script>
const seen = {};
for (const place of document.querySelectorAll("figure")) {
  const shown = () => [...place.querySelectorAll("[data-key]:not(button):not(.hidden)")]
    .filter((g) => getComputedStyle(g).display !== "none").map((g) => g.dataset.key);
  const button = place.querySelector("button");
  const before = shown();
  if (button) button.click();
  const hidden = shown();
  if (button) button.click();
  seen[place.id] = { before, hidden, after: shown(), key: button && button.dataset.key,
    panels: place.querySelectorAll(".panels svg").length,
    cells: place.querySelectorAll(".cell").length };
}
const point = document.querySelector(".point");
point.dispatchEvent(new PointerEvent("pointerenter"));
seen.tip = tip.hidden ? null : tip.textContent;
point.dispatchEvent(new PointerEvent("pointerleave"));
seen.tip_gone = tip.hidden;
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = builder.write(folder / "r.json", builder.sweep(lengths=(1024, 8192, 16384)))
    assert main(["report", str(results), "--out", str(folder), "--published"]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def seen(report):
    """What the probe saw, and the browser's console."""
    probed = report.with_name("probed.html")
    probed.write_text(report.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"))
    ran = subprocess.run(
        [BROWSER, *OPTIONS, "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (found,) = re.findall(r'<body data-seen="([^"]*)"', ran.stdout)
    return json.loads(html.unescape(found)), ran.stderr


def test_it_names_nothing_on_the_network(report):
    text = report.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import|src=", text)
    assert "default-src 'none'" in text


def test_it_tells_what_is_missing_and_where_it_ran(report):
    text = report.read_text(encoding="utf-8")
    assert "out of memory: needs more than the device has" in text
    assert "relative error 0.2 over the tolerance" in text
    assert "Synthetic GPU" in text
    assert "flushed before each sample" in text


def test_hostile_text_stays_text(tmp_path):
    attack = "</script><script>alert(1)</script>"
    rows = [builder.row("based", 10.0, B=b, N=64) for b in (1, 2)]
    rows.append(builder.row("naive", B=2, N=64, status="error", reason=attack))
    results = builder.write(tmp_path / "r.json", rows, host_name=attack)
    assert main(["report", str(results), "--out", str(tmp_path)]) == 0
    assert attack not in (tmp_path / "report.html").read_text(encoding="utf-8")


@needs_browser
def test_the_console_is_silent(seen):
    assert "CONSOLE" not in seen[1]


@needs_browser
def test_every_figure_has_its_series(seen):
    figures = seen[0]
    assert {f"{name}-0" for name in figure_names()} <= set(figures)
    assert all(figures[f"{name}-0"]["panels"] for name in figure_names())
    times = set(figures["prefill_time_batch-0"]["before"])
    assert {
        "based",
        "naive",
        "causal_dot_product",
        "thunderkittens_based: H100, JRT paper",
    } <= times
    assert figures["speedup-0"]["cells"] == 5 * 9  # five others, 3 x 3 shapes


@needs_browser
def test_a_legends_button_hides_its_series_and_brings_it_back(seen):
    lines = [figure for figure in seen[0].values() if isinstance(figure, dict) and figure["key"]]
    assert len(lines) == len(figure_names()) - 1  # a heat map has no legend
    for figure in lines:
        assert figure["key"] in figure["before"]
        assert figure["hidden"] == [key for key in figure["before"] if key != figure["key"]]
        assert figure["after"] == figure["before"]


@needs_browser
def test_pointing_at_a_value_tells_it(seen):
    assert re.search(r"B=\d+ H=16.*\n[\d.]+ (µs|ms)", seen[0]["tip"])
    assert seen[0]["tip_gone"] is True
