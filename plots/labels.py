"""Where the names at the ends of lines and beside points go, in pixels, so that none hides another.

Everything is computed before drawing, from the widths that the letters have in the fonts used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SWEEPS = 8
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|()[]/ -"), frozenset("mwMW@%—…×µ")


def text_width(text: str, size: float) -> float:
    """About how wide a text is in Arial or its like; a little more, never less."""
    widths = (0.34 if c in _NARROW else 0.87 if c in _WIDE or c.isupper() else 0.57 for c in text)
    return size * sum(widths)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The positions nearest to `wanted` (least squares), in its order, at least `gap` apart and
    within low .. high as far as they fit."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    # Without the gaps owed to those before it, each position must only not be under the last one's:
    # neighbours that would cross share their mean.
    blocks: list[list[float]] = []  # of each: the sum of its positions, and how many they are
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    highest = max(low, high - (len(wanted) - 1) * gap)
    found = [0.0] * len(wanted)
    rank = 0
    for total, count in blocks:
        for _ in range(int(count)):
            found[order[rank]] = min(max(total / count, low), highest) + rank * gap
            rank += 1
    return found


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The box' point that is nearest to another."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


def arrange(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    within: Box,
) -> list[Box]:
    """A box for each anchor, beside it or near: of all places around it the one that covers the
    least of what is taken and of the other boxes, is tied to it across none of them, and of equals
    the nearest. The boxes are moved in turn until none gains."""
    fixed = np.array([(b.left, b.top, b.right, b.bottom) for b in taken]).reshape(-1, 4)
    frame = np.array([(within.left, within.top, within.right, within.bottom)])
    choices = [_around(*anchor, *size) for anchor, size in zip(anchors, sizes, strict=True)]
    alone = []
    for (x, y), (width, height), boxes in zip(anchors, sizes, choices, strict=True):
        beyond = width * height - _overlaps(boxes, frame)
        far = np.hypot(*(np.array([x, y]) - _nearest(boxes, x, y)).T)
        alone.append(8 * beyond + 2 * far + _in_the_way(x, y, boxes, fixed))
    found = np.array([boxes[cost.argmin()] for boxes, cost in zip(choices, alone, strict=True)])
    for _ in range(_SWEEPS):
        before = found.copy()
        for index, (x, y) in enumerate(anchors):
            others = np.delete(found, index, axis=0)
            cost = alone[index] + _in_the_way(x, y, choices[index], others)
            found[index] = choices[index][cost.argmin()]
        if np.array_equal(found, before):
            break
    return [Box(*map(float, box)) for box in found]


def _around(x: float, y: float, width: float, height: float) -> np.ndarray:
    """The places that a box may have, the nearer first: [left, top, right, bottom] each."""
    corners = []
    for distance in (9.0, 17.0, 26.0, 36.0, 48.0, 62.0, 80.0):
        above, below = y - distance - height + 2, y + distance - 2
        right, left = x + distance, x - distance - width
        corners += [(right, y - height / 2), (left, y - height / 2)]
        for edge in (above, below):
            corners += [(at, edge) for at in (x - width / 2, right, left, x + 9, x - 9 - width)]
    low = np.array(corners)
    return np.hstack([low, low + np.array([width, height])])


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of each box all others cover together."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(axis=2).sum(axis=1)


def _nearest(boxes: np.ndarray, x: float, y: float) -> np.ndarray:
    return np.clip((x, y), boxes[:, :2], boxes[:, 2:])


def _in_the_way(x: float, y: float, boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What each box costs for those that it covers, or that its tie to the mark crosses."""
    at = np.array([x, y])
    aside = ~((others[:, :2] < at) & (at < others[:, 2:])).all(axis=1)  # not the mark's own
    others_aside = others[aside]
    steps = np.arange(0.2, 1, 0.1)[None, :, None]
    ties = at + steps * (_nearest(boxes, x, y) - at)[:, None, :]  # [boxes, steps, 2]
    inside = (others_aside[:, :2] < ties[:, :, None]) & (ties[:, :, None] < others_aside[:, 2:])
    return _overlaps(boxes, others) + 30 * inside.all(axis=3).sum(axis=(1, 2))
