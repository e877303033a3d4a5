"""report.html: self-contained, and alive in a browser where one is installed."""

import html
import json
import re
import shutil
import subprocess

import builder
import pytest
import vl_convert

from plots import published
from plots.cli import figure_names, main

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--virtual-time-budget=60000",
)
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser among {', '.join(BROWSERS)}"
)

# Once all is drawn: hides the first series of every figure, isolates it, shows all, points at a
# mark, clicks it, sorts and filters a table; and leaves what it saw in the page.
PROBE = """
<script>
drawn.then(async () => {
  const seen = {};
  const rest = () => new Promise((done) => setTimeout(done, 50));
  for (const place of document.querySelectorAll("figure")) {
    // Every series' marks carry its name in the label that screen readers read.
    const keys = FIGURES[place.id].entries.map((entry) => entry.key);
    const marks = () => [...place.querySelectorAll("svg [aria-roledescription]")].filter((mark) =>
      !["axis", "title", "legend"].includes(mark.getAttribute("aria-roledescription"))).length;
    const shown = () => [...place.querySelectorAll('.name[aria-pressed="true"]')].length;
    const state = async () => { await rest(); return [marks(), shown()]; };
    const found = { before: await state(), series: keys.length };
    place.querySelector(".name").click();
    found.hidden = await state();
    place.querySelector(".only").click();
    found.isolated = await state();
    const [first, all] = place.querySelectorAll(".legend > button");
    all.click();
    found.all = await state();
    first.click();
    found.after = await state();
    seen[place.id] = found;
  }
  const place = document.querySelector("figure");
  const mark = place.querySelector('svg .mark-symbol.role-mark path');
  const at = mark.getBoundingClientRect();
  const where = { clientX: at.x + at.width / 2, clientY: at.y + at.height / 2, bubbles: true };
  for (const name of ["pointerover", "pointermove", "mouseover", "mousemove"]) {
    mark.dispatchEvent(new PointerEvent(name, where));
  }
  await rest();
  seen.tip = document.querySelector("#vg-tooltip-element")?.textContent;
  mark.dispatchEvent(new PointerEvent("click", where));
  await rest();
  seen.clicked = place.querySelectorAll('.name[aria-pressed="true"]').length;

  const table = document.querySelector("table.sortable");
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === "time");
  const times = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
  table.tHead.rows[0].cells[column].click();
  seen.up = times();
  table.tHead.rows[0].cells[column].click();
  seen.down = times();
  const filter = table.previousElementSibling;
  filter.value = "TORCH 8192";
  filter.oninput();
  seen.filtered = [...table.tBodies[0].rows].filter((row) => !row.hidden)
    .map((row) => row.textContent);
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>
"""


def probed(page):
    """What the probe saw in a report, and the browser's console."""
    copy = page.with_name("probed.html")
    before, end, after = page.read_text(encoding="utf-8").rpartition("</body>")
    copy.write_text(before + PROBE + end + after, encoding="utf-8")
    ran = subprocess.run(
        [BROWSER, *OPTIONS, "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = re.findall(r'<body data-seen="([^"]*)"', ran.stdout)
    assert len(found) == 1, ran.stderr[-2000:]
    return json.loads(html.unescape(found[0])), ran.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = builder.write(folder / "r.json", builder.sweep(lengths=(1024, 8192, 16384)))
    assert main(["report", str(results), "--out", str(folder), "--published"]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def seen(report):
    return probed(report)


def test_it_is_one_small_file_that_loads_nothing(report):
    whole = report.read_text(encoding="utf-8")
    text = whole.replace(vl_convert.javascript_bundle(), "")
    assert len(text) < len(whole) - 500_000
    assert report.stat().st_size < 3_000_000
    assert not re.search(r"//cdn|@import|<script[^>]+src=|<link|<img", text)
    assert "default-src 'none'" in text
    assert "connect-src" not in text  # the default forbids it


def test_it_opens_with_what_the_data_say(report):
    text = html.unescape(report.read_text(encoding="utf-8"))
    summary = text[text.index('<ul class="summary">') : text.index("<figure")]
    assert "Based prefill, B=16 H=16 N=8192: ours takes 205 µs on Synthetic GPU, 50 % of" in summary
    assert "times as fast as" in summary
    assert "Ours is not the fastest at" in summary
    order = [
        text.index(mark) for mark in ("summary", "<figure", "<h3>Tables", "Environment", "Method")
    ]
    assert order == sorted(order)


def test_it_tells_what_is_missing_and_where_it_ran(report):
    text = report.read_text(encoding="utf-8")
    assert "out of memory: needs more than the device has" in text
    assert "relative error 0.2 over the tolerance" in text
    assert "flushed before each sample" in text
    assert "<code>models</code>: the file has no timed prompts of a whole model" in text


def test_hostile_text_stays_text(tmp_path):
    attack = "</script><script>alert(1)</script><!--"
    rows = [builder.row("based", 10.0, B=b, N=64) for b in (1, 2)]
    rows += [builder.row(attack, 10.0, B=b, N=64) for b in (1, 2)]
    rows.append(builder.row("naive", B=2, N=64, status="error", reason=attack))
    results = builder.write(tmp_path / "r.json", rows, host_name=attack)
    assert main(["report", str(results), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert attack not in text
    assert "alert(1)" in text
    assert text.count("<script") == 3


def test_cards_are_compared_in_one_report(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=64) for b in (1, 2)]
    files = [
        str(builder.write(tmp_path / f"{name}.json", rows, gpu_name=name))
        for name in ("One", "Two")
    ]
    assert main(["report", *files, "--device", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "ratios to One: 2 rows" in text
    assert text.count('<figure id="prefill_time_batch') == 1


@needs_browser
def test_the_console_is_silent(seen):
    assert "CONSOLE" not in seen[1]


@needs_browser
def test_every_figure_is_drawn_with_its_series(seen):
    figures = {name: seen[0][f"{name}-0"] for name in figure_names() if name not in builder.ABSENT}
    assert len(figures) == len(figure_names()) - len(builder.ABSENT)
    assert all(figure["before"][0] > 0 for figure in figures.values())
    assert figures["prefill_time_batch"]["series"] > figures["prefill_time_batch"]["before"][1] > 4


@needs_browser
def test_a_click_hides_a_series_isolates_it_and_brings_all_back(seen):
    figures = [figure for name, figure in seen[0].items() if re.fullmatch(r".*-\d", name)]
    assert len(figures) == len(figure_names()) - len(builder.ABSENT)
    for figure in figures:
        marks, shown = figure["before"]
        assert figure["hidden"][1] == shown - 1
        assert figure["hidden"][0] < marks
        assert figure["isolated"][1] == 1
        assert 0 < figure["isolated"][0] <= marks
        assert figure["all"][1] == figure["series"]
        assert figure["all"][0] >= marks
        assert figure["after"] == figure["before"]


@needs_browser
def test_pointing_at_a_mark_tells_its_row_and_a_click_isolates_it(seen):
    assert re.search(r"row.*prefill/\w+/cuda/B:\d+/H:16/N:8192", seen[0]["tip"])
    assert re.search(r"measured[\d.]+ (µs|ms), B=\d+ H=16 N=8192", seen[0]["tip"])
    assert seen[0]["clicked"] == 1


@needs_browser
def test_tables_sort_by_number_and_filter_by_words(seen):
    up = [float(value) for value in seen[0]["up"] if value is not None]
    assert len(up) > 5
    assert up == sorted(up)
    assert [v for v in seen[0]["down"] if v] == [v for v in seen[0]["up"][::-1] if v]
    assert seen[0]["filtered"]
    assert all("torch" in text and "8192" in text for text in seen[0]["filtered"])
    assert len(seen[0]["filtered"]) < len(seen[0]["up"])


@needs_browser
def test_the_committed_results_make_a_live_report(tmp_path):
    files = [str(published.DATA / name) for name in ("h200.json", "originals_h200.json")]
    assert main(["report", *files, "--published", "--out", str(tmp_path)]) == 0
    page = tmp_path / "report.html"
    assert page.stat().st_size < 3_000_000
    seen, console = probed(page)
    assert "CONSOLE" not in console
    assert seen["prefill_time_batch-0"]["series"] > 20
    assert all(found["before"][0] > 0 for name, found in seen.items() if name.endswith("-0"))
