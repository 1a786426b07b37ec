"""Integer parameters that compilers and kernel libraries derive from scales: CMSIS-NN, Arm Ethos-U (Vela), TOSA."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError
from ..requant import recipes
from ..requant.multiplier import QuantizedMultiplier, quantize_multiplier
from .columns import scales
from .sums import LEFT_SHIFT


def cmsis_nn_multiplier(
    input_scale: npt.ArrayLike, weight_scale: npt.ArrayLike, output_scale: npt.ArrayLike
) -> QuantizedMultiplier:
    """Return the multipliers and shifts that `arm_nn_requantize` takes: TFLite's, positive shifts left.

    ``quantize_multiplier(f64(i) f64(w) / f64(o))``, one an output channel. The arithmetic is scheme ``double``;
    ``single`` where CMSIS-NN is built with CMSIS_NN_USE_SINGLE_ROUNDING.

    Parameters
    ----------
    input_scale, weight_scale, output_scale : float or array
        Stored float32 scales, ``> 0``.

    References
    ----------
    CMSIS-NN ``Include/arm_nnsupportfunctions.h`` arm_nn_requantize; TensorFlow Lite Micro, kernel_util.

    Examples
    --------
    >>> from qengine.runtimes.parameters import cmsis_nn_multiplier
    >>> cmsis_nn_multiplier(0.5, 0.25, 0.5)
    QuantizedMultiplier(value=1073741824, shift=-1)
    """
    return quantize_multiplier(recipes.apply("double", input_scale, weight_scale, output_scale))


def cmsis_nn_reduced(multiplier: QuantizedMultiplier) -> Any:
    """Return the 15-bit mantissa of REDUCE_MULTIPLIER, which `arm_nn_requantize_s64` takes with the same shift.

    ``(m + 2**15) >> 16``, 32767 from ``0x7FFF0000`` on; scheme ``int16x8``.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.runtimes.parameters import cmsis_nn_reduced
    >>> cmsis_nn_reduced(QuantizedMultiplier([1 << 30, (1 << 31) - 1], [0, 0])).tolist()     # the second would be 2**15
    [16384, 32767]
    """
    value = np.asarray(multiplier.value, np.int64)
    reduced = np.where(value < 0x7FFF0000, (value + (1 << 15)) >> 16, 0x7FFF)
    return int(reduced) if reduced.ndim == 0 else reduced


class AddParameters(NamedTuple):
    """Arguments of `arm_elementwise_add_s8`."""

    left_shift: int
    input1: QuantizedMultiplier
    input2: QuantizedMultiplier
    output: QuantizedMultiplier


def cmsis_nn_add(input1_scale: float, input2_scale: float, output_scale: float) -> AddParameters:
    """Return what `arm_elementwise_add_s8` takes: the same numbers as TFLite's ADD.

    ``s_i / (2 max)`` and ``2 max / (2**20 s_o)`` in float64 of the stored float32 scales.

    Examples
    --------
    >>> from qengine.runtimes.parameters import cmsis_nn_add
    >>> cmsis_nn_add(0.05, 0.03, 0.06).output
    QuantizedMultiplier(value=1789569773, shift=-19)
    """
    a, b, o = (float(scales(n, v)) for n, v in (("1", input1_scale), ("2", input2_scale), ("output", output_scale)))
    twice_max = 2.0 * max(a, b)
    real = a / twice_max, b / twice_max, twice_max / (2.0**LEFT_SHIFT * o)
    return AddParameters(LEFT_SHIFT, *(quantize_multiplier(v) for v in real))


class VelaScale(NamedTuple):
    """Multiplier and right shift of an Ethos-U command stream: ``real = scale * 2**-shift``."""

    scale: int
    shift: int


def _positive(name: str, value: float) -> float:
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise DomainError(f"{name} must be finite and >= 0; got {value!r}.")
    return number


def vela_scale(real: float) -> VelaScale:
    """Return a real multiplier as Vela's `quantise_scale` writes it.

    ``fraction, e = frexp(real)``; ``scale = floor(fraction 2**31 + 1/2)``, not renormalised (``2**31`` stays);
    ``shift = 31 - e``; outside ``[0, 63]`` it is (0, 16).

    Parameters
    ----------
    real : float
        ``>= 0``, finite. Vela computes ``f64(f32(i w)) / f64(o)`` for uint8 and FULLY_CONNECTED (recipe
        ``float-product``), ``f64(i) f64(w) / f64(o)`` for int8 and int16 (``double``).

    References
    ----------
    ethos-u-vela ``ethosu/vela/scaling.py``, quantise_scale.

    Examples
    --------
    >>> from qengine.runtimes.parameters import vela_scale
    >>> vela_scale(0.1)
    VelaScale(scale=1717986918, shift=34)
    >>> vela_scale(1 - 2**-33)                           # TFLite renormalises to 2**30 and the next shift
    VelaScale(scale=2147483648, shift=31)
    """
    fraction, exponent = math.frexp(_positive("real", real))
    shift = 31 - exponent
    if not 0 <= shift < 64:
        return VelaScale(0, 16)
    return VelaScale(math.floor(fraction * 2.0**31 + 0.5), shift)  # exact: a mantissa below 2**31 with 22 more bits


def vela_reduced_scale(real: float) -> VelaScale:
    """Return Vela's 16-bit scale, for int16 activations: ``(scale + 2**15) >> 16``, 32767 at most, shift less 16.

    Examples
    --------
    >>> from qengine.runtimes.parameters import vela_reduced_scale
    >>> vela_reduced_scale(0.1), vela_reduced_scale(1 - 2**-33)
    (VelaScale(scale=26214, shift=18), VelaScale(scale=32767, shift=15))
    """
    scale, shift = vela_scale(real)
    return VelaScale(32767 if scale >= 32767 << 16 else (scale + (1 << 15)) >> 16, shift - 16)


def vela_pooling_scale(count: int, rescale_bits: int = 0) -> VelaScale:
    """Return ``1 / count`` for average pooling as Vela writes it.

    ``k`` the bits of ``count - 1``, ``N = 31 - rescale_bits``: ``scale = (2**(N+k) + 2**k) // count``,
    ``shift = N + k``.

    Examples
    --------
    >>> from qengine.runtimes.parameters import vela_pooling_scale
    >>> vela_pooling_scale(9)
    VelaScale(scale=3817748709, shift=35)
    """
    if count < 1 or not 0 <= rescale_bits <= 31:
        raise DomainError(f"count must be >= 1 and rescale_bits in [0, 31]; got {count} and {rescale_bits}.")
    k, n = (count - 1).bit_length(), 31 - rescale_bits
    if n + k >= 64:
        raise DomainError(f"count needs a shift of {n + k}, which is above 63; got {count}.")
    return VelaScale(((1 << (n + k)) + (1 << k)) // count, n + k)


def tosa_reciprocal_scale(count: int) -> VelaScale:
    """Return TOSA's ``reciprocal_scale`` of AVG_POOL2D: (multiplier, shift) of ``1 / count``.

    ``k`` the bits of ``count - 1``: ``multiplier = ((2**30 + 1) << k) // count``, ``shift = 30 + k``.

    Examples
    --------
    >>> from qengine.runtimes.parameters import tosa_reciprocal_scale
    >>> [tuple(tosa_reciprocal_scale(n)) for n in (1, 3, 9, 49)]
    [(1073741825, 30), (1431655766, 32), (1908874355, 34), (1402438302, 36)]
    """
    if not 1 <= count < 2**31:
        raise DomainError(f"count must be in [1, 2**31 - 1]; got {count}.")
    k = (count - 1).bit_length()
    return VelaScale((((1 << 30) + 1) << k) // count, 30 + k)
