"""Prefill time against batch, the sources' first figure: Based beside what does its work."""

from plots.axes import TIME
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 10
figure = Curves(
    "How long does prefill take as the batch grows?", "B", TIME, PREFILL, {"H": 16, "N": 8192}
)
