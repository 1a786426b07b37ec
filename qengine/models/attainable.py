"""Which accumulators can arise: exactly, from stored weights, bias, the input's codes and where windows leave images.

A sum ``bias + sum_i w_i (x_i - z)`` takes its extremes where every ``x_i`` is at an end of its range. A tap outside
the image adds nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .source import Array

I64 = npt.NDArray[np.int64]
#: Pairs (vertical, horizontal) of stretches of taps, times channels, that are looked at at once.
BLOCK = 1 << 22


def spans(size: int, count: int, taps: int, stride: int, dilation: int, before: int) -> list[tuple[int, int]]:
    """Return the different half-open ranges of taps that lie inside the image, over all positions of a window.

    Examples
    --------
    Three taps over five pixels, padded by one on either side.

    >>> from qengine.models.attainable import spans
    >>> spans(5, 5, 3, 1, 1, 1)
    [(0, 2), (0, 3), (1, 3)]
    >>> spans(1, 1, 3, 1, 1, 1)                                                  # one pixel: the middle tap alone
    [(1, 2)]
    """
    first = np.arange(count, dtype=np.int64) * stride - before
    start = np.clip(-(first // dilation), 0, taps)
    stop = np.clip(-((first - size) // dilation), start, taps)
    return sorted({(int(a), int(b)) for a, b in zip(start, stop, strict=True)})


def accumulator_range(
    weights: Array, codes: tuple[int, int], bias: Array, vertical: list[tuple[int, int]] | None = None,
    horizontal: list[tuple[int, int]] | None = None,
) -> tuple[I64, I64]:  # fmt: skip
    """Return the least and the greatest accumulator of each channel.

    Parameters
    ----------
    weights : integer array, shape (height, width, inputs, channels)
        Less their zero point. A matrix is ``(1, 1, inputs, channels)``.
    codes : (int, int)
        Closed range of the input's codes less their zero point.
    bias : int64 array
        One a channel.
    vertical, horizontal : list of (int, int), optional
        Half-open ranges of taps that are inside the image together (`spans`); all taps by default.

    Returns
    -------
    (int64 array, int64 array)
        Both are attained, where inputs are independent.

    Examples
    --------
    >>> import numpy as np
    >>> from qengine.models.attainable import accumulator_range
    >>> w = np.array([3, -2, 1]).reshape(3, 1, 1, 1)
    >>> [int(v[0]) for v in accumulator_range(w, (-128, 127), np.array([10]))]
    [-756, 774]
    >>> [int(v[0]) for v in accumulator_range(w, (0, 6), np.array([10]), [(0, 2), (1, 3)])]    # at the image's edges
    [-2, 28]
    """
    height, width, _, channels = weights.shape
    up = np.maximum(weights, 0).sum(axis=2, dtype=np.int64)
    down = weights.sum(axis=2, dtype=np.int64) - up
    ends = [up * codes[0] + down * codes[1], up * codes[1] + down * codes[0]]  # below 2**53: the reader checks
    # Sums over a rectangle of taps, from the sums over those that start at its corner.
    before = [np.zeros((height + 1, width + 1, channels), np.int64) for _ in ends]
    for total, part in zip(before, ends, strict=True):
        total[1:, 1:] = part.cumsum(axis=0).cumsum(axis=1)
    low = np.full(channels, np.iinfo(np.int64).max)
    high = np.full(channels, np.iinfo(np.int64).min)
    columns = np.array(horizontal or [(0, width)], np.int64)
    left, right = columns.T
    step = max(1, BLOCK // max(1, channels * len(columns)))
    rows = np.array(vertical or [(0, height)], np.int64)
    for k in range(0, len(rows), step):
        top, bottom = (edge[:, None] for edge in rows[k : k + step].T)
        least, greatest = (t[bottom, right] - t[top, right] - t[bottom, left] + t[top, left] for t in before)
        low = np.minimum(low, least.min(axis=(0, 1)))
        high = np.maximum(high, greatest.max(axis=(0, 1)))
    return low + bias, high + bias
