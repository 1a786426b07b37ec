"""Philox4x32-10 on the CPU: 32-bit words in 64-bit lanes, so that each product is one widening multiply."""

import numpy as np

from .jit import inner, kernel, wide

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
MASK, HALF, ZERO = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)


@inner
def fill(key0, key1, first, words):
    """Fill (4, n) uint32 words with blocks ``first .. first + n - 1``; all arguments uint64."""
    wide()
    n = words.shape[1]
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(n):
        block = first + np.uint64(i)
        c0, c1, c2, c3 = block & MASK, block >> HALF, ZERO, ZERO
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = M0 * (c0 & MASK), M1 * (c2 & MASK)
            c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1, (p0 >> HALF) ^ c3 ^ k1, p0
            k0, k1 = k0 + W0, k1 + W1
        # The upper halves hold rubbish; the narrowing stores drop it.
        w0[i], w1[i], w2[i], w3[i] = c0, c1, c2, c3


@kernel
def philox_words(key0, key1, first, words):
    """Entry point of `fill`, for tests."""
    fill(key0, key1, first, words)
