"""Philox4x32-10, the counter-based generator of Salmon et al. (SC'11), on arrays of counters."""

import numpy as np

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox4x32_10(counter, key):
    """Return the four 32-bit output words (as uint64) for four counter words and two key words."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.uint64(word) for word in key)
    with np.errstate(over="ignore"):
        for _ in range(10):
            p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
            c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & MASK, (p0 >> HALF) ^ c3 ^ k1, p0 & MASK
            k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def words(key, first, count):
    """Return the words of blocks ``first .. first + count - 1`` as a (4, count) uint64 array."""
    block = np.arange(first, first + count, dtype=np.uint64)
    zero = np.zeros_like(block)
    return np.stack(philox4x32_10((block & MASK, block >> HALF, zero, zero), key))
