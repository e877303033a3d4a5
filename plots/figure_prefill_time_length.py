"""Based prefill: time against sequence length.

JRT's table 5 and the ThunderKittens demo (B = 16), the 2024 A100 micro-benchmark (B = 4).
"""

from plots.lines import line_figure
from plots.model import LENGTH, TIME, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="prefill_time_length",
        title="Based prefill: time against sequence length",
        operation="prefill",
        over="N",
        x=LENGTH,
        y=TIME,
    )
