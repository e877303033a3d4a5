"""What the figures show: series, values, marks and names, by the records that Vega gets."""

import json
import math

import altair
import builder
import pytest
import vl_convert

from plots import labels, names, published, results, style
from plots.cli import build, figure_names
from plots.figure import AbsentError

SMALLEST_TEXT = 12  # CSS pixels: 9 points


def group_of(tmp_path, rows, elsewhere=None, **context):
    loaded = results.load(builder.write(tmp_path / "r.json", rows, **context))
    return results.groups(loaded, elsewhere)[0]


def records(figure):
    """All records of all datasets of a figure's specification."""
    spec = figure.spec()
    return [record for values in spec["datasets"].values() for record in values]


def points(figure, label=None):
    """(x, y) of a line figure's points, by the series' name."""
    found = {}
    for record in records(figure):
        if "fill" in record:
            found.setdefault(record["name"], []).append((record["x"], record["y"]))
    return found if label is None else found[label]


def texts(figure):
    return {record["key"]: record["text"] for record in records(figure) if "text" in record}


def shown(figure):
    return [entry.label for entry in figure.entries if entry.shown]


def test_every_figure_of_a_full_sweep(tmp_path):
    group = group_of(tmp_path, builder.sweep())
    drawn = 0
    for name in figure_names():
        try:
            figure = build(name, group)
        except AbsentError as why:
            assert name in builder.ABSENT, (name, why)
            continue
        spec = figure.spec()
        altair.Chart.from_dict(spec)  # valid Vega-Lite
        assert spec["title"]["text"].endswith("?")
        assert any("Synthetic GPU" in note for note in spec["title"]["subtitle"])
        assert 1 <= len(shown(figure)) <= 14
        assert {e.key for e in figure.entries} <= {record.get("key") for record in records(figure)}
        drawn += 1
    assert drawn == len(figure_names()) - len(builder.ABSENT)


def test_the_figures_stand_in_the_order_of_the_questions():
    order = figure_names()
    assert order[:2] == ["mixers", "prefill_time_batch"]
    assert order.index("prefill_time_length") < order.index("decode_time_batch")
    assert order.index("decode_time_batch") < order.index("roofline") < order.index("baselines")


def sizes_of(spec, key):
    """All values of a key anywhere in a specification."""
    if isinstance(spec, dict):
        return [v for k, v in spec.items() if k == key and isinstance(v, int | float)] + [
            v for entry in spec.values() for v in sizes_of(entry, key)
        ]
    if isinstance(spec, list):
        return [v for entry in spec for v in sizes_of(entry, key)]
    return []


@pytest.mark.parametrize("name", [n for n in figure_names() if n not in builder.ABSENT])
def test_no_text_is_smaller_than_nine_points(tmp_path, name):
    spec = build(name, group_of(tmp_path, builder.sweep())).spec()
    sizes = [
        s for key in ("fontSize", "labelFontSize", "titleFontSize") for s in sizes_of(spec, key)
    ]
    assert sizes
    assert min(sizes) >= SMALLEST_TEXT


def test_time_against_batch_shows_the_medians(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=1024) for b in (4, 1, 16)]
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    assert points(figure, "Based (ours)") == [(1, 10.0), (4, 40.0), (16, 160.0)]


def test_the_burst_is_shown_where_a_row_has_one(tmp_path):
    rows = [builder.row("based", 10.0, B=1, N=64, counters={"burst_us": 8.0, "roofline_pct": 40.0})]
    rows.append(builder.row("based", 20.0, B=2, N=64, counters={"roofline_pct": 40.0}))
    group = group_of(tmp_path, rows)
    assert points(build("prefill_time_batch", group), "Based (ours)") == [(1, 8.0), (2, 20.0)]
    # The floor is of the card, whatever the time that the share was told of.
    assert group.rows["floor_us"].tolist() == [4.0, 8.0]
    assert group.rows["share"].tolist() == [0.5, 0.4]


def test_windows_and_bad_inputs_stand_under_the_plain_row(tmp_path):
    shape = {"B": 4, "N": 8192}
    rows = [
        builder.attention("forward_sm90", 20.0, **shape, inputs="sink", counters={"redone": 7.0}),
        builder.attention("forward_sm90", 3.0, **shape, W=128),
        builder.attention("forward_sm90", 5.0, **shape, W=1024),
        builder.attention("forward_sm90", 10.0, **shape),
        builder.attention("forward_sm90", 1.0, B=1, N=512),
        builder.attention("softmax_attention", 30.0, **shape, W=128),
    ]
    assert list(texts(build("attention_forms", group_of(tmp_path, rows))).items()) == [
        ("all keys, normal inputs", "10.0 µs"),
        ("window of 1024 keys", "5.00 µs"),
        ("window of 128 keys", "3.00 µs"),
        ("one key 40 times as large", "20.0 µs, 7 redone"),
    ]


def test_energy_is_that_of_a_token(tmp_path):
    scan = {"operation": "selective_scan", "H": None, "d_inner": 2048, "d_state": 16}
    used = {"tokens_per_J": 16 * 1024 / 5e-3, "energy_us": 10.0}
    rows = [
        builder.row("based", 10.0, N=1024, counters=used),
        builder.row("register_scan", 20.0, N=1024, **scan),
        builder.row("fla_parallel_based", 30.0, N=1024),
        # No bars: energy that was not measured, other sizes of a mixer, options.
        builder.row("based", 10.0, B=2, N=1024, counters={"tokens_per_J": None}),
        builder.row("mamba2", 5.0, operation="ssd", N=1024, P=64, S=128),
        builder.row("based", 5.0, N=1024, options="normalize"),
    ]
    bars = records(build("energy", group_of(tmp_path, rows)))
    assert [(r["key"], r["opacity"]) for r in bars] == [
        ("Based (ours)", 1.0),
        ("Mamba (ours)", 1.0),
        ("Based, flash-linear-attention (parallel)", 0.35),
    ]
    assert bars[0]["value"] == pytest.approx(5e3 / 16 / 1024)
    assert bars[0]["text"].endswith(", 500 W")


def test_energy_that_was_not_measured_is_not_drawn(tmp_path):
    rows = [builder.row("based", 10.0, N=n, counters={"tokens_per_J": None}) for n in (64, 128)]
    with pytest.raises(AbsentError, match="no prefill on cuda has its energy measured"):
        build("energy", group_of(tmp_path, rows))


def test_of_many_shapes_the_wanted_one_is_drawn(tmp_path):
    rows = [
        builder.row("based", float(n + b), B=b, H=h, N=n)
        for b in (1, 2)
        for h in (8, 16)
        for n in (64, 8192, 16384)
    ]
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    assert points(figure, "Based (ours)") == [(1, 8193.0), (2, 8194.0)]
    assert figure.notes[0].startswith("16 heads, 8192 tokens")


def test_another_shape_where_the_wanted_one_was_not_swept(tmp_path):
    rows = [builder.row("based", 5.0, B=1, N=8192)]
    rows += [builder.row("based", 10.0 * b, B=b, N=512) for b in (1, 2, 4)]
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    assert points(figure, "Based (ours)") == [(1, 10.0), (2, 20.0), (4, 40.0)]


def family_rows(**times):
    """Rows at two batch sizes: implementation=microseconds of the smaller."""
    operations = {"mamba": "selective_scan", "mamba2": "ssd", "torch_sdpa_cudnn": "attention"}
    forms = {"ssd": {"P": 64, "S": 256}, "attention": {"Dh": 64, "causal": 1}}
    rows = []
    for name, time in times.items():
        operation = operations.get(name, "prefill")
        form = forms.get(operation, {})
        rows += [
            builder.row(name, time * b, operation=operation, B=b, N=8192, **form) for b in (1, 4)
        ]
    return rows


EVERYONE = {
    "based": 10,
    "based_sm80": 20,
    "thunderkittens_based": 30,
    "fla_parallel_based": 50,
    "chunked_parallel": 45,
    "naive": 900,
    "pytorch_naive": 2000,
    "mamba": 300,
    "mamba2": 100,
    "torch_sdpa_cudnn": 200,
}


def test_a_family_stands_with_its_fastest_member(tmp_path):
    figure = build("prefill_time_batch", group_of(tmp_path, family_rows(**EVERYONE)))
    assert shown(figure) == [
        "Based (ours)",
        "Based, ThunderKittens",
        "Mamba-2",
        "softmax attention, cuDNN",
        "Mamba",
        "Based, PyTorch, rewritten",
    ]
    hidden = [entry.label for entry in figure.entries if not entry.shown]
    assert "Based for Ampere (ours)" in hidden
    assert len(hidden) == len(EVERYONE) - 6


def test_a_slower_form_does_not_stand_for_its_family(tmp_path):
    rows = family_rows(**EVERYONE)
    for b in (1, 4):  # faster, but it computes something else
        rows.append(builder.row("mamba2", 1.0, operation="ssd", B=b, N=8192, P=128, S=256))
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    assert "Mamba-2" in shown(figure)
    assert "Mamba-2, heads of 128" not in shown(figure)


def test_names_carry_the_ratio_to_ours_at_the_largest_size_of_both(tmp_path):
    rows = family_rows(**EVERYONE)
    rows += [builder.row("based", 160.0, B=16, N=8192)]
    rows = [r | {"real_time": 200.0} if r["real_time"] == 120.0 else r for r in rows]
    found = texts(build("prefill_time_batch", group_of(tmp_path, rows)))
    by_name = {key.split("/")[1]: text for key, text in found.items() if "/" in key}
    assert by_name["thunderkittens_based"] == "Based, ThunderKittens  5.0×"  # at B = 4: 200 over 40
    assert by_name["naive"].startswith("Based, PyTorch, rewritten  90×")
    assert by_name["based"] == "Based (ours)"


def test_ours_is_thick_and_nothing_else_is(tmp_path):
    figure = build("prefill_time_batch", group_of(tmp_path, family_rows(**EVERYONE)))
    width = {record["name"]: record["width"] for record in records(figure) if "width" in record}
    assert width.pop("Based (ours)") > 2 * max(width.values())


def test_the_floor_is_the_least_time_that_the_ceilings_allow(tmp_path):
    rows = [
        builder.row("based", 10.0 * b, B=b, N=64, counters={"roofline_pct": 25.0}) for b in (1, 4)
    ]
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    floor = [r for r in records(figure) if set(r) == {"x", "y"}]
    assert floor == [{"x": 1, "y": 2.5}, {"x": 4, "y": 10.0}]
    assert texts(figure)["floor"] == "least possible on this card"


@pytest.mark.parametrize("status", ["out_of_memory", "skipped", "error"])
def test_a_line_ends_in_a_cross_where_there_is_no_result(tmp_path, status):
    rows = [builder.row("based", 10.0 * b, B=b, N=64) for b in (1, 2, 4)]
    rows += [builder.row("naive", 50.0 * b, B=b, N=64) for b in (1, 2)]
    counters = {"needs_bytes": 71 * 2**30} if status == "out_of_memory" else {}
    rows.append(builder.row("naive", B=4, N=64, status=status, reason="why", counters=counters))
    figure = build("prefill_time_batch", group_of(tmp_path, rows))
    (cross,) = [record for record in records(figure) if "why" in record]
    assert (cross["x"], cross["from"], cross["y"]) == (4, 2, 100.0)
    assert points(figure, "Based, PyTorch, rewritten") == [(1, 50.0), (2, 100.0)]
    (text,) = [t for key, t in texts(figure).items() if key.startswith("prefill/naive")]
    ends = {"out_of_memory": "out of memory: 71.0 GiB"}.get(status, status)
    assert text.splitlines()[1] == ends


def test_variants_of_one_implementation_are_told_apart(tmp_path):
    rows = [
        builder.row("based", 10.0 * (1 + (state == "f32")), operation="decode", B=b, state=state)
        for b in (1, 2)
        for state in ("bf16", "f32")
    ]
    figure = build("decode_time_batch", group_of(tmp_path, rows))
    assert set(points(figure)) == {"Based (ours), bf16 state", "Based (ours), f32 state"}
    dashes = {r["name"]: tuple(r["dash"]) for r in records(figure) if "dash" in r}
    assert len(set(dashes.values())) == 2


@pytest.mark.parametrize("name", figure_names())
def test_a_figure_without_its_rows_says_why(tmp_path, name):
    group = group_of(
        tmp_path, [builder.row("based", operation="other", counters={"exec_TFLOPs": 0})]
    )
    with pytest.raises(AbsentError) as caught:
        build(name, group)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_size_alone_is_no_curve(tmp_path):
    group = group_of(tmp_path, [builder.row("based", N=64)])
    with pytest.raises(AbsentError, match="two or more batch sizes"):
        build("prefill_time_batch", group)


def test_speedup_is_the_others_time_over_ours(tmp_path):
    rows = [builder.row("based", 10.0, B=1, N=64), builder.row("based", 20.0, B=2, N=64)]
    rows += [builder.row("fla_parallel_based", 25.0, B=1, N=64)]
    rows += [builder.row("fla_fused_chunk_based", 35.0, B=1, N=64)]
    rows += [builder.row("fla_parallel_based", B=2, N=64, status="out_of_memory")]
    figure = build("speedup", group_of(tmp_path, rows))
    cells = [(r["key"], r["B"], r["text"]) for r in records(figure)]
    assert cells == [("Based, flash-linear-attention", 1, "2.5")]


def test_speedup_compares_like_with_like(tmp_path):
    rows = [builder.row("based", 10.0, N=64), builder.row("thunderkittens_based", 25.0, N=64)]
    rows += [builder.row("based", 5.0, N=64, options="normalize")]
    rows += [builder.row("based", 1.0, N=64, variant="whole")]
    rows += [builder.row("thunderkittens_based", 2.0, N=64, options="normalize")]
    figure = build("speedup", group_of(tmp_path, rows))
    assert [r["text"] for r in records(figure)] == ["2.5"]


def test_speedup_has_six_maps_at_most_and_drops_the_slowest(tmp_path):
    rows = [builder.row("based", 10.0, N=64)]
    rows += [builder.row(f"original_{i}", 20.0 + i, N=64) for i in range(8)]
    figure = build("speedup", group_of(tmp_path, rows))
    assert [entry.key for entry in figure.entries] == [f"Based, original {i}" for i in range(6)]


def test_slower_than_an_original_is_another_colour(tmp_path):
    rows = [builder.row("based", 10.0, B=b, N=64) for b in (1, 2)]
    rows += [builder.row("thunderkittens_based", 20.0 / b**2, B=b, N=64) for b in (1, 2)]
    fills = {r["text"]: r["fill"] for r in records(build("speedup", group_of(tmp_path, rows)))}

    def channels(text):
        return [int(part) for part in fills[text][4:-1].split(",")]

    red, _, blue = channels("2.0")
    assert blue > red
    red, _, blue = channels("0.50")
    assert red > blue


def test_roofline_has_a_point_an_implementation_at_its_best_shape(tmp_path):
    def counters(tflops):
        return {"exec_TFLOPs": tflops, "compulsory_MB": 50.0, "nominal_GFLOP": 1.0}

    rows = [builder.row("based", 100.0, N=n, counters=counters(n)) for n in (100, 64)]
    figure = build("roofline", group_of(tmp_path, rows))
    (point,) = [r for r in records(figure) if "tx" in r]
    assert (point["x"], point["y"]) == (200.0, 100)  # 100 TFLOP/s * 100 us / 50 MB
    assert point["text"] == "Based (ours)  12 %"  # of min(4000 GB/s * 200, 800 TFLOP/s)
    roof = [(r["x"], r["y"]) for r in records(figure) if "card" in r]
    assert max(y for _, y in roof) == 800
    assert roof[0][1] == pytest.approx(roof[0][0] * 4.0)  # 4000 GB/s
    (said,) = [r["text"] for r in records(figure) if "measured:" in r.get("text", "")]
    assert "800 TFLOP/s, 4000 GB/s" in said


def test_roofline_needs_measured_ceilings(tmp_path):
    group = group_of(tmp_path, [builder.row("based", N=64)], gpu_gemm_TFLOPs="nan")
    with pytest.raises(AbsentError, match="no measured ceilings"):
        build("roofline", group)


def test_a_baseline_stands_beside_its_original_at_the_shape_looked_at_most(tmp_path):
    rows = []
    for n, factor in ((8192, 2.0), (16384, 3.0)):
        rows += [builder.row("chunked_parallel", 10.0, N=n)]
        rows += [builder.row("fla_parallel_based", 10.0 * factor, N=n)]
    figure = build("baselines", group_of(tmp_path, rows))
    found = [(r["name"], r["us"], r["ratio"]) for r in records(figure)]
    assert found == [
        ("Based, flash-linear-attention (parallel), rewritten", 10.0, "0.50×"),
        ("Based, flash-linear-attention (parallel)", 20.0, "0.50×"),
    ]


def test_attention_has_a_panel_a_head_dimension_and_mask_and_plain_rows_alone(tmp_path):
    rows = []
    for dim, causal in ((64, 1), (64, 0), (128, 1)):
        for length in (1024, 4096):
            shape = {"operation": "attention", "N": length, "Dh": dim, "causal": causal}
            flops = {"nominal_GFLOP": length * dim / 1e3}
            rows += [
                builder.row("forward_sm90", 100.0, counters=flops, **shape),
                builder.row("torch_sdpa_cudnn", 200.0, counters=flops, **shape),
                builder.row("forward_sm90", 10.0, counters=flops, window=128, **shape),
                builder.row("forward_sm90", 10.0, counters=flops, inputs="sink", **shape),
            ]
    rows.append(builder.row("forward_sm90", 1.0, **shape | {"N": 8192, "B": 1}))
    figure = build("attention", group_of(tmp_path, rows))
    assert shown(figure) == ["softmax attention (ours)", "cuDNN"]
    found = [record for record in records(figure) if "panel" in record]
    assert len(found) == 3 * 2 * 2
    assert {r["panel"] for r in found} == {
        "heads of 64, causal",
        "heads of 64, full",
        "heads of 128, causal",
    }
    ours = {(r["panel"], r["x"]): r["y"] for r in found if r["key"] == "forward_sm90"}
    assert ours["heads of 128, causal", 4096] == pytest.approx(4096 * 128 / 1e3 / 100 * 1e3)


def mixer_rows():
    """Ours and originals of four mixers; the SSD's original by the names of earlier runs."""
    rows = []
    for batch, length in ((1, 8192), (16, 8192), (16, 1024)):
        at = {"B": batch, "N": length}
        time = batch * length / 1e3
        state = {"counters": {"state_KiB": 100.0}}
        scan = {"operation": "selective_scan", "H": None, "d_inner": 2048, "d_state": 16}
        ssd = {"operation": "ssd", "P": 64, "S": 256}
        rows += [
            builder.row("based", time, **at, **state),
            builder.row("thunderkittens", 3 * time, **at),
            builder.row("fla_parallel_based", (2 if batch == 1 else 9) * time, **at),
            builder.row("forward_sm90", 9 * time, operation="attention", Dh=64, causal=1, **at),
            builder.row("register_scan", 8 * time, **scan, **at, **state),
            builder.row("register_scan", 1.0, **scan, **at, options="bias"),
            builder.row("fused_chunked", 2 * time, **ssd, **at, **state),
            builder.row("fused_chunked", 1.0, **ssd, **at, variant="split"),
            builder.row("mamba2", 10 * time, operation="ssd", P=64, S=256, **at),
        ]
        rows.append(builder.row("based", 5.0, operation="decode", B=batch, state="f32"))
        rows.append(builder.row("ssd_decode", 6.0, operation="ssd_decode", B=batch, P=64, S=256))
    return rows


def test_mixers_are_ours_beside_their_originals_with_the_state_of_a_sequence(tmp_path):
    figure = build("mixers", group_of(tmp_path, mixer_rows()))
    altair.Chart.from_dict(figure.spec())
    assert shown(figure) == [
        "Based; state 100 KiB",
        "softmax attention; state grows",
        "Mamba; state 100 KiB",
        "Mamba-2, 16 × 64 × 256; state 100 KiB",
    ]
    found = {}
    for record in records(figure):
        at = record["panel"], record["key"], record["side"]
        found.setdefault(at, []).append((record["x"], record["y"]))
    by_batch, by_length, steps = (
        "prefill of 8192 tokens",
        "prefill of 16 sequences",
        "one decode step",
    )
    ssd = "Mamba-2, 16 × 64 × 256"
    assert found[by_batch, ssd, "ours"] == [
        (1, pytest.approx(16.384)),
        (16, pytest.approx(262.144)),
    ]
    assert found[by_batch, ssd, "original"][0] == (1, pytest.approx(81.92))
    assert [x for x, _ in found[by_length, "Mamba", "ours"]] == [1024, 8192]
    assert found[steps, "Based", "ours"] == [(1, 5.0), (16, 5.0)]
    # One original, the least behind the fastest of all.
    assert [y for _, y in found[by_batch, "Based", "original"]] == [3 * 8.192, 3 * 131.072]
    assert (by_batch, "Mamba", "original") not in found


def test_a_scan_over_channels_has_no_heads_and_stands_beside_what_has(tmp_path):
    figure = build("prefill_time_batch", group_of(tmp_path, mixer_rows()))
    assert "Mamba (ours)" in points(figure)


def test_options_cost_what_they_cost_beside_the_plain_row(tmp_path):
    rows = [
        builder.row("based", 100.0, N=64),
        builder.row("based", 112.0, N=64, options="normalize"),
    ]
    rows += [builder.row("based", 130.0, N=64, variant="whole")]
    rows += [builder.row("based", 500.0, N=128, options="normalize")]  # nothing to compare with
    rows += [builder.row("naive", 500.0, N=64, options="normalize")]
    figure = build("generality", group_of(tmp_path, rows))
    found = {r["key"]: r["text"] for r in records(figure)}
    assert found == {"normalised": "+12 %", "variant whole": "+30 %"}


def test_whole_models_are_bars_where_results_hold_them(tmp_path):
    rows = [
        builder.row(name, 1e6 * b / speed, operation="model_prefill", B=b, N=8000)
        for b in (1, 4)
        for name, speed in (("based", 2.0), ("mamba2", 1.0))
    ]
    rows.append(of_model("based-360m", 500.0, "model_prefill", N=8000, B=4))
    rows += [
        builder.row(name, us, operation="model_prefill", model="based-360m", H=None, N=8000, B=4)
        for name, us in (("fla_model", 900.0), ("fla_model_compiled", 800.0))
    ]
    figure = build("models", group_of(tmp_path, rows))
    rates = {(r["key"], r["at"][1]): r["value"] for r in records(figure)}
    # Of a model's originals the fastest.
    assert rates["based-360m, flash-linear-attention (compiled)", 4] == pytest.approx(4e7)
    assert not any(key == "based-360m, flash-linear-attention" for key, _ in rates)
    filled = {r["key"]: r["opacity"] for r in records(figure)}
    assert filled["based-360m (ours)"] > filled["based-360m, flash-linear-attention (compiled)"]
    assert rates["based (ours)", 4] == pytest.approx(16000)
    assert rates["mamba2", 1] == pytest.approx(8000)


def of_model(model, us, operation="model_prefill", **changes):
    at = {"operation": operation, "B": 4, "H": None} | changes
    return builder.row("forward", us, model=model, **at) | {"role": "ours"}


def test_a_forward_pass_of_several_models_is_named_after_each(tmp_path):
    rows = [of_model("based-360m", 1000.0, N=8000), of_model("attention-360m", 2000.0, N=8000)]
    found = {r["key"]: r["value"] for r in records(build("models", group_of(tmp_path, rows)))}
    assert found == {
        "based-360m (ours)": pytest.approx(32e6),
        "attention-360m (ours)": pytest.approx(16e6),
    }


def test_generation_is_drawn_against_batch_and_context(tmp_path):
    rows = [
        of_model("based-360m", 100.0 * b, "model_decode", B=b, context=2048) for b in (1, 4, 16)
    ] + [of_model("based-360m", 3200.0, "model_decode", B=16, context=8192)]
    figure = build("generation", group_of(tmp_path, rows))
    found = {(r["B"], r["context"], round(r["rate"])) for r in records(figure)}
    assert found == {
        (1, 2048, 10000),
        (4, 2048, 10000),
        (16, 2048, 10000),
        (16, 8192, 5000),
    }
    with pytest.raises(AbsentError):
        build("generation", group_of(tmp_path, [of_model("based-360m", 9.0, N=8000)]))


def test_a_models_time_is_cut_into_its_parts(tmp_path):
    shares = {"mixers_pct": 20.0, "products_pct": 70.0, "glue_pct": 10.0}
    rows = [of_model("based-360m", 2000.0, B=16, N=8000, counters=shares)]
    found = {
        r["key"]: (r["begin"], r["end"], r["text"])
        for r in records(build("model_parts", group_of(tmp_path, rows)))
    }
    assert found == {
        "mixers": (0, pytest.approx(0.4), "mixers 20 %"),
        "products": (pytest.approx(0.4), pytest.approx(1.8), "products 70 %"),
        "glue": (pytest.approx(1.8), pytest.approx(2.0), "10 %"),
    }
    with pytest.raises(AbsentError, match="shares"):
        build("model_parts", group_of(tmp_path, [of_model("based-360m", 9.0, B=16, N=8000)]))


def overlaid(tmp_path, figure="prefill_time_batch", live=(), device="cuda", **context):
    """The members of elsewhere of a figure of ours at the sources' sizes: name -> points."""
    rows = [builder.row("based", 10.0, device=device, B=b, N=8192) for b in (1, 16, 256)]
    rows += [builder.row(name, 99.0, B=b, N=8192) for b in (1, 16, 256) for name in live]
    group = group_of(tmp_path, rows, published.load(), **context)
    found = build(figure, group)
    hollow = {r["name"] for r in records(found) if r.get("fill") == style.PAPER}
    return {name: xy for name, xy in points(found).items() if name in hollow}


def test_originals_of_elsewhere_are_hollow_and_name_their_card(tmp_path):
    found = overlaid(tmp_path)
    assert dict(found["Based, ThunderKittens, H200"])[16] == 531.2


def test_a_live_original_replaces_the_one_of_elsewhere(tmp_path):
    assert any("ThunderKittens" in name for name in overlaid(tmp_path))
    assert not any("ThunderKittens" in n for n in overlaid(tmp_path, live=["thunderkittens_based"]))


def test_of_elsewhere_this_card_comes_before_others_and_print_before_pictures(tmp_path):
    here = overlaid(tmp_path, gpu_name="NVIDIA H200")
    assert "Based, ThunderKittens, H200" in here
    assert not any(name.endswith("H100") and "ThunderKittens" in name for name in here)


def test_originals_are_matched_by_cache_policy(tmp_path):
    assert "Based, ThunderKittens, H200" in overlaid(tmp_path)
    hot = overlaid(tmp_path, l2_policy="hot: not flushed")
    assert "Based, ThunderKittens, H200" not in hot
    assert "Based, ThunderKittens, H100" in hot  # a paper does not tell


def test_published_gpu_times_are_not_laid_over_a_cpu(tmp_path):
    assert not overlaid(tmp_path, device="cpu")


def test_every_published_series_has_words(tmp_path):
    rows = published.load()
    based = rows[rows["operation"].isin(["prefill", "attention", "selective_scan", "ssd", "gla"])]
    assert not based.empty
    unnamed = [row["implementation"] for _, row in based.iterrows() if "_" in names.words(row)]
    assert not unnamed


def test_several_cards_are_colours(tmp_path):
    rows = [builder.row("based", 10.0 * b, B=b, N=8192) for b in (1, 2)]
    rows += [builder.row("mamba2", 30.0 * b, operation="ssd", B=b, N=8192) for b in (1, 2)]
    slow = [row | {"real_time": row["real_time"] * 2} for row in rows]
    one = builder.write(tmp_path / "a.json", rows, gpu_name="NVIDIA One")
    two = builder.write(tmp_path / "b.json", slow, gpu_name="NVIDIA Two")
    (group,) = results.groups(results.load_all([one, two]), together=True)
    figure = build("prefill_time_batch", group)
    assert points(figure, "Based (ours), Two") == [(1, 20.0), (2, 40.0)]
    colours = {r["name"]: r["colour"] for r in records(figure) if "width" in r}
    assert colours["Based (ours), One"] == colours["Mamba-2, One"]
    assert colours["Based (ours), One"] != colours["Based (ours), Two"]
    heat = build("speedup", group)
    assert {(r["key"], r["text"]) for r in records(heat)} == {("Two over One", "2.0")}


def boxes_of(figure):
    """The names at the ends, as boxes in the plot's pixels, by the drawn scene."""
    scene = vl_convert.vegalite_to_scenegraph(figure.spec())
    found = []

    def walk(node, x, y):
        if node.get("marktype") == "text" and node.get("role") == "mark":
            for item in node["items"]:
                lines = item.get("text")
                lines = lines if isinstance(lines, list) else [lines]
                width = max(len(str(line)) for line in lines) * 5.0  # narrower than any real text
                left, top = x + item.get("x", 0), y + item.get("y", 0) - 6
                found.append((lines, left, top, left + width, top + 12 + 15 * (len(lines) - 1)))
        for child in node.get("items", []):
            walk(child, x + node.get("x", 0), y + node.get("y", 0))

    walk(scene.get("scenegraph", scene), 0, 0)
    return found


@pytest.mark.parametrize("name", ["prefill_time_batch", "memory_length", "roofline"])
def test_no_name_lies_on_another(tmp_path, name):
    rows = family_rows(**{key: 100 + i for i, key in enumerate(EVERYONE)})  # all but equal
    rows += builder.sweep()
    found = boxes_of(build(name, group_of(tmp_path, rows)))
    assert len(found) >= 5
    for index, (one, left, top, right, bottom) in enumerate(found):
        for other, left2, top2, right2, bottom2 in found[index + 1 :]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, (one, other)


def test_spread_keeps_the_order_and_the_gap_and_stays_near():
    assert labels.spread([10, 100, 50], 20, 0, 200) == [10, 100, 50]
    assert labels.spread([50, 50], 20, 0, 200) == [40, 60]
    assert labels.spread([5, 5, 5], 20, 0, 200) == [0, 20, 40]
    assert labels.spread([199, 200], 20, 0, 200) == [180, 200]
    assert labels.spread([], 20, 0, 200) == []


def test_arranged_boxes_avoid_each_other_and_what_is_taken():
    anchors = [(100.0, 100.0), (104.0, 102.0), (98.0, 97.0)]
    taken = [labels.Box(x - 3, y - 3, x + 3, y + 3) for x, y in anchors]
    room = labels.Box(0, 0, 400, 400)
    boxes = labels.arrange(anchors, [(80.0, 15.0)] * 3, taken, room)

    def overlap(one, other):
        width = min(one.right, other.right) - max(one.left, other.left)
        height = min(one.bottom, other.bottom) - max(one.top, other.top)
        return max(width, 0) * max(height, 0)

    everything = boxes + taken
    assert all(
        overlap(one, other) == 0
        for index, one in enumerate(boxes)
        for other in everything[index + 1 :]
    )
    assert all(box.left >= 0 and box.right <= 400 for box in boxes)
    # Without room elsewhere it stays inside what there is.
    tight = labels.Box(0, 90, 400, 130)
    assert all(
        box.top >= 90 and box.bottom <= 130
        for box in labels.arrange(anchors[:1], [(80.0, 15.0)], [], tight)
    )


def test_numbers_as_texts():
    assert [style.significant(v) for v in (0.01234, 1.234, 123.4, 12340)] == [
        "0.0123",
        "1.23",
        "123",
        "12300",
    ]
    assert style.time_text(1234.0) == "1.23 ms"
    assert style.time_text(0.5) == "500 ns"
    assert style.memory_text(2048) == "2.00 GiB"
    assert style.percent(0.003) == "0.3 %"
    assert math.isnan(float(style.significant(math.nan)))


def test_a_specification_is_plain_json(tmp_path):
    spec = build("prefill_time_batch", group_of(tmp_path, builder.sweep())).spec()
    assert json.loads(json.dumps(spec, allow_nan=False)) == json.loads(json.dumps(spec))
