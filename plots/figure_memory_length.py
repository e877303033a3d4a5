"""Peak memory of prefill against sequence length."""

from plots.axes import MEMORY
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 21
figure = Curves(
    "How much memory does prefill take as sequences grow?", "N", MEMORY, PREFILL, {"H": 16, "B": 16}
)
