"""Independent test oracle: the original, multi-stage definitions of every requantization scheme.

Pure Python integers and fractions.  Nothing here comes from ``qengine`` and nothing uses the floor form
``floor((a*x + b) / 2**t)`` in which the engine computes: each scheme is written stage by stage, as the
runtime that owns it writes it (sign-dependent nudge followed by C++ truncating division, remainder against
threshold, and so on).  Where the original's contract excludes an input, :class:`OutsideDomain` is raised.

Conventions: ``multiplier = (value, shift)`` has TFLite's sign, ``real = value * 2**(shift - 31)``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction

INT16 = (-(2**15), 2**15 - 1)
INT32 = (-(2**31), 2**31 - 1)
INT48 = (-(2**47), 2**47 - 1)


class OutsideDomain(ValueError):
    """The original's contract excludes this input."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OutsideDomain(message)


def _require_in(value: int, limits: tuple[int, int], what: str) -> int:
    _require(limits[0] <= value <= limits[1], f"{what} must be in [{limits[0]}, {limits[1]}]; got {value}")
    return value


def saturate(value: int, limits: tuple[int, int]) -> int:
    """Clamp an integer to ``limits``."""
    return min(max(value, limits[0]), limits[1])


# ---------------------------------------------------------------------------------------------------------
# Rounding rules: a real number to an integer


def _round_half(value: Fraction, on_tie: Callable[[int], int]) -> int:
    """Nearest integer; ``on_tie(below)`` decides between ``below`` and ``below + 1``."""
    below = math.floor(value)
    rest = value - below
    if rest == Fraction(1, 2):
        return on_tie(below)
    return below + (1 if rest > Fraction(1, 2) else 0)


ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "half-even": lambda v: _round_half(v, lambda below: below if below % 2 == 0 else below + 1),
    "half-away": lambda v: _round_half(v, lambda below: below + 1 if v > 0 else below),
    "half-up": lambda v: _round_half(v, lambda below: below + 1),
    "half-down": lambda v: _round_half(v, lambda below: below),
    "half-toward-zero": lambda v: _round_half(v, lambda below: below if v > 0 else below + 1),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
}


def round_real(rule: str, value: Fraction | float | int) -> int:
    """Round one finite real number, held exactly, by a named rule."""
    return ROUNDINGS[rule](Fraction(value))


# ---------------------------------------------------------------------------------------------------------
# IEEE arithmetic


def to_float32(value: Fraction | float | int) -> float:
    """Round to IEEE binary32, half to even, with subnormals; too large becomes an infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return value
    exact = Fraction(value)
    if exact == 0:
        return 0.0
    magnitude = abs(exact)
    _, exponent = frexp_exact(magnitude)
    quantum_exponent = max(exponent - 24, -149)
    quantum = Fraction(2) ** quantum_exponent
    rounded = round_real("half-even", magnitude / quantum) * quantum
    result = math.inf if rounded >= Fraction(2) ** 128 else float(rounded)
    return result if exact > 0 else -result


def multiply_float32(left: float, right: float) -> float:
    """One binary32 multiplication of two binary32 numbers."""
    if math.isinf(left) or math.isinf(right):
        return left * right
    return to_float32(Fraction(left) * Fraction(right))


def add_float32(left: float, right: float) -> float:
    """One binary32 addition of two binary32 numbers."""
    if math.isinf(left) or math.isinf(right):
        return left + right
    return to_float32(Fraction(left) + Fraction(right))


def divide_float32(left: float, right: float) -> float:
    """One binary32 division of two binary32 numbers, the divisor not zero."""
    if math.isinf(left) or math.isinf(right):
        return left / right
    return to_float32(Fraction(left) / Fraction(right))


def float32_bits(value: float) -> int:
    """Bit pattern of a number that is exactly a binary32."""
    _require(struct.unpack("<f", struct.pack("<f", value))[0] == value, f"not a float32: {value!r}")
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def frexp_exact(value: Fraction) -> tuple[Fraction, int]:
    """``value = mantissa * 2**exponent`` with the mantissa in [1/2, 1), for a positive rational."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    while value / Fraction(2) ** exponent >= 1:
        exponent += 1
    while value / Fraction(2) ** exponent < Fraction(1, 2):
        exponent -= 1
    return value / Fraction(2) ** exponent, exponent


# ---------------------------------------------------------------------------------------------------------
# Multipliers and recipes


def _checked_real(real: float) -> float:
    _require(math.isfinite(real) and real >= 0, f"a multiplier must be finite and >= 0; got {real!r}")
    return real


def quantize_multiplier(d: float) -> tuple[int, int]:
    """TFLite ``QuantizeMultiplier`` as built by default: no saturation of large shifts."""
    if _checked_real(d) == 0:
        return 0, 0
    mantissa, exponent = frexp_exact(Fraction(d))
    value = round_real("half-away", mantissa * 2**31)
    assert value <= 2**31
    if value == 2**31:
        value //= 2
        exponent += 1
    if exponent < -31:
        return 0, 0
    return value, exponent


def quantize_multiplier_single(d: float) -> tuple[int, int]:
    """``QuantizeMultiplier`` of a build with TFLITE_SINGLE_ROUNDING: a shift above 30 saturates."""
    value, shift = quantize_multiplier(d)
    if shift > 30:
        return 2**31 - 1, 30
    return value, shift


def recipe(name: str, si: float, sw: float, so: float) -> float:
    """Effective multiplier from stored float32 scales, in the order and width that ``name`` stands for."""
    for scale in (si, sw, so):
        assert to_float32(scale) == scale, f"scale is not a float32: {scale!r}"
    if name == "double":
        return si * sw / so
    if name == "float32-of-double":
        return to_float32(si * sw / so)
    product = multiply_float32(si, sw)
    if name == "float-product":
        return product / so
    if name in ("float32", "float32-widened"):
        return divide_float32(product, so)
    if name == "float32-reciprocal":
        return multiply_float32(product, divide_float32(1.0, so))
    raise KeyError(name)


# ---------------------------------------------------------------------------------------------------------
# Fixed-point primitives


def wrap32(value: int) -> int:
    """Keep the low 32 bits, read as signed."""
    return (value + 2**31) % 2**32 - 2**31


def truncating_divide(numerator: int, denominator: int) -> int:
    """C++ integer division: toward zero."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator >= 0) == (denominator >= 0) else -quotient


def srdhm(a: int, b: int) -> int:
    """gemmlowp SaturatingRoundingDoublingHighMul, scalar form: sign nudge, then truncating division."""
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return truncating_divide(product + nudge, 2**31)


def srdhm_floor_port(a: int, b: int) -> int:
    """Wrong port of :func:`srdhm`: the same sign nudge, but a flooring shift."""
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return (product + nudge) >> 31


def rdpot(x: int, n: int) -> int:
    """gemmlowp RoundingDivideByPOT: remainder against a threshold, ties away from zero."""
    mask = (1 << n) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> n) + (1 if remainder > threshold else 0)


def rounding_right_shift(x: int, n: int) -> int:
    """NEON ``srshl`` by ``-n``: ties up, the intermediate of unlimited width."""
    return x if n == 0 else (x + (1 << (n - 1))) >> n


def reduce15(value: int) -> int:
    """TFLite's 15-bit multiplier of the 16x8 path."""
    return (value + 2**15) >> 16 if value < 0x7FFF0000 else 0x7FFF


def gemmlowp_quantize_down(x: int, offset: int, multiplier: int, shift: int) -> int:
    """gemmlowp OutputStageQuantizeDownInt32ToUint8Scale: the offset first, then an int32 product."""
    return rdpot(wrap32((x + offset) * multiplier), shift)


def double_wrapping(x: int, value: int, shift: int) -> int:
    """TFLite MultiplyByQuantizedMultiplier, default build; the left shift wraps, as it does in practice."""
    return rdpot(srdhm(wrap32(x << max(shift, 0)), value), max(-shift, 0))


# ---------------------------------------------------------------------------------------------------------
# Schemes on (value, shift)


def _shifted_left(x: int, shift: int) -> int:
    return _require_in(x << max(shift, 0), INT32, "acc << shift")


def _single(x: int, value: int, shift: int) -> int:
    total_shift = 31 - shift
    rounded = x * value + (1 << (total_shift - 1))
    return _require_in(rounded >> total_shift, INT32, "result")


def _double(x: int, value: int, shift: int) -> int:
    return rdpot(srdhm(_shifted_left(x, shift), value), max(-shift, 0))


def _double_up(x: int, value: int, shift: int) -> int:
    return rounding_right_shift(srdhm(_shifted_left(x, shift), value), max(-shift, 0))


def _floor_port(x: int, value: int, shift: int) -> int:
    return rdpot(srdhm_floor_port(_shifted_left(x, shift), value), max(-shift, 0))


def _half_away(x: int, value: int, shift: int) -> int:
    """TVM fixed_point_multiply, TONEAREST: the product's sign chooses the rounding constant."""
    total_shift = 31 + max(-shift, 0)
    product = (x << max(shift, 0)) * value
    half = 1 << (total_shift - 1)
    return _require_in((product + (half if product >= 0 else half - 1)) >> total_shift, INT32, "result")


def _int16x8(x: int, value: int, shift: int) -> int:
    total_shift = 15 - shift
    product = x * reduce15(value) + (1 << (total_shift - 1))
    return _require_in(product >> total_shift, INT32, "result")


def _truncate(x: int, value: int, shift: int) -> int:
    product = (x << max(shift, 0)) * value
    return _require_in(truncating_divide(product, 1 << (31 + max(-shift, 0))), INT32, "result")


def _avx2_int16(x: int, value: int, shift: int) -> int:
    """AVX2 kernels of int16 operators: a plain high multiply, then one half-up shift if there is one.

    Where the 32-bit nudge addition would overflow, the source answers INT32_MAX without shifting; no int16
    operator gets there, and the row's contract leaves it out.
    """
    high = (_shifted_left(x, shift) * value) >> 31
    if shift >= 0:
        return high
    nudge = 1 << (-shift - 1)
    _require(high <= INT32[1] - nudge, "the rounding nudge overflows int32")
    return (high + nudge) >> -shift


def _hifi_out16(x: int, value: int, shift: int) -> int:
    """HiFi OUT16: half-up by the negated multiplier, sign restored, symmetric shift, saturate to int16."""
    negated = srdhm(_shifted_left(x, shift), -value)
    return saturate(rdpot(-negated, max(-shift, 0)), INT16)


# name -> (arithmetic, limits of acc, limits of shift)
_Q31: dict[str, tuple[Callable[[int, int, int], int], tuple[int, int], tuple[int, int]]] = {
    "single": (_single, INT32, (-31, 30)),
    "double": (_double, INT32, (-31, 30)),
    "double-up": (_double_up, INT32, (-31, 30)),
    "half-away": (_half_away, INT32, (-31, 30)),
    "floor-port": (_floor_port, INT32, (-31, 30)),
    "int16x8": (_int16x8, INT48, (-31, 7)),
    "truncate": (_truncate, INT32, (-31, 30)),
    "avx2-int16": (_avx2_int16, INT32, (-31, 30)),
    "hifi-out16": (_hifi_out16, INT32, (-31, 30)),
}


# ---------------------------------------------------------------------------------------------------------
# Schemes on the mantissa of a float32 scale (XNNPACK, QNNPACK)


def _mantissa24(scale: float, upper: int) -> tuple[int, int]:
    """(24-bit mantissa, unbiased exponent): ``scale = mantissa * 2**(exponent - 23)``."""
    in_domain = Fraction(1, 2**32) <= Fraction(scale) < upper
    _require(in_domain, f"scale must be in [2^-32, {upper}); got {scale!r}")
    bits = float32_bits(scale)
    return (bits & 0x007FFFFF) | 0x00800000, (bits >> 23) - 127


def _rndnu(x: int, scale: float) -> int:
    mantissa, exponent = _mantissa24(scale, 256)
    shift = 23 - exponent
    return _require_in((x * mantissa + (1 << (shift - 1))) >> shift, INT32, "result")


def _rndna(x: int, scale: float) -> int:
    mantissa, exponent = _mantissa24(scale, 256)
    shift = 23 - exponent
    magnitude = (abs(x) * mantissa + (1 << (shift - 1))) >> shift
    return _require_in(magnitude if x >= 0 else -magnitude, INT32, "result")


def _q31(x: int, scale: float) -> int:
    mantissa, exponent = _mantissa24(scale, 1)
    high = (x * (mantissa << 7) + 2**30) >> 31
    shift = -1 - exponent
    mask = (1 << shift) - 1
    remainder = (high & mask) - (1 if high < 0 else 0)
    return (high >> shift) + (1 if remainder > (mask >> 1) else 0)


def _rndnu16(x: int, scale: float) -> int:
    mantissa, exponent = _mantissa24(scale, 256)
    mantissa15 = (mantissa + 2**8) >> 9
    if mantissa15 == 2**15:
        mantissa15 = 2**14
        exponent += 1
    preshift = exponent + 1
    shifted = x << preshift if preshift >= 0 else rounding_right_shift(x, -preshift)
    input16 = saturate(saturate(shifted, INT32), INT16)
    return (input16 * mantissa15 + 2**14) >> 15


_MANTISSA: dict[str, Callable[[int, float], int]] = {
    "rndnu": _rndnu,
    "rndnu16": _rndnu16,
    "rndna": _rndna,
    "q31": _q31,
}


def multiplier8(scale: float) -> int:
    """XNNPACK's multiplier of vcvt: ``lrintf(256.0f * scale)``, in [1, 32768]."""
    _require(Fraction(1, 256) <= Fraction(scale) <= 128, f"scale must be in [2^-8, 128]; got {scale!r}")
    return round_real("half-even", 256 * Fraction(scale))


def pmulhrsw(a: int, b: int) -> int:
    """x86 ``PMULHRSW`` on one lane, the product of unlimited width: keep 15 bits less, then round the last one."""
    return (((a * b) >> 14) + 1) >> 1


def _vcvt(x: int, scale: float) -> int:
    """As the x86 kernels write it: the difference shifted left by 7, then a rounding high multiply."""
    return _require_in(pmulhrsw(x << 7, multiplier8(scale)), INT32, "result")


def _tosa_scale16(x: int, real: Fraction) -> int:
    if real == 0:
        value, right_shift = 0, 15
    else:
        mantissa, exponent = frexp_exact(real)
        value = round_real("half-away", mantissa * 2**15)
        if value == 2**15:
            value //= 2
            exponent += 1
        right_shift = 15 - exponent
    _require_in(right_shift, (2, 62), "right shift")
    return _require_in((x * value + (1 << (right_shift - 1))) >> right_shift, INT32, "result")


# ---------------------------------------------------------------------------------------------------------
# Float schemes


def _fp32(x: int, scale: float, zero_point: int, limits: tuple[int, int] | None) -> int:
    product = multiply_float32(to_float32(x), scale)
    if limits is None:
        _require(math.isfinite(product), "result must fit int32")
        return _require_in(round_real("half-even", product), INT32, "result") + zero_point
    bounded = min(max(product, limits[0] - zero_point), limits[1] - zero_point)
    return round_real("half-even", bounded) + zero_point


def _fp32_away(x: int, scale: float, zero_point: int, limits: tuple[int, int] | None) -> int:
    product = multiply_float32(to_float32(x), scale)
    if limits is None:
        _require(math.isfinite(product), "result must fit int32")
        return _require_in(round_real("half-away", product), INT32, "result") + zero_point
    bounded = min(max(product, limits[0] - zero_point), limits[1] - zero_point)
    return round_real("half-away", bounded) + zero_point


def _fp32_zp_inside(x: int, scale: float, zero_point: int, limits: tuple[int, int] | None) -> int:
    total = add_float32(multiply_float32(to_float32(x), scale), to_float32(zero_point))
    if limits is None:
        _require(math.isfinite(total), "result must fit int32")
        return _require_in(round_real("half-even", total), INT32, "result")
    return round_real("half-even", min(max(total, limits[0]), limits[1]))


def _fp64_away(x: int, real: float, zero_point: int, limits: tuple[int, int] | None) -> int:
    """TFLite's reference FULLY_CONNECTED: ``int32(std::round(double(x) * real)) + z``, then the clamp."""
    product = float(x) * real
    _require(math.isfinite(product), "result must fit int32")
    result = _require_in(round_real("half-away", product), INT32, "result") + zero_point
    return result if limits is None else saturate(result, limits)


_FLOAT32: dict[str, Callable[[int, float, int, tuple[int, int] | None], int]] = {
    "fp32": _fp32,
    "fp32-qnnpack": _fp32,
    "fp32-away": _fp32_away,
    "fp32-zp-inside": _fp32_zp_inside,
}

SCHEMES: tuple[str, ...] = (*_Q31, *_MANTISSA, "vcvt", "tosa-scale16", *_FLOAT32, "fp64-away")


# ---------------------------------------------------------------------------------------------------------
# The one entry point


def _float32_scale(real: Fraction | float) -> float:
    scale = to_float32(real)
    _require(math.isfinite(scale), "the multiplier overflows float32")
    return scale


def requantize(
    scheme: str,
    acc: int,
    *,
    multiplier: tuple[int, int] | None = None,
    real: float | None = None,
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
) -> int:
    """One accumulator through one scheme.

    Parameters
    ----------
    scheme : str
        One of :data:`SCHEMES`.
    acc : int
        Accumulator, bias included.
    multiplier : (int, int), optional
        ``(value, shift)``.  Float schemes use its real value, rounded to the width they work in.
    real : float, optional
        Real multiplier; fixed-point schemes put it through :func:`quantize_multiplier`, float32 schemes
        through one rounding to float32.  Exactly one of `multiplier` and `real` is given.
    zero_point, qmin, qmax : int, optional
        Without limits the rounded integer plus the zero point comes back unclamped.

    Raises
    ------
    OutsideDomain
        The original's contract excludes the input.
    """
    if (qmin is None) != (qmax is None):
        raise TypeError("give both of qmin and qmax, or neither")
    if scheme not in SCHEMES:
        raise KeyError(scheme)
    limits = None if qmin is None or qmax is None else (qmin, qmax)
    _require_in(acc, INT48 if scheme in ("int16x8", "tosa-scale16") else INT32, "acc")

    if multiplier is not None and real is None:
        value = _require_in(multiplier[0], (0, 2**31 - 1), "multiplier value")
        shift = _require_in(multiplier[1], (-31, 30), "shift")
        exact = value * Fraction(2) ** (shift - 31)
    elif real is not None and multiplier is None:
        exact = Fraction(_checked_real(real))
        value, shift = quantize_multiplier(real)
    else:
        raise TypeError("give exactly one of multiplier and real")

    if scheme in _FLOAT32:
        return _FLOAT32[scheme](acc, _float32_scale(exact), zero_point, limits)
    if scheme == "fp64-away":
        return _fp64_away(acc, float(exact), zero_point, limits)

    if scheme in _Q31:
        arithmetic, acc_limits, shift_limits = _Q31[scheme]
        _require_in(acc, acc_limits, "acc")
        _require_in(shift, shift_limits, "shift")
        result = arithmetic(acc, value, shift) + zero_point
    elif scheme == "tosa-scale16":
        result = _tosa_scale16(acc, exact) + zero_point
    elif scheme == "vcvt":
        result = _vcvt(acc, _float32_scale(exact)) + zero_point
    else:
        result = _MANTISSA[scheme](acc, _float32_scale(exact)) + zero_point
        if scheme == "rndnu16":
            result = saturate(result, INT16)
    return result if limits is None else saturate(result, limits)


# ---------------------------------------------------------------------------------------------------------
# Counter-based random numbers


def philox4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32 with ten rounds (Salmon, Moraes, Dror and Shaw 2011)."""
    mask = 2**32 - 1
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first = 0xD2511F53 * c0
        second = 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & mask, (first >> 32) ^ c3 ^ k1, first & mask
        k0 = (k0 + 0x9E3779B9) & mask
        k1 = (k1 + 0xBB67AE85) & mask
    return c0, c1, c2, c3
