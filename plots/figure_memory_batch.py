"""Peak memory of prefill against batch."""

from plots.axes import MEMORY
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 20
figure = Curves(
    "How much memory does prefill take as the batch grows?",
    "B",
    MEMORY,
    PREFILL,
    {"H": 16, "N": 8192},
)
