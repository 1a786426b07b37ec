"""Drop-in for notebooks written against a module named ``tflite_quant_math``; it prints what they printed.

Change the import to ``from qengine.tflite_quant_math import ...`` and the notebook runs as it stands, on
Python integers. The module is here to reproduce old figures and to show where they came from. **Do not
emulate TFLite with it**: the story that goes with such notebooks ("TFLite 2.20 rounds once, gemmlowp rounds
twice, hence the ±1") is wrong in these points.

1. *The "double rounding" is a bug of the port.* gemmlowp's SaturatingRoundingDoublingHighMul adds a nudge
   that depends on the sign and then divides with C++'s ``/``, which **truncates toward zero**. The port
   writes ``>> 31``, which **floors**, and so comes out one too low for nearly every negative product. The
   "boundary case" x = -1032852841, multiplier (1578349059, 0) is such a product: its exact value
   -759122106.097 lies nowhere near a tie, the C++ gives -759122106 as single rounding does, and only the port
   gives -759122107. True double rounding agrees with single rounding at shift 0: 0 of 2 million random inputs
   differ, against half of them with the port. The notebooks' 10,000 random trials (seed 42) disagree in
   42.67 % with the port and in 8.42 % with true double rounding. For a right shift r >= 1 and evenly spread
   inputs the true rate is 2**-(r + 1).
2. *TFLite adds the output zero point*; the notebooks subtract it. For acc = 585 they print 7 - (-126) = 133,
   which is no int8; the integer kernels answer 7 + (-126) = -119.
3. *The runtime of tensorflow#102943 did not round once.* It answered -120, where single rounding, double
   rounding and exact arithmetic all give -119. It ran XNNPACK, scheme ``fp32``: the scales are multiplied and
   divided in float32, the float32 product 585 * scale is exactly 6.5, and ties to even make it 6. "8 in 33.4
   million" fits ``fp32`` against ``single`` on typical activations; true double rounding differs from either
   in more than a hundred thousand of as many.
4. *No released TFLite sets TFLITE_SINGLE_ROUNDING.* Only unit-test targets define it. Which arithmetic runs
   depends on the operator and the delegate, not on one flag.

Use these instead; they add the zero point and clamp, and the first two take arrays::

    qe.requantize(acc, multiplier, scheme="double", zero_point=-126, dtype="int8")
    qe.requantize_scales(585, in_scale, w_scale, out_scale, scheme="fp32", zero_point=-126)     # -120
    qe.explain(585, scales=(in_scale, w_scale, out_scale), zero_point=-126)     # every scheme, every step

with ``scheme`` one of ``"single"``, ``"double"`` (gemmlowp as it is), ``"floor-port"`` (what this module
calls double rounding), ``"fp32"`` (XNNPACK) and the others that ``qe.schemes()`` lists.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import SupportsFloat, SupportsIndex

from .exceptions import DomainError, DTypeError
from .requant.multiplier import (
    QuantizedMultiplier,
    quantize_multiplier,
    quantize_multiplier_greater_than_one,
    quantize_multiplier_smaller_than_one,
)

__all__ = [
    "QuantizedMultiplier",
    "debug_multiply_intermediates",
    "multiply_by_quantized_multiplier_double_round",
    "multiply_by_quantized_multiplier_single_round",
    "quantize_multiplier",
    "quantize_multiplier_greater_than_one",
    "quantize_multiplier_smaller_than_one",
    "requantize_layer_output",
    "rounding_divide_by_pot",
    "saturating_rounding_doubling_high_mul",
]

_INT32_MIN = -(2**31)
_INT32_MAX = 2**31 - 1
_SHIFT_MIN = -31
_SHIFT_MAX = 30


def _in_range(name: str, value: int, low: int, high: int, advice: str = "") -> int:
    if not low <= value <= high:
        raise DomainError(f"{name} must be in [{low}, {high}]; got {value}.{advice}")
    return value


def _int32(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DTypeError(
            f"{name} must be a Python or NumPy integer; got {type(value).__name__}. For arrays use qengine.requantize."
        )
    return _in_range(name, int(value), _INT32_MIN, _INT32_MAX)


def _fields(multiplier: object) -> tuple[int, int]:
    if not isinstance(multiplier, QuantizedMultiplier):
        raise DTypeError(
            f"multiplier must be a QuantizedMultiplier; got {type(multiplier).__name__}. "
            "Make one with quantize_multiplier(real) or QuantizedMultiplier(value, shift)."
        )
    if multiplier.shape != ():
        raise DTypeError(
            f"multiplier must be one multiplier; got an array of shape {multiplier.shape}. "
            "For arrays use qengine.requantize."
        )
    return int(multiplier.value), _in_range("shift", int(multiplier.shift), _SHIFT_MIN, _SHIFT_MAX)


def _scale(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DTypeError(f"{name} must be a real number; got {type(value).__name__}.")
    scale = float(value)
    if not (math.isfinite(scale) and scale > 0):
        raise DomainError(f"{name} must be finite and > 0; got {scale!r}.")
    return scale


def _nudged(a: int, b: int) -> int:
    product = a * b
    return product + ((1 << 30) if product >= 0 else 1 - (1 << 30))


def _high_mul_truncating(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul as C++ computes it: the division truncates toward zero."""
    if a == b == _INT32_MIN:
        return _INT32_MAX
    total = _nudged(a, b)
    return total >> 31 if total >= 0 else -(-total >> 31)


def _double(x: int, value: int, shift: int, high_mul: Callable[[int, int], int]) -> int:
    shifted = _in_range(
        "x << left_shift", x << max(shift, 0), _INT32_MIN, _INT32_MAX,
        f" The multiplier's shift {shift} takes x = {x} out of int32, where C++ would wrap.",
    )  # fmt: skip
    return rounding_divide_by_pot(high_mul(shifted, value), max(-shift, 0))


def saturating_rounding_doubling_high_mul(a: SupportsIndex, b: SupportsIndex) -> int:
    """Return the high half of ``2 * a * b``, rounded **as the Python port does it**, not as C++ does.

    ``(a*b + nudge) >> 31`` with ``nudge = 2**30`` for a product >= 0 and ``1 - 2**30`` below. That nudge was
    made for a division that truncates; with the flooring shift the result is one too low for every negative
    product except those that are ``2**30 - 1`` modulo ``2**31``.

    Parameters
    ----------
    a, b : int
        int32 values.

    Returns
    -------
    int
        An int32 value; ``2**31 - 1`` for ``a == b == -2**31``.

    Raises
    ------
    DTypeError
        If an argument is not an integer.
    DomainError
        If an argument does not fit int32.

    Notes
    -----
    gemmlowp's function equals ``(a*b + 2**30) >> 31`` for every sign: half up. That is the form to port.

    References
    ----------
    gemmlowp, ``fixedpoint/fixedpoint.h``, ``SaturatingRoundingDoublingHighMul``.

    Examples
    --------
    >>> from qengine.tflite_quant_math import saturating_rounding_doubling_high_mul
    >>> saturating_rounding_doubling_high_mul(3, 1 << 30)       # 1.5, a tie: up
    2
    >>> saturating_rounding_doubling_high_mul(-3, 1 << 30)      # -1.5; C++ gives -1
    -2
    >>> saturating_rounding_doubling_high_mul(-4, 1 << 30)      # exactly -2, and still one too low
    -3
    """
    first, second = _int32("a", a), _int32("b", b)
    if first == second == _INT32_MIN:
        return _INT32_MAX
    return _nudged(first, second) >> 31


def rounding_divide_by_pot(x: SupportsIndex, exponent: SupportsIndex) -> int:
    """Return ``x / 2**exponent`` rounded to nearest, ties away from zero. This one the notebooks had right.

    Parameters
    ----------
    x : int
        An int32 value.
    exponent : int
        In ``[0, 31]``; 0 returns `x`.

    Returns
    -------
    int
        The rounded quotient, an int32 value.

    Raises
    ------
    DTypeError
        If an argument is not an integer.
    DomainError
        If `x` does not fit int32 or `exponent` lies outside ``[0, 31]``.

    References
    ----------
    gemmlowp, ``fixedpoint/fixedpoint.h``, ``RoundingDivideByPOT``.

    Examples
    --------
    >>> from qengine.tflite_quant_math import rounding_divide_by_pot
    >>> rounding_divide_by_pot(5, 1), rounding_divide_by_pot(-5, 1)     # ties: 2.5 and -2.5
    (3, -3)
    >>> rounding_divide_by_pot(-7, 2)                                   # -1.75
    -2
    """
    value = _int32("x", x)
    bits = _in_range("exponent", _int32("exponent", exponent), 0, 31)
    mask = (1 << bits) - 1
    remainder = value & mask
    threshold = (mask >> 1) + (1 if value < 0 else 0)
    return (value >> bits) + (1 if remainder > threshold else 0)


def multiply_by_quantized_multiplier_single_round(x: SupportsIndex, multiplier: QuantizedMultiplier) -> int:
    """Return ``x * multiplier`` rounded once, half up: scheme ``single``.

    ``(x * value + 2**(t - 1)) >> t`` with ``t = 31 - shift``.

    Parameters
    ----------
    x : int
        int32 accumulator.
    multiplier : QuantizedMultiplier
        One multiplier, shift in ``[-31, 30]``.

    Returns
    -------
    int
        The rounded product, before any zero point.

    Raises
    ------
    DTypeError
        If `x` is not an integer or `multiplier` not one QuantizedMultiplier.
    DomainError
        If `x` or the result does not fit int32, or the shift is out of range.

    Notes
    -----
    TFLite computes this where it is built with TFLITE_SINGLE_ROUNDING=1, and no released build is.

    References
    ----------
    TensorFlow Lite, ``kernels/internal/common.cc``, ``MultiplyByQuantizedMultiplier``.

    Examples
    --------
    >>> from qengine.tflite_quant_math import QuantizedMultiplier
    >>> from qengine.tflite_quant_math import multiply_by_quantized_multiplier_single_round as single
    >>> quarter = QuantizedMultiplier(1 << 30, -1)
    >>> single(6, quarter), single(-6, quarter)         # ties: 1.5 and -1.5, both up
    (2, -1)
    >>> single(-1032852841, QuantizedMultiplier(1578349059, 0))
    -759122106
    """
    acc = _int32("x", x)
    value, shift = _fields(multiplier)
    total_shift = 31 - shift
    result = (acc * value + (1 << (total_shift - 1))) >> total_shift
    return _in_range("result of single rounding", result, _INT32_MIN, _INT32_MAX)


def multiply_by_quantized_multiplier_double_round(x: SupportsIndex, multiplier: QuantizedMultiplier) -> int:
    """Return ``x * multiplier`` rounded twice **as the Python port does it**: scheme ``floor-port``.

    `saturating_rounding_doubling_high_mul` of ``x << left_shift``, which floors where C++ truncates, then
    `rounding_divide_by_pot`. No runtime computes this.

    Parameters
    ----------
    x : int
        int32 accumulator.
    multiplier : QuantizedMultiplier
        One multiplier, shift in ``[-31, 30]``.

    Returns
    -------
    int
        The rounded product, before any zero point.

    Raises
    ------
    DTypeError
        If `x` is not an integer or `multiplier` not one QuantizedMultiplier.
    DomainError
        If `x` or ``x << left_shift`` does not fit int32, or the shift is out of range.

    See Also
    --------
    debug_multiply_intermediates : its ``gemmlowp_result`` is double rounding as C++ computes it.

    Examples
    --------
    >>> from qengine.tflite_quant_math import QuantizedMultiplier
    >>> from qengine.tflite_quant_math import multiply_by_quantized_multiplier_double_round as double
    >>> quarter = QuantizedMultiplier(1 << 30, -1)
    >>> double(6, quarter), double(-6, quarter)         # ties: 1.5 and -1.5
    (2, -2)
    >>> double(-1, quarter)                             # -0.25; C++ gives 0
    -1
    >>> double(-1032852841, QuantizedMultiplier(1578349059, 0))     # C++ gives -759122106
    -759122107
    """
    acc = _int32("x", x)
    value, shift = _fields(multiplier)
    return _double(acc, value, shift, saturating_rounding_doubling_high_mul)


_GLOSS = {
    "x": "accumulator",
    "multiplier_value": "Q0.31 mantissa",
    "multiplier_shift": "TFLite's sign: > 0 is left",
    "left_shift": "max(multiplier_shift, 0)",
    "right_shift": "max(-multiplier_shift, 0)",
    "x_shifted": "x << left_shift",
    "prod": "x_shifted * multiplier_value, exact",
    "total_shift": "31 + right_shift",
    "mask": "2**total_shift - 1",
    "remainder": "prod & mask",
    "threshold": "2**(total_shift - 1); single rounds up iff remainder >= threshold",
    "single_round_result": "scheme single",
    "double_round_result": "scheme floor-port: floors where C++ truncates",
    "gemmlowp_result": "scheme double: as C++ computes it",
    "single_round_with_zp": "minus zero_point, as in the notebooks; TFLite adds it",
    "double_round_with_zp": "minus zero_point, as in the notebooks; TFLite adds it",
    "difference": "single_round_result - double_round_result",
}


def debug_multiply_intermediates(
    x: SupportsIndex,
    multiplier: QuantizedMultiplier,
    zero_point: SupportsIndex = 0,
    verbose: bool = True,
) -> dict[str, int]:
    """Return, and print, every intermediate of single rounding and of the port's double rounding.

    Parameters
    ----------
    x : int
        int32 accumulator.
    multiplier : QuantizedMultiplier
        One multiplier, shift in ``[-31, 30]``.
    zero_point : int
        An int32 value that is **subtracted** in the two ``*_with_zp`` entries, as the notebooks did.
    verbose : bool
        Print the entries, one a line, to standard output.

    Returns
    -------
    dict of str to int
        ``x``, ``multiplier_value``, ``multiplier_shift``
            The arguments.
        ``left_shift``, ``right_shift``
            ``max(multiplier_shift, 0)`` and ``max(-multiplier_shift, 0)``.
        ``x_shifted``
            ``x << left_shift``.
        ``prod``
            ``x_shifted * multiplier_value``, the exact integer.
        ``total_shift``
            ``31 + right_shift``: the real product is ``prod / 2**total_shift``.
        ``mask``
            ``2**total_shift - 1``.
        ``remainder``
            ``prod & mask``, never negative: what stands above ``floor(prod / 2**total_shift)``.
        ``threshold``
            ``2**(total_shift - 1)``, one half: single rounding rounds up iff ``remainder >= threshold``, and
            equality is the tie.
        ``single_round_result``
            Scheme ``single``.
        ``double_round_result``
            Scheme ``floor-port``, the notebooks' double rounding.
        ``gemmlowp_result``
            Scheme ``double``: true double rounding, the high multiply truncating as in C++. Added here.
        ``single_round_with_zp``, ``double_round_with_zp``
            The results minus `zero_point`, not clamped. **TFLite adds the zero point.**
        ``difference``
            ``single_round_result - double_round_result``.

    Raises
    ------
    DTypeError
        If `x` or `zero_point` is not an integer or `multiplier` not one QuantizedMultiplier.
    DomainError
        If `x`, `zero_point` or ``x << left_shift`` does not fit int32, or the shift is out of range.

    Examples
    --------
    >>> from qengine.tflite_quant_math import QuantizedMultiplier, debug_multiply_intermediates
    >>> tie = debug_multiply_intermediates(6, QuantizedMultiplier(1 << 30, -1), verbose=False)
    >>> tie["remainder"] == tie["threshold"], tie["single_round_result"]        # 1.5 goes up
    (True, 2)
    >>> case = debug_multiply_intermediates(-1032852841, QuantizedMultiplier(1578349059, 0), verbose=False)
    >>> case["single_round_result"], case["double_round_result"], case["gemmlowp_result"]
    (-759122106, -759122107, -759122106)
    """
    acc, offset = _int32("x", x), _int32("zero_point", zero_point)
    value, shift = _fields(multiplier)
    left_shift, right_shift = max(shift, 0), max(-shift, 0)
    total_shift = 31 + right_shift
    mask = (1 << total_shift) - 1
    gemmlowp = _double(acc, value, shift, _high_mul_truncating)
    double = multiply_by_quantized_multiplier_double_round(acc, multiplier)
    single = multiply_by_quantized_multiplier_single_round(acc, multiplier)
    prod = (acc << left_shift) * value
    result = {
        "x": acc,
        "multiplier_value": value,
        "multiplier_shift": shift,
        "left_shift": left_shift,
        "right_shift": right_shift,
        "x_shifted": acc << left_shift,
        "prod": prod,
        "total_shift": total_shift,
        "mask": mask,
        "remainder": prod & mask,
        "threshold": 1 << (total_shift - 1),
        "single_round_result": single,
        "double_round_result": double,
        "gemmlowp_result": gemmlowp,
        "single_round_with_zp": single - offset,
        "double_round_with_zp": double - offset,
        "difference": single - double,
    }
    if verbose:
        wide = max(len(str(entry)) for entry in result.values())
        for key, entry in result.items():
            print(f"{key:<20} {entry:>{wide}}  {_GLOSS[key]}")
    return result


def requantize_layer_output(
    accumulator: SupportsIndex,
    in_scale: SupportsFloat,
    weight_scale: SupportsFloat,
    out_scale: SupportsFloat,
    out_zero_point: SupportsIndex,
) -> int:
    """Requantize one accumulator to int8 **as the notebooks did**, with the zero point subtracted.

    ``M = in_scale * weight_scale / out_scale`` in float64, then one rounding, then the zero point, then the
    clamp: ``clamp(single(accumulator, M) - out_zero_point, -128, 127)``.

    Parameters
    ----------
    accumulator : int
        int32 accumulator, bias included.
    in_scale, weight_scale, out_scale : float
        Finite and positive; widened to float64.
    out_zero_point : int
        An int32 value; subtracted. **TFLite adds it.**

    Returns
    -------
    int
        In ``[-128, 127]``.

    Raises
    ------
    DTypeError
        If an argument has the wrong type.
    DomainError
        If the accumulator, the zero point or the result before the clamp does not fit int32, a scale is not
        finite and positive, or the multiplier is so large that its shift exceeds 30.

    Notes
    -----
    The notebooks called `quantize_multiplier_smaller_than_one`, which refuses a multiplier of 1 or more. Here
    it is `quantize_multiplier`: the same integers inside (0, 1), and no needless failure from 1 on.

    Use ``qengine.requantize_scales(..., scheme=...)`` for what a runtime returns.

    Examples
    --------
    >>> from qengine.tflite_quant_math import requantize_layer_output
    >>> requantize_layer_output(12345, 0.05, 0.02, 0.1, -128)       # 123 - (-128) = 251, clamped
    127
    >>> requantize_layer_output(-6, 0.5, 0.5, 1.0, 3)               # the tie -1.5 goes up to -1; minus 3
    -4
    """
    acc, zero_point = _int32("accumulator", accumulator), _int32("out_zero_point", out_zero_point)
    first, second = _scale("in_scale", in_scale), _scale("weight_scale", weight_scale)
    real = first * second / _scale("out_scale", out_scale)
    result = multiply_by_quantized_multiplier_single_round(acc, quantize_multiplier(real))
    return max(-128, min(127, result - zero_point))
