"""`qengine.requantize` on the CPU: schemes, sizes and types; rates a core; shares of the machine's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import qengine as qe
from qengine.backends.forms import FloorRule
from qengine.requant.forms import derive

from . import common

INTEGER_GOAL, FP32_GOAL = 3.0, 6.0
LAYOUTS = ("last axis", "first axis")


def _call(
    scheme: str, acc: np.ndarray, dtype: str, multiplier: Any = common.MULTIPLIER, **options: Any
) -> Callable[[], np.ndarray]:
    """Return the timed call: results go to an array that is there already."""
    out = np.empty(acc.shape, dtype)
    zero_point = common.ZERO_POINT + (128 if dtype == "uint8" else 0)
    return lambda: qe.requantize(acc, multiplier, scheme=scheme, zero_point=zero_point, dtype=dtype, out=out, **options)


def _channels(size: int, layout: str) -> tuple[np.ndarray, int]:
    shape = (-1, common.CHANNELS) if layout == "last axis" else (common.CHANNELS, -1)
    return common.accumulators(size).reshape(shape), 1 if layout == "last axis" else 0


def _rate_goal(scheme: str, *_: Any) -> float | None:
    if scheme == "fp32":
        return FP32_GOAL
    return None if qe.get_scheme(scheme).form == "float" else INTEGER_GOAL


@numba.njit(nogil=True, error_model="numpy")
def plain_floor_loop(xs, a, bp, bn, t, z, qmin, qmax, out):
    for i in range(xs.size):
        x = np.int64(xs[i])
        y = ((a * x + (bp if x >= 0 else bn)) >> t) + z
        out[i] = min(max(y, qmin), qmax)


@numba.njit(nogil=True, error_model="numpy")
def plain_float_loop(xs, scale, z, low, high, out):
    for i in range(xs.size):
        v = min(max(np.float32(xs[i]) * scale, low), high)
        out[i] = np.int32(np.int32(np.rint(v)) + z)


def _plain_loop(scheme: str, acc: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    """Return what a user would write with Numba for one multiplier and int8."""
    row = qe.get_scheme(scheme)
    form = derive(row, common.MULTIPLIER)
    z = common.ZERO_POINT
    if isinstance(row.rule, FloorRule):
        numbers = [int(v[0]) for v in (form.a, form.bp, form.bn, form.t)]
        return lambda: plain_floor_loop(acc, *numbers, z, -128, 127, out)
    bounds = np.float32(-128 - z), np.float32(127 - z)
    return lambda: plain_float_loop(acc, np.float32(form.scale[0]), np.int32(z), *bounds, out)


class Requantize(common.Timed):
    """One multiplier, every scheme, int8 results."""

    params = (tuple(row.name for row in qe.schemes()), tuple(common.SIZES))
    param_names = ("scheme", "elements")

    def setup(self, scheme: str, size: str) -> None:
        self.call = _call(scheme, common.accumulators(common.SIZES[size]), "int8")
        self.call()

    def time_int8(self, scheme: str, size: str) -> None:
        self.call()


class RequantizeTypes(common.Timed):
    """One multiplier, other types of results (int32 is raw)."""

    params = (("single", "double", "fp32", "rndnu16"), tuple(common.SIZES), ("uint8", "int16", "int32"))
    param_names = ("scheme", "elements", "dtype")

    def setup(self, scheme: str, size: str, dtype: str) -> None:
        self.call = _call(scheme, common.accumulators(common.SIZES[size]), dtype)
        self.call()

    def time_int32_accumulators(self, scheme: str, size: str, dtype: str) -> None:
        self.call()


class RequantizeWide(common.Timed):
    """One multiplier, int64 accumulators, for a scheme of 32 bits and one of 48 (int64 is raw)."""

    params = (("single", "int16x8"), tuple(common.SIZES), ("int16", "int64"))
    param_names = ("scheme", "elements", "dtype")

    def setup(self, scheme: str, size: str, dtype: str) -> None:
        self.call = _call(scheme, common.accumulators(common.SIZES[size], "int64"), dtype)
        self.call()

    def time_int64_accumulators(self, scheme: str, size: str, dtype: str) -> None:
        self.call()


class RequantizeChannels(common.Timed):
    """A multiplier a channel, 256 channels."""

    params = (("single", "double", "fp32", "fp64-away", "rndnu16"), tuple(common.SIZES), LAYOUTS)
    param_names = ("scheme", "elements", "channels")

    def setup(self, scheme: str, size: str, layout: str) -> None:
        acc, axis = _channels(common.SIZES[size], layout)
        self.call = _call(scheme, acc, "int8", common.channel_multipliers(), axis=axis)
        self.call()

    def time_int8(self, scheme: str, size: str, layout: str) -> None:
        self.call()


class RequantizeRate:
    """One core, one multiplier, 2**18 elements to int8."""

    params = (common.SCHEMES,)
    param_names = ("scheme",)
    timeout = 300

    def setup(self, scheme: str) -> None:
        self.acc = common.accumulators(common.IN_CACHE)

    @common.tracked("G elements/s", _rate_goal)
    def track_elements_per_second_per_core(self, scheme: str) -> float:
        with common.threads(1):
            (seconds,) = common.best_seconds(_call(scheme, self.acc, "int8"))
        return self.acc.size / seconds / 1e9

    @common.tracked("times", lambda scheme: 50.0)
    def track_ratio_to_reference(self, scheme: str) -> float:
        with common.threads(1):
            ours, reference = common.best_seconds(
                _call(scheme, self.acc, "int8"), _call(scheme, self.acc, "int8", backend="reference")
            )
        return reference / ours


class RequantizeChannelsRate:
    """One core, a multiplier a channel, 2**18 elements to int8."""

    params = (("single", "double", "fp32"), LAYOUTS)
    param_names = ("scheme", "channels")
    timeout = 300

    def setup(self, scheme: str, layout: str) -> None:
        self.acc, self.axis = _channels(common.IN_CACHE, layout)

    @common.tracked("G elements/s")
    def track_elements_per_second_per_core(self, scheme: str, layout: str) -> float:
        call = _call(scheme, self.acc, "int8", common.channel_multipliers(), axis=self.axis)
        with common.threads(1):
            (seconds,) = common.best_seconds(call)
        return self.acc.size / seconds / 1e9


class RequantizePlainLoop:
    """Against a plain Numba loop of the normal form: one core, in cache, int8."""

    params = (("single", "double", "double-up", "half-away", "rndnu", "fp32"),)
    param_names = ("scheme",)
    timeout = 300

    def setup(self, scheme: str) -> None:
        self.acc = common.accumulators(common.IN_CACHE)
        out = np.empty(self.acc.shape, np.int8)
        self.plain = _plain_loop(scheme, self.acc, out)
        self.ours = _call(scheme, self.acc, "int8")
        self.plain()
        if not np.array_equal(out, self.ours()):
            raise AssertionError(f"the plain loop of {scheme!r} computes something else")

    @common.tracked("times")
    def track_ratio_to_plain_numba_loop(self, scheme: str) -> float:
        with common.threads(1):
            ours, plain = common.best_seconds(self.ours, self.plain)
        return plain / ours


class RequantizeMemory:
    """2**26 elements to int8: bytes/s (4 read, 1 written) over those of np.copyto (4 read, 4 written)."""

    params = (("single", "double", "fp32"), ("one", "all"))
    param_names = ("scheme", "threads")
    timeout = 300

    def setup(self, scheme: str, threads: str) -> None:
        self.acc = common.accumulators(common.IN_MEMORY)
        self.target = np.zeros_like(self.acc)

    @common.tracked("%", lambda scheme, threads: 70.0)
    def track_share_of_copy_bandwidth(self, scheme: str, threads: str) -> float:
        count = 1 if threads == "one" else common.processors()
        with common.threads(count):
            ours, copy = common.best_seconds(
                _call(scheme, self.acc, "int8"), common.copier(self.acc, self.target, count), budget=2.0
            )
        return 100 * (5 / ours) / (8 / copy)


class CopyBandwidth:
    """What the shares of `RequantizeMemory` are measured against."""

    params = (("one", "all"),)
    param_names = ("threads",)
    timeout = 300

    def setup(self, threads: str) -> None:
        self.acc = common.accumulators(common.IN_MEMORY)
        self.target = np.zeros_like(self.acc)

    @common.tracked("GB/s")
    def track_copy_bandwidth(self, threads: str) -> float:
        count = 1 if threads == "one" else common.processors()
        (seconds,) = common.best_seconds(common.copier(self.acc, self.target, count))
        return 8 * self.acc.size / seconds / 1e9
