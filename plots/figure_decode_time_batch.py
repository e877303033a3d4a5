"""Time of a decode step against batch: one token of every sequence."""

from plots.axes import TIME
from plots.curves import Curves

ORDER = 30
figure = Curves("How long does one decode step of Based take?", "B", TIME, ("decode",), {"H": 16})
