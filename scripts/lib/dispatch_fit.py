"""Fits the constants of the Based prefill's dispatcher to a measurement of forced variants.

The model runs in the C++ program based_predict, once for each set of constants. First least squares
on the logarithms of expected over measured times (Levenberg and Marquardt's method), in which
variants that come near a problem's fastest count most; then a search, one constant after another,
for what the choices lose against the fastest.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

_NEAR = 0.25  # a variant this much slower than the fastest counts half in the fit
_STEP = 1e-3  # relative, of the numerical derivatives
_TOLERATED = 0.03  # what a choice may lose before it counts as wrong
_BEARABLE = 0.09  # what none may lose


class Model:
    """based_predict with a document's problems; times are in us, infinite where not measured."""

    def __init__(self, program: Path, document: dict):
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        _, *known = self._ask(f"card {document['device']}").split()
        self.known = np.array([float(value) for value in known])
        problems = document["problems"]
        for problem in problems:
            self._ask("problem {heads} {seqlen} {options}".format(**problem))
        self.variants = sorted({variant for problem in problems for variant in problem["us"]})
        self.measured = np.array(
            [[problem["us"].get(name, np.inf) for name in self.variants] for problem in problems]
        )
        self.parts = np.array(
            [[problem["parts"].get(name, 1) for name in self.variants] for problem in problems]
        )
        self.best = self.measured.min(axis=1)

    def _ask(self, request: str) -> str:
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"based_predict does not answer '{request[:40]}'")
        return answer.strip()

    def expect(self, constants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected times and planned parts, as `measured` is laid out."""
        times = np.full(self.measured.shape, np.inf)
        parts = np.zeros(self.measured.shape, dtype=int)
        answer = self._ask("expect " + " ".join(repr(float(value)) for value in constants))
        for row, text in enumerate(answer.split(";")[:-1]):
            for word in text.split():
                name, _, value = word.partition("=")
                if name in self.variants:
                    us, _, planned = value.partition(":")
                    column = self.variants.index(name)
                    times[row, column], parts[row, column] = float(us), int(planned)
        return times, parts

    def losses(self, constants: np.ndarray) -> np.ndarray:
        """What each problem's choice takes longer than the fastest, relative.

        A choice that was not measured, or with another plan, is infinitely bad.
        """
        times, parts = self.expect(constants)
        rows = np.arange(len(self.best))
        chosen = times.argmin(axis=1)
        took = np.where(
            parts[rows, chosen] == self.parts[rows, chosen], self.measured[rows, chosen], np.inf
        )
        return took / self.best - 1


def summary(losses: np.ndarray) -> str:
    return (
        f"{100 * np.mean(losses <= _TOLERATED):.1f} % of {len(losses)} choices within "
        f"{100 * _TOLERATED:.0f} % of the fastest, the worst {100 * losses.max():.1f} % slower"
    )


def fit(model: Model, say: Callable[[str], None]) -> np.ndarray:
    constants = _least_squares(model, model.known, np.inf, say)
    constants = _least_squares(model, constants, 0.05, say)
    constants = _fewest_wrong(model, constants, say)
    return np.array([float(f"{value:.4g}") for value in constants])


def names_of_constants(header: Path) -> list[str]:
    """The names in the first card's block of the C++ header, in the order of their declaration,
    which the compiler holds such a block to."""
    block = re.search(r"^  // begin .*?^  // end ", header.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"^ *\.(\w+) = ", block.group() if block else "", re.MULTILINE)


def write_constants(header: Path, document: dict, constants: np.ndarray) -> None:
    """Replace the block of the document's card in the C++ header, or add one."""
    card, names = document["device"], names_of_constants(header)
    if len(names) != len(constants):
        raise ValueError(f"{header} names {len(names)} constants, the model has {len(constants)}")
    begin, end = f"  // begin {card}\n", f"  // end {card}\n"
    values = "".join(
        f"    .{name} = {value:g},\n" for name, value in zip(names, constants, strict=True)
    )
    block = f'{begin}  {{"{card}", {document["multiprocessors"]}, {{\n{values}  }}}},\n{end}'
    text = header.read_text()
    if begin in text:
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
    else:
        before, separator, after = text.partition("};\n// clang-format on")
        after = separator + after
    header.write_text(before + block + after)


def _residuals(model: Model, constants: np.ndarray) -> np.ndarray:
    times, _ = model.expect(constants)
    there = np.isfinite(model.measured) & np.isfinite(times)
    slower = model.measured / model.best[:, None] - 1
    weights = 1 / (1 + slower / _NEAR)
    logs = np.where(
        there, np.log(np.where(there, times / np.where(there, model.measured, 1), 1)), 0
    )
    wrong = logs * np.where(there, weights, 0)
    return wrong.ravel()


def _least_squares(
    model: Model, start: np.ndarray, large: float, say: Callable[[str], None]
) -> np.ndarray:
    """With residuals beyond `large` counted by their size, not its square."""

    def cost(residuals: np.ndarray) -> float:
        squares = residuals**2
        return float((2 * squares / (1 + np.sqrt(1 + squares / large**2))).sum())

    logs, damping = np.log(start), 1e-2
    residuals = _residuals(model, np.exp(logs))
    for _ in range(60):
        slopes = np.empty((residuals.size, logs.size))
        for i in range(logs.size):
            moved = logs.copy()
            moved[i] += _STEP
            slopes[:, i] = (_residuals(model, np.exp(moved)) - residuals) / _STEP
        robust = 1 / np.sqrt(1 + (residuals / large) ** 2)
        normal = slopes.T @ (robust[:, None] * slopes)
        gradient = slopes.T @ (robust * residuals)
        before = cost(residuals)
        while damping < 1e6:
            step = np.linalg.solve(
                normal + damping * np.diag(np.diag(normal) + 1e-6), -gradient
            ).clip(-0.5, 0.5)
            moved = _residuals(model, np.exp(logs + step))
            if cost(moved) < before:
                break
            damping *= 4
        else:
            break
        logs, residuals, damping = logs + step, moved, damping / 4
        if before - cost(residuals) < 1e-6 * before:
            break
    root = np.sqrt(np.mean(residuals**2))
    say(f"least squares: residual {100 * root:.1f} %; {summary(model.losses(np.exp(logs)))}")
    return np.exp(logs)


def _fewest_wrong(model: Model, constants: np.ndarray, say: Callable[[str], None]) -> np.ndarray:
    fitted = np.log(constants)

    def loss(values: np.ndarray) -> float:
        each = np.minimum(model.losses(values), 1)
        beyond = np.maximum(each - _TOLERATED, 0) + 10 * np.maximum(each - _BEARABLE, 0)
        # What is lost, what is lost beyond the tolerance, and how far it strays from the fit.
        return each.sum() + 10 * beyond.sum() + 0.2 * ((np.log(values) - fitted) ** 2).sum()

    best, improved = loss(constants), True
    for factor in (1.5, 1.2, 1.1, 1.04, 1.015, 1.005):
        improved = True
        while improved:
            improved = False
            for i in range(constants.size):
                for scale in (factor, 1 / factor):
                    moved = constants.copy()
                    moved[i] *= scale
                    value = loss(moved)
                    if value < best - 1e-6:
                        constants, best, improved = moved, value, True
    say(f"local search: {summary(model.losses(constants))}")
    return constants
