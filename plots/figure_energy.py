"""Energy of a token against sequence length, of rows that were measured with --energy."""

from plots.axes import ENERGY
from plots.curves import Curves
from plots.figure import PREFILL

ORDER = 22
figure = Curves(
    "How much energy does prefill take a token as sequences grow?",
    "N",
    ENERGY,
    PREFILL,
    {"H": 16, "B": 16},
)
