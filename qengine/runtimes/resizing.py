"""RESIZE_BILINEAR of quantized images: batch, height, width, channels; the output has the input's scale and zero point.

Positions of output row k: ``k s`` with ``s = in / out``, ``(in - 1) / (out - 1)`` with align_corners, or
``(k + 1/2) s - 1/2`` with half_pixel_centers; each kernel computes them in its own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .arithmetic import Description, Target
from .columns import Array

F32 = np.float32
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Image:
    """An image and what it is resized to."""

    pixels: I64
    height: int
    width: int
    align_corners: bool
    half_pixel_centers: bool

    def corners(self, low: tuple[I64, I64], high: tuple[I64, I64]) -> tuple[I64, I64, I64, I64]:
        """Return the four neighbours of every output pixel: top left, top right, bottom left, bottom right."""
        top, bottom = self.pixels[:, low[0]], self.pixels[:, high[0]]
        return top[:, :, low[1]], top[:, :, high[1]], bottom[:, :, low[1]], bottom[:, :, high[1]]


def _scale(size: int, out: int, align: bool) -> np.float32:
    """Return the distance between neighbouring positions, in float32."""
    if align and out > 1:
        return F32(size - 1) / F32(out - 1)
    return F32(size) / F32(out)


def _both(image: Image, positions: Callable[[int, int], tuple[Array, I64, I64]]) -> tuple[Array, ...]:
    """Return weights, lower and upper neighbours of rows (as columns of a 4-D array), then of columns."""
    wy, y0, y1 = positions(image.pixels.shape[1], image.height)
    wx, x0, x1 = positions(image.pixels.shape[2], image.width)
    return wy[None, :, None, None], wx[None, None, :, None], y0, y1, x0, x1


@dataclass(frozen=True, slots=True)
class FixedWeights:
    """XNNPACK: 11-bit weights, two lerps in int32, half up at the end.

    ``w = rint(fraction 2**11)``; ``t = (l << 11) + (r - l) wx``; ``(t << 11) + (b - t) wy + 2**21 >> 22``.
    """

    def run(self, image: Image, to: Target) -> Array:
        """Return the output codes."""

        def positions(size: int, out: int) -> tuple[Array, I64, I64]:
            s = _scale(size, out, image.align_corners)
            at = np.arange(out, dtype=F32) * s
            if image.half_pixel_centers:
                at = at + (F32(0.5) * s - F32(0.5))
            at = np.clip(at, F32(0), F32(size - 1))
            low = at.astype(np.int64)
            weight = np.rint((at - low.astype(F32)) * F32(2048)).astype(np.int64)
            return weight, low, np.minimum(low + 1, size - 1)

        wy, wx, y0, y1, x0, x1 = _both(image, positions)
        a, b, c, d = image.corners((y0, x0), (y1, x1))
        top, bottom = (a << 11) + (b - a) * wx, (c << 11) + (d - c) * wx  # below 2**20
        return to.clamped(((top << 11) + (bottom - top) * wy + (1 << 21)) >> 22)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        formula = "half_up((lerp(top, bottom, w_y)) / 2^22),  lerp = (a << 11) + (b - a) w,  w = RNE(fraction 2^11)"
        return Description("positions in float32", formula, "clamp")


@dataclass(frozen=True, slots=True)
class TenBits:
    """TFLite int8: positions and weights in 10 fractional bits, half away from zero at the end.

    ``s = (1024 in + out / 2) / out``; four products of a code and two weights; ``(sum +- 2**19) / 2**20`` truncated.
    """

    def run(self, image: Image, to: Target) -> Array:
        """Return the output codes."""

        def positions(size: int, out: int) -> tuple[Array, I64, I64]:
            s = (1024 * size + out // 2) // out
            if image.align_corners and out > 1:
                s = (1024 * (size - 1) + (out - 1) // 2) // (out - 1)
            at = np.arange(out, dtype=np.int64) * s
            if image.half_pixel_centers:
                at = at + s // 2 - 512
            low = np.maximum(np.where(at < 0, -(-at // 1024), at // 1024), 0)  # C divides toward zero
            above = at + 1023
            high = np.minimum(np.where(above < 0, -(-above // 1024), above // 1024), size - 1)
            return at - 1024 * low, low, high

        wy, wx, y0, y1, x0, x1 = _both(image, positions)
        a, b, c, d = image.corners((y0, x0), (y1, x1))
        total = (a * (1024 - wx) + b * wx) * (1024 - wy) + (c * (1024 - wx) + d * wx) * wy  # below 2**29
        magnitude = (np.abs(total) + (1 << 19)) >> 20
        return to.clamped(np.where(total < 0, -magnitude, magnitude))

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        formula = "half_away(sum of code * w_y * w_x / 2^20),  w in 10 fractional bits"
        return Description("s = floor((1024 in + out / 2) / out)", formula, "clamp")


@dataclass(frozen=True, slots=True)
class FloatLerp:
    """TFLite uint8: float32 weights, four terms summed in order, half up by adding 0.5 and truncating.

    ``paired``: ``v (wy wx)`` in the order 00, 01, 10, 11; ``stepwise``: ``(v wy) wx`` in the order 00, 10, 01, 11.
    """

    products: Literal["paired", "stepwise"]

    def run(self, image: Image, to: Target) -> Array:
        """Return the output codes."""

        def positions(size: int, out: int) -> tuple[Array, I64, I64]:
            s = _scale(size, out, image.align_corners)
            at = np.arange(out, dtype=F32)
            at = (at + F32(0.5)) * s - F32(0.5) if image.half_pixel_centers else at * s
            low = np.maximum(np.floor(at).astype(np.int64), 0)
            return at - low.astype(F32), low, np.minimum(np.ceil(at).astype(np.int64), size - 1)

        wy, wx, y0, y1, x0, x1 = _both(image, positions)
        one = F32(1)
        a, b, c, d = (v.astype(F32) for v in image.corners((y0, x0), (y1, x1)))
        if self.products == "paired":
            terms = [a * ((one - wy) * (one - wx)), b * ((one - wy) * wx), c * (wy * (one - wx)), d * (wy * wx)]
        else:
            terms = [a * (one - wy) * (one - wx), c * wy * (one - wx), b * (one - wy) * wx, d * wy * wx]
        total = terms[0] + terms[1] + terms[2] + terms[3]
        return to.clamped(np.trunc(total + F32(0.5)))

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        term = "v (w_y w_x)" if self.products == "paired" else "(v w_y) w_x"
        return Description("positions and weights in float32", f"trunc(f32(sum of {term} + 0.5))", "clamp")
