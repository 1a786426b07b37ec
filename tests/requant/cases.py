"""Inputs that requantization tests share: structured accumulators, ties, multipliers, oracle's answers."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction

from qengine import QuantizedMultiplier, get_scheme
from tests import oracle

INT32 = (-(2**31), 2**31 - 1)
ALL_SHIFTS = range(-31, 31)
WIDE = ("int16x8", "tosa-scale16")
Q31 = tuple(oracle._Q31)
FLOATS = (*oracle._FLOAT32, "fp64-away")
MANTISSA_VALUES = (
    0,
    1,
    3,
    12_345,
    2**29,
    2**30,
    2**30 + 1,
    3 * 2**29,
    1_527_099_593,
    2**31 - 2**15,
    2**31 - 1,
)

Multiplier = tuple[int, int]


def acc_limits(scheme: str) -> tuple[int, int]:
    """Closed range of the accumulator type: 48 bits for the schemes that take them."""
    bits = 48 if scheme in WIDE else 32
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@functools.cache
def structured(bits: int = 32) -> tuple[int, ...]:
    """0, +-1, +-2**i + {-2 ... 2}, and the extremes of a signed type."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = {0, low, low + 1, low + 2, high, high - 1, high - 2}
    for i in range(bits):
        for d in (-2, -1, 0, 1, 2):
            values |= {(1 << i) + d, -(1 << i) + d}
    return tuple(sorted(v for v in values if low <= v <= high))


def effective(scheme: str, multiplier: Multiplier | float) -> Fraction:
    """The real number that the scheme multiplies by, before it rounds any product."""
    if isinstance(multiplier, tuple):
        value, shift = multiplier
    else:
        value, shift = oracle.quantize_multiplier(multiplier)
    real = value * Fraction(2) ** (shift - 31) if isinstance(multiplier, tuple) else Fraction(multiplier)
    if scheme == "int16x8":
        return oracle.reduce15(value) * Fraction(2) ** (shift - 15)
    if scheme == "vcvt":
        return Fraction(oracle.round_real("half-even", 256 * Fraction(oracle.to_float32(real))), 256)
    if scheme in oracle._MANTISSA or scheme in oracle._FLOAT32:
        scale = oracle.to_float32(real)
        return Fraction(scale) if math.isfinite(scale) else Fraction(0)
    if scheme in Q31:
        return value * Fraction(2) ** (shift - 31)
    if scheme == "tosa-scale16" and real:
        mantissa, exponent = oracle.frexp_exact(real)
        return oracle.round_real("half-away", mantissa * 2**15) * Fraction(2) ** (exponent - 15)
    return real


def ties(scheme: str, multiplier: Multiplier | float, rng: random.Random, count: int = 6) -> list[int]:
    """Accumulators at and one beside exact ties, and those nearest to half-way points."""
    real = effective(scheme, multiplier)
    if real == 0:
        return [0, 1, -1]
    low, high = acc_limits(scheme)
    centres = []
    half_period = real.denominator // 2
    if half_period and half_period <= high:
        # real = odd / 2**d: a tie exactly where acc is an odd multiple of 2**(d-1).
        largest = (high // half_period - 1) // 2
        turns = {0, 1, largest, *(rng.randint(0, largest) for _ in range(count))}
        centres += [(2 * k + 1) * half_period for k in sorted(turns)]
    outputs = [0, 1, 2, 6, 7, 127, 128, *(rng.randint(0, 2**15) for _ in range(count))]
    centres += [round((k + Fraction(1, 2)) / real) for k in outputs]
    values = {sign * (centre + d) for centre in centres for d in (-1, 0, 1) for sign in (-1, 1)}
    return sorted(v for v in values if low <= v <= high)


def multipliers(rng: random.Random, per_shift: int) -> list[Multiplier]:
    """Every shift, each with fixed mantissas in turn and random ones."""
    chosen = []
    for k, shift in enumerate(ALL_SHIFTS):
        for j in range(per_shift):
            fixed = MANTISSA_VALUES[(k * per_shift + j) % len(MANTISSA_VALUES)]
            chosen.append((fixed if j % 2 == 0 else rng.randint(2**30, 2**31 - 1), shift))
    return chosen


def accumulators(scheme: str, multiplier: Multiplier | float, rng: random.Random, count: int) -> list[int]:
    """A mixture: structured values, ties, uniform values, and values whose result fits int16."""
    low, high = acc_limits(scheme)
    real = effective(scheme, multiplier)
    reach = high if real == 0 else max(1, min(high, int(2**15 / real)))
    near = ties(scheme, multiplier, rng, 2)
    pool = [
        *rng.sample(structured(48 if scheme in WIDE else 32), count // 4),
        *rng.sample(near, min(len(near), count // 2)),
        *(rng.randint(low, high) for _ in range(count // 8)),
    ]
    return pool + [rng.randint(-reach, reach) for _ in range(count - len(pool))]


@functools.lru_cache(maxsize=1 << 18)
def expected(
    scheme: str,
    acc: int,
    multiplier: Multiplier | float,
    *,
    zero_point: int = 0,
    limits: tuple[int, int] | None = None,
) -> int | None:
    """The oracle's answer, None outside the domain; a raw result must fit int32 with its zero point too."""
    try:
        result = oracle.requantize(
            scheme,
            acc,
            multiplier=multiplier if isinstance(multiplier, tuple) else None,
            real=None if isinstance(multiplier, tuple) else multiplier,
            zero_point=zero_point,
            qmin=limits and limits[0],
            qmax=limits and limits[1],
        )
    except oracle.OutsideDomain:
        return None
    return result if limits or INT32[0] <= result <= INT32[1] else None


@functools.cache
def raw_cases(scheme: str, seed: int) -> tuple[tuple[Multiplier, int, int | None], ...]:
    """(multiplier, acc, expected or None) of raw results over every shift."""
    rng = random.Random(f"{scheme} {seed}")
    per_shift, count = (3, 8) if scheme in FLOATS else (4, 20)
    return tuple(
        (multiplier, acc, expected(scheme, acc, multiplier))
        for multiplier in multipliers(rng, per_shift)
        for acc in accumulators(scheme, multiplier, rng, count)
    )


def as_multiplier(pairs: Iterable[Multiplier] | Multiplier) -> QuantizedMultiplier:
    """One multiplier, or an array of them."""
    if isinstance(pairs, tuple) and isinstance(pairs[0], int):
        return QuantizedMultiplier(*pairs)
    listed: Sequence[Multiplier] = list(pairs)  # type: ignore[arg-type]
    return QuantizedMultiplier([v for v, _ in listed], [s for _, s in listed])


def admits(scheme: str, multiplier: Multiplier) -> bool:
    """Whether the scheme takes this multiplier at all."""
    return expected(scheme, 0, multiplier) is not None


def is_floor(scheme: str) -> bool:
    """Whether the scheme is a single floor of a linear function."""
    return get_scheme(scheme).form == "floor"
