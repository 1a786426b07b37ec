"""Counts of codes and of errors on the CPU: bins of a block as a vector operation, then plain increments."""

import math

import numpy as np

from ..codes import ERROR_BINS, ERROR_LINEAR, ERROR_OCTAVE, ERROR_OCTAVES, ERROR_SIDE
from .jit import inner, wide

u64 = np.uint64
#: Code of an element that is left out: neither counted nor clamped.
LEFT_OUT = np.int32(-(2**31))
#: Code of an element whose value is not finite: left out likewise, but known as such.
OVERFLOWED = np.int32(-(2**31) + 1)
#: Copies of a table of counts, so that equal neighbours do not wait for each other's store.
COPIES = 4
#: Tables of more codes than this have one copy in use: four would not fit the caches, and neighbours rarely meet.
COPIED_LEVELS = 4096
#: Errors of more steps than this fall into the outermost bins with it.
LARGEST = 2.0 ** (ERROR_OCTAVES + 1)


@inner
def error_bin(u):
    """Bin of an error of u steps: linear up to one step, then eight an octave."""
    size = min(abs(u), LARGEST)
    if size < 1.0:
        m = np.int64(size * ERROR_LINEAR)
    else:
        fraction, exponent = math.frexp(size)  # size = fraction * 2**exponent, fraction in [0.5, 1)
        octave = min(np.int64(exponent) - 1, ERROR_OCTAVES)
        m = ERROR_LINEAR + octave * ERROR_OCTAVE + np.int64((2.0 * fraction - 1.0) * ERROR_OCTAVE)
        m = min(m, ERROR_SIDE - 1)
    return ERROR_SIDE - 1 - m if u < 0 else ERROR_SIDE + m


@inner
def _cells(error, code, n, per_step, cells):
    """Write each element's cells: the error's bin in the upper word, the code in the lower, as one int64.

    Bins of errors below a step, as `error_bin` finds them; return whether all are. A clamped element's code is the
    complement of its index.
    """
    wide()
    beyond = np.int32(0)
    for i in range(u64(n)):
        size = abs(error[i] * per_step) * ERROR_LINEAR
        beyond |= np.int32(size >= ERROR_LINEAR)
        m = np.int32(min(size, np.float64(ERROR_LINEAR)))
        bin_ = np.int32(ERROR_SIDE - 1) - m if error[i] < 0 else np.int32(ERROR_SIDE) + m
        cells[i] = (np.int64(bin_) << 32) | np.int64(code[i] ^ (code[i] >> 31))
    return beyond == 0


@inner
def _increment(cells, n, codes, spread, errors):
    """Count cells, four elements in four copies of both tables; one after the other."""
    wide()
    mask, bins = u64(0xFFFFFFFF), u64(ERROR_BINS)
    for j in range(u64(n // COPIES)):
        i = u64(COPIES) * j
        a, b, c, d = u64(cells[i]), u64(cells[i + u64(1)]), u64(cells[i + u64(2)]), u64(cells[i + u64(3)])
        codes[a & mask] += 1
        errors[a >> u64(32)] += 1
        codes[spread + (b & mask)] += 1
        errors[bins + (b >> u64(32))] += 1
        codes[u64(2) * spread + (c & mask)] += 1
        errors[u64(2) * bins + (c >> u64(32))] += 1
        codes[u64(3) * spread + (d & mask)] += 1
        errors[u64(3) * bins + (d >> u64(32))] += 1
    for i in range(u64(COPIES * (n // COPIES)), u64(n)):
        codes[u64(cells[i]) & mask] += 1
        errors[u64(cells[i]) >> u64(32)] += 1


@inner
def count_block(error, code, n, per_step, clean, levels, cells, codes, errors):
    """Count the codes and the error bins of a block; what is not `clean` has elements that are left out."""
    wide()
    if _cells(error, code, n, per_step, cells) and clean:
        _increment(cells, n, codes, u64(levels if levels <= COPIED_LEVELS else 0), errors)
        return
    for i in range(n):
        if code[i] > OVERFLOWED:
            codes[u64(np.uint32(code[i] ^ (code[i] >> 31)))] += 1
            errors[u64(error_bin(error[i] * per_step))] += 1
