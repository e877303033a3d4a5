"""Trained models: their weights, their tokenizer, and generation by the operations model_prefill
and model_decode. On the CPU with NumPy in float32, on a GPU with PyTorch in bfloat16.
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from based_bench import _core
from based_bench.operators import call

TOKENIZER = "gpt2"  # of the published models


class ModelError(Exception):
    """A model cannot be loaded or run; the message is one line."""


def load(model: str, device: str | None = None) -> "Model":
    """A model from a folder that scripts/convert_checkpoint wrote, or by name from the Hugging Face
    hub. device: "cpu" or "cuda"; None: a GPU where PyTorch sees one and the build has CUDA."""
    folder = Path(model)
    if not folder.is_dir():
        folder = _fetched(model)
    if device == "cuda":
        _require_gpu()
    return Model(folder, device or _best_device())


def _require_gpu() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ModelError("a model on a GPU needs PyTorch: pip install torch")
    if _best_device() != "cuda":
        raise ModelError("PyTorch sees no GPU, or this build of based_bench has no CUDA")


def _best_device() -> str:
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    built = any(i["device"] == "cuda" for i in _core.describe()["model_prefill"]["implementations"])
    return "cuda" if built and torch.cuda.is_available() else "cpu"


def _fetched(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ModelError(
            f"{name} is no folder; to fetch a model by name: pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "model.safetensors"]))
    except Exception as error:  # the hub's errors are many, and of several packages
        raise ModelError(f"{name} cannot be fetched: {str(error).splitlines()[0]}") from None


class _Arrays:
    """Flat arrays of a device, as the two frameworks make them."""

    def __init__(self, device: str):
        if device == "cuda":
            import torch

            self.torch = torch
        self.device = device

    def weights(self, sizes, fill):
        """Both buffers of weights, filled on the CPU."""
        if self.device == "cpu":
            matrices = np.zeros(sizes["matrices"], np.float32)
            others = np.zeros(sizes["others"], np.float32)
            fill(matrices, others)
            return matrices, others
        matrices = self.torch.zeros(sizes["matrices"], dtype=self.torch.bfloat16)
        others = self.torch.zeros(sizes["others"])
        fill(matrices, others)
        return matrices.cuda(), others.cuda()

    def zeros(self, shape, kind="float"):
        """kind: "float", "int", or "element": what the implementation computes in."""
        if self.device == "cpu":
            return np.zeros(shape, np.int32 if kind == "int" else np.float32)
        types = {"float": "float32", "int": "int32", "element": "bfloat16"}
        return self.torch.zeros(shape, dtype=getattr(self.torch, types[kind]), device="cuda")

    def ids(self, values):
        array = np.asarray(values, np.int32)
        return array if self.device == "cpu" else self.torch.from_numpy(array).cuda()

    def host(self, array):
        return array if self.device == "cpu" else array.cpu().numpy()


class Model:
    """name, vocabulary, tokenizer (of the package tokenizers), device."""

    def __init__(self, folder: Path, device: str):
        self._folder, self.device = str(folder), device
        self._arrays = _Arrays(device)
        try:
            sizes = _core.library().model_sizes(self._folder, 1, 1)
            self.name, self.vocabulary = str(sizes["name"]), int(sizes["vocabulary"])
            self._axis = str(sizes["axis"])
            read = _core.library().read_checkpoint
            self._weights = self._arrays.weights(
                sizes, lambda matrices, others: read(self._folder, matrices, others)
            )
        except ValueError as error:
            raise ModelError(str(error)) from None
        self.tokenizer = _tokenizer(folder)

    def logits(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Of the token after each of these sequences of one length: [B, vocabulary], float32."""
        return self._arrays.host(self._prefill(self._checked(ids), {}))

    def generate(
        self,
        ids: Sequence[Sequence[int]],
        new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> list[list[int]]:
        """The most likely `new_tokens` tokens after each of these sequences of one length; with a
        temperature draws, from the `top_k` largest logits (0: from all), which the seed, the row
        and the position decide. On a GPU all steps but the first are replays of one CUDA graph."""
        if new_tokens < 1:
            raise ModelError(f"new_tokens is {new_tokens}; want at least 1")
        if not 0 <= temperature < math.inf:
            raise ModelError(f"temperature is {temperature}; want a number from 0 on")
        if not 0 <= top_k <= self.vocabulary:
            raise ModelError(f"top_k is {top_k}; want from 0 to {self.vocabulary}")
        ids = self._checked(ids)
        batch, length = ids.shape
        states = self._states(batch, length + new_tokens)
        logits = self._prefill(ids, states, slots=length + new_tokens)
        step = _Step(self, batch, length, length + new_tokens, states, (temperature, top_k, seed))
        step.choose(logits)
        tokens = [self._arrays.host(step.ids).copy()]
        for _ in range(new_tokens - 1):
            step.run()
            tokens.append(self._arrays.host(step.ids).copy())
        return np.stack(tokens, axis=1).tolist()

    def _checked(self, ids) -> np.ndarray:
        lengths = sorted({len(each) for each in ids})
        if len(lengths) != 1 or lengths[0] == 0:
            raise ModelError(f"prompts have {lengths} tokens; want one length of at least 1")
        array = np.asarray(ids, np.int64)
        outside = array[(array < 0) | (array >= self.vocabulary)]
        if outside.size:
            raise ModelError(
                f"the id {outside[0]} is outside the vocabulary of {self.name}: 0 to "
                f"{self.vocabulary - 1}"
            )
        return array.astype(np.int32)

    def _states(self, batch: int, slots: int) -> dict:
        sizes = _core.library().model_sizes(self._folder, batch, slots)
        kinds = {"recurrent": "float", "cached": "element"}
        return {n: self._arrays.zeros(int(sizes[n]), k) for n, k in kinds.items() if sizes[n]}

    def _read(self, ids) -> dict:
        return {"ids": ids, "matrices": self._weights[0], "others": self._weights[1]}

    def _prefill(self, ids: np.ndarray, states: dict, slots: int = 0):
        logits = self._arrays.zeros((len(ids), self.vocabulary))
        written = {"logits": logits, "early_logits": self._arrays.zeros(tuple(logits.shape))}
        read = self._read(self._arrays.ids(ids))
        call("model_prefill", read, written | states, model=self._axis, slots=slots)
        return logits


class _Step:
    """One token of each sequence after another: ids holds the last ones. Positions are those that
    were read last, until the token after them is chosen."""

    def __init__(
        self, model: Model, batch: int, length: int, slots: int, states: dict, sampling: tuple
    ):
        self._model, self._states, self._slots = model, states, slots
        self._sampling = sampling
        arrays = model._arrays
        self.ids = arrays.zeros(batch, "int")
        self._next = arrays.zeros(batch, "int")
        self._positions = arrays.zeros(batch, "int")
        self._positions += length - 1
        self._logits = arrays.zeros((batch, model.vocabulary))
        self._graph = None

    def choose(self, logits) -> None:
        _core.library().choose_tokens(logits, self._positions, self.ids, *self._sampling)

    def run(self) -> None:
        if self._model.device == "cpu":
            self._enqueue()
        elif self._graph is None:
            # A first step outside the graph makes what a graph may not: plans and workspaces.
            self._enqueue()
            torch = self._model._arrays.torch
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._enqueue()
        else:
            self._graph.replay()

    def _enqueue(self) -> None:
        read = self._model._read(self.ids) | {"positions": self._positions}
        written = {"logits": self._logits, "next": self._next} | self._states
        call("model_decode", read, written, model=self._model._axis, context=self._slots)
        self.choose(self._logits)


def _tokenizer(folder: Path):
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ModelError("texts need the package tokenizers: pip install tokenizers") from None
    file = folder / "tokenizer.json"
    try:
        return (
            Tokenizer.from_file(str(file))
            if file.is_file()
            else Tokenizer.from_pretrained(TOKENIZER)
        )
    except Exception as error:  # tokenizers raises Exception itself
        what = file if file.is_file() else f"the tokenizer {TOKENIZER}"
        raise ModelError(f"{what} cannot be read: {str(error).splitlines()[0]}") from None
