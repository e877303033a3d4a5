"""Prefill time against sequence length, the sources' second figure."""

from plots.axes import TIME
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 11
figure = Curves(
    "How long does prefill take as sequences grow?", "N", TIME, PREFILL, {"H": 16, "B": 16}
)
