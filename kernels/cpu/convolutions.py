"""Integer sums of convolutions over one image. Meaning: `qengine.kernels.reference.convolutions`."""

import numpy as np

from .jit import kernel, wide


@kernel
def patches(x, zero, size, stride, dilation, before, first, out):
    """Write what the filter sees as rows of floats."""
    height, width, channels = x.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            k = 0
            for i in range(size[0]):
                y = (first + row) * stride[0] + i * dilation[0] - before[0]
                for j in range(size[1]):
                    z = column * stride[1] + j * dilation[1] - before[1]
                    if 0 <= y < height and 0 <= z < width:
                        for c in range(channels):
                            out[row, column, k + c] = np.int32(x[y, z, c]) - np.int32(zero)
                    else:
                        for c in range(channels):
                            out[row, column, k + c] = 0
                    k += channels


@kernel
def totals(sums, bias, out):
    """Write ``sums + bias`` modulo the range of `out`."""
    wide()
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[i, c] = np.int64(sums[i, c]) + bias[c]


@kernel
def totals32(sums, bias, out):
    """Write ``sums + bias`` modulo 2**32; sums are below 2**24 in magnitude, and convert as int32."""
    wide()
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[i, c] = np.int32(sums[i, c]) + bias[c]


@kernel
def depthwise(x, zero, weights, bias, stride, dilation, before, out):
    """Write the sums of a depthwise convolution."""
    wide()
    height, width, depth = x.shape
    channels = out.shape[2]
    multiplier = channels // depth
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            total = out[row, column]
            for c in range(channels):
                total[c] = bias[c]
            for i in range(weights.shape[0]):
                y = row * stride[0] + i * dilation[0] - before[0]
                if y < 0 or y >= height:
                    continue
                for j in range(weights.shape[1]):
                    z = column * stride[1] + j * dilation[1] - before[1]
                    if z < 0 or z >= width:
                        continue
                    seen, factor = x[y, z], weights[i, j]
                    if multiplier == 1:
                        for c in range(channels):
                            total[c] += (np.int32(seen[c]) - np.int32(zero)) * factor[c]
                    else:
                        for c in range(depth):
                            value = np.int32(seen[c]) - np.int32(zero)
                            for k in range(c * multiplier, (c + 1) * multiplier):
                                total[k] += value * factor[k]
