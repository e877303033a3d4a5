"""Time of a sliding-window step against batch: one query over the last W keys and values."""

from plots.axes import TIME
from plots.curves import Curves

ORDER = 31
figure = Curves(
    "How long does one step of a sliding window take?",
    "B",
    TIME,
    ("sliding_window",),
    {"H": 16, "W": 64},
)
