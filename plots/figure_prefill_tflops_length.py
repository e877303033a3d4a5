"""Nominal TFLOP/s of prefill against sequence length: each function's formula of work over time."""

from plots.axes import TFLOPS
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 12
figure = Curves(
    "How many TFLOP/s does prefill reach as sequences grow?",
    "N",
    TFLOPS,
    PREFILL,
    {"H": 16, "B": 16},
)
