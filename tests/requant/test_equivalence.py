"""Oracle == spec == reference == every other back end, bit for bit; errors exactly where the oracle has none.

The oracle writes each original stage by stage and shares nothing with the engine.
"""

from __future__ import annotations

import functools
import random
import re
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qengine as qe
from qengine.requant.schemes import Scheme
from tests import oracle
from tests.conftest import SEED
from tests.requant import cases
from tests.requant.cases import INT32, Multiplier, as_multiplier, expected

CLAMPED = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
NAMES = [row.name for row in qe.schemes()]
FIXED = [(2**30, -1), (2**30, 0), (2**31 - 1, -5), (2**31 - 1, 0), (3 * 2**29, 2), (1_527_099_593, -6),
         (1_293_543_092, -8), (0, 0), (7, -3), (2**30, -30), (1_999_999_999, -31),
         (1_518_500_250, 9)]  # fmt: skip


@pytest.fixture
def spec() -> ModuleType:
    """The executable spec in Python integers."""
    from qengine.requant import spec

    return spec


def same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
    """Equal in dtype, shape and every value."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    if not np.array_equal(left, right):
        at = np.argwhere(left != right)
        first = tuple(at[0])
        pytest.fail(f"{len(at)} of {left.size} differ, first at {first}: {left[first]} != {right[first]}")


def inside(row: Scheme, multiplier: Any, values: npt.NDArray[Any], **options: Any) -> npt.NDArray[Any]:
    """Those of the values that the scheme takes with this multiplier, by the range that its error reports."""
    low, high = _range_of_one(row.name, int(multiplier.value), int(multiplier.shift), tuple(sorted(options.items())))
    return values[(values >= low) & (values <= high)]


@functools.cache  # every back end asks
def _range_of_one(name: str, value: int, shift: int, options: tuple[tuple[str, Any], ...]) -> tuple[int, int]:
    return reported_range(qe.get_scheme(name), qe.QuantizedMultiplier(value, shift), **dict(options))


def reported_range(row: Scheme, multiplier: Any, **options: Any) -> tuple[int, int]:
    """The accumulator range that the error text names, taken from an accumulator that no scheme admits."""
    with pytest.raises(qe.DomainError, match="acc must be in") as caught:
        qe.requantize(np.array([2**60]), multiplier, scheme=row, **options)
    found = re.search(r"acc must be in \[(-?\d+), (-?\d+)\]", str(caught.value))
    assert found
    return int(found[1]), int(found[2])


def test_the_oracle_knows_every_scheme() -> None:
    assert set(NAMES) == set(oracle.SCHEMES)


# ---------------------------------------------------------------------------------------------------------
# Against the oracle


def test_oracle_with_a_multiplier_per_element(scheme: Scheme, backend: str) -> None:
    """Structured, tied and random accumulators over every shift."""
    rows = [case for case in cases.raw_cases(scheme.name, SEED) if case[2] is not None]
    assert len(rows) > 500
    acc = np.array([acc for _, acc, _ in rows], dtype=np.int64)
    multipliers = as_multiplier([multiplier for multiplier, _, _ in rows])
    wanted = np.array([result for _, _, result in rows], dtype=np.int64)
    same(qe.requantize(acc, multipliers, scheme=scheme, backend=backend), wanted)
    same(
        qe.requantize(acc, multipliers, scheme=scheme, dtype="int32", backend=backend),
        wanted.astype(np.int32),
    )
    narrow = (acc >= INT32[0]) & (acc <= INT32[1])
    multipliers = qe.QuantizedMultiplier(multipliers.value[narrow], multipliers.shift[narrow])
    y = qe.requantize(acc[narrow].astype(np.int32), multipliers, scheme=scheme, backend=backend)
    same(y, wanted[narrow].astype(np.int32))


def test_oracle_with_one_multiplier_a_call(scheme: Scheme, backend: str) -> None:
    by_multiplier: dict[Multiplier, list[tuple[int, int]]] = {}
    for multiplier, acc, result in cases.raw_cases(scheme.name, SEED):
        if result is not None:
            by_multiplier.setdefault(multiplier, []).append((acc, result))
    for multiplier, pairs in by_multiplier.items():
        acc, wanted = np.array(pairs, dtype=np.int64).T
        y = qe.requantize(acc, as_multiplier(multiplier), scheme=scheme, backend=backend)
        assert y.tolist() == wanted.tolist(), multiplier
        if INT32[0] <= acc.min() and acc.max() <= INT32[1]:
            y = qe.requantize(acc.astype(np.int32), as_multiplier(multiplier), scheme=scheme, backend=backend)
            assert y.tolist() == wanted.tolist(), multiplier


def test_error_where_the_oracle_has_no_answer(scheme: Scheme, backend: str) -> None:
    outside = [case for case in cases.raw_cases(scheme.name, SEED) if case[2] is None]
    for multiplier, acc, _ in random.Random(SEED).sample(outside, min(len(outside), 60)):
        with pytest.raises(qe.DomainError):
            qe.requantize(np.array([acc]), as_multiplier(multiplier), scheme=scheme, backend=backend)


def check_ends(row: Scheme, multiplier: Multiplier | float, backend: str, **options: Any) -> None:
    limits = options.pop("limits", None)
    dtype, zero_point = options.get("dtype", "int64"), options.get("zero_point", 0)
    m = as_multiplier(multiplier) if isinstance(multiplier, tuple) else multiplier
    low, high = reported_range(row, m, backend=backend, dtype=dtype, zero_point=zero_point)
    for acc, defined in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        wanted = expected(row.name, acc, multiplier, zero_point=zero_point, limits=limits)
        assert (wanted is not None) == defined, (
            f"{multiplier} {options}: reported range [{low}, {high}], oracle at acc={acc}: {wanted}"
        )
        if defined:
            y = qe.requantize(np.array([acc]), m, scheme=row, backend=backend, dtype=dtype, zero_point=zero_point)
            assert int(y[0]) == wanted
        else:
            with pytest.raises(qe.DomainError):
                qe.requantize(np.array([acc]), m, scheme=row, backend=backend, dtype=dtype, zero_point=zero_point)


def test_ends_of_the_reported_range_raw(scheme: Scheme, backend: str) -> None:
    rng = random.Random(SEED)
    for multiplier in cases.multipliers(rng, 1 if scheme.name in cases.FLOATS else 3):
        if cases.admits(scheme.name, multiplier):
            check_ends(scheme, multiplier, backend)
        else:
            with pytest.raises(qe.DomainError):
                qe.requantize(0, as_multiplier(multiplier), scheme=scheme, backend=backend)


@pytest.mark.parametrize("zero_point", [1, -1, 100, -128, 64, 65535, -32768])
def test_ends_of_the_reported_range_raw_with_zero_point(scheme: Scheme, zero_point: int) -> None:
    for multiplier in [(2**30, 1), (2**31 - 1, 0), (3 * 2**29, 3), (2**30, 6), (2**31 - 1, -4)]:
        if cases.admits(scheme.name, multiplier):
            check_ends(scheme, multiplier, "cpu", zero_point=zero_point)


@pytest.mark.parametrize("dtype", CLAMPED)
def test_ends_of_the_reported_range_clamped(scheme: Scheme, dtype: str) -> None:
    low, high = CLAMPED[dtype]
    for multiplier in [(2**30, 1), (2**31 - 1, 0), (3 * 2**29, 3), (2**30, 7), (2**31 - 1, -4), (2**30, -20)]:
        if cases.admits(scheme.name, multiplier):
            for zero_point in (low, 0, high):
                check_ends(scheme, multiplier, "cpu", dtype=dtype, zero_point=zero_point, limits=(low, high))


def test_raw_range_depends_on_the_channels_own_zero_point(scheme: Scheme, backend: str) -> None:
    """A zero point of one channel must not narrow the domain of another."""
    multiplier = (2**31 - 1, 0)
    if not cases.admits(scheme.name, multiplier):
        multiplier = (2**30, 0)
    m = as_multiplier(multiplier)
    low, high = reported_range(scheme, m, dtype="int64")
    acc, zero_points = np.array([low, high, 5, 5]), np.array([0, 0, 1000, -1000])
    y = qe.requantize(acc, m, scheme=scheme, zero_point=zero_points, backend=backend)
    wanted = [
        expected(scheme.name, int(a), multiplier, zero_point=int(z)) for a, z in zip(acc, zero_points, strict=True)
    ]
    assert y.tolist() == wanted


@pytest.mark.parametrize("dtype", [*CLAMPED, "int32", "int64"])
def test_oracle_with_zero_points_and_output_types(scheme: Scheme, backend: str, dtype: str) -> None:
    limits = CLAMPED.get(dtype)
    low, high = limits or (-32768, 65535)
    draw = random.Random(f"{scheme.name} {dtype} {SEED}")
    rows: list[tuple[Multiplier, int, int, int]] = []
    for multiplier in draw.sample(cases.multipliers(draw, 2), 24):
        for acc in cases.accumulators(scheme.name, multiplier, draw, 6):
            zero_point = draw.choice([low, high, 0, 1, 7, draw.randint(low, high)])
            result = expected(scheme.name, acc, multiplier, zero_point=zero_point, limits=limits)
            if result is not None:
                rows.append((multiplier, acc, zero_point, result))
    assert rows
    m = as_multiplier([row[0] for row in rows])
    acc64, zero_points, wanted = (np.array([row[k] for row in rows], dtype=np.int64) for k in (1, 2, 3))
    y = qe.requantize(acc64, m, scheme=scheme, zero_point=zero_points, dtype=dtype, backend=backend)
    same(y, wanted.astype(dtype))
    for row_multiplier, acc, zero_point, result in rows[::7]:
        one = qe.requantize(
            np.array([acc]), as_multiplier(row_multiplier), scheme=scheme, zero_point=zero_point, dtype=dtype,
            backend=backend,
        )  # fmt: skip
        assert one.tolist() == [result], (row_multiplier, acc, zero_point)


def test_oracle_with_narrower_clamps(scheme: Scheme, backend: str) -> None:
    acc = np.arange(-700, 700, 23)
    multiplier = (1_527_099_593, -2)
    for dtype, zero_point, limits in [
        ("int8", -3, (-100, 90)), ("int8", 127, (-128, -128)), ("uint8", 128, (128, 255)),
        ("int16", 5, (-7, 11)), ("int32", 12, (-128, 127)), ("int32", -20000, (0, 60000)),
        ("int64", 0, (-5, 5)),
    ]:  # fmt: skip
        y = qe.requantize(
            acc, as_multiplier(multiplier), scheme=scheme, zero_point=zero_point, dtype=dtype,
            qmin=limits[0], qmax=limits[1], backend=backend,
        )  # fmt: skip
        wanted = [expected(scheme.name, int(x), multiplier, zero_point=zero_point, limits=limits) for x in acc]
        assert y.dtype == dtype
        assert y.tolist() == wanted, (dtype, zero_point, limits)


def test_bounds_that_float32_cannot_hold(scheme: Scheme, backend: str) -> None:
    """A clamp beyond 2**24 on a raw type bounds the result exactly."""
    acc = np.array([2**31 - 1, 2**31 - 65, 2**24 + 3, 2**24 + 2, 7, 0, -(2**24) - 3, -(2**31)])
    for limits in [(-(2**31), 2**31 - 2), (-(2**24) - 1, 2**24 + 1), (2**25 + 1, 2**30 + 3)]:
        for real in (0.9999999, 1.0):
            kept = [int(x) for x in acc if expected(scheme.name, int(x), real, limits=limits) is not None]
            y = qe.requantize(
                np.array(kept, np.int64), real if kept else 0.5, scheme=scheme, dtype="int32", qmin=limits[0],
                qmax=limits[1], backend=backend,
            )  # fmt: skip
            assert y.tolist() == [expected(scheme.name, x, real, limits=limits) for x in kept], (limits, real)


def test_clamps_beyond_the_saturation(scheme: Scheme, backend: str) -> None:
    """The saturation of the original comes first: a clamp that it does not reach is the result."""
    acc = [-100000, -5, 0, 5, 100000]
    for real, zero_point, limits in [(0.25, -32768, (0, 1)), (1.5, 100, (-32768, -32700)), (1.5, -1, (32767, 32767))]:
        kept = [x for x in acc if expected(scheme.name, x, real, zero_point=zero_point, limits=limits) is not None]
        if not kept:
            continue
        y = qe.requantize(
            np.array(kept), real, scheme=scheme, dtype="int16", zero_point=zero_point, qmin=limits[0], qmax=limits[1],
            backend=backend,
        )  # fmt: skip
        wanted = [expected(scheme.name, x, real, zero_point=zero_point, limits=limits) for x in kept]
        assert y.tolist() == wanted, (real, zero_point, limits)


def test_clamps_that_no_int32_result_reaches(backend: str) -> None:
    with pytest.raises(qe.DomainError, match=r"no int32 result plus zero point -5 lies in \[2147483647, 2147483647\]"):
        qe.requantize([5], 0.25, dtype="int32", zero_point=-5, qmin=2**31 - 1, backend=backend)


REALS = [0.25, 0.1, 1 / 3, 0.011111111380159855, 0.9999999999, 0.99999999, 1.0, 1.5, 2.0**-32, 2.0**-33,
         1e-9, 127.99999, 255.99999, 256.0, 1e4, 2.0**30, 2.0**31, 1e30, 3.4e38, 1e39, 1e300, 1e-45, 1e-46,
         1e-300, 5e-324, 0.0]  # fmt: skip


@pytest.mark.parametrize("real", REALS)
def test_oracle_with_real_multipliers(scheme: Scheme, backend: str, real: float) -> None:
    """Reals at the ends of what the schemes take; a multiplier that a scheme does not take is an error."""
    accs = [0, 1, -1, 3, 45, -45, 585, -1000, 2**20 + 1, -(2**31), 2**31 - 1]
    for limits, dtype in ((None, "int32"), ((-128, 127), "int8")):
        for acc in accs:
            wanted = expected(scheme.name, acc, real, limits=limits)

            def call(acc: int = acc, dtype: str = dtype) -> int:
                return int(qe.requantize(acc, real, scheme=scheme, dtype=dtype, backend=backend))

            if wanted is None:
                with pytest.raises(qe.DomainError):
                    call()
            else:
                assert call() == wanted, (acc, dtype)


@pytest.mark.parametrize("name", cases.WIDE)
def test_48_bit_accumulators(name: str, backend: str) -> None:
    row = qe.get_scheme(name)
    rng = random.Random(SEED)
    for multiplier in [
        (2**30, -16),
        (2**31 - 1, -17),
        (1_527_099_593, -20),
        (2**30 + 2**15, -31),
        (2**31 - 1, -25),
    ]:
        values = [*cases.structured(48), *cases.ties(name, multiplier, rng, 20)]
        wanted = [expected(name, acc, multiplier) for acc in values]
        assert None not in wanted or multiplier[1] > -17
        kept = [(acc, y) for acc, y in zip(values, wanted, strict=True) if y is not None]
        acc, y = np.array(kept).T
        same(qe.requantize(acc, as_multiplier(multiplier), scheme=row, backend=backend), y)
        y8 = qe.requantize(acc, as_multiplier(multiplier), scheme=row, dtype="int16", zero_point=-3, backend=backend)
        same(y8, np.clip(y - 3, -32768, 32767).astype(np.int16))


# ---------------------------------------------------------------------------------------------------------
# Against the executable spec


def test_spec_equals_the_oracle(scheme: Scheme, spec: ModuleType) -> None:
    for multiplier, acc, result in cases.raw_cases(scheme.name, SEED)[::3]:
        if result is None:
            with pytest.raises(qe.DomainError):
                spec.requantize(scheme.name, acc, as_multiplier(multiplier))
        else:
            assert spec.requantize(scheme.name, acc, as_multiplier(multiplier)) == result, (multiplier, acc)


def test_spec_equals_the_oracle_with_reals_and_clamps(scheme: Scheme, spec: ModuleType) -> None:
    for real in REALS:
        for acc in (0, 1, -45, 585, -(2**31), 2**31 - 1):
            for zero_point, limits in ((0, None), (0, (-128, 127)), (-126, (-128, 127)), (3, (0, 255))):
                wanted = expected(scheme.name, acc, real, zero_point=zero_point, limits=limits)
                low, high = limits or (None, None)
                options = {"zero_point": zero_point, "qmin": low, "qmax": high}
                if wanted is None:
                    with pytest.raises(qe.DomainError):
                        spec.requantize(scheme.name, acc, real, **options)
                else:
                    assert spec.requantize(scheme.name, acc, real, **options) == wanted, (acc, real, options)


# ---------------------------------------------------------------------------------------------------------
# Reference against the others, many more values


def test_every_shift_equals_the_reference(scheme: Scheme, other_backend: str, rng: np.random.Generator) -> None:
    """All structured values, uniform and small ones, one multiplier a call, int32 and int64 accumulators."""
    base = np.array(cases.structured(48 if scheme.name in cases.WIDE else 32))
    low, high = cases.acc_limits(scheme.name)
    for shift in cases.ALL_SHIFTS:
        drawn = int(rng.integers(2**30, 2**31)), int(rng.integers(2**30))
        for value in (1, 2**30, 2**31 - 1, *drawn):
            if not cases.admits(scheme.name, (value, shift)):
                continue
            m = qe.QuantizedMultiplier(value, shift)
            acc = np.concatenate([base, rng.integers(low, high, 50), rng.integers(-2000, 2000, 51)])
            acc = inside(scheme, m, acc)
            narrow = acc[(acc >= INT32[0]) & (acc <= INT32[1])].astype(np.int32)
            for x, dtype in ((acc, None), (narrow, None), (narrow, "int8")):
                options = {"scheme": scheme, "dtype": dtype}
                same(
                    qe.requantize(x, m, backend=other_backend, **options),
                    qe.requantize(x, m, backend="reference", **options),
                )


@pytest.mark.parametrize("dtype", [*CLAMPED, "int32", "int64"])
@pytest.mark.parametrize("overflow", ["error", "wrap"])
def test_channels_equal_the_reference(
    scheme: Scheme, other_backend: str, dtype: str, overflow: str, rng: np.random.Generator
) -> None:
    """Random multipliers and zero points per channel, channels first, last and in the middle."""
    low, high = CLAMPED.get(dtype, (-32768, 65535))
    channels = 13
    shifts = rng.integers(-20, 6, channels)
    if scheme.name == "q31":
        shifts = np.minimum(shifts, 0)
    if scheme.name == "vcvt":
        shifts = np.maximum(shifts, -7)
    m = qe.QuantizedMultiplier(rng.integers(2**30, 2**31 - 128, channels), shifts)
    z = rng.integers(low, high + 1, channels)
    for shape, axis in (
        ((channels, 35), 0),
        ((5, channels), 1),
        ((3, channels, 7), 1),
        ((2, channels, 40), 1),
    ):
        for bits in (20, 31):
            acc = rng.integers(-(2**bits), 2**bits, shape).astype(np.int32)
            if overflow == "error" or scheme.name == "fp32-zp-inside":  # it saturates: nothing to wrap
                broad = [1] * len(shape)
                broad[axis] = channels
                acc >>= np.maximum(shifts + (bits - 25), 0).reshape(broad).astype(np.int32) + 1
            options = {"scheme": scheme, "zero_point": z, "dtype": dtype, "axis": axis, "overflow": overflow}
            same(
                qe.requantize(acc, m, backend=other_backend, **options),
                qe.requantize(acc, m, backend="reference", **options),
            )


def test_all_16_bit_accumulators(scheme: Scheme, other_backend: str) -> None:
    """Exhaustive over int16; the oracle on every 251st."""
    acc = np.arange(-(2**15), 2**15, dtype=np.int32)
    wanted = []
    for multiplier in FIXED:
        if not cases.admits(scheme.name, multiplier):
            continue
        m = as_multiplier(multiplier)
        x = inside(scheme, m, acc)
        reference = qe.requantize(x, m, scheme=scheme, backend="reference")
        same(qe.requantize(x, m, scheme=scheme, backend=other_backend), reference)
        for z, dtype in ((-5, "int8"), (128, "uint8"), (1000, "int16")):
            options = {"scheme": scheme, "dtype": dtype, "zero_point": z}
            same(
                qe.requantize(x, m, backend=other_backend, **options),
                qe.requantize(x, m, backend="reference", **options),
            )
        few = slice(0, None, 1009 if scheme.name in cases.FLOATS else 251)
        wanted = [expected(scheme.name, int(v), multiplier) for v in x[few]]
        assert reference[few].tolist() == wanted, multiplier


@pytest.mark.slow
@pytest.mark.parametrize("name", ["double", "fp32"])
def test_all_32_bit_accumulators(name: str, other_backend: str) -> None:
    m = qe.QuantizedMultiplier(1_527_099_593, -6)
    chunk = 1 << 24
    for start in range(-(2**31), 2**31, chunk):
        acc = np.arange(start, start + chunk, dtype=np.int64).astype(np.int32)
        for dtype, z in ((None, 0), ("int8", -126)):
            options = {"scheme": name, "dtype": dtype, "zero_point": z}
            same(
                qe.requantize(acc, m, backend=other_backend, **options),
                qe.requantize(acc, m, backend="reference", **options),
            )


# ---------------------------------------------------------------------------------------------------------
# overflow="wrap": what the originals' int32 arithmetic gives


def wrapped(name: str, acc: int, multiplier: Multiplier, zero_point: int, limits: tuple[int, int]) -> int:
    """Stage by stage on 32-bit words, as x86-64 code does it."""
    value, shift = multiplier
    if name in ("fp32", "fp64-away"):
        if name == "fp32":
            scale = oracle.to_float32(value * Fraction(2) ** (shift - 31))
            product = oracle.multiply_float32(oracle.to_float32(acc), scale)
            whole = oracle.round_real("half-even", min(product, limits[1] - zero_point))
        else:
            whole = oracle.round_real("half-away", float(acc) * float(value * Fraction(2) ** (shift - 31)))
        y = whole if INT32[0] <= whole <= INT32[1] else INT32[0]
    elif name in ("double", "double-up"):
        high = oracle.srdhm(oracle.wrap32(acc << max(shift, 0)), value)
        y = (oracle.rdpot if name == "double" else oracle.rounding_right_shift)(high, max(-shift, 0))
    else:
        real = (
            Fraction(oracle.to_float32(value * Fraction(2) ** (shift - 31)))
            if name in ("rndnu", "rndna")
            else value * Fraction(2) ** (shift - 31)
        )
        rule = {"single": "half-up", "rndnu": "half-up", "half-away": "half-away", "rndna": "half-away"}[name]
        y = oracle.wrap32(oracle.round_real(rule, acc * real))
    return oracle.saturate(oracle.wrap32(y + zero_point), limits)


@pytest.mark.parametrize("name", ["single", "double", "double-up", "half-away", "rndnu", "rndna", "fp32", "fp64-away"])
def test_wrapping_overflow(name: str, backend: str, rng: np.random.Generator) -> None:
    draw = random.Random(int(rng.integers(2**31)))
    for dtype, limits in (("int8", (-128, 127)), ("int32", INT32)):
        if name == "fp32" and dtype == "int32":
            continue  # its clamp before the conversion exists for 8-bit outputs only
        rows = []
        for shift in range(-31, 8 if name in ("rndnu", "rndna") else 31):
            for value in (2**30, 2**31 - 200, draw.randint(2**30, 2**31 - 200)):
                for acc in (draw.choice(cases.structured()), draw.randint(*INT32)):
                    rows.append((acc, (value, shift), draw.choice([-128, 127, 0, draw.randint(-128, 127)])))
        rows = [row for row in rows if row[1][1] >= -30]
        wanted = np.array([wrapped(name, *row, limits) for row in rows])
        y = qe.requantize(
            np.array([row[0] for row in rows]), as_multiplier([row[1] for row in rows]), scheme=name,
            zero_point=np.array([row[2] for row in rows]), dtype=dtype, overflow="wrap", backend=backend,
        )  # fmt: skip
        bad = np.flatnonzero(y != wanted)
        assert not bad.size, f"{bad.size} of {y.size}: {rows[bad[0]]} gives {y[bad[0]]}, not {wanted[bad[0]]}"
        for k in range(0, len(rows), 9):
            acc, multiplier, zero_point = rows[k]
            one = qe.requantize(
                np.array([acc], dtype=np.int32), as_multiplier(multiplier), scheme=name,
                zero_point=zero_point, dtype=dtype, overflow="wrap", backend=backend,
            )  # fmt: skip
            assert one.tolist() == [wanted[k]], rows[k]


def test_wrapping_changes_nothing_inside_the_domain(scheme: Scheme, backend: str) -> None:
    for multiplier in FIXED:
        if cases.admits(scheme.name, multiplier):
            m = as_multiplier(multiplier)
            acc = inside(scheme, m, np.array(cases.structured()), zero_point=-7).astype(np.int32)
            options = {"scheme": scheme, "zero_point": -7, "backend": backend}
            same(qe.requantize(acc, m, overflow="wrap", **options), qe.requantize(acc, m, **options))


# ---------------------------------------------------------------------------------------------------------
# Laws


ACC = st.integers(*INT32) | st.sampled_from(cases.structured()) | st.integers(-3000, 3000)
VALUE = st.integers(2**30, 2**31 - 1) | st.sampled_from(cases.MANTISSA_VALUES) | st.integers(0, 2**31 - 1)
NAME = st.sampled_from(NAMES)


def evaluate(name: str, acc: list[int], multiplier: Multiplier) -> list[int] | None:
    """The cpu engine's answers, None if the domain excludes one of them."""
    try:
        return qe.requantize(np.array(acc), as_multiplier(multiplier), scheme=name).tolist()
    except qe.DomainError:
        return None


@pytest.mark.parametrize("name", NAMES)
@given(acc=st.lists(ACC, min_size=2, max_size=8), value=VALUE, shift=st.integers(-31, 30))
def test_law_monotone(name: str, acc: list[int], value: int, shift: int) -> None:
    y = evaluate(name, sorted(acc), (value, shift))
    if y is not None:
        assert y == sorted(y)


@pytest.mark.parametrize(
    "name",
    ["half-away", "truncate", "rndna", "fp32", "fp32-qnnpack", "fp32-away", "fp32-zp-inside", "fp64-away"],
)
@given(acc=ACC, value=VALUE, shift=st.integers(-31, 30))
def test_law_odd(name: str, acc: int, value: int, shift: int) -> None:
    y = evaluate(name, [acc, -acc] if acc > INT32[0] else [0, 0], (value, shift))
    if y is not None:
        assert y[0] == -y[1]


@pytest.mark.parametrize("name", [name for name in NAMES if cases.is_floor(name) and name != "hifi-out16"])
@given(acc=ACC, value=VALUE, shift=st.integers(-31, 30), turns=st.integers(1, 1000))
def test_law_shift_equivariant(name: str, acc: int, value: int, shift: int, turns: int) -> None:
    """A whole number of periods further, on the same side of zero, the result moves by a whole number."""
    real = cases.effective(name, (value, shift))
    moved = acc + turns * real.denominator * (1 if acc >= 0 else -1)
    if abs(moved) >= 2**31:
        return
    y = evaluate(name, [acc, moved], (value, shift))
    if y is not None:
        assert y[1] - y[0] == (moved - acc) * real


@given(acc=ACC, value=VALUE, shift=st.integers(-31, 30))
def test_law_double_is_single_or_one_further_from_zero(acc: int, value: int, shift: int) -> None:
    single, double = (evaluate(name, [acc], (value, shift)) for name in ("single", "double"))
    if single is not None and double is not None:
        assert double[0] - single[0] in ((0, 1) if acc >= 0 else (0, -1))
        assert shift < 0 or double == single


@given(acc=ACC, value=VALUE, shift=st.integers(-31, 30))
def test_law_double_up_is_single_or_one_above(acc: int, value: int, shift: int) -> None:
    single, double_up = (evaluate(name, [acc], (value, shift)) for name in ("single", "double-up"))
    if single is not None and double_up is not None:
        assert double_up[0] - single[0] in (0, 1)


@given(name=NAME, acc=ACC, value=VALUE, shift=st.integers(-31, 30))
def test_law_within_one_of_the_product(name: str, acc: int, value: int, shift: int) -> None:
    """Only saturating schemes are further than 1.5 from the product (float32: and 2**-23 of it)."""
    real = cases.effective(name, (value, shift))
    y = evaluate(name, [acc], (value, shift))
    if y is not None and name not in ("rndnu16", "hifi-out16"):
        slack = abs(acc * real) / 2**23 if name in oracle._FLOAT32 else 0
        assert abs(y[0] - acc * real) <= Fraction(3, 2) + slack


@given(name=NAME, acc=ACC, value=VALUE, shift=st.integers(-31, 30), zero_point=st.integers(-128, 127))
def test_law_oracle(name: str, acc: int, value: int, shift: int, zero_point: int) -> None:
    wanted = expected(name, acc, (value, shift), zero_point=zero_point, limits=(-128, 127))
    for backend in ("reference", "cpu"):
        options = {"scheme": name, "zero_point": zero_point, "dtype": "int8", "backend": backend}
        if wanted is None:
            with pytest.raises(qe.DomainError):
                qe.requantize(acc, qe.QuantizedMultiplier(value, shift), **options)
        else:
            assert int(qe.requantize(acc, qe.QuantizedMultiplier(value, shift), **options)) == wanted


@pytest.mark.parametrize("width", range(1, 11))
def test_law_error_summed_over_a_full_period(width: int, backend: str) -> None:
    """Over every accumulator of one period P = 2**w of M = odd / P the sum of (y - M x) is known exactly.

    The remainders take each value once. Half up errs by +1/2 at the one tie and cancels elsewhere; half away
    cancels over a period on each side of zero; truncation loses (P - 1) / 2 on each side; half to even gains
    and loses 1/2 at alternate ties.
    """
    period = 1 << width
    up = np.arange(period, dtype=np.int32) + period
    sides = np.concatenate([up, -up])
    turns = np.arange(4 * period, dtype=np.int32)
    for odd in {1, 3 % period, period - 1} - {0}:
        m = qe.QuantizedMultiplier(odd << (31 - width), 0)
        real = Fraction(odd, period)

        def error(
            name: str, acc: npt.NDArray[np.int32], m: qe.QuantizedMultiplier = m, real: Fraction = real
        ) -> Fraction:
            y = qe.requantize(acc, m, scheme=name, backend=backend)
            return Fraction(int(y.sum(dtype=np.int64))) - real * int(acc.sum(dtype=np.int64))

        for name in ("single", "rndnu", "double", "double-up"):
            assert error(name, up) == Fraction(1, 2), name
            assert error(name, sides) == 1, name
        for name in ("half-away", "rndna", "fp32-away", "fp64-away"):
            if name != "rndna" or real >= Fraction(1, 2**32):
                assert error(name, up) == Fraction(1, 2), name
                assert error(name, sides) == 0, name
        assert error("truncate", up) == -Fraction(period - 1, 2)
        assert error("truncate", sides) == 0
        assert error("avx2-int16", up) == -Fraction(period - 1, 2)
        assert error("avx2-int16", sides) == -(period - 1)
        for name in ("fp32", "fp32-qnnpack", "fp32-zp-inside"):
            assert error(name, turns) == 0, name
