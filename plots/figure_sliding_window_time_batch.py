"""Sliding-window decode: time against batch.

One query a sequence over the last W keys and values.
"""

from plots.lines import line_figure
from plots.model import BATCH, TIME, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="sliding_window_time_batch",
        title="Sliding-window decode: time against batch",
        operation="sliding_window",
        over="B",
        x=BATCH,
        y=TIME,
    )
