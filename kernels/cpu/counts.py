"""Counts of codes and of errors on the CPU: bins of a block as a vector operation, then plain increments."""

import math

import numpy as np

from ..codes import ERROR_BINS, ERROR_LINEAR, ERROR_OCTAVE, ERROR_OCTAVES, ERROR_SIDE
from .jit import inner, wide

u64 = np.uint64
#: Code of an element that is left out: neither counted nor clamped.
LEFT_OUT = np.int32(-(2**31))
#: Copies of a table of counts, so that equal neighbours do not wait for each other's store.
COPIES = 4


@inner
def error_bin(u):
    """Bin of an error of u steps: linear up to one step, then eight an octave."""
    size = abs(u)
    if size < 1.0:
        m = np.int64(size * ERROR_LINEAR)
    else:
        fraction, exponent = math.frexp(size)  # size = fraction * 2**exponent, fraction in [0.5, 1)
        octave = min(np.int64(exponent) - 1, ERROR_OCTAVES)
        m = ERROR_LINEAR + octave * ERROR_OCTAVE + np.int64((2.0 * fraction - 1.0) * ERROR_OCTAVE)
        m = min(m, ERROR_SIDE - 1)
    return ERROR_SIDE - 1 - m if u < 0 else ERROR_SIDE + m


@inner
def bin_indices(error, n, per_step, index):
    """Write the bins of errors below a step, as `error_bin` finds them; return whether all are."""
    wide()
    beyond = np.int32(0)
    for i in range(u64(n)):
        size = abs(error[i] * per_step) * ERROR_LINEAR
        beyond |= np.int32(size >= ERROR_LINEAR)
        m = np.int32(min(size, np.float64(ERROR_LINEAR)))
        index[i] = np.int32(ERROR_SIDE - 1) - m if error[i] < 0 else np.int32(ERROR_SIDE) + m
    return beyond == 0


@inner
def count_codes(code, n, levels, clean, table):
    """Count code indices, of clamped elements too; ``-1 - index`` is the complement of an index."""
    wide()
    spread = u64(levels if levels <= 4096 else 0)
    if not clean:
        for i in range(n):
            if code[i] != LEFT_OUT:
                table[u64(code[i] ^ (code[i] >> 31))] += 1
        return
    one, two, three = spread, spread + spread, spread + spread + spread
    full = u64(n // COPIES)
    for j in range(full):
        i = u64(COPIES) * j
        a, b, c, d = code[i], code[i + u64(1)], code[i + u64(2)], code[i + u64(3)]
        table[u64(np.uint32(a ^ (a >> 31)))] += 1
        table[one + u64(np.uint32(b ^ (b >> 31)))] += 1
        table[two + u64(np.uint32(c ^ (c >> 31)))] += 1
        table[three + u64(np.uint32(d ^ (d >> 31)))] += 1
    for i in range(COPIES * (n // COPIES), n):
        table[u64(np.uint32(code[i] ^ (code[i] >> 31)))] += 1


@inner
def count_errors(error, code, index, n, per_step, clean, linear, table):
    """Count error bins; `linear` says that no error exceeds a step."""
    wide()
    if not (clean and linear):
        for i in range(n):
            if code[i] != LEFT_OUT:
                table[u64(error_bin(error[i] * per_step))] += 1
        return
    bins = u64(ERROR_BINS)
    full = u64(n // COPIES)
    for j in range(full):
        i = u64(COPIES) * j
        a, b, c, d = index[i], index[i + u64(1)], index[i + u64(2)], index[i + u64(3)]
        table[u64(np.uint32(a))] += 1
        table[bins + u64(np.uint32(b))] += 1
        table[bins + bins + u64(np.uint32(c))] += 1
        table[bins + bins + bins + u64(np.uint32(d))] += 1
    for i in range(COPIES * (n // COPIES), n):
        table[u64(np.uint32(index[i]))] += 1
