"""Error statistics of many quantizers over a tile, plainly: one quantizer after the other, one array a step."""

import numpy as np

from ..codes import (
    AFFINE_FAMILY,
    COUNT,
    COUNT_CLIPPED,
    COUNT_OVERFLOWED,
    COUNTS,
    ERROR_BINS,
    ERROR_LINEAR,
    ERROR_OCTAVE,
    ERROR_OCTAVES,
    ERROR_SIDE,
    ERROR_STEP,
    FIELDS,
    FORMAT_FAMILY,
    MAX_ABS,
    SUM_ABS,
    SUM_CLIPPED_E2,
    SUM_CROSS,
    SUM_E2,
    SUM_E_HIGH,
    SUM_E_LOW,
    SUM_VALUE2,
    SUM_X2,
)
from . import affine, formats


def parameter_index(index, layout):
    """Return which parameters elements of the tensor have, by (length, group, groups a row, rows)."""
    length, group, groups, rows = (int(number) for number in layout)
    return (index // length % rows) * groups + index % length // group


def error_bins(u):
    """Return the bins of errors of u steps: linear up to one step, then eight an octave; negative ones mirrored."""
    size = np.minimum(np.abs(u), 2.0 ** (ERROR_OCTAVES + 1))
    fraction, exponent = np.frexp(size)
    octave = np.minimum(exponent.astype(np.int64) - 1, ERROR_OCTAVES)
    outer = ERROR_LINEAR + octave * ERROR_OCTAVE + ((2.0 * fraction - 1.0) * ERROR_OCTAVE).astype(np.int64)
    inner = (np.minimum(size, 1.0) * ERROR_LINEAR).astype(np.int64)
    m = np.minimum(np.where(size < 1.0, inner, outer), ERROR_SIDE - 1)
    return np.where(u < 0, ERROR_SIDE - 1 - m, ERROR_SIDE + m)


def _sums(x, value, clipped):
    """Return the sums of one channel. That of e is taken in extended precision: its terms cancel."""
    with np.errstate(over="ignore"):  # squares beyond float64 are refused by the caller
        return _sums_unchecked(x, x - value, value, clipped)


def _sums_unchecked(x, e, value, clipped):
    out = np.zeros(FIELDS)
    out[SUM_E2] = np.sum(e[~clipped] ** 2)
    out[SUM_CLIPPED_E2] = np.sum(e[clipped] ** 2)
    out[SUM_ABS] = np.sum(np.abs(e))
    out[MAX_ABS] = np.max(np.abs(e), initial=0.0)
    total = np.sum(e.astype(np.longdouble))
    out[SUM_E_HIGH] = total
    out[SUM_E_LOW] = total - np.longdouble(out[SUM_E_HIGH])
    out[SUM_X2], out[SUM_VALUE2], out[SUM_CROSS] = np.sum(x * x), np.sum(value * value), np.sum(x * value)
    return out


def tile(
    x, first, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers,
    starts, bad,
):  # fmt: skip
    """Return (sums, counts, extremes, code counts, error bins) of flat x; x[0] is element `first` of the tensor."""
    quantizers = rows.shape[0]
    sums = np.zeros((quantizers, channels, FIELDS))
    counts = np.zeros((quantizers, channels, COUNTS), np.int64)
    code_counts = np.zeros(0 if starts is None else starts[-1], np.int64)
    bins = np.zeros((0 if starts is None else quantizers, ERROR_BINS), np.int64)
    index = first + np.arange(x.size, dtype=np.int64)
    channel = index // length % channels
    x = x.astype(np.float64)
    kept = np.isfinite(x)
    if not kept.all():
        if bad[0] == 0:
            bad[1] = index[~kept][0]
        bad[0] += np.count_nonzero(~kept)
        x = np.where(kept, x, 0.0)
    order = np.argsort(channel, kind="stable") if channels > 1 else np.arange(x.size)
    order = order[kept[order]]
    present, begin = np.unique(channel[order], return_index=True)
    groups = list(zip(present.tolist(), np.split(order, begin[1:]), strict=True)) if order.size else []
    low_high = np.tile([np.inf, -np.inf], (channels, 1))
    for c, members in groups:
        low_high[c] = x[members].min(), x[members].max()
    for k in range(quantizers):
        at = places[k] + parameter_index(index, layouts[k])
        if rows[k, AFFINE_FAMILY] == FORMAT_FAMILY:
            code, value = formats.code_and_value(x, format_rows[k], format_numbers[k], scales[at])
        else:
            code, value = affine.code_and_value(x, rows[k], scales[at], zero_points[at], first)
        measured = np.isfinite(value)
        for c, members in groups:
            some = members[measured[members]]
            clipped = code[some] < 0
            sums[k, c] = _sums(x[some], value[some], clipped)
            counts[k, c, COUNT], counts[k, c, COUNT_CLIPPED] = some.size, np.count_nonzero(clipped)
            counts[k, c, COUNT_OVERFLOWED] = members.size - some.size
        if starts is not None:
            some = kept & measured
            codes = np.where(code < 0, -1 - code, code)[some]
            code_counts[starts[k] : starts[k + 1]] = np.bincount(codes, minlength=starts[k + 1] - starts[k])
            with np.errstate(over="ignore"):  # the outermost bins
                u = (x[some] - value[some]) * (1.0 / numbers[k, ERROR_STEP])
            bins[k] = np.bincount(error_bins(u), minlength=ERROR_BINS)
    return sums, counts, low_high, code_counts, bins
