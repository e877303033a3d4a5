"""Based prefill: peak memory against sequence length.

Inputs, outputs and workspace on the device; where an implementation runs out, a mark says so.
"""

from plots.lines import line_figure
from plots.model import LENGTH, MEMORY, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="memory_length",
        title="Based prefill: peak memory against sequence length",
        operation="prefill",
        over="N",
        x=LENGTH,
        y=MEMORY,
    )
