"""Real numbers that codes stand for, element by element, in runs of one set of parameters."""

import numpy as np

from ..codes import (
    AFFINE_DEQUANTIZATION,
    AFFINE_QMAX,
    AFFINE_QMIN,
    DEQUANTIZE_EXPANDED,
    DEQUANTIZE_FLOAT64,
    DEQUANTIZE_FUSED,
    DEQUANTIZE_SUBTRACT,
)
from .affine import BLOCK, block_buffers, fill_parameters, values
from .jit import fence, fma, inlined, inner, kernel, stream, wide
from .runs import CHUNK, run_of, side_by_side
from .streams import LINE, aligned_block, ask_ahead, lead

f32, u64 = np.float32, np.uint64
#: Lines of the parameters: scale, and the zero point or its product with the scale.
STEP, OFFSET = range(2)


@inlined
def _value(q, rule, s, offset):
    """Return a number in the type of its parameters; codes and zero points up to 2**22 differ exactly."""
    if rule is None:
        number = (q - offset) * s
    else:
        if rule == DEQUANTIZE_EXPANDED:
            number = q * s - offset
        else:
            number = fma(q, s, -offset)
    return number


@inner
def _values(q, start, n, rule, p, at, each, out, to):
    """Write the numbers of a run, or with parameters side by side."""
    wide()
    first, place, target = u64(start), u64(at), u64(to)
    if each is None:
        s, offset = p[STEP, place], p[OFFSET, place]
        for i in range(u64(n)):
            out[target + i] = _value(p.dtype.type(np.int32(q[first + i])), rule, s, offset)
    else:
        for i in range(u64(n)):
            code = p.dtype.type(np.int32(q[first + i]))
            out[target + i] = _value(code, rule, p[STEP, place + i], p[OFFSET, place + i])


@inner
def _part(q, first, start, n, layout, p, each, rule, out, to):
    done = np.int64(0)
    while done < n:
        at, run = run_of(first + start + done, n - done, layout)
        _values(q, start + done, run, rule, p, at, each, out, to + done)
        done += run


@inner
def _stream(q, first, start, stop, layout, p, each, rule, buffer, target):
    for i in range(start, stop, CHUNK):
        ask_ahead(q.ctypes.data + q.itemsize * i, q.itemsize * CHUNK)
        _part(q, first, i, CHUNK, layout, p, each, rule, buffer, np.int64(0))
        stream(target + buffer.itemsize * i, buffer.ctypes.data, CHUNK * buffer.itemsize // LINE)


@kernel
def _dequantize_runs(q, first, layout, p, each, rule, out):
    """Numbers in the type of the parameters `p`, which is that of `out`."""
    begin = lead(q, out)
    _part(q, first, np.int64(0), begin, layout, p, each, rule, out, np.int64(0))
    if begin < q.size:
        stop = begin + (q.size - begin) // CHUNK * CHUNK
        buffer, _ = aligned_block(out, CHUNK)
        _stream(q, first, begin, stop, layout, p, each, rule, buffer, out.ctypes.data)
        fence()
        _part(q, first, stop, q.size - stop, layout, p, each, rule, out, stop)


@kernel
def _dequantize(q, first, rule, layout, scales, zero_points, buffers, out):
    """float32 numbers of any codes and zero points."""
    wide()
    buffer, scale, inverse, zero_point, value = buffers[0], buffers[1], buffers[2], buffers[3], buffers[4]
    for start in range(0, q.size, BLOCK):
        n = min(BLOCK, q.size - start)
        for i in range(u64(n)):
            buffer[i] = q[u64(start) + i]
        fill_parameters(first + start, n, layout, 0, scales, zero_points, 64, scale, inverse, zero_point)
        values(buffer, n, rule, scale, zero_point, value)
        for i in range(u64(n)):
            out[u64(start) + i] = value[i]


def dequantizing(quantizer, dtype):
    """Return the call that dequantizes integer codes into float64 or float32, ``run(q, first, out)``: q flat."""
    rule = int(quantizer.row[AFFINE_DEQUANTIZATION])
    scales, zero_points = quantizer.scales, quantizer.zero_points
    reach = max(abs(int(quantizer.row[AFFINE_QMIN])), abs(int(quantizer.row[AFFINE_QMAX])), np.abs(zero_points).max())
    if rule != DEQUANTIZE_FLOAT64 and reach > 2**22:
        layout = np.array(quantizer.layout, np.int64)
        return lambda q, first, out: _dequantize(q, first, rule, layout, scales, zero_points, block_buffers(5), out)
    table = np.stack([scales, zero_points])
    if rule != DEQUANTIZE_FLOAT64:
        table = table.astype(f32)
    if rule in (DEQUANTIZE_EXPANDED, DEQUANTIZE_FUSED):
        with np.errstate(over="ignore"):  # infinite, as the convention has it
            table[OFFSET] *= table[STEP]
    layout, (table,), each = side_by_side(quantizer.layout, table)
    fixed = layout, table, each, None if rule in (DEQUANTIZE_FLOAT64, DEQUANTIZE_SUBTRACT) else rule
    return lambda q, first, out: _dequantize_runs(q, first, *fixed, out)
