"""A scheme bound to its multipliers: one side of a comparison, and the accumulators that two sides share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_index, first_value
from ..backends.forms import I64, INT32_MAX, INT32_MIN, Epilogue, FloatRule, FloorRule, Form
from ..exceptions import DomainError, DTypeError, brief
from ..requant import recipes
from ..requant.binding import bind, checked_zero_points, clamp_limits, output_dtype, take_channels
from ..requant.forms import derive, multiplier_fits
from ..requant.multiplier import QuantizedMultiplier, as_reals
from ..requant.schemes import Scheme, get_scheme

#: Stands in for the multiplier of a channel that a scheme does not admit: 1/2 is in the domain of every scheme.
_PLACEHOLDER = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One scheme with its parameters, C channels.

    Attributes
    ----------
    scheme : Scheme
        The row.
    form : Form
        The numbers of its normal form.
    epilogue : Epilogue
        Zero point and clamp; never a wrapping one.
    low, high : int64 arrays
        Closed range of the int32 accumulators on which the scheme has a defined output; empty (1, 0) where the
        scheme does not admit the multiplier.
    multiplier : QuantizedMultiplier or float64 array
        What the caller gave, or what the recipe made of the scales; for messages.
    dtype : dtype
        Output type; int32 for a raw result.
    """

    scheme: Scheme
    form: Form
    epilogue: Epilogue
    low: I64
    high: I64
    multiplier: QuantizedMultiplier | npt.NDArray[np.float64]
    dtype: np.dtype[Any]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.low.size)

    @property
    def floor(self) -> bool:
        """Whether the output is one floor of an affine function on either side of zero (then clamped)."""
        return isinstance(self.form.rule, FloorRule)

    @property
    def clamped(self) -> bool:
        """Whether the output is clamped to ``[epilogue.qmin, epilogue.qmax]``; if not, it is a raw int32."""
        return self.epilogue.clamped

    @property
    def monotone(self) -> npt.NDArray[np.bool_]:
        """Whether the output never falls as the accumulator grows, per channel, over all of int32.

        A product with a positive scale, a rounding, a sum and a clamp are each monotone, so float and nested
        forms are. A floor form is on either side of zero; what is left to check is the step from -1 to 0:
        ``floor((bn - a) / 2**t) <= floor(bp / 2**t)`` (magnitudes below 2**63). Every row of `SCHEMES` passes.
        """
        return ~self.falls(slice(None))

    def falls(self, part: slice) -> npt.NDArray[np.bool_]:
        """Return where, among some channels, the output at 0 is below that at -1: not `monotone`."""
        form = self.form
        if not self.floor:
            return np.zeros(self.low[part].size, dtype=np.bool_)
        t = form.t[part]
        return np.asarray((form.bn[part] - form.a[part]) >> t > form.bp[part] >> t)

    def take(self, channels: npt.NDArray[np.int64]) -> Side:
        """Return the side with the channels of these indices, in their order."""
        e = self.epilogue
        epilogue = Epilogue(
            e.zero_point[channels], e.low[channels], e.high[channels], e.qmin, e.qmax, e.clamped, e.wrap
        )
        given = self.multiplier
        if isinstance(given, QuantizedMultiplier):
            if given.shape not in ((), (1,)):
                given = QuantizedMultiplier(given.value.ravel()[channels], given.shift.ravel()[channels])
        elif given.size > 1:
            given = given[channels]
        form = take_channels(self.form, channels)
        return Side(self.scheme, form, epilogue, self.low[channels], self.high[channels], given, self.dtype)

    def text(self, channel: int) -> str:
        """Return the multiplier of a channel as text: ``value * 2**(shift - 31)`` or the real number."""
        if isinstance(self.multiplier, QuantizedMultiplier):
            value, shift = (np.atleast_1d(field).ravel() for field in self.multiplier)
            k = channel if value.size > 1 else 0
            return f"{int(value[k])} * 2**({int(shift[k])} - 31)"
        return repr(float(self.multiplier[channel if self.multiplier.size > 1 else 0]))

    def evaluate(self, x: npt.ArrayLike, backend: str = "reference") -> I64:
        """Return the outputs of accumulators, by a back end: what every closed form is certified against.

        Parameters
        ----------
        x : int64 array, shape (C, n)
            Accumulators in ``[-2**31, 2**31]``. Outside ``[low, high]`` a clamped or floor-form output is the
            monotone continuation (no wrap-around); a raw float output has none there.
        backend : {"reference", "cpu"}
            Who evaluates.

        Returns
        -------
        int64 array, shape (C, n)

        Raises
        ------
        DTypeError, DomainError
            For accumulators that are not integers, of another shape, or outside the range.

        Examples
        --------
        >>> from qengine import QuantizedMultiplier
        >>> from qengine.exact.sides import side
        >>> side("double", QuantizedMultiplier(1 << 30, -1)).evaluate([[2, -2, 1, -3]])   # ties 1/2, -1/2: away
        array([[ 1, -1,  1, -1]])
        """
        array = np.asarray(x)
        if array.dtype.kind not in "iu":
            raise DTypeError(f"x must hold integers; got dtype {array.dtype}.")
        if array.ndim != 2 or array.shape[0] != self.channels:
            raise DomainError(f"x must have the shape ({self.channels}, n); got {array.shape}.")
        array = np.ascontiguousarray(array, dtype=np.int64)
        low, high = INT32_MIN, np.full((self.channels, 1), INT32_MAX + 1, dtype=np.int64)
        bottom: Any = low
        if not self.clamped and isinstance(self.form.rule, FloatRule):
            bottom, high = self.low[:, None], self.high[:, None]
        bad = (array < bottom) | (array > high)
        if bad.any():
            channel = int(bad.argmax()) // array.shape[1]
            raise DomainError(
                f"x must be in [{int(np.broadcast_to(bottom, high.shape)[channel, 0])}, {int(high[channel, 0])}] for "
                f"scheme {self.scheme.name!r} in channel {channel}; got {first_value(array, bad)}{first_index(bad)}."
            )
        out: I64 = np.empty(array.shape, dtype=np.int64)
        backends.load(backend).requantize(array[None], self.form, self.epilogue, out[None])
        return out


def side(
    scheme: str | Scheme,
    multiplier: Any = None,
    *,
    scales: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    recipe: str | None = None,
    zero_point: Any = 0,
    dtype: npt.DTypeLike | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    outside: str = "error",
) -> Side:
    """Bind a scheme to multipliers, one channel for each.

    Parameters
    ----------
    scheme : str or Scheme
        Name, alias or row.
    multiplier : QuantizedMultiplier, float or array, optional
        As in `qengine.requantize`; flattened.
    scales : (input, weight, output), optional
        Stored float32 scales instead of a multiplier: the recipe of the scheme makes the multipliers.
    recipe : str, optional
        Another recipe than the scheme's; only with `scales`.
    zero_point : int or integer array
        One, or one a channel; within the dtype's closed range (``[-32768, 65535]`` for a raw result).
    dtype : {None, int8, uint8, int16, int32}
        Output type; None is a raw int32 result.
    qmin, qmax : int, optional
        Narrower closed clamp.
    outside : {"error", "empty"}
        What to do with a channel whose multiplier the scheme does not admit: raise, or give it no accumulators.

    Returns
    -------
    Side

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        As `qengine.requantize`; both or neither of `multiplier` and `scales`; shapes that do not broadcast.

    Examples
    --------
    >>> from qengine.exact.sides import side
    >>> s = side("q31", [0.25, 1.5], dtype="int8", zero_point=[3, -3], outside="empty")    # q31 takes scales < 1
    >>> s.evaluate([[2, -2], [0, 0]]).tolist()[0]                                          # ties: away from zero
    [4, 2]
    >>> (s.low.tolist(), s.high.tolist())
    ([-2147483648, 1], [2147483647, 0])
    """
    row = get_scheme(scheme)
    if (multiplier is None) == (scales is None):
        raise DomainError("give a multiplier or scales=(input, weight, output): exactly one of the two.")
    if recipe is not None and scales is None:
        raise DomainError(f"a recipe needs scales=(input, weight, output); got recipe {recipe!r} with a multiplier.")
    if outside not in ("error", "empty"):
        raise DomainError(f"outside must be 'error' or 'empty'; got {outside!r}.")
    if scales is not None:
        if len(scales) != 3:
            raise DomainError(f"scales must be (input, weight, output); got {len(scales)} of them.")
        multiplier = recipes.apply(recipe or row.recipe, *scales)
    given = multiplier if isinstance(multiplier, QuantizedMultiplier) else np.atleast_1d(as_reals(multiplier)).ravel()
    chosen = output_dtype(dtype, np.dtype(np.int32))
    chosen = np.dtype(np.int32) if chosen == np.int64 else chosen
    limits = clamp_limits(chosen, qmin, qmax)
    zero_points = checked_zero_points(zero_point, chosen).ravel()
    fits = multiplier_fits(row, given).ravel()
    form = derive(row, given if outside == "error" or fits.all() else np.where(fits, as_reals(given), _PLACEHOLDER))
    if isinstance(given, QuantizedMultiplier) and not fits.all():
        # The placeholder went through the real numbers, which renormalise: take the admitted ones as they stand.
        form = _merge(form, row, given, fits)
    try:
        (channels,) = np.broadcast_shapes((form.channels,), zero_points.shape)
    except ValueError:
        raise DomainError(
            f"zero_point must be one number or one a channel ({form.channels}); got {zero_points.size}."
        ) from None
    form = take_channels(form, np.broadcast_to(np.arange(form.channels), (channels,)))
    prepared = bind(row, form, np.broadcast_to(zero_points, (channels,)).copy(), chosen, limits, False)
    low, high = (np.clip(bound, INT32_MIN, INT32_MAX) for bound in prepared.domain)
    fits = np.broadcast_to(fits, (channels,))
    low, high = np.where(fits, low, 1), np.where(fits, high, 0)
    return Side(row, form, prepared.epilogue, low, high, given, chosen)


def _merge(form: Form, row: Scheme, given: QuantizedMultiplier, fits: npt.NDArray[np.bool_]) -> Form:
    """Put the forms of the admitted multipliers into a form of placeholders."""
    if not fits.any():
        return form
    value, shift = (np.atleast_1d(field).ravel()[fits] for field in given)
    own = derive(row, QuantizedMultiplier(value, shift))
    for name in ("a", "bp", "bn", "t", "scale", "exponent", "acc_min", "acc_max"):
        array = getattr(form, name)
        if array.size:
            array[fits] = getattr(own, name)
    return form


def as_range(acc_range: Any, channels: int, *, empty: bool = False) -> tuple[I64, I64]:
    """Return a closed accumulator range per channel: None is int32; bounds are integers or one a channel.

    Raises
    ------
    DTypeError, DomainError
        Bounds that are not integers, outside int32, not one a channel, or with low > high unless it may be `empty`.
    """
    if acc_range is None:
        acc_range = (INT32_MIN, INT32_MAX)
    if not isinstance(acc_range, (tuple, list)) or len(acc_range) != 2:
        raise DomainError(f"acc_range must be (lowest, highest); got {brief(acc_range)}.")
    bounds = []
    for name, value in zip(("lowest", "highest"), acc_range, strict=True):
        array = backends.parameter(f"the {name} accumulator", value)
        if array.dtype.kind not in "iu":
            raise DTypeError(f"the {name} accumulator must be an integer; got {brief(value)}.")
        bad = (array < INT32_MIN) | (array > INT32_MAX)
        if bad.any():
            raise DomainError(
                f"the {name} accumulator must be in [{INT32_MIN}, {INT32_MAX}]; "
                f"got {first_value(array, bad)}{first_index(bad)}."
            )
        if array.shape not in ((), (1,), (channels,)):
            raise DomainError(
                f"the {name} accumulator must be one number or one a channel ({channels}); got shape {array.shape}."
            )
        bounds.append(np.broadcast_to(array.astype(np.int64).reshape(-1), (channels,)).copy())
    bad = bounds[0] > bounds[1]
    if bad.any() and not empty:
        c = int(bad.argmax())
        raise DomainError(f"acc_range must not be empty; got [{bounds[0][c]}, {bounds[1][c]}] in channel {c}.")
    return bounds[0], bounds[1]


def channels_of(sides: Sequence[Side]) -> int:
    """Return the number of channels that all sides have, or raise."""
    if not sides:
        raise DomainError("give at least one side.")
    channels = sides[0].channels
    for k, other in enumerate(sides):
        if other.channels != channels:
            raise DomainError(f"sides must have as many channels; side 0 has {channels}, side {k} {other.channels}.")
    return channels


def common_domain(sides: Sequence[Side], acc_range: Any = None) -> tuple[I64, I64]:
    """Return the closed range, per channel, of the accumulators on which every side has a defined output.

    Parameters
    ----------
    sides : sequence of Side
        At least one, with equal numbers of channels.
    acc_range : (lowest, highest), optional
        Closed bounds within int32, integers or one a channel; all of int32 by default.

    Returns
    -------
    (int64 array, int64 array)
        ``lo > hi`` in a channel without any such accumulator.

    Raises
    ------
    DomainError, DTypeError
        No side, unequal numbers of channels, or a bad range.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact.sides import common_domain, side
    >>> left = QuantizedMultiplier(1 << 30, 3)             # x << 3 must fit int32 in "double"
    >>> [r.tolist() for r in common_domain([side("single", left), side("double", left)], (-(2**31), 7))]
    [[-268435456], [7]]
    """
    low, high = as_range(acc_range, channels_of(sides))
    for one in sides:
        low, high = np.maximum(low, one.low), np.minimum(high, one.high)
    return low, high
