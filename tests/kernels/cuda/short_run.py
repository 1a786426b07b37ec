"""Every kernel of the CUDA back end on short arrays of awkward sizes: for a sanitizer, and for `test_short_run`.

``python tests/kernels/cuda/short_run.py`` runs it on the device, with qengine as it is installed: it needs nothing of
this folder, so it works beside a wheel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import qengine as qe
from qengine.kernels.cuda import exhaustive, load
from qengine.sweeps.plan import Multipliers, make_plan
from qengine.sweeps.work import make_work

SIZE = 4 * 1024 + 3


def requantize(arrays: Any) -> None:
    """One multiplier, channels last, channels first; each family of rules; int32 and int64 accumulators."""
    rng = np.random.default_rng(1)
    for scheme in ("single", "fp32", "rndnu16"):
        for shape, axis in (((SIZE,), None), ((61, 8), 1), ((3, 8, 17), 1)):
            multiplier: Any = 0.0037 if axis is None else rng.uniform(0.001, 0.01, 8)
            for dtype in (np.int32, np.int64):
                acc = arrays.asarray(rng.integers(-(1 << 15), 1 << 15, shape).astype(dtype))
                qe.requantize(acc, multiplier, scheme=scheme, axis=axis, dtype="int8")
                qe.requantize(acc, multiplier, scheme=scheme, axis=axis, dtype="int64")
    # Accumulators of which a part may lie outside the domain: they are looked through first.
    for dtype in (np.int32, np.int64):
        qe.requantize(arrays.asarray(np.arange(SIZE, dtype=dtype)), qe.QuantizedMultiplier(1 << 30, 3), scheme="double")


def reals(arrays: Any, shape: Any, dtype: Any) -> Any:
    """Normal samples, none of them clamped by much."""
    return arrays.asarray(np.random.default_rng(2).standard_normal(shape).astype(dtype))


def quantize(arrays: Any) -> None:
    """Conventions that differ in their loops, per tensor, channels last, channels first and groups, both widths."""
    one = qe.QuantParams(0.03, -3, -128, 127)
    last = qe.QuantParams(np.linspace(0.01, 0.05, 8), np.zeros(8, np.int64), -128, 127, axis=1)
    for dtype in (np.float32, np.float64):
        for convention in ("torch", "xnnpack", "onnx", "calculator", "stablehlo", "tflite-ref"):
            for params, shape in ((one, (SIZE,)), (last, (61, 8)), (last, (3, 8, 17))):
                if convention == "xnnpack":
                    params = qe.QuantParams(params.scale, np.zeros_like(params.zero_point), -127, 127, params.axis)
                x = reals(arrays, shape, dtype)
                q = qe.quantize(x, params, convention=convention)
                qe.dequantize(q, params, convention=convention)
        for rounding in ("half-away", "floor", "stochastic"):
            for params, shape in ((one, (SIZE,)), (last, (61, 8)), (last, (3, 8, 17))):
                qe.quantize(reals(arrays, shape, dtype), params, rounding=rounding)
        groups = qe.QuantParams(np.full((3, 4), 0.02), np.zeros((3, 4), np.int64), -8, 7, axis=1, group=16)
        qe.fake_quantize(reals(arrays, (3, 61), dtype), groups)


def formats(arrays: Any) -> None:
    """Elements and block formats, both ways."""
    for dtype in (np.float32, np.float64):
        x = reals(arrays, (3, 130), dtype)
        for name in ("e4m3fn", "e5m2", "e2m1", "nf4", "mxint8"):
            qe.decode(qe.encode(x, name), name)
        qe.encode(arrays.asarray(np.arange(1, 131).astype(dtype)), "e8m0")
        for name in ("mxfp8-e4m3", "mxfp4", "mxint8", "nvfp4", "nf4"):
            qe.quantize_blocks(x, name).dequantize(dtype)
        host = x.get()
        qe.encode(host, "e4m3fn", backend="cuda")
        qe.quantize_blocks(host, "mxfp4", backend="cuda")


def errors(arrays: Any) -> None:
    """Error statistics and calibrations: one channel and many, both widths, with and without counts."""
    specs = [
        qe.QuantSpec(params=qe.QuantParams(0.03, 0, -128, 127)),
        qe.QuantSpec(params=qe.QuantParams(0.03, 0, -128, 127), convention="xnnpack"),
        qe.QuantSpec(format="mxfp4"),
    ]
    for dtype in (np.float32, np.float64):
        x = reals(arrays, (61, 67), dtype)
        for histograms in (False, True):
            for axis in (None, 0, 1):
                for some in (specs[:1], specs[1:2], specs):
                    qe.error_report(x, some, axis=axis, histograms=histograms)
        for method in ("minmax", "percentile", "mse", "entropy"):
            qe.choose_qparams(x, method=method)
        qe.choose_qparams(x, method="mse", axis=0)
        qe.choose_qparams(x, method="minmax", axis=1, group=16)
        qe.Histogram().update(x)


def sweeps() -> None:
    """Every loop of a sweep: drawn and given multipliers, tables, every accumulator, one couple and many schemes."""
    many = [row.name for row in qe.schemes()]
    options = {"backend": "cuda", "threads": 1, "pairs": 5000, "seed": 3}
    for schemes in (("single", "double"), ("single", "fp32")):
        qe.sweep(*schemes, multiplier_range=(0.01, 0.99), **options)
        qe.sweep(*schemes, multiplier_range=(0.01, 0.99), dtype="int8", **options)
        qe.sweep(*schemes, multiplier=0.0013, acc="uniform", **options)
        qe.sweep(*schemes, scales=(0.05, 0.024, 0.11), acc="uniform:-1000:1234", **options)
        table = [np.linspace(low, 2 * low, 5) for low in (0.05, 0.024, 0.11)]
        qe.sweep(*schemes, scales=table, acc="uniform:-1000:1234", **options)
        for multiplier in (qe.QuantizedMultiplier(1234567891, -5), 0.0013):
            qe.sweep(*schemes, multiplier=multiplier, acc="all:-3000:3000", backend="cuda", threads=1)
    qe.sweep("single", "rndnu", multiplier=0.0013, acc="all:-3000:3000", backend="cuda", threads=1)
    # Rounded to float32, accumulators of this size move across ties.
    qe.sweep("single", "fp32", multiplier=0.0013, acc="all:1000000000:1000009000", backend="cuda", threads=1)
    qe.sweep(*many, multiplier_range=(2.0**-34, 2.0**9), distribution="log-uniform", **options)


def packed() -> None:
    """The loop over clamped accumulators, which sweeps cut off instead."""
    plan = make_plan(
        ("single", "double"), multipliers=Multipliers(fixed=qe.QuantizedMultiplier(1234567891, -5)),
        accumulators="all:-3000:3000", dtype="int8",
    )  # fmt: skip
    exhaustive.tile(make_work(plan), 0, 6001, saturating=True)


def exact() -> None:
    """Staircases with and without weights; a census of like forms and of a float form, clipped and not."""
    options: dict[str, Any] = {"multiplier": np.linspace(0.001, 0.01, 67), "dtype": "int8", "backend": "cuda"}
    qe.compare_schemes("single", "double", "fp32", "fp32-zp-inside", "fp64-away", "rndnu16", **options)
    qe.count_divergence("single", "fp32", weights=(np.arange(-99, 99), np.arange(198)), **options)
    for other in ("double", "rndnu", "fp32"):
        for bounds in (None, (-(10**6), 777)):
            few = (2**30, 2**30 + 600)
            qe.census("single", other, shift=-9, multipliers=few, acc_range=bounds, backend="cuda")


def main() -> None:
    """Run all of it on the device."""
    arrays = load.array_module()
    requantize(arrays)
    quantize(arrays)
    formats(arrays)
    errors(arrays)
    sweeps()
    packed()
    exact()


if __name__ == "__main__":
    main()
