"""Based prefill: nominal TFLOP/s against sequence length.

The ThunderKittens paper's figure (B = H = 16). Nominal work is a function of the shape alone:
B H N 273 (2 + 4 * 64) for Based, 2 B H N^2 Dh for causal softmax attention.
"""

from plots.lines import line_figure
from plots.model import LENGTH, TFLOPS, LineFigure


def figure(group, points) -> LineFigure:
    return line_figure(
        group,
        points,
        name="prefill_tflops_length",
        title="Based prefill: nominal TFLOP/s against sequence length",
        operation="prefill",
        over="N",
        x=LENGTH,
        y=TFLOPS,
    )
