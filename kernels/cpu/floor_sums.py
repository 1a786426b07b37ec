"""Floor sums on the CPU: ``sum of floor((a x + b) / 2**t)`` over a range of x, in O(log) steps.

Sums are uint64, modulo 2**64: each result that is read fits int64, so it is exact whatever the terms did. (Signed
integers must not overflow: Numba tells LLVM that they do not.)

Source: the lattice points under a line, counted with the axes swapped, in turn (Euclid).
"""

import numpy as np

from .jit import inner


@inner
def divide(y, m, inverse):
    """``divmod(y, m)`` for ``0 <= y < 2**63`` with a quotient below ``2**34``; inverse = fl(1 / m).

    The product is off by less than ``3 * 2**-53 * 2**34 < 2**-17``, so its integer part is off by one at most.
    """
    q = np.int64(np.float64(y) * inverse)
    r = y - q * m
    if r < 0:
        q -= 1
        r += m
    elif r >= m:
        q += 1
        r -= m
    return q, r


@inner
def quotient(y, m):
    """``y // m`` for ``y >= 0``, ``m > 0``: the hardware's division, without Python's rules for signs."""
    return np.int64(np.uint64(y) // np.uint64(m))


@inner
def triangle(n):
    """``0 + 1 + ... + (n - 1)`` for ``0 <= n <= 2**31``: below ``2**61``."""
    return (n * (n - 1)) >> 1


@inner
def times(x, y):
    """``x * y`` modulo 2**64, as uint64."""
    return np.uint64(x) * np.uint64(y)


@inner
def sum_four(a, t, n0, b0, n1, b1, n2, b2, n3, b3):
    """``F0 - F1 + F2 - F3``, ``Fj = sum_{i < nj} floor((2**t i + bj) / a)``, ``0 <= bj < 2**t``, modulo 2**64.

    One Euclid on (2**t, a) for all four. After the first reduction all moduli are below 2**31, remainders below
    their modulus and ``n <= 2**31``, so ``a n + b < 2**62``. A zero remainder ends it: all n are 0 then.
    """
    if (n0 | n1 | n2 | n3) == 0:
        return np.uint64(0)
    m = a
    q = quotient(np.int64(1) << t, m)
    a = (np.int64(1) << t) - q * m
    total = times(q, triangle(n0) - triangle(n1) + triangle(n2) - triangle(n3))
    q0, q1, q2, q3 = quotient(b0, m), quotient(b1, m), quotient(b2, m), quotient(b3, m)
    total += times(n0, q0) - times(n1, q1) + times(n2, q2) - times(n3, q3)
    b0 -= q0 * m
    b1 -= q1 * m
    b2 -= q2 * m
    b3 -= q3 * m
    inverse = 1.0 / np.float64(m)
    while True:
        n0, b0 = divide(a * n0 + b0, m, inverse)
        n1, b1 = divide(a * n1 + b1, m, inverse)
        n2, b2 = divide(a * n2 + b2, m, inverse)
        n3, b3 = divide(a * n3 + b3, m, inverse)
        if (n0 | n1 | n2 | n3) == 0:
            return total
        inverse = 1.0 / np.float64(a)
        q, r = divide(m, a, inverse)
        m, a = a, r
        q0, b0 = divide(b0, m, inverse)
        q1, b1 = divide(b1, m, inverse)
        q2, b2 = divide(b2, m, inverse)
        q3, b3 = divide(b3, m, inverse)
        total += times(q, triangle(n0) - triangle(n1) + triangle(n2) - triangle(n3))
        total += times(n0, q0) - times(n1, q1) + times(n2, q2) - times(n3, q3)


@inner
def sum_two(a, t, n0, b0, n1, b1):
    """``F0 - F1`` of `sum_four`."""
    if (n0 | n1) == 0:
        return np.uint64(0)
    m = a
    q = quotient(np.int64(1) << t, m)
    a = (np.int64(1) << t) - q * m
    q0, q1 = quotient(b0, m), quotient(b1, m)
    total = times(q, triangle(n0) - triangle(n1)) + times(n0, q0) - times(n1, q1)
    b0 -= q0 * m
    b1 -= q1 * m
    inverse = 1.0 / np.float64(m)
    while True:
        n0, b0 = divide(a * n0 + b0, m, inverse)
        n1, b1 = divide(a * n1 + b1, m, inverse)
        if (n0 | n1) == 0:
            return total
        inverse = 1.0 / np.float64(a)
        q, r = divide(m, a, inverse)
        m, a = a, r
        q0, b0 = divide(b0, m, inverse)
        q1, b1 = divide(b1, m, inverse)
        total += times(q, triangle(n0) - triangle(n1)) + times(n0, q0) - times(n1, q1)


@inner
def swap_axes(a, t, c, n):
    """Swap the axes of ``sum_{i < n} floor((a i + c) / 2**t)`` for ``0 <= a, c < 2**t``: (columns, remainder).

    ``a n + c < 2**62 + 2**62``; the sum is that of `sum_four` with these two.
    """
    y = a * n + c
    return y >> t, y & ((np.int64(1) << t) - 1)


@inner
def sum_floors(a, b, t, x0, n0, x1, n1):
    """Sum of ``floor((a x + b) / 2**t)`` over n0 accumulators from x0 on, less the sum over n1 from x1 on."""
    mask = (np.int64(1) << t) - 1
    c0, c1 = a * x0 + b, a * x1 + b
    total = times(n0, c0 >> t) - times(n1, c1 >> t) + times(a >> t, triangle(n0) - triangle(n1))
    low = a & mask
    k0, b0 = swap_axes(low, t, c0 & mask, n0)
    k1, b1 = swap_axes(low, t, c1 & mask, n1)
    return total + sum_two(low, t, k0, b0, k1, b1)
