"""One tile of a census on a device: mantissas of one shift, each settled by the thresholds of all codes."""

from __future__ import annotations

import numpy as np

from ..codes import FLOOR, MANTISSA_Q31
from . import load, staircase

THREADS = 128
#: Multipliers of a tile at most, and codes times multipliers: some milliseconds.
TILE, CODES_A_TILE = 1 << 24, 1 << 32
FAMILY = np.dtype(
    [
        ("form", np.int32), ("mantissa", np.int32), ("base", np.int32), ("spare", np.int32), ("low", np.int64),
        ("high", np.int64), ("z", np.int64), ("shift", np.int64), ("bias", np.int64, 12),
    ]
)  # fmt: skip


def tile(rules, numbers, shift, mantissa, size, low, high, first, n, alike):
    """Count the divergent accumulators of the mantissas ``mantissa .. mantissa + size - 1`` at a shift.

    Parameters
    ----------
    rules : int64 array, shape (2, RULE_LENGTH)
    numbers : a, bp, bn, t, scale, z, shift, low, high
        Arrays (2, 1 or more) as in `qengine.kernels.cpu.staircase`; those of column 0, the first mantissa, are read.
    shift : int
        The multiplier is ``m 2**(shift - 31)``.
    low, high : int64 arrays
        Accumulators: one closed range, or one for each mantissa.
    first, n : int
        Lowest code and number of thresholds.
    alike : bool
        Whether both schemes multiply by the mantissa itself, are monotone, and have one range of accumulators.

    Returns
    -------
    (int, int, int, int, int)
        Divergent pairs, sum of B - A, multipliers with any divergence, the most of one multiplier and its place.
    """
    arrays = load.array_module()
    rows = [[int(v) for v in column[:, 0]] for k, column in enumerate(numbers) if k != 4]
    halves = _halves(rows, rules, int(low[0]), int(high[0]), first, n, mantissa + size - 1) if alike else None
    blocks = max(1, min(-(-size // THREADS), 64 * load.multiprocessors()))
    out = arrays.empty(4 * blocks, np.uint64)
    if halves is not None:
        parts, signs = halves
        load.launch(
            "census", "census_like", blocks, THREADS, size, mantissa, rows[3][0],
            arrays.asarray(np.array(parts, np.int64).ravel()), *signs, out,
        )  # fmt: skip
    else:
        forms = staircase.forms(rules)
        families = arrays.asarray(_families(rules, rows, forms).view(np.uint8))
        bounds = int(low.size > 1), arrays.asarray(low), arrays.asarray(high)
        of_floors = (forms[:, 0] == staircase.FORM_FLOOR).all()
        tables = () if of_floors else (_boundaries(forms, rows, first, n),)
        load.launch(
            "census", "census_floor" if of_floors else "census_any", blocks, THREADS, size, mantissa,
            2.0 ** (shift - 31), families, *tables, first, n, *bounds, out,
        )  # fmt: skip
    found = out.get().reshape(blocks, 4)
    # A block's sums fit 64 bits: 2**26 codes of `CODES_A_TILE` and one multiplier more, each of 2**32 accumulators.
    sums = found[:, 1].view(np.int64)
    divergent, signed = (int((part >> 32).sum()) << 32 for part in (found[:, 0].view(np.int64), sums))
    divergent += int((found[:, 0] & np.uint64(0xFFFFFFFF)).sum())
    signed += int((sums & 0xFFFFFFFF).sum())
    most = int(found[:, 3].max())
    return divergent, signed, int(found[:, 2].sum()), most >> 31, 0x7FFFFFFF - (most & 0x7FFFFFFF)


def _boundaries(forms, rows, first, n):
    """Return the boundaries of both schemes one behind the other, on the device; those of float32 forms alone."""
    arrays = load.array_module()
    table = arrays.zeros(2 * max(n, 1), np.float64)
    for k in range(2):
        if n and forms[k, 0] == staircase.FORM_FLOAT32:
            load.launch(
                "staircase", "boundaries", staircase.blocks(n), staircase.THREADS, forms[k, 1], forms[k, 2], rows[4][k],
                first + 1 - rows[5][k], n, table[k * n : (k + 1) * n],
            )  # fmt: skip
    return table


def _families(rules, rows, forms):
    families = np.zeros(2, FAMILY)
    families["form"] = forms[:, 0]
    families["mantissa"], families["base"] = rules[:, 1], rules[:, 2]
    for name, values in zip(("z", "shift", "low", "high"), rows[4:], strict=True):
        families[name] = values
    families["bias"] = rules[:, 4:16]
    return families


def _halves(rows, rules, low, high, first, n, last):
    """Return ((c, d, low, high, first, last) for either sign, signs of B - A) for `census_like`, or None.

    A result of r or more begins at ``floor(w / m) + 1``, ``w = r 2**t - bp - 1``, where that is not negative, else at
    ``-floor(u / m)``, ``u = bn - r 2**t``. Either quotient is clipped to the accumulators of its sign; in u the
    results run backwards. Of both schemes the greater quotient is c, the other one has d less. None where A and B may
    be more than one apart, where they do not share all numbers but the biases, or where sums may leave int64.
    """
    _, bp, bn, t, _, shift, least, greatest = rows
    same = all(pair[0] == pair[1] for pair in (t, shift, least, greatest))
    if not same or (rules[:, 0] != FLOOR).any() or (rules[:, 1] != MANTISSA_Q31).any():
        return None
    step = 1 << t[0]
    results = max(first + 1 - shift[0], least[0] + 1), min(first + n - shift[0], greatest[0])
    stop = high + 1
    above = (-min(bp) - 1, abs(bp[1] - bp[0]), max(low, 0) - 1, max(stop, 0) - 1, *results)
    below = (max(bn), abs(bn[1] - bn[0]), max(-stop, 0), max(-low, 0), -results[1], -results[0])
    for c, d, *_ in (above, below):
        if d > step or (last << 31) + last + abs(c) + d >= 1 << 63:
            return None
    if low > high:
        return None
    return (above, below), ((bp[1] > bp[0]) - (bp[1] < bp[0]), (bn[1] > bn[0]) - (bn[1] < bn[0]))
