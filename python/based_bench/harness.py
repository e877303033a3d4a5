"""The benchmark's harness for Python callables: the same inputs, float64 references, timing and
results as for the implementations of this project.

    rows = based_bench.measure(lambda q, k, v: ..., "prefill", batch=4, heads=16, seqlen=2048)

A row is a dict, as in a results file: status, real_time in us, rel_err, samples_us and so on. What
is not right, or takes what it was not asked for, is a row of status "error" without a time.

On a GPU a callable gets PyTorch tensors, and runs from a CUDA graph, so that the time is the GPU's
alone. What cannot be captured is queued behind a kernel that spins for longer than the host needs;
the row says which, as "queued".
"""

import atexit
import contextlib
import functools
import importlib
import json
import pathlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

from based_bench import _core

# A callable keeps its own precision; what this must catch is another function, which is off by 1e-1
# and more. The error itself stands in the row.
TOLERANCE = 2e-2


class UnavailableError(Exception):
    """This build of the package has no harness."""


@dataclass(frozen=True)
class Original:
    """Code of others, as it is measured.

    prepare(given, params) gets the tensors by name, in the operation's layouts, and the values of
    its axes by flag ("head-dim"); it returns call, or (call, outputs). call() launches the code,
    and is all that is timed; outputs(result) gives the operation's outputs by name, in its layouts,
    of what call() returned (by default that is the one output, or a dict). Tensors that the
    operation updates are to be updated in place.
    """

    name: str
    operation: str
    prepare: Callable
    module: str = "torch"  # what must import
    install: str = "install PyTorch built for CUDA"  # what to do where it does not
    version: Callable[[], str] | str = ""  # which one it is, for its rows
    summary: str = ""
    # Flags of axes that it takes where their values are not the usual ones.
    takes: frozenset = frozenset()
    # Why it cannot run these params, or None.
    cannot: Callable[[dict], str | None] = field(default=lambda params: None)
    tolerance: float = TOLERANCE
    form: str = ""  # the implementation whose form of a problem it takes
    device: str = "cuda"
    type: str = "bf16"
    # It launches on CUDA's default stream, whatever PyTorch's current one is.
    on_default_stream: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here; None where it can."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # a broken extension may raise anything
            reason = " ".join(str(error).split())
            return f"{self.module} does not import ({type(error).__name__}: {reason})"
        return None


def add(original: Original) -> None:
    """Makes an original an implementation of its operation, in the place of one of its name that
    was added before."""
    version = original.version if isinstance(original.version, str) else original.version()
    about = {
        "name": original.name,
        "summary": original.summary or f"{original.module}, called from Python",
        "version": version,
        "device": original.device,
        "type": original.type,
        "tolerance": float(original.tolerance),
        "form": original.form,
    }

    @_telling
    def unsupported(values, unusual):
        for flag in unusual:
            if str(flag) not in original.takes:
                return f"the original takes no --{flag}"
        return original.cannot(_params(values))

    @_telling
    def bind(values, names, roles, tensors, stream):
        framework = _Torch if original.device == "cuda" else _Numpy
        tensors = dict(zip(map(str, names), tensors, strict=True))
        roles = dict(zip(tensors, map(str, roles), strict=True))
        return framework(original, _params(values), tensors, roles, stream).bound()

    _library().add_implementation(original.operation, about, unsupported, bind)


def run(arguments: list[str]) -> int:
    """The program based_bench with these arguments, its implementations and the originals that were
    added; its exit status."""
    return int(_library().run_suite([str(argument) for argument in arguments]))


def measure(
    call: Callable,
    operation: str,
    *,
    name: str = "callable",
    device: str = "cpu",
    tolerance: float = TOLERANCE,
    time_cap: float = 10.0,
    seed: int = 1,
    **axes,
) -> list[dict]:
    """Verifies and times call(**inputs), which returns the operation's output, or a dict of them.

    `axes` are based_bench's, with _ for -: values or texts as "1024:8192:*2", each combination a
    row. The inputs are NumPy arrays where `device` is "cpu", PyTorch tensors where it is "cuda".
    """

    def prepare(given, params):
        return lambda: call(**given)

    takes = frozenset(flag.replace("_", "-") for flag in axes)
    type_ = "f32" if device == "cpu" else "bf16"
    module = "numpy" if device == "cpu" else "torch"
    add(
        Original(
            name,
            operation,
            prepare,
            module=module,
            takes=takes,
            tolerance=tolerance,
            device=device,
            type=type_,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "rows.json"
        status = run(
            [
                f"--device={device}",
                f"--benchmark_filter=^{operation}/{name}/",
                f"--implementation={name}",
                f"--time-cap={time_cap}",
                f"--seed={seed}",
                f"--benchmark_out={out}",
                *(f"--{flag.replace('_', '-')}={value}" for flag, value in axes.items()),
            ]
        )
        if status == 2 or not out.exists():
            raise ValueError("the harness took no such call: it said why above")
        return json.loads(out.read_text(encoding="utf-8"))["benchmarks"]


def _telling(function):
    """The function, whose errors say of what kind they are: the C++ side sees their text alone."""

    @functools.wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except Exception as error:
            kind = type(error).__name__
            if kind in ("OutOfMemoryError", "MemoryError"):
                raise RuntimeError("out of memory") from error
            raise RuntimeError(f"{kind}: {error}") from error

    return call


@functools.cache
def _library():
    library = _core.library()
    if not hasattr(library, "run_suite"):
        raise UnavailableError(
            "this build of based_bench has no harness: build it with "
            "-C cmake.define.BASED_BENCHMARKS=ON, which needs Google Benchmark (libbenchmark-dev)"
        )
    atexit.register(library.forget_implementations)
    return library


def _params(values) -> dict:
    return {
        str(flag): value if isinstance(value, (int, float)) else str(value)
        for flag, value in values.items()
    }


class _Call:
    """An original on one set of tensors."""

    queued = ""
    own_bytes = 0

    def __init__(self, original, params, given, roles):
        self._given = given
        self._written = [name for name, role in roles.items() if role != "input"]
        self._outputs = [name for name, role in roles.items() if role == "output"]
        # Outputs are the harness's to check: the original has its own.
        shown = {name: each for name, each in given.items() if name not in self._outputs}
        prepared = original.prepare(shown, params)
        self._call, self._view = prepared if isinstance(prepared, tuple) else (prepared, None)
        self._result = None

    def results(self) -> dict:
        """What the last call gave, by the names of outputs."""
        if self._view is not None:
            return self._view(self._result)
        if isinstance(self._result, dict):
            return self._result
        if len(self._outputs) != 1:
            raise TypeError(f"the callable must return a dict of {', '.join(self._outputs)}")
        return {self._outputs[0]: self._result}

    def launch(self):
        self._result = self._call()

    def deliver(self):
        results = self.results()
        for name in self._outputs:
            if name not in results:
                raise KeyError(f"the callable returned no {name}")
            given, got = self._given[name], results[name]
            if tuple(got.shape) != tuple(given.shape):
                raise ValueError(
                    f"{name} has the shape {tuple(got.shape)}, not {tuple(given.shape)}"
                )
            self._copy(given, got)

    def release(self):
        self._given = self._call = self._view = self._result = None

    def bound(self) -> dict:
        return {
            "launch": _telling(self.launch),
            "deliver": _telling(self.deliver),
            "release": self.release,
            "own_bytes": int(self.own_bytes),
            "queued": self.queued,
            "capturable": False,  # a launch of a graph cannot be captured into another
        }


class _Numpy(_Call):
    def __init__(self, original, params, tensors, roles, stream):
        import numpy

        given = {name: numpy.from_dlpack(tensor) for name, tensor in tensors.items()}
        super().__init__(original, params, given, roles)

    def _copy(self, given, got):
        given[...] = got


class _Torch(_Call):
    """On the harness's stream, which becomes PyTorch's current one."""

    def __init__(self, original, params, tensors, roles, stream):
        import torch

        self._torch = torch
        given = {name: torch.from_dlpack(tensor) for name, tensor in tensors.items()}
        device = next(iter(given.values())).device
        self._stream = torch.cuda.ExternalStream(stream, device=device)
        torch.cuda.set_stream(self._stream)
        self._graph = None
        self._on_default_stream = original.on_default_stream
        with torch.no_grad():
            super().__init__(original, params, given, roles)
            kept = {
                name: given[name].clone() for name in self._written if name not in self._outputs
            }
            self._warm_up()
            self._capture()
            for name, tensor in kept.items():
                given[name].copy_(tensor)
            self._poison()
        self._stream.synchronize()

    def _warm_up(self):
        """Compiles and tunes what does so at its first calls; and reads what a call allocates."""
        torch = self._torch
        self._eager()
        torch.cuda.synchronize()
        self._result = None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self._eager()
        torch.cuda.synchronize()
        # Its own outputs take the place of the harness's, which are counted.
        outputs = sum(self._given[name].nbytes for name in self._outputs)
        self.own_bytes = max(torch.cuda.max_memory_allocated() - before - outputs, 0)

    @contextlib.contextmanager
    def _its_stream(self):
        """PyTorch's current stream where the original launches: what it does with PyTorch before
        and behind its own kernels, and what holds its results, must be in one order with them."""
        if not self._on_default_stream:
            yield
            return
        default = self._torch.cuda.default_stream()
        default.wait_stream(self._stream)
        with self._torch.cuda.stream(default):
            yield
        self._stream.wait_stream(default)

    def _eager(self):
        with self._its_stream():
            self._result = self._call()

    def _capture(self):
        torch = self._torch
        if self._on_default_stream:
            self.queued = "spin: it launches on the default stream"
            return
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                result = self._call()
        except Exception as error:
            torch.cuda.synchronize()
            reason = " ".join(str(error).split())[:100]
            self.queued = f"spin: it cannot be captured ({reason})"
            return
        self._graph, self._result, self.queued = graph, result, "graph"

    def _poison(self):
        """NaN where the outputs will be: in a graph's, or in what the allocator hands out next."""
        torch = self._torch
        if self._graph is not None:
            given = {tensor.data_ptr() for tensor in self._given.values()}
            for tensor in self.results().values():
                if tensor.data_ptr() not in given:
                    tensor.fill_(float("nan"))
            return
        self._result = None
        largest = max(tensor.nbytes for tensor in self._given.values())
        with self._its_stream():  # the allocator has memory of each stream
            blocks = [
                torch.full((largest,), 0xFF, dtype=torch.uint8, device="cuda") for _ in range(2)
            ]
            del blocks

    def launch(self):
        if self._graph is not None:
            self._graph.replay()
            return
        with self._torch.no_grad():
            self._eager()

    def _copy(self, given, got):
        if given.data_ptr() != got.data_ptr():
            given.copy_(got)

    def release(self):
        super().release()
        self._graph = None
        self._torch.cuda.empty_cache()
