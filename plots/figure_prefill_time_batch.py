"""Based prefill: time against batch.

The figure of the ThunderKittens demo (N = 8192), of JRT's table 5 (N = 16384) and of the 2024
A100 micro-benchmark (N = 1024); H = 16 in all three.
"""

from plots.lines import line_figure
from plots.model import BATCH, TIME, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="prefill_time_batch",
        title="Based prefill: time against batch",
        operation="prefill",
        over="B",
        x=BATCH,
        y=TIME,
    )
