"""One row of one original: inputs, call, verification, timing."""

import contextlib
import gc
import math
import signal

import numpy as np

from peers_lib import inputs
from peers_lib.document import absent_row, measured_row
from peers_lib.measure import Rule, Timer
from peers_lib.operations import Operation
from peers_lib.originals import Original

_SETUP_S = 120  # what a row may take besides its sampling: compilation, tuning, the reference


class Head:
    """given() of operations.py: a head's inputs, made again from their counters."""

    def __init__(self, operation: Operation, params: dict, seed: int):
        self._operation, self._params, self._seed = operation, params, seed
        self._tensors = operation.tensors(params)

    def __call__(self, name: str, head: int, rows: list[int] | None = None) -> np.ndarray:
        shape, stddev = self._tensors[name]
        of_head = shape[self._operation.head_dims :]
        first, count = head * math.prod(of_head), math.prod(of_head)
        if rows is not None:
            count //= of_head[0]
            drawn = [self._values(name, stddev, first + row * count, count) for row in rows]
            return np.stack(drawn).reshape(len(rows), *of_head[1:])
        values = self._values(name, stddev, first, count).reshape(of_head)
        return self._operation.arranged(self._params, name, values)

    def _values(self, name: str, stddev: float, first: int, count: int) -> np.ndarray:
        return inputs.numpy_values(self._seed, name, stddev, first, count)


class Runner:
    """Measures rows on the current GPU, one after the other."""

    def __init__(self, torch, seed: int, cap_s: float, ceilings: tuple[float, float]):
        self._torch, self._seed = torch, seed
        self._rule = Rule(cap_s)
        self._ceilings = ceilings
        self.timer = Timer(torch)
        self.lost = ""  # why the GPU takes no more work

    def row(self, original: Original, params: dict) -> dict:
        """The row, whatever happens."""
        named = original.operation.name, original.name, params
        if self.lost:
            return absent_row(*named, "error", f"not run: {self.lost}")
        try:
            with _time_limit(self._rule.cap_s + _SETUP_S), self._torch.no_grad():
                return self._measured(original, params)
        except self._torch.cuda.OutOfMemoryError as error:
            return absent_row(*named, "out_of_memory", str(error).partition(". GPU")[0])
        except Exception as error:
            status, reason = "error", f"{type(error).__name__}: {error}"
        finally:
            gc.collect()
            self._recover(original.name)
        return absent_row(*named, status, reason)

    def _recover(self, name: str) -> None:
        """Free what the row held; note where the GPU's context did not survive it."""
        try:
            self._torch.cuda.synchronize()
            self._torch.cuda.empty_cache()
        except Exception as error:
            self.lost = self.lost or f"the GPU was lost in a row of {name} ({error})"

    def _measured(self, original: Original, params: dict) -> dict:
        torch, operation = self._torch, original.operation
        named = operation.name, original.name, params
        before = torch.cuda.memory_allocated()
        data = self._data(operation, params)
        self._poison(data)
        bytes_of_data = sum(tensor.nbytes for tensor in data.values())
        call, view = original.prepare(torch, data, params)
        del data

        outputs = view(call())
        torch.cuda.synchronize()
        for name, tensor in outputs.items():
            if not bool(torch.isfinite(tensor).all()):
                return absent_row(*named, "error", f"not all of {name} is finite")
        rel_err = operation.error(
            params,
            Head(operation, params, self._seed),
            _downloads(operation, params, outputs),
            self._seed,
        )
        if not rel_err <= original.tolerance:
            return absent_row(
                *named,
                "error",
                f"computes another function: relative error {rel_err:.2e} is over "
                f"{original.tolerance:.1e}",
            )
        del outputs

        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        peak_bytes = torch.cuda.max_memory_allocated() - before

        def replicate(sets: int) -> list | None:
            if bytes_of_data * 2 * sets > torch.cuda.mem_get_info()[0]:
                return None
            first = self._data(operation, params)
            copies = [{name: each.clone() for name, each in first.items()} for _ in range(sets)]
            return [original.prepare(torch, copy, params)[0] for copy in copies]

        timing = self.timer.measure(call, replicate, self._rule)
        return measured_row(
            *named,
            operation.work(params),
            timing,
            peak_bytes=peak_bytes,
            rel_err=rel_err,
            tolerance=original.tolerance,
            ceilings=self._ceilings,
        )

    def _data(self, operation: Operation, params: dict) -> dict:
        """The operation's tensors on the GPU."""
        torch, data = self._torch, {}
        for name, (shape, stddev) in operation.tensors(params).items():
            tensor = inputs.torch_values(torch, self._seed, name, stddev, shape)
            if name in operation.arranged_names:
                values = operation.arranged(params, name, tensor.float().cpu().numpy())
                tensor.copy_(torch.from_numpy(values))
            data[name] = tensor
        return data

    def _poison(self, data: dict) -> None:
        """Leave NaN in what the allocator hands out next: outputs are the originals' own."""
        largest = max(tensor.nbytes for tensor in data.values())
        blocks = [
            self._torch.full((largest,), 0xFF, dtype=self._torch.uint8, device="cuda")
            for _ in range(2)
        ]
        del blocks


def _downloads(operation: Operation, params: dict, outputs: dict):
    """got() of operations.py."""

    def got(name: str, head: int) -> np.ndarray:
        at = divmod(head, params["H"]) if operation.head_dims == 2 else (head,)
        return outputs[name][at].float().cpu().numpy()

    return got


@contextlib.contextmanager
def _time_limit(seconds: float):
    """TimeoutError where the body takes longer; what runs inside C ends first."""

    def expire(*_):
        raise TimeoutError(f"not done in {seconds:.0f} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
