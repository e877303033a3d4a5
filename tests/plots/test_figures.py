"""What the figures show: series, marks, overlays, by the drawn objects."""

import math

import builder
import pytest

from plots import draw, published, results, style
from plots.cli import build, figure_names
from plots.model import AbsentError


def group_of(tmp_path, rows, **context):
    return results.groups(results.load(builder.write(tmp_path / "r.json", rows, **context)))[0]


def drawn(figure):
    """The first panel's lines by label."""
    return {line.get_label(): line for line in draw.draw(figure).axes[0].get_lines()}


def test_every_figure_of_a_full_sweep(tmp_path):
    group = group_of(tmp_path, builder.sweep())
    for name in figure_names():
        figure = build(name, group, None)
        assert figure.name == name
        assert group.hardware in figure.caption
        canvas = draw.draw(figure)
        assert len([axes for axes in canvas.axes if axes.get_title("left")]) == len(figure.panels)
        assert canvas.get_suptitle() == figure.title


def test_time_against_batch_shows_the_medians(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=1024) for b in (4, 1, 16)]
    line = drawn(build("prefill_time_batch", group_of(tmp_path, rows), None))["based"]
    assert line.get_xdata().tolist() == [1, 4, 16]
    assert line.get_ydata().tolist() == [10.0, 40.0, 160.0]
    assert (line.get_color(), line.get_marker()) == (style.of("based").colour, "o")


def test_one_panel_for_each_other_shape(tmp_path):
    rows = [
        builder.row("based", 10.0, B=b, H=h, N=n)
        for b in (1, 2)
        for h in (8, 16)
        for n in (64, 128)
    ]
    figure = build("prefill_time_batch", group_of(tmp_path, rows), None)
    assert [panel.title for panel in figure.panels] == [
        "H = 8, N = 64",
        "H = 8, N = 128",
        "H = 16, N = 64",
        "H = 16, N = 128",
    ]


def test_decoding_with_two_head_counts_has_a_panel_of_each(tmp_path):
    rows = [
        builder.row("based", 3.0 + b * h, operation="decode", B=b, H=h, state="bf16")
        for b in (1, 8, 256)
        for h in (16, 32)
    ]
    figure = build("decode_time_batch", group_of(tmp_path, rows), None)
    assert [panel.title for panel in figure.panels] == ["H = 16", "H = 32"]
    assert [panel.series[0].y[0] for panel in figure.panels] == [19.0, 35.0]


@pytest.mark.parametrize("status", ["out_of_memory", "skipped", "error"])
def test_a_missing_result_is_a_mark_at_the_edge_and_no_value(tmp_path, status):
    rows = [builder.row("based", 10.0 * b, B=b, N=64) for b in (1, 2, 4)]
    rows += [builder.row("naive", 50.0 * b, B=b, N=64) for b in (1, 2)]
    rows.append(builder.row("naive", B=4, N=64, status=status, reason="why"))
    figure = build("prefill_time_batch", group_of(tmp_path, rows), None)
    lines = drawn(figure)
    assert lines["naive"].get_xdata().tolist() == [1, 2]
    mark = lines[f"naive: {status}"]
    assert list(mark.get_xdata()) == [4]
    assert mark.get_color() == style.of("naive").colour
    axes = mark.axes
    at_edge = axes.transAxes.inverted().transform(
        mark.get_transform().transform([(4, mark.get_ydata()[0])])
    )
    assert at_edge[0][1] >= 1
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert {"based", "naive", "no result", status.replace("_", " ")} <= set(legend)


def test_out_of_memory_says_how_much_it_needed(tmp_path):
    rows = [builder.row("based", 10.0, B=b, N=64) for b in (1, 2)]
    rows.append(
        builder.row(
            "naive", B=2, N=64, status="out_of_memory", counters={"needs_bytes": 71 * 2**30}
        )
    )
    figure = build("memory_batch", group_of(tmp_path, rows), None)
    assert [mark.text for mark in figure.panels[0].marks] == ["71 GiB"]
    texts = [text.get_text() for text in draw.draw(figure).axes[0].texts]
    assert "71 GiB" in texts


def test_variants_of_one_implementation_are_told_apart(tmp_path):
    rows = [
        builder.row("based", 10.0, operation="decode", B=b, state=state)
        for b in (1, 2)
        for state in ("bf16", "fp32")
    ]
    lines = drawn(build("decode_time_batch", group_of(tmp_path, rows), None))
    assert lines["based (state=bf16)"].get_linestyle() == "-"
    assert lines["based (state=fp32)"].get_linestyle() == "--"


def test_styles_are_fixed_and_distinct():
    looks = {(look.colour, look.marker) for look in map(style.of, list(style.KNOWN)[:6])}
    assert len(looks) == 6
    assert style.of("somebody_elses") == style.of("somebody_elses")


@pytest.mark.parametrize("name", figure_names())
def test_a_figure_without_its_rows_says_why(tmp_path, name):
    group = group_of(
        tmp_path, [builder.row("based", operation="other", counters={"exec_TFLOPs": 0})]
    )
    with pytest.raises(AbsentError) as caught:
        build(name, group, None)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_size_alone_is_no_curve(tmp_path):
    group = group_of(tmp_path, [builder.row("based", N=64)])
    with pytest.raises(AbsentError, match="two or more batch sizes"):
        build("prefill_time_batch", group, None)


def test_speedup_is_the_others_time_over_ours(tmp_path):
    rows = [builder.row("based", 10.0, B=1, N=64), builder.row("naive", 25.0, B=1, N=64)]
    rows += [builder.row("based", 20.0, B=2, N=64)]
    rows += [builder.row("naive", B=2, N=64, status="out_of_memory")]
    figure = build("speedup", group_of(tmp_path, rows), None)
    (panel,) = figure.panels
    assert panel.values[0][0] == 2.5
    assert math.isnan(panel.values[0][1])
    assert panel.texts == [["2.5", "OOM"]]
    texts = [text.get_text() for text in draw.draw(figure).axes[0].texts]
    assert texts == ["2.5", "OOM"]


def test_speedup_compares_like_with_like(tmp_path):
    rows = [builder.row("based", 10.0, N=64), builder.row("naive", 25.0, N=64)]
    rows += [builder.row("based", 12.0, N=64, options="normalize")]
    rows += [builder.row("naive", 60.0, N=64, options="normalize")]
    rows += [builder.row("based", 20.0, N=64, variant="one_cta")]
    figure = build("speedup", group_of(tmp_path, rows), None)
    assert {panel.title: panel.texts for panel in figure.panels} == {
        "over naive, H = 16": [["2.5"]],
        "based (normalize) over naive (normalize), H = 16": [["5.0"]],
        "based (variant=one_cta) over naive, H = 16": [["1.2"]],
    }


def test_roofline_puts_rows_under_the_measured_ceilings(tmp_path):
    counters = {"exec_TFLOPs": 100.0, "compulsory_MB": 50.0, "nominal_GFLOP": 1.0}
    rows = [builder.row("based", 100.0, N=64, counters=counters)]
    figure = build("roofline", group_of(tmp_path, rows), None)
    (panel,) = figure.panels
    assert panel.series[0].x == [200.0]  # 100 TFLOP/s * 100 us / 50 MB
    assert panel.series[0].y == [100.0]
    roof = panel.guides[0]
    assert max(roof.y) == 800
    assert roof.y[0] == pytest.approx(roof.x[0] * 4.0)  # 4000 GB/s
    assert "4000" in roof.label


def test_roofline_needs_measured_ceilings(tmp_path):
    group = group_of(tmp_path, [builder.row("based", N=64)], gpu_gemm_TFLOPs="nan")
    with pytest.raises(AbsentError, match="no measured ceilings"):
        build("roofline", group, None)


def overlays(tmp_path, figure="prefill_time_batch", device="cuda", policy="cold", **fixed):
    sizes = (
        [{"B": b} for b in (1, 16, 256)] if "batch" in figure else [{"N": n} for n in (256, 65536)]
    )
    rows = [builder.row("based", 10.0, device=device, **fixed | size) for size in sizes]
    group = group_of(tmp_path, rows, l2_policy=policy)
    found = build(figure, group, published.load())
    return {(s.implementation, s.origin): s for s in found.panels[0].series if s.origin}


def test_published_points_stand_where_they_were_published(tmp_path):
    found = overlays(tmp_path, H=16, N=16384)
    jrt = found["thunderkittens_based", "H100, JRT paper"]
    assert jrt.x == [2, 4, 8, 16, 32, 64]
    assert jrt.y == [1200, 1300, 1500, 2300, 4500, 8900]


@pytest.mark.parametrize("fixed", [{"H": 8, "N": 16384}, {"H": 16, "N": 16000}])
def test_no_published_point_on_another_configuration(tmp_path, fixed):
    assert not overlays(tmp_path, **fixed)


def test_a_batch_sweep_is_not_laid_over_a_length_sweep(tmp_path):
    found = overlays(tmp_path, figure="prefill_time_length", H=16, B=2)
    assert not [origin for _, origin in found if "JRT" in origin]


def test_published_gpu_times_are_not_laid_over_a_cpu(tmp_path):
    assert not overlays(tmp_path, device="cpu", H=16, N=16384)


def test_originals_are_matched_by_cache_policy(tmp_path):
    origin = ("thunderkittens_based", "H200, the original")
    cold = overlays(tmp_path, H=16, N=8192)[origin]
    hot = overlays(tmp_path, policy="hot: not flushed", H=16, N=8192)[origin]
    assert cold.y[cold.x.index(16)] == 531.2
    assert hot.y[hot.x.index(16)] == 535.7


def test_overlays_are_hollow_and_name_their_device(tmp_path):
    rows = [builder.row("based", 10.0, B=b, H=16, N=8192) for b in (1, 256)]
    axes = draw.draw(build("prefill_time_batch", group_of(tmp_path, rows), published.load())).axes[
        0
    ]
    fills = {line.get_label(): line.get_markerfacecolor() for line in axes.get_lines()}
    assert fills["thunderkittens_based"] == "white"
    assert fills["based"] == style.of("based").colour
    texts = {text.get_text() for text in axes.texts}
    assert {"H200", "H100 ≈"} <= texts  # the demo's points are read off a picture


def test_every_published_implementation_has_a_style():
    points = published.load()
    assert set(points["implementation"]) <= set(style.KNOWN)


def test_by_products_of_another_sweep_get_no_panel(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=8192) for b in (1, 2, 4, 8, 16)]
    rows += [builder.row("based", 5.0 * b, B=b, N=1024) for b in (4, 16)]
    rows.append(builder.row("naive", 900.0, B=4, N=8192))
    figure = build("prefill_time_batch", group_of(tmp_path, rows), None)
    assert [panel.title for panel in figure.panels] == ["H = 16, N = 8192"]
    assert [series.label for series in figure.panels[0].series] == ["based"]


def test_options_are_a_line_where_all_sizes_have_them(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=8192) for b in (1, 2, 4)]
    rows += [builder.row("based", 11.0 * b, B=b, N=8192, options="normalize") for b in (1, 2, 4)]
    rows += [builder.row("based", 12.0 * b, B=b, N=8192, options="final_state") for b in (1, 2)]
    figure = build("prefill_time_batch", group_of(tmp_path, rows), None)
    labels = [series.label for series in figure.panels[0].series]
    assert labels == ["based", "based (normalize)"]


def test_speedup_leaves_out_maps_of_a_cell_where_there_are_larger(tmp_path):
    shapes = [(b, n) for b in (1, 2, 4) for n in (1024, 2048)]
    rows = [builder.row("based", 10.0, B=b, N=n) for b, n in shapes]
    rows += [builder.row("chunked_parallel", 20.0, B=b, N=n) for b, n in shapes]
    rows.append(builder.row("naive", 900.0, B=1, N=1024))
    figure = build("speedup", group_of(tmp_path, rows), None)
    assert [panel.title for panel in figure.panels] == ["over chunked_parallel, H = 16"]
