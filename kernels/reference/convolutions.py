"""Integer sums of convolutions over one image (height, width, channels), channels last.

`stride`, `dilation` and `before` (padding above and left) are pairs (vertical, horizontal). Codes are 8 or 16 bits,
`zero` their zero point: what lies in the padding counts as zero. Callers guarantee that every sum fits its type.
"""

import numpy as np


def _tap(x, zero, at, stride, dilation, before, shape):
    """Return (places of the output that see the image, the centred codes they see) for one element of the filter."""
    places, seen = [], []
    for axis in range(2):
        position = np.arange(shape[axis]) * stride[axis] + at[axis] * dilation[axis] - before[axis]
        inside = (position >= 0) & (position < x.shape[axis])
        places.append(np.flatnonzero(inside))
        seen.append(position[inside])
    return np.ix_(*places), x[np.ix_(*seen)].astype(np.int64) - zero


def patches(x, zero, size, stride, dilation, before, first, out):
    """Write what the filter sees, ``x - zero``, as one row of floats an output position; rows from `first` on.

    ``out``: (rows, width, size[0] size[1] channels).
    """
    rows, width, _ = out.shape
    taps = out.reshape(rows, width, size[0], size[1], x.shape[2])
    taps[...] = 0
    moved = before[0] - first * stride[0], before[1]
    for i in range(size[0]):
        for j in range(size[1]):
            places, seen = _tap(x, zero, (i, j), stride, dilation, moved, (rows, width))
            taps[:, :, i, j][places] = seen


def totals(sums, bias, out):
    """Write ``sums + bias`` modulo the range of `out`; the sums are whole numbers in floating point."""
    out[...] = (sums.astype(np.int64) + bias).astype(out.dtype)


def totals32(sums, bias, out):
    """Write `totals` into int32; the sums are below 2**24 in magnitude."""
    totals(sums, bias, out)


def depthwise(x, zero, weights, bias, stride, dilation, before, out):
    """Write the sums of a depthwise convolution; output channel ``c m + k`` sees input channel c.

    ``weights``: (height, width, m channels), centred, in the type of `out`; ``out`` wraps as its type does.
    """
    height, width, channels = out.shape
    multiplier = channels // x.shape[2]
    total = np.broadcast_to(bias.astype(np.int64), out.shape).copy()
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            places, seen = _tap(x, zero, (i, j), stride, dilation, before, (height, width))
            total[places] += np.repeat(seen, multiplier, axis=2) * weights[i, j].astype(np.int64)
    out[...] = total.astype(out.dtype)
