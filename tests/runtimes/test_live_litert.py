"""The real interpreter against its profiles: operators in models of their own, whole tensors, tails included.

Rows are chosen where arithmetics disagree: near-ties of the exact product, ratios of scales that are powers of two,
sizes that leave a rest behind the SIMD body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe

from .lite import PATHS, Tensor, build, build_lstm, profiled, run

DTYPES = {"int8": "", "uint8": "u8"}
FUSED = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    profiled()


def limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def same(got: npt.NDArray[Any], real: npt.NDArray[Any], what: str) -> int:
    bad = np.flatnonzero(got.reshape(-1) != real.reshape(-1))
    assert got.dtype == real.dtype, what
    assert not bad.size, (
        f"{what}: {bad.size} of {real.size} differ, first at {bad[0]}: got {got.reshape(-1)[bad[0]]}, "
        f"the runtime gives {real.reshape(-1)[bad[0]]}"
    )
    return int(real.size)


def pair_scales(rng: np.random.Generator, k: int) -> tuple[float, float, float]:
    """Every other time ratios are powers of two: there each rounding meets exact ties."""
    if k % 2:
        base = rng.uniform(0.01, 0.1)
        return base, base * 2.0 ** float(rng.integers(-4, 1)), base * 2.0 ** float(rng.integers(-1, 3))
    a, b = rng.uniform(0.005, 0.1, 2)
    return float(a), float(b), float(rng.uniform(0.5, 2.0) * (a + b))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL"])
def test_elementwise(op: str, dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    for k in range(30):
        n = int(rng.choice([5, 16, 23, 64, 1003]))
        a, b = (rng.integers(low, high + 1, (1, n)).astype(dtype) for _ in "ab")
        sa, sb, so = pair_scales(rng, k)
        if op == "MUL":
            so = sa * sb * 2.0 ** float(rng.integers(3, 9)) if k % 2 else sa * sb * float(rng.uniform(20, 400))
        za, zb, zo = (int(z) for z in rng.integers(low, high + 1, 3))
        content = build(
            op,
            [Tensor(a.shape, dtype, sa, za), Tensor(b.shape, dtype, sb, zb)],
            [Tensor(a.shape, dtype, so, zo)],
            {"table": f"{op.title()}Options"},
        )
        got = qe.emulate(
            "litert", op, path, variant=DTYPES[dtype], positions="tensor", a=a, b=b,
            a_scale=sa, b_scale=sb, out_scale=so, a_zp=za, b_zp=zb, out_zp=zo,
        )  # fmt: skip
        same(got, run(content, path, a, b)[0], f"{op} {dtype} {path} n={n} {sa, sb, so, za, zb, zo}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [True, False])
def test_mean(keep: bool, dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    for _ in range(25):
        h, w, c = (int(v) for v in (rng.integers(1, 8), rng.integers(1, 8), rng.choice([3, 16, 24, 33])))
        x = rng.integers(low, high + 1, (1, h, w, c)).astype(dtype)
        si = float(rng.uniform(0.01, 0.1))
        so = si * float(rng.choice([0.25, 0.5, 1.0, rng.uniform(0.2, 1.5)]))
        zi, zo = (int(z) for z in rng.integers(low, high + 1, 2))
        shape = (1, 1, 1, c) if keep else (1, c)
        axes = np.array([1, 2], np.int32)
        content = build(
            "MEAN",
            [Tensor(x.shape, dtype, si, zi), Tensor((2,), "int32", data=axes)],
            [Tensor(shape, dtype, so, zo)],
            {"table": "ReducerOptions", "keepDims": keep},
        )
        total = x.astype(np.int64).sum(axis=(1, 2), keepdims=keep)
        variant = ("keepdims" if keep else "nokeep") + ("_u8" if dtype == "uint8" else "")
        got = qe.emulate(
            "litert", "MEAN", path, variant=variant, positions="tensor", sum=total, count=h * w,
            in_scale=si, out_scale=so, in_zp=zi, out_zp=zo,
        )  # fmt: skip
        same(got, run(content, path, x)[0], f"MEAN {keep} {dtype} {path} {x.shape} {si, so, zi, zo}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_average_pool(dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    for _ in range(15):
        h, w, c = (int(v) for v in (rng.integers(1, 8), rng.integers(1, 8), rng.integers(1, 40)))
        x = rng.integers(low, high + 1, (1, h, w, c)).astype(dtype)
        content = build(
            "AVERAGE_POOL_2D", [Tensor(x.shape, dtype, 0.1, 3)], [Tensor((1, 1, 1, c), dtype, 0.1, 3)],
            {"table": "Pool2DOptions", "filterHeight": h, "filterWidth": w, "strideH": 1, "strideW": 1, "padding": 1},
        )  # fmt: skip
        got = qe.emulate(
            "litert", "AVERAGE_POOL_2D", path, variant=DTYPES[dtype], positions="tensor",
            sum=x.astype(np.int64).sum(axis=(1, 2), keepdims=True), count=h * w,
        )  # fmt: skip
        same(got, run(content, path, x)[0], f"AVERAGE_POOL_2D {dtype} {path} {x.shape}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("variant", ["i8i8", "u8u8", "i8u8", "u8i8"])
def test_requantize_codes(variant: str, path: str, rng: np.random.Generator) -> None:
    source, target = ({"i": "int8", "u": "uint8"}[letter] for letter in (variant[0], variant[2]))
    for k in range(25):
        n = int(rng.choice([7, 16, 29, 256]))
        low, high = limits(source)
        q = rng.integers(low, high + 1, (1, n)).astype(source)
        si = float(rng.uniform(0.01, 0.1))
        so = si * (2.0 ** float(rng.integers(-2, 5)) if k % 2 else float(rng.uniform(0.05, 40)))
        zi, zo = int(rng.integers(low, high + 1)), int(rng.integers(*limits(target)))
        content = build("QUANTIZE", [Tensor(q.shape, source, si, zi)], [Tensor(q.shape, target, so, zo)])
        got = qe.emulate(
            "litert", "QUANTIZE", path, variant=variant, positions="tensor",
            input=q, in_scale=si, in_zp=zi, out_scale=so, out_zp=zo,
        )  # fmt: skip
        same(got, run(content, path, q)[0], f"QUANTIZE {variant} {path} n={n} {si, zi, so, zo}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantize_and_back(dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    letter = dtype[0]
    for k in range(25):
        n = int(rng.choice([7, 8, 29, 256]))
        scale, zero = (
            float(np.float32(0.5 ** (k % 4) if k % 2 else rng.uniform(0.01, 0.2))),
            int(rng.integers(low, high)),
        )
        # Halves of steps, and their neighbours in float32: ties of one arithmetic are none of another.
        x = (np.float32(scale) * (rng.integers(-250, 250, (1, n)) + np.float32(0.5))).astype(np.float32)
        x = np.nextafter(x, np.float32(np.inf) * rng.choice([-1, 1], x.shape).astype(np.float32)) if k % 3 else x
        content = build("QUANTIZE", [Tensor(x.shape, "float32")], [Tensor(x.shape, dtype, scale, zero)])
        got = qe.emulate(
            "litert", "QUANTIZE", path, variant=f"f32{letter}8", positions="tensor",
            input=x, out_scale=scale, out_zp=zero,
        )  # fmt: skip
        same(got, run(content, path, x)[0], f"QUANTIZE {dtype} {path} n={n} {scale, zero}")
        content = build("DEQUANTIZE", [Tensor(x.shape, dtype, scale, zero)], [Tensor(x.shape, "float32")])
        back = qe.emulate(
            "litert", "DEQUANTIZE", path, variant=f"{letter}8f32", positions="tensor",
            input=got, in_scale=scale, in_zp=zero,
        )  # fmt: skip
        same(back, run(content, path, got)[0], f"DEQUANTIZE {dtype} {path} n={n} {scale, zero}")


def near_ties(rng: np.random.Generator, multiplier: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.int32]:
    """Accumulators whose exact product lies next to a half, within the reach of a second rounding or of float32."""
    wanted = rng.integers(-100, 100, (rows, multiplier.size)) + 0.5
    offsets = rng.choice([0, 0, 1, -1, 2, -2], wanted.shape)
    return (np.rint(wanted / multiplier) + offsets).astype(np.int32)


def accumulating(
    op: str,
    dtype: str,
    acc: npt.NDArray[np.int32],
    scales: tuple[float, npt.NDArray[np.float32], float],
    zo: int,
    activation: str = "NONE",
) -> Callable[[str], npt.NDArray[Any]]:
    """A model an accumulator row: input at its zero point, the bias is the accumulator."""
    channels = acc.shape[1]
    si, sw, so = scales
    zi = 3
    kind, version = {
        "CONV_2D": ("Conv2DOptions", 3 if dtype == "int8" else 1),
        "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3 if dtype == "int8" else 1),
        "FULLY_CONNECTED": ("FullyConnectedOptions", 12 if sw.size > 1 else 4 if dtype == "int8" else 1),
    }[op]
    options: dict[str, Any] = {"table": kind, "version": version, "fusedActivationFunction": FUSED[activation]}
    if op == "FULLY_CONNECTED":
        shape, weights, out = (2, 8), (channels, 8), (2, channels)
        axis = 0
    else:
        shape, out = (1, 2, 1, 8), (1, 2, 1, channels)
        weights, axis = ((channels, 1, 1, 8), 0) if op == "CONV_2D" else ((1, 1, 1, channels), 3)
        options |= {"strideH": 1, "strideW": 1, "padding": 1}
        if op == "DEPTHWISE_CONV_2D":
            shape = (1, 2, 1, channels)
            options["depthMultiplier"] = 1
    x = np.full(shape, zi, dtype)
    wz = 0 if dtype == "int8" else 7
    w = np.full(weights, wz + 1, dtype)

    def outputs(path: str) -> npt.NDArray[Any]:
        rows = []
        for row in acc:
            bias = Tensor((channels,), "int32", np.float32(si) * sw, 0, row.astype(np.int32))
            content = build(
                op,
                [Tensor(shape, dtype, si, zi), Tensor(weights, dtype, sw, wz, w, axis if sw.size > 1 else 0), bias],
                [Tensor(out, dtype, so, zo)],
                dict(options),
            )
            rows.append(run(content, path, x)[0].reshape(2, channels)[1])
        return np.stack(rows)

    return outputs


ACCUMULATING = [
    *((op, "int8", "perchannel") for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")),
    *((op, "int8", "pertensor") for op in ("CONV_2D", "FULLY_CONNECTED")),
    *((op, "uint8", "u8") for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")),
]


@pytest.mark.parametrize(("op", "dtype", "variant"), ACCUMULATING)
def test_accumulators(op: str, dtype: str, variant: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    for channels in (16, 19):
        si, so = float(np.float32(rng.uniform(0.01, 0.1))), float(np.float32(rng.uniform(0.05, 0.3)))
        sw = np.exp(rng.uniform(np.log(0.0005), np.log(0.05), channels)).astype(np.float32)
        sw[:3] = np.float32(so) / np.float32(si) * np.float32([0.25, 2.0**-7, 0.01])  # powers of two: exact ties
        sw = sw if variant == "perchannel" else sw[1:2]
        real = np.broadcast_to(np.float64(np.float32(si)) * sw / np.float64(np.float32(so)), channels)
        acc = near_ties(rng, real, 30)
        zo = int(rng.integers(low, high + 1))
        runtime = accumulating(op, dtype, acc, (si, sw, so), zo)
        for path in PATHS:
            got = qe.emulate(
                "litert", op, path, variant=variant, positions="tensor",
                acc=acc, in_scale=si, w_scale=sw, out_scale=so, zero_point=zo,
            )  # fmt: skip
            same(got, runtime(path), f"{op} {variant} {path} C={channels} {si, so, zo}")


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("op", "bits"),
    [(op, bits) for op in ("CONV_2D", "FULLY_CONNECTED") for bits in (32, 64)] + [("DEPTHWISE_CONV_2D", 64)],
)
def test_int16_accumulators(op: str, bits: int, single: bool, rng: np.random.Generator) -> None:
    """Near-ties of int16 codes, with one weight scale and with one a channel: recipes differ."""
    channels, depthwise = 64, op == "DEPTHWISE_CONV_2D"
    tables = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}
    for _ in range(6):
        si, so = np.float32(rng.uniform(1e-4, 1e-3)), np.float32(rng.uniform(1e-3, 1e-1))
        sw = rng.uniform(1e-3, 1e-2, 1 if single else channels).astype(np.float32)
        real = np.broadcast_to(np.float64(si) * sw / np.float64(so), channels)
        acc = np.rint((rng.integers(-32000, 32000, channels) + 0.5) / real).astype(np.int64)
        acc = acc.clip(-(2**31), 2**31 - 1)
        options: dict[str, Any] = {"table": tables.get(op, "FullyConnectedOptions"), "version": 11 if single else 12}
        image: tuple[int, ...] = (1, 1, 1, channels if depthwise else 1)
        shape, out = (1, 1, 1, channels) if depthwise else (channels, 1, 1, 1), (1, 1, 1, channels)
        if op == "FULLY_CONNECTED":
            image, shape, out = (1, 1), (channels, 1), (1, channels)
        else:
            options |= {"strideH": 1, "strideW": 1, "padding": 1, "version": 5}
            options |= {"depthMultiplier": 1} if depthwise else {}
        if bits == 32:
            options["quantizedBiasType"] = 2
        tensors = [
            Tensor(image, "int16", si), Tensor(shape, "int8", sw, 0, np.ones(shape, np.int8), 3 if depthwise else 0),
            Tensor((channels,), f"int{bits}", si * sw, 0, acc.astype(f"int{bits}")),
        ]  # fmt: skip
        content = build(op, tensors, [Tensor(out, "int16", so)], options)
        variant = f"{'pert_' if single and op == 'FULLY_CONNECTED' else ''}i16x8_biasint{bits}"
        for path in PATHS:
            got = qe.emulate(
                "litert", op, path, variant=variant, acc=acc, in_scale=si, w_scale=sw, out_scale=so, zero_point=0
            )
            same(got, run(content, path, np.zeros(image, np.int16))[0], f"{op} {variant} {path} {si, so}")


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize(("op", "dtype", "variant"), [row for row in ACCUMULATING if row[2] != "pertensor"])
def test_fused_activation_of_accumulators(
    op: str, dtype: str, variant: str, activation: str, rng: np.random.Generator
) -> None:
    low, high = limits(dtype)
    for so in (0.4, 4.0, 12.0):  # 1 and 6 over them are ties
        sw = np.full(16 if dtype == "int8" else 1, so * 0.5, np.float32)
        acc = rng.integers(-6000, 6000, (4, 16)).astype(np.int32)
        zo = int(rng.integers(low, high + 1))
        runtime = accumulating(op, dtype, acc, (0.1, sw, so), zo, activation)
        for path in PATHS:
            got = qe.emulate(
                "litert", op, path, variant=variant, positions="tensor", activation=activation,
                acc=acc, in_scale=0.1, w_scale=sw, out_scale=so, zero_point=zo,
            )  # fmt: skip
            same(got, runtime(path), f"{op} {variant} {activation} {path} {so, zo}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_codes(dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    q = np.arange(low, high + 1).astype(dtype).reshape(1, -1)
    so = np.float32(1 / 256)
    for _ in range(20):
        si, zi = float(np.exp(rng.uniform(np.log(0.001), np.log(0.3)))), int(rng.integers(low, high + 1))
        content = build("LOGISTIC", [Tensor(q.shape, dtype, si, zi)], [Tensor(q.shape, dtype, so, low)])
        got = qe.emulate(
            "litert", "LOGISTIC", path, variant=DTYPES[dtype], input=q, in_scale=si, in_zp=zi, out_scale=so, out_zp=low
        )
        same(got, run(content, path, q)[0], f"LOGISTIC {dtype} {path} {si, zi}")
        rows, beta = (
            rng.integers(low, high + 1, (3, int(rng.choice([2, 10, 100])))).astype(dtype),
            float(rng.choice([1, 2])),
        )
        content = build(
            "SOFTMAX", [Tensor(rows.shape, dtype, si, zi)], [Tensor(rows.shape, dtype, so, low)],
            {"table": "SoftmaxOptions", "beta": beta},
        )  # fmt: skip
        got = qe.emulate(
            "litert",
            "SOFTMAX",
            path,
            variant=DTYPES[dtype],
            input=rows,
            in_scale=si,
            beta=beta,
            out_scale=so,
            out_zp=low,
        )
        same(got, run(content, path, rows)[0], f"SOFTMAX {dtype} {path} {si, beta}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["plain", "align_corners", "half_pixel_centers"])
def test_resize(mode: str, dtype: str, path: str, rng: np.random.Generator) -> None:
    low, high = limits(dtype)
    flags = {"align_corners": mode == "align_corners", "half_pixel_centers": mode == "half_pixel_centers"}
    for _ in range(20):
        h, w, height, width, c = (int(v) for v in rng.integers(1, 12, 5))
        x = rng.integers(low, high + 1, (1, h, w, c)).astype(dtype)
        content = build(
            "RESIZE_BILINEAR",
            [Tensor(x.shape, dtype, 0.1, 2), Tensor((2,), "int32", data=np.array([height, width], np.int32))],
            [Tensor((1, height, width, c), dtype, 0.1, 2)],
            {
                "table": "ResizeBilinearOptions", "version": 3, "alignCorners": flags["align_corners"],
                "halfPixelCenters": flags["half_pixel_centers"],
            },
        )  # fmt: skip
        got = qe.emulate(
            "litert", "RESIZE_BILINEAR", path, variant=DTYPES[dtype], input=x, height=height, width=width, **flags
        )
        same(got, run(content, path, x)[0], f"RESIZE_BILINEAR {mode} {dtype} {path} {x.shape} -> {height, width}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_fused_activation(activation: str, path: str, rng: np.random.Generator) -> None:
    a = rng.integers(-128, 128, (1, 64)).astype(np.int8)
    for so in (0.05, 0.4, 0.013):
        content = build(
            "ADD", [Tensor(a.shape, "int8", 0.05, 3), Tensor(a.shape, "int8", 0.07, -5)],
            [Tensor(a.shape, "int8", so, -20)],
            {"table": "AddOptions", "fusedActivationFunction": FUSED[activation]},
        )  # fmt: skip
        b = rng.integers(-128, 128, a.shape).astype(np.int8)
        got = qe.emulate(
            "litert", "ADD", path, positions="tensor", activation=activation, a=a, b=b,
            a_scale=0.05, b_scale=0.07, out_scale=so, a_zp=3, b_zp=-5, out_zp=-20,
        )  # fmt: skip
        same(got, run(content, path, a, b)[0], f"ADD {activation} {path} {so}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("clip", [0.0, 1.5])
def test_lstm(clip: float, path: str, rng: np.random.Generator) -> None:
    for _ in range(12):
        time, batch, inputs, cells = (int(v) for v in (rng.integers(1, 8), rng.integers(1, 4), *rng.integers(1, 20, 2)))
        si, sh = (float(np.float32(v)) for v in (rng.uniform(0.005, 0.05), rng.uniform(0.004, 0.01)))
        zi, zh = (int(v) for v in rng.integers(-20, 20, 2))
        weights = (
            rng.integers(-127, 128, (4, cells, inputs)), rng.integers(-127, 128, (4, cells, cells)),
            rng.integers(-3000, 3000, (4, cells)),
        )  # fmt: skip
        sw, sr = rng.uniform(0.002, 0.02, (2, 4)).astype(np.float32)
        x = rng.integers(-128, 128, (time, batch, inputs)).astype(np.int8)
        content = build_lstm(x.shape, (si, zi), (sh, zh), weights, (sw, sr), clip)
        got = qe.emulate(
            "litert", "UNIDIRECTIONAL_SEQUENCE_LSTM", path, input=x, in_scale=si, in_zp=zi, input_weights=weights[0],
            recurrent_weights=weights[1], bias=weights[2], input_weight_scale=sw, recurrent_weight_scale=sr,
            cell_scale=2.0**-12, hidden_scale=sh, hidden_zp=zh, cell_clip=int(clip * 2**12),
        )  # fmt: skip
        same(got, run(content, path, x)[0], f"LSTM {path} clip={clip} {x.shape} {cells}")
