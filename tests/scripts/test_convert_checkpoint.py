"""scripts/convert_checkpoint: what it makes of a checkpoint's tensors, and what it refuses."""

import importlib.util
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_checkpoint"


@pytest.fixture(scope="module")
def convert():
    loader = SourceFileLoader("convert_checkpoint", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def zeros(shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def based(head_norm=False):
    """A Based model of three layers, width 128, as its authors name the tensors."""
    names = {"embeddings.word_embeddings.weight": (104, 128), "ln_f.weight": (128,)}
    for layer in range(3):
        names |= {
            f"layers.{layer}.norm1.weight": (128,),
            f"layers.{layer}.norm2.weight": (128,),
            f"layers.{layer}.mlp.fc1.weight": (384, 128),
            f"layers.{layer}.mlp.fc2.weight": (128, 192),
        }
    names |= {
        "layers.0.mixer.in_proj.weight": (512, 128),
        "layers.0.mixer.in_proj.bias": (512,),
        "layers.0.mixer.conv.conv.weight": (256, 1, 3),
        "layers.0.mixer.out_proj.weight": (128, 256),
        "layers.0.mixer.out_proj.bias": (128,),
        "layers.1.mixer.proj_q.weight": (32, 128),
        "layers.1.mixer.proj_k.weight": (32, 128),
        "layers.1.mixer.proj_v.weight": (128, 128),
        "layers.1.mixer.out_proj.weight": (128, 128),
        "layers.2.mixer.Wqkv.weight": (384, 128),
        "layers.2.mixer.out_proj.weight": (128, 128),
    }
    if head_norm:
        names["layers.1.mixer.g_norm.weight"] = (64,)
    return zeros({f"transformer.{name}": shape for name, shape in names.items()})


def mamba(second=False):
    """A Mamba or Mamba-2 model of one layer."""
    mixer = (
        {"A_log": (8,), "D": (8,), "conv1d.weight": (640, 1, 4), "in_proj.weight": (1160, 128)}
        if second
        else {
            "A_log": (512, 16),
            "D": (512,),
            "conv1d.weight": (512, 1, 4),
            "dt_proj.weight": (512, 8),
            "x_proj.weight": (40, 512),
        }
    )
    mixer["out_proj.weight"] = (128, 512)
    names = {"backbone.embedding.weight": (104, 128), "backbone.norm_f.weight": (128,)}
    return zeros(names | {f"backbone.layers.0.mixer.{n}": shape for n, shape in mixer.items()})


def test_sizes_are_those_of_the_tensors(convert):
    assert convert.configuration(based(), {}, "tiny") == {
        "name": "tiny",
        "width": 128,
        "vocabulary": 104,
        "mixers": ["base_conv", "linear_attention", "window_attention"],
        "inner": 256,
        "taps": 3,
        "heads": 2,
        "head_norm": False,
        "rotated": 64,
        "rotary_base": 10000.0,
        "window": 129,
        "mlp_inner": 192,
    }
    assert convert.configuration(based(head_norm=True), {}, "tiny")["head_norm"] is True
    found = convert.configuration(mamba(), {}, "m")
    assert (found["mixers"], found["d_state"], found["dt_rank"]) == (["mamba"], 16, 8)
    assert "mlp_inner" not in found
    found = convert.configuration(mamba(second=True), {}, "m2")
    assert (found["mixers"], found["inner"], found["d_state"]) == (["mamba2"], 512, 64)


def test_softmax_attention_alone_looks_at_all_keys(convert):
    tensors = {name: t for name, t in based().items() if ".mixer." not in name}
    for layer in range(3):
        mixer = f"transformer.layers.{layer}.mixer."
        tensors |= zeros({mixer + "Wqkv.weight": (384, 128), mixer + "out_proj.weight": (128, 128)})
    found = convert.configuration(tensors, {}, "t")
    assert found["mixers"] == ["attention"] * 3
    assert found["rotated"] == 32
    assert "window" not in found


def test_what_no_shape_tells_is_the_published_configurations(convert):
    said = {"mixer": {"window_size": [64, 0]}, "rotary_emb_fraction": 0.5, "rotary_emb_base": 5000}
    found = convert.configuration(based(), said, "t")
    assert (found["window"], found["rotated"], found["rotary_base"]) == (65, 32, 5000)


def test_names_are_cleaned_and_a_tied_head_is_left_out(convert):
    tensors = {f"model.{name}": tensor for name, tensor in based().items()}
    tensors["metrics.loss"] = np.zeros(1)
    tensors["lm_head.weight"] = np.zeros((104, 128), np.float32)
    assert convert.cleaned(tensors, np.array_equal).keys() == based().keys()
    tensors["lm_head.weight"][3, 4] = 1
    with pytest.raises(convert.ConversionError, match="only tied heads"):
        convert.cleaned(tensors, np.array_equal)
    with pytest.raises(convert.ConversionError, match="no embedding"):
        convert.cleaned({"weight": np.zeros(1)}, np.array_equal)


def test_a_configuration_that_says_otherwise_is_told(convert):
    found = convert.configuration(based(), {}, "t")
    assert (
        list(convert.disagreements(found, {"n_embd": 128, "n_layer": 3, "vocab_size": 100})) == []
    )
    lines = list(convert.disagreements(found, {"n_embd": 256, "n_layer": 27, "vocab_size": 50257}))
    assert lines == [
        "config.json says n_embd 256, the tensors width 128",
        "config.json says n_layer 27, the tensors layers 3",
        "config.json says vocab_size 50257, the tensors vocabulary 104",
    ]


def test_what_is_no_known_model_is_refused(convert):
    gap = {name: t for name, t in based().items() if ".layers.1." not in name}
    with pytest.raises(convert.ConversionError, match=r"layers \[0, 2\]"):
        convert.configuration(gap, {}, "t")
    with pytest.raises(convert.ConversionError, match=r"layers \[\]"):
        convert.configuration(zeros({"backbone.embedding.weight": (8, 8)}), {}, "t")
    hyena = based() | zeros({"transformer.layers.3.mixer.filter": (3, 3)})
    with pytest.raises(convert.ConversionError, match="layer 3 is no mixer that is known"):
        convert.configuration(hyena, {}, "t")
    other = based()
    other["transformer.layers.2.mixer.Wqkv.weight"] = np.zeros((768, 128), np.float32)
    with pytest.raises(convert.ConversionError, match="layer 2 has heads 4, the ones before it 2"):
        convert.configuration(other, {}, "t")


def test_half_a_file_is_never_left(convert, tmp_path):
    def fails(tensors, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        convert.write(tmp_path / "m", {}, {}, fails)
    assert list((tmp_path / "m").iterdir()) == []


def test_help_and_a_folder_without_weights(run, script, tmp_path):
    done = run(script("convert_checkpoint"), "--help")
    assert done.returncode == 0
    assert "pytorch_model.bin" in done.stdout
    done = run(script("convert_checkpoint"), tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert "holds no pytorch_model.bin" in done.stderr


def test_a_whole_checkpoint(run, script, tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.numpy")
    source = tmp_path / "source"
    source.mkdir()
    tensors = {name: torch.from_numpy(t) + 0.5 for name, t in based().items()}
    torch.save({f"model.{name}": t for name, t in tensors.items()}, source / "pytorch_model.bin")
    (source / "config.json").write_text('{"n_layer": 27}')
    done = run(sys.executable, script("convert_checkpoint"), source, tmp_path / "target")
    assert done.returncode == 0, done.stderr
    assert "n_layer 27" in done.stderr
    assert "target, 3 layers" in done.stdout
    written = safetensors.load_file(tmp_path / "target" / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all((t == 0.5).all() for t in written.values())
    config = json.loads((tmp_path / "target" / "config.json").read_text())
    assert config["name"] == "target"


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (b"", "pytorch_model.bin cannot be read: "),
        (b"no checkpoint", "pytorch_model.bin holds more than tensors, or is damaged"),
        ([1, 2], "is no dictionary of tensors"),
        ({"epoch": 3}, "is no dictionary of tensors: epoch is none"),
        ({"when": Path()}, "holds more than tensors"),
        ({}, "has no embedding"),
    ],
)
def test_a_foreign_file_is_one_line(run, script, tmp_path, held, says):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(held) if isinstance(held, bytes) else torch.save(held, file)
    done = run(sys.executable, script("convert_checkpoint"), tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_both_formats_of_a_file_are_read(convert, tmp_path):
    torch = pytest.importorskip("torch")
    for is_newer in (False, True):
        file = tmp_path / f"{is_newer}.bin"
        torch.save({"x": torch.ones(3)}, file, _use_new_zipfile_serialization=is_newer)
        assert torch.equal(convert.loaded(file)["x"], torch.ones(3))


def test_a_layer_with_other_tensors_is_refused(convert):
    other = based()
    del other["transformer.layers.0.mixer.out_proj.weight"]
    with pytest.raises(convert.ConversionError, match="layer 0 is no base_conv that is known"):
        convert.configuration(other, {}, "t")
