"""Based decode step: time against batch.

One token's update of every sequence's recurrent state.
"""

from plots.lines import line_figure
from plots.model import BATCH, TIME, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="decode_time_batch",
        title="Based decode step: time against batch",
        operation="decode",
        over="B",
        x=BATCH,
        y=TIME,
    )
