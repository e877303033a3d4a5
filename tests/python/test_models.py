"""Trained models through Python: logits and greedy text beside float64 NumPy, on tiny models."""

import json
import struct
import subprocess
import sys

import model_reference as reference
import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="models have a tokenizer: pip install tokenizers")

from based_bench.models import ModelError, _require_gpu, load
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WIDTH, VOCABULARY, INNER = 256, 264, 192
COMMON = {"width": WIDTH, "vocabulary": VOCABULARY}
GPT = COMMON | {"mlp_inner": INNER, "heads": 4, "rotary_base": 10000.0, "head_norm": False}
BASED = GPT | {
    "mixers": ["base_conv", "linear_attention", "window_attention"],
    "window": 20,
    "rotated": 64,
    "inner": 256,
    "taps": 3,
}
CONFIGS = {
    "based": BASED,
    "based-gnorm": BASED | {"head_norm": True},
    "attention": GPT | {"mixers": ["attention"] * 2, "rotated": 32},
    "mamba": COMMON
    | {"mixers": ["mamba"] * 2, "inner": 256, "taps": 4, "d_state": 16, "dt_rank": 8},
    "mamba2": COMMON | {"mixers": ["mamba2"] * 2, "inner": 512, "taps": 4, "d_state": 64},
}
TEXT = "A based model reads a long text once, keeps a small state, and goes on from it. " * 3


def tensors_of(config, seed=1):
    """Random weights by the published names and shapes; decays and step sizes as layers have."""
    random = np.random.default_rng(seed)

    def matrix(*shape):
        return random.standard_normal(shape) * 0.7 / shape[-1] ** 0.5

    def vector(*shape):
        return 0.2 * random.standard_normal(shape)

    def norm(size):
        return 1 + vector(size)

    inner, states = config.get("inner", 0), config.get("d_state", 0)
    heads, width = inner // 64, WIDTH

    def mixer(kind):
        if kind == "base_conv":
            return {
                "in_proj.weight": matrix(2 * inner, width),
                "in_proj.bias": vector(2 * inner),
                "conv.conv.weight": matrix(inner, 1, 3),
                "out_proj.weight": matrix(width, inner),
                "out_proj.bias": vector(width),
            }
        if kind == "linear_attention":
            found = {f"proj_{n}.weight": 2 * matrix(64, width) for n in "qk"}
            found |= {f"{n}.weight": matrix(width, width) for n in ("proj_v", "out_proj")}
            return found | ({"g_norm.weight": norm(64)} if config["head_norm"] else {})
        if kind in ("attention", "window_attention"):
            return {
                "Wqkv.weight": 2 * matrix(3 * width, width),
                "out_proj.weight": matrix(width, width),
            }
        if kind == "mamba":
            return {
                "in_proj.weight": matrix(2 * inner, width),
                "conv1d.weight": matrix(inner, 1, 4),
                "conv1d.bias": vector(inner),
                "x_proj.weight": matrix(config["dt_rank"] + 2 * states, inner),
                "dt_proj.weight": matrix(inner, config["dt_rank"]),
                "dt_proj.bias": vector(inner) - 4,
                "A_log": np.log(np.tile(np.arange(1.0, states + 1), (inner, 1))),
                "D": norm(inner),
                "out_proj.weight": matrix(width, inner),
            }
        return {
            "in_proj.weight": matrix(2 * inner + 2 * states + heads, width),
            "conv1d.weight": matrix(inner + 2 * states, 1, 4),
            "conv1d.bias": vector(inner + 2 * states),
            "dt_bias": vector(heads) - 4,
            "A_log": np.log(1 + 15 * random.random(heads)),
            "D": norm(heads),
            "norm.weight": norm(inner),
            "out_proj.weight": matrix(width, inner),
        }

    is_gpt = "mlp_inner" in config
    root = "transformer." if is_gpt else "backbone."
    embedding = "embeddings.word_embeddings.weight" if is_gpt else "embedding.weight"
    found = {root + embedding: matrix(VOCABULARY, width) * width**0.5}
    found[root + ("ln_f.weight" if is_gpt else "norm_f.weight")] = norm(width)
    for index, kind in enumerate(config["mixers"]):
        layer = f"{root}layers.{index}."
        found |= {f"{layer}mixer.{name}": tensor for name, tensor in mixer(kind).items()}
        found[layer + ("norm1.weight" if is_gpt else "norm.weight")] = norm(width)
        if is_gpt:
            found[layer + "norm2.weight"] = norm(width)
            found[layer + "mlp.fc1.weight"] = matrix(2 * INNER, width)
            found[layer + "mlp.fc2.weight"] = matrix(width, INNER)
    return {name: np.asarray(tensor, np.float32) for name, tensor in found.items()}


def write(folder, config, tensors):
    folder.mkdir(exist_ok=True)
    header, offset = {}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module", params=CONFIGS)
def stored(request, tmp_path_factory):
    """(folder, tensors, config); a name of its own, for a model stays known in a process."""
    made = tmp_path_factory.mktemp("models")
    config = CONFIGS[request.param] | {"name": f"tested-{request.param}-{made.name}"}
    tensors = tensors_of(config)
    return write(made / request.param, config, tensors), tensors, config


@pytest.fixture(scope="module")
def trained(stored):
    folder, tensors, config = stored
    return load(str(folder), "cpu"), tensors, config


def device_or_skip(device):
    if device == "cuda":
        try:
            _require_gpu()
        except ModelError as error:
            pytest.skip(str(error))
    return device


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def on_device(request, stored):
    """(model, tensors, config) on each device that there is, and what a logit may be off by, as a
    share of the largest: what float32 and bfloat16 round."""
    folder, tensors, config = stored
    device = device_or_skip(request.param)
    return load(str(folder), device), tensors, config, 1e-3 if device == "cpu" else 5e-2


def ids_of(batch, length, seed=3):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))


@pytest.mark.parametrize("length", [1, 2, 19, 20, 21, 65, 200])
def test_logits_are_those_of_the_definition(trained, length):
    model, tensors, config = trained
    ids = ids_of(2, length)
    wanted = np.stack([reference.logits(tensors, config, each)[-1] for each in ids])
    found = model.logits(ids)
    assert found.dtype == np.float32
    error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < 2e-5


def test_the_reference_depends_on_every_tensor(trained):
    """A tensor that the reference did not use would be one that the test above does not check."""
    _, tensors, config = trained
    ids = ids_of(1, 30)[0]
    plain = reference.logits(tensors, config, ids)
    for name in tensors:
        changed = tensors | {name: tensors[name] * 1.5 + 0.1}
        assert not np.allclose(reference.logits(changed, config, ids), plain, rtol=1e-6), name


def test_logits_of_a_gpu(stored):
    folder, tensors, config = stored
    model = load(str(folder), device_or_skip("cuda"))
    ids = ids_of(2, 65)
    wanted = np.stack([reference.logits(tensors, config, each)[-1] for each in ids])
    error = np.sqrt(((model.logits(ids) - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < 5e-2


def test_greedy_text_is_that_of_prompts_read_again_and_again(on_device):
    model, tensors, config, rounding = on_device
    ids = ids_of(2, 17)
    new = model.generate(ids, 9)
    for prompt, found in zip(ids, new, strict=True):
        read = list(prompt)
        for token in found:
            logits = reference.logits(tensors, config, np.array(read))[-1]
            assert logits[token] >= logits.max() - rounding * np.abs(logits).max()
            read.append(token)
    assert new[1] == model.generate(ids[1:], 9)[0]


def test_draws_are_of_the_largest_logits_and_of_their_seed(on_device):
    model, tensors, config, rounding = on_device
    ids, largest = ids_of(2, 17), 4
    options = {"temperature": 1000.0, "top_k": largest}  # all of them as likely
    new = model.generate(ids, 9, **options, seed=1)
    for prompt, found in zip(ids, new, strict=True):
        read = list(prompt)
        for token in found:
            logits = reference.logits(tensors, config, np.array(read))[-1]
            least = np.sort(logits)[-largest]
            assert logits[token] >= least - rounding * np.abs(logits).max()
            read.append(token)
    assert new == model.generate(ids, 9, **options, seed=1)
    assert new != model.generate(ids, 9, **options, seed=2)
    assert model.generate(ids, 9, temperature=1000.0, top_k=1) == model.generate(ids, 9)


def test_draws_have_the_softmax_as_probability(on_device):
    model, tensors, config, _ = on_device
    rows, ids = 4000, ids_of(1, 3)
    logits = reference.logits(tensors, config, ids[0])[-1]
    temperature = float(logits.std())
    weights = np.exp((logits - logits.max()) / temperature)
    weights /= weights.sum()
    drawn = model.generate(np.repeat(ids, rows, 0), 2, temperature=temperature)
    counts = np.bincount([first for first, _ in drawn], minlength=VOCABULARY)
    likely = np.argsort(weights)[-VOCABULARY // 8 :]
    share = weights[likely].sum()
    spread = np.sqrt(share * (1 - share) / rows)
    assert abs(counts[likely].sum() / rows - share) < 5 * spread + 0.02
    assert len({tuple(each) for each in drawn}) > len({first for first, _ in drawn})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1.0, "top_k": VOCABULARY + 1}, f"from 0 to {VOCABULARY}"),
    ],
)
def test_bad_sampling_is_one_line(trained, options, says):
    with pytest.raises(ModelError, match=says):
        trained[0].generate([[1]], 2, **options)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([[]], "at least 1"),
        ([[1], [1, 2]], r"\[1, 2\] tokens"),
        ([[0, VOCABULARY]], f"id {VOCABULARY} is outside the vocabulary"),
        ([[-1]], "id -1 is outside"),
    ],
)
def test_bad_ids_are_one_line(trained, ids, says):
    with pytest.raises(ModelError, match=says):
        trained[0].generate(ids, 2)


def test_what_is_no_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json: cannot be read|neither|no model"):
        load(str(tmp_path), "cpu")
    folder = write(tmp_path / "m", CONFIGS["mamba"], tensors_of(CONFIGS["mamba"]))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors: .*truncated"):
        load(str(folder), "cpu")


def test_a_gpu_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("based_bench.models._best_device", lambda: "cpu")
    with pytest.raises(ModelError, match="GPU"):
        load(str(tmp_path), "cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_command_lines(tmp_path, device):
    device_or_skip(device)
    folder = write(tmp_path / "m", CONFIGS["based"], tensors_of(CONFIGS["based"]))
    rows = [{"text": TEXT, "key": "keeps", "value": "a small state"}] * 3
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(module, *arguments):
        command = [sys.executable, "-m", f"based_bench.{module}", "--model", str(folder)]
        return subprocess.run(
            [*command, "--device", device, *arguments], capture_output=True, text=True, check=False
        )

    done = run("generate", "A based model", "--new-tokens", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A based model")
    assert "4 new" in done.stderr
    drawn = [
        run("generate", "A based model", "--temperature", "99", "--top-k", "200", "--seed", seed)
        for seed in ("1", "1", "2")
    ]
    assert all(each.returncode == 0 for each in drawn), drawn[0].stderr
    assert drawn[0].stdout == drawn[1].stdout != drawn[2].stdout
    assert run("generate", "A", "--temperature", "-1").returncode == 2
    assert run("generate", "A", "--top-k", "5").returncode == 2
    assert run("generate", "A", "--temperature", "1", "--top-k", "265").returncode == 2
    data = ("--data", str(tmp_path / "data.jsonl"), "--new-tokens", "3", "--batch", "2")
    done = run("document_ie", *data, "--window", "30", "--out", str(tmp_path / "answers.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "% of 3 right" in done.stdout
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3
    assert run("generate", "").returncode == 2
    assert run("document_ie", "--data", "nothing").returncode == 2
