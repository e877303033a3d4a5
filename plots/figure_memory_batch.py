"""Based prefill: peak memory against batch.

Inputs, outputs and workspace on the device; where an implementation runs out, a mark says so.
"""

from plots.lines import line_figure
from plots.model import BATCH, MEMORY, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="memory_batch",
        title="Based prefill: peak memory against batch",
        operation="prefill",
        over="B",
        x=BATCH,
        y=MEMORY,
    )
