"""What `compiler.cuh` promises of each primitive, on the host and on a device, against NumPy and Python integers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from .device import Cuda, HostDevice

Device = HostDevice | Cuda


def special(dtype: Any, rng: np.random.Generator) -> npt.NDArray[Any]:
    info = np.finfo(dtype)
    whole = [0.0, 0.5, 1.0, 1.5, 2.5, 0.49999999999999994, 2.0**23 + 0.5, 2.0**31, 2.0**31 - 0.5, 2.0**63, 1e10, 3.7]
    tiny = [info.smallest_subnormal, info.tiny / 3, info.tiny]  # subnormals are not flushed
    values = np.array([*whole, *tiny, info.max, np.inf], np.float64).astype(dtype)
    drawn = rng.integers(0, 2 ** (8 * info.dtype.itemsize), 600, np.uint64).astype(f"u{info.dtype.itemsize}")
    return np.concatenate([values, -values, np.array([np.nan], dtype), drawn.view(dtype)])


def pairs(values: npt.NDArray[Any], rng: np.random.Generator) -> tuple[npt.NDArray[Any], ...]:
    head = values[:31]
    a, b = (m.ravel() for m in np.meshgrid(head, head))
    more = rng.permutation(values)
    a, b = np.concatenate([a, values, values]), np.concatenate([b, more, -values])
    return a, b, rng.permutation(a)


def saturated(v: npt.NDArray[Any], bits: int) -> list[int]:
    """Whole numbers to integers as PTX converts: NaN to 0, the others to the nearest end."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return [0 if math.isnan(x) else low if x < low else high if x > high else int(x) for x in v.tolist()]


def minimum(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of a NaN and a number the number; -0 below +0."""
    smaller = np.where((a == b) & (a == 0), np.where(np.signbit(a), a, b), np.fmin(a, b))
    return np.asarray(smaller)


def same(got: npt.NDArray[Any], wanted: npt.NDArray[Any], what: str) -> None:
    """Equal bits, but for the payload of a NaN."""
    assert got.dtype == wanted.dtype
    width = f"u{got.dtype.itemsize}"
    bad = (got.view(width) != wanted.view(width)) & ~(np.isnan(got) & np.isnan(wanted))
    assert not bad.any(), f"{what}: {got[bad][:3]} is not {wanted[bad][:3]}, at {np.flatnonzero(bad)[:3]}"


def expected(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    dtype = a.dtype
    with np.errstate(all="ignore"):
        return {
            "mul": a * b, "add": a + b, "sub": a - b, "div": a / b, "fma": fused(a, b, c),
            "min": minimum(a, b), "max": -minimum(-a, -b), "rint": np.rint(a), "trunc": np.trunc(a),
            "floor": np.floor(a), "ceil": np.ceil(a), "copysign": np.copysign(a, b), "neg": -a,
            "lt": (a < b).astype(dtype), "le": (a <= b).astype(dtype), "eq": (a == b).astype(dtype),
        }  # fmt: skip


def fused(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One rounding: exact where the numbers are finite and the result is normal, else `math.fma`'s rules by parts."""
    result = np.empty_like(a)
    for i, (x, y, z) in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            result[i] = np.float64(x) * np.float64(y) + np.float64(z) if not math.isinf(z) else infinite(x, y, z)
            continue
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        if exact == 0:
            result[i] = x * y + z if x == 0 or y == 0 else 0.0
        else:
            result[i] = nearest(exact, a.dtype)
    return result


def infinite(x: float, y: float, z: float) -> float:
    product = np.float64(x) * np.float64(y)
    clash = math.isinf(product) and (math.isinf(x) or math.isinf(y)) and product != z
    return math.nan if math.isnan(product) or clash else z


def nearest(exact: Fraction, dtype: np.dtype[Any]) -> float:
    info = np.finfo(dtype)
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent += magnitude >= Fraction(2) ** exponent
    quantum = Fraction(2) ** max(exponent - info.nmant - 1, int(info.minexp) - info.nmant)
    rounded = round(magnitude / quantum) * quantum  # half to even
    value = math.inf if rounded > Fraction(float(info.max)) else float(rounded)
    return -value if exact < 0 else value


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_float32(device: Device, rng: np.random.Generator) -> None:
    a, b, c = pairs(special(np.float32, rng), rng)
    n, wanted = a.size, expected(a, b, c)
    with np.errstate(all="ignore"):
        wanted["through float64"] = (a.astype(np.float64) * 0.3).astype(np.float32)
    out, whole, wide = (
        device.empty((len(wanted), n), np.float32), device.empty((2, n), np.int32), device.empty(n, np.float64)
    )  # fmt: skip
    device.launch("primitives", "primitives_f32", 3, 256, n, *map(device.asarray, (a, b, c)), out, whole, wide)
    for got, (name, values) in zip(out.get(), wanted.items(), strict=True):
        same(got, values, name)
    assert whole.get().tolist() == [saturated(np.rint(a), 32), saturated(np.trunc(a), 32)]
    same(wide.get(), a.astype(np.float64), "to float64")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_float64(device: Device, rng: np.random.Generator) -> None:
    a, b, c = pairs(special(np.float64, rng), rng)
    n, wanted = a.size, expected(a, b, c)
    out, whole = device.empty((len(wanted), n), np.float64), device.empty((4, n), np.int64)
    device.launch("primitives", "primitives_f64", 3, 256, n, *map(device.asarray, (a, b, c)), out, whole)
    for got, (name, values) in zip(out.get(), wanted.items(), strict=True):
        same(got, values, name)
    nearest_whole, cut = np.rint(a), np.trunc(a)
    assert whole.get().tolist() == [saturated(v, bits) for bits in (32, 64) for v in (nearest_whole, cut)]


def signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def test_integers(device: Device, rng: np.random.Generator) -> None:
    edges = [0, 1, -1, 2, 127, 128, -128, -129, 255, 256, 2**31 - 1, -(2**31), 2**30, 12345]
    a, b = (m.ravel() for m in np.meshgrid(np.array(edges, np.int32), np.array(edges, np.int32)))
    a = np.concatenate([a, rng.integers(-(2**31), 2**31, 500, dtype=np.int32)])
    b = np.concatenate([b, rng.integers(-(2**31), 2**31, 500, dtype=np.int32)])
    n, rows = a.size, 22
    out = device.empty((rows, n), np.int64)
    single, real = device.empty((3, n), np.float32), device.empty((4, n), np.float64)
    device.launch("primitives", "primitives_i32", 2, 256, n, device.asarray(a), device.asarray(b), out, single, real)
    got = out.get()
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        ux, uy, v = x % 2**32, y % 2**32, x * y

        def byte(value: int, low: int, high: int) -> int:
            return min(max(value, low), high) & 255

        def packed(low: int, high: int, x: int = x, y: int = y) -> int:
            return sum(byte(w, low, high) << (8 * k) for k, w in enumerate((x, y, x >> 20, y >> 24)))

        bytes_of = [[signed(w >> (8 * k), 8) for k in range(4)] for w in (ux, uy)]
        wanted = [
            v, signed(ux * uy), signed(ux * uy + v), ux * uy >> 32,
            v >> (y & 63), signed(v << (y & 63)), packed(-128, 127),
            ux & 255 | (uy & 255) << 8 | (ux >> 8 & 255) << 16 | (uy >> 8 & 255) << 24,
            ux & 0xFFFF | (uy & 0xFFFF) << 16, (abs(x - y) + 7) % 2**32,
            signed(x + sum(p * q for p, q in zip(*bytes_of, strict=True)), 32), 32 - ux.bit_length(),
            ux.bit_count(), min(max(v, -1000), y), x * (y >> 1) + x, signed(x + y, 32),
            (uy + ((ux & uy & 3) == 0)) % 2**32, ux >> (uy & 63), (uy << 32 | ux) >> (uy & 31) & 0xFFFFFFFF,
            x * (y >> 1) + x, ux & ~uy | uy & 0x12345678, ((ux >> 1) + 7 + (ux + uy >= 2**32)) % 2**32,
        ]  # fmt: skip
        assert got[:, i].tolist() == wanted, (x, y)
    product = a.astype(np.int64) * b
    for row, values in zip(single.get(), (a, a.view(np.uint32), product), strict=True):
        same(row, values.astype(np.float32), "to float32")
    for row, values in zip(real.get(), (a, product, product.view(np.uint64), a.view(np.uint32)), strict=True):
        same(row, values.astype(np.float64), "to float64")


@pytest.mark.parametrize("threads", [32, 96, 1024])
def test_block(threads: int, device: Device, rng: np.random.Generator) -> None:
    a = rng.integers(-(2**62), 2**62, (3, threads))
    whole = device.empty((3, 3), np.int64)
    device.launch("primitives", "primitives_block", 3, threads, device.asarray(a), whole)
    for k in range(3):
        odd = sum((int(v) & 1) << lane for lane, v in enumerate(a[k][:32]))
        total = signed(sum(map(int, a[k])))
        assert whole.get()[k].tolist() == [total, total, odd]


def test_vectors(device: Device, rng: np.random.Generator) -> None:
    n = 300
    a, b = rng.integers(-(2**31), 2**31, (n, 4), dtype=np.int32), rng.integers(-(2**63), 2**63, (n, 2))
    c, d = rng.random((n, 4), np.float32), rng.random((n, 2))
    out = device.empty((n, 8), np.uint32)
    device.launch("primitives", "primitives_vectors", 1, 256, n, *map(device.asarray, (a, b, c, d)), out)
    u = a.view(np.uint32)
    floats, doubles = c.view(np.uint32), d.view(np.uint64)
    wanted = np.column_stack([
        u[:, 0] ^ u[:, 1], u[:, 3], b.astype(np.uint32), floats[:, 0], floats[:, 3],
        doubles[:, 0].astype(np.uint32), (doubles[:, 1] >> np.uint64(32)).astype(np.uint32),
    ])  # fmt: skip
    assert np.array_equal(out.get(), wanted)
