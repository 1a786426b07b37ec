"""The public function: names, columns, shapes, positions, and the same bits on both back ends."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.requant import recipes
from qengine.runtimes.activations import activation_range
from qengine.runtimes.arithmetic import ORDERS, Scheme, Staged, Target, run_staged
from qengine.runtimes.columns import lay
from qengine.runtimes.fronts import FRONTS
from qengine.runtimes.profiles import PROFILES
from qengine.runtimes.row import Profile

ISSUE = {"in_scale": 0.05296124517917633, "w_scale": 0.024093778803944588, "out_scale": 0.11484327912330627}
PAIR: dict[str, Any] = {"a_scale": 0.05, "b_scale": 0.03, "out_scale": 0.06, "a_zp": 1, "b_zp": -2, "out_zp": 3}


def random_columns(row: Profile, rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Columns of n rows with parameters of their own, near the ends of what each may be."""
    low, high = (0, 255) if row.code_dtype == "uint8" else (-128, 127)
    out_low, out_high = (0, 255) if row.dtype == "uint8" else (-128, 127)
    if row.dtype == "int16":
        out_low = out_high = 0
    count = rng.integers(1, 60, n)
    ratio = np.float32(2.0 ** rng.integers(-6, 7, n)) * rng.choice([1, 1, 1.37], n).astype(np.float32)
    scale = rng.uniform(0.01, 0.1, n).astype(np.float32)
    columns: dict[str, Any] = {
        "a": rng.integers(low, high + 1, n), "b": rng.integers(low, high + 1, n),
        "input": rng.integers(low, high + 1, n), "count": count, "scale": scale, "zp": 0,
        "sum": rng.integers(low * count, high * count + 1),
        "a_scale": scale, "b_scale": (scale * ratio).astype(np.float32), "in_scale": scale,
        "w_scale": rng.uniform(0.001, 0.9, n).astype(np.float32),
        "out_scale": (scale * np.float32(2.0 ** rng.integers(-1, 4))).astype(np.float32),
        "acc": np.where(rng.random(n) < 0.1, rng.integers(-(2**31), 2**31, n), rng.integers(-5000, 5000, n)),
    }  # fmt: skip
    for name in ("a_zp", "b_zp", "in_zp"):
        columns[name] = rng.integers(low, high + 1, n)
    for name in ("out_zp", "zero_point"):
        columns[name] = rng.integers(out_low, out_high + 1, n)
    if row.front == "quantization":
        columns["input"] = (rng.integers(-300, 300, n) * columns["out_scale"] / 2).astype(np.float32)
    if row.front == "product":  # XNNPACK's range of scales
        columns["out_scale"] = (columns["a_scale"] * columns["b_scale"] * 40).astype(np.float32)
    return {name: columns[name] for name in FRONTS[row.front].columns}


ROWS = [row for row in PROFILES if row.front not in ("rows", "resizing", "sequence")]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.runtime}-{r.isa}-{r.op}-{r.path}-{r.variant}")
def test_back_ends_agree(row: Profile, rng: np.random.Generator) -> None:
    columns = random_columns(row, rng, 500)
    names = row.runtime, row.op, row.path
    same = {"isa": row.isa, "variant": row.variant, "version": row.versions[0]}
    reference = qe.emulate(*names, **same, backend="reference", **columns)
    cpu = qe.emulate(*names, **same, backend="cpu", **columns)
    assert reference.dtype == cpu.dtype == row.dtype
    assert np.array_equal(reference, cpu)


EXTREMES = np.float32([2.0**-149, 1e-38, 1e-20, 1e-9, 1e-4, 0.5, 1.0, 255.0, 1e6, 1e12, 1e30, 3.4e38])


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.runtime}-{r.isa}-{r.op}-{r.path}-{r.variant}")
def test_extreme_scales_have_a_result_or_an_error(row: Profile, rng: np.random.Generator) -> None:
    """Row by row: both back ends give the same codes within their type, or the same error; nothing warns."""
    for _ in range(16):
        columns = {name: values[:1] for name, values in random_columns(row, rng, 4).items()}
        for name in columns:
            if name.endswith("scale"):
                columns[name] = rng.choice(EXTREMES, 1)
        names = row.runtime, row.op, row.path
        same = {"isa": row.isa, "variant": row.variant, "version": row.versions[0]}
        results = []
        for backend in ("reference", "cpu"):
            try:
                results.append(qe.emulate(*names, **same, backend=backend, **columns).tolist())
            except qe.DomainError as error:
                results.append(str(error))
        assert results[0] == results[1], columns


@pytest.mark.parametrize("path", ["opt", "ref"])
@pytest.mark.parametrize("beta", [1e-30, 1.0, 3e38])
def test_softmax_of_extreme_scales(beta: float, path: str) -> None:
    q = np.array([[-128, 0, 127]], np.int8)
    shapes = set()
    for scale in EXTREMES:
        for out in EXTREMES:
            with contextlib.suppress(qe.DomainError):
                got = qe.emulate(
                    "litert", "SOFTMAX", path, input=q, in_scale=scale, beta=beta, out_scale=out, out_zp=-128
                )
                shapes.add(got.shape)
    assert shapes <= {q.shape}


@pytest.mark.parametrize(("path", "y"), [("xnnpack", -120), ("opt", -119), ("ref", -119)])
@pytest.mark.parametrize("isa", ["x86-64", "aarch64"])
@pytest.mark.parametrize("op", ["CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"])
def test_the_issue(op: str, isa: str, path: str, y: int) -> None:
    assert qe.emulate("litert", op, path, isa=isa, acc=585, zero_point=-126, **ISSUE) == y


def test_the_issue_on_the_old_wheel() -> None:
    assert qe.emulate("tflite-runtime", "CONV_2D", "xnnpack", isa="aarch64", acc=585, zero_point=-126, **ISSUE) == -119


def stages(order: str, addition: str, recipe: str, columns: dict[str, Any], dtype: str) -> Any:
    """The stages one after the other, whatever the multiplier."""
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    to = Target(dtype, low, high, "reference")
    scales = tuple(np.float32(columns[name]) for name in ("in_scale", "w_scale", "out_scale"))
    real = np.asarray(recipes.apply(recipe, *scales), np.float64)
    laid = lay({"acc": columns["acc"]}, {"multiplier": real, "zero_point": np.asarray(columns["zero_point"], np.int64)})
    return run_staged(laid.codes[0], laid.parameters[0], order, addition, laid.parameters[1], to, laid.shape)


@pytest.mark.parametrize("reach", [2**31 - 1, 3000])
@pytest.mark.parametrize("order", sorted(ORDERS))
@pytest.mark.parametrize("addition", ["int32", "int16-saturates"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_small_multipliers_run_as_schemes(
    dtype: str, addition: str, order: str, reach: int, rng: np.random.Generator
) -> None:
    """Below 1/2 nothing is shifted left: the stages equal a scheme, which is faster."""
    recipe = "float32" if order == "rndnu-neon" else "double"
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    for scale in (0.49999999, 0.4989, 0.25, 0.011, 2.0**-7, 2.0**-20):
        acc = np.concatenate([rng.integers(-reach, reach, 3000), [-(2**31), 2**31 - 1, 0, 1, -1]]).astype(np.int32)
        columns = {"acc": acc, "in_scale": scale, "w_scale": 1.0, "out_scale": 1.0}
        for zero in (low, high, 0):
            columns["zero_point"] = zero
            fast = Staged(order, recipe, addition).run(
                acc, tuple(np.float32(columns[n]) for n in ("in_scale", "w_scale", "out_scale")), np.asarray(zero),
                Target(dtype, low, high, "cpu"),
            )  # fmt: skip
            assert np.array_equal(fast, stages(order, addition, recipe, columns, dtype))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_products_of_uint8_overflow_in_16_bits(backend: str) -> None:
    """20 * (255 * 255) is 1300500: saturated to int16 it leaves the codes above, its low 16 bits are -10220."""
    same: dict[str, Any] = {
        "a": [255, 3, 0], "b": 255, "a_scale": 20.0, "b_scale": 1.0, "out_scale": 1.0, "a_zp": [0, 0, 255], "b_zp": 0,
        "backend": backend,
    }  # fmt: skip
    products = np.array([1300500, 15300, -1300500])
    for variant, kept in (("u8", np.clip(products, -32768, 32767)), ("u8-one", products)):
        for zero in (0, 200):
            expected = (kept + zero).astype(np.int16).clip(0, 255)
            got = qe.emulate("litert", "MUL", "opt", variant=variant, out_zp=zero, **same)
            assert got.tolist() == expected.tolist()
    assert qe.emulate("litert", "MUL", "ref", variant="u8", out_zp=200, **same).tolist() == [255, 255, 0]
    assert qe.get_profile("litert", "MUL", "opt", variant="u8").body.width == 8


def test_small_float_multipliers_cannot_overflow() -> None:
    """Below 1/2 the wrapping epilogue of x86-64 has nothing to wrap: the same result, by the faster path."""
    acc = np.array([-(2**31), -(2**31) + 1, -6, -5, 0, 5, 6, 2**31 - 1], np.int32)
    for scheme in ("fp32", "fp64-away"):
        for scale in (0.5, 0.49999997, 0.25, 0.1):
            scales = np.float32(scale), np.float32(1), np.float32(1)
            for zero in (-128, -1, 0, 127):
                got = Scheme(scheme, overflow="wrap").run(
                    acc, scales, np.asarray(zero), Target("int8", -128, 127, "cpu")
                )
                same = qe.requantize_scales(acc, *scales, scheme=scheme, zero_point=zero, overflow="wrap")
                assert np.array_equal(got, same)


def double(x: int, real: float) -> int:
    """TFLite's two roundings of ``x real`` in whole numbers, one after the other."""
    fraction, exponent = math.frexp(real)
    m = math.floor(Fraction(fraction) * 2**31 + Fraction(1, 2))
    if m == 2**31:
        m, exponent = 2**30, exponent + 1
    high = math.floor(Fraction((x << max(exponent, 0)) * m, 2**31) + Fraction(1, 2))
    quotient = Fraction(high, 1 << max(-exponent, 0))
    magnitude = math.floor(abs(quotient) + Fraction(1, 2))
    return magnitude if quotient >= 0 else -magnitude


def test_add_of_the_reference_in_whole_numbers(rng: np.random.Generator) -> None:
    for _ in range(20):
        sa, sb, so = (float(np.float32(v)) for v in rng.uniform(0.01, 0.1, 3))
        za, zb, zo = (int(v) for v in rng.integers(-128, 128, 3))
        a, b = rng.integers(-128, 128, (2, 30))
        for op, sign in (("ADD", 1), ("SUB", -1)):
            got = qe.emulate(
                "litert", op, "ref", a=a, b=b, a_scale=sa, b_scale=sb, out_scale=so, a_zp=za, b_zp=zb, out_zp=zo
            )
            top = 2 * max(sa, sb)
            for k in range(a.size):
                terms = [double((int(q[k]) - z) << 20, s / top) for q, z, s in ((a, za, sa), (b, zb, sb))]
                y = double(terms[0] + sign * terms[1], top / (2**20 * so)) + zo
                assert got[k] == min(max(y, -128), 127)


def test_average_in_whole_numbers() -> None:
    cases = [(5, 2, 3), (-5, 2, -3), (-6, 4, -2), (-5, 4, -1), (-7, 3, -2)]  # the catalogue's
    for total, count, y in cases:
        assert qe.emulate("litert", "AVERAGE_POOL_2D", "ref", sum=total, count=count) == y


def test_mean_of_the_catalogue() -> None:
    for codes, y in (([1, 2], 2), ([-1, -2], -1), ([1, 0, 0, 0], 1), ([3, 3, 4], 3), ([-1, -1, -1, 0, 0, 0], -1)):
        same = {"sum": sum(codes), "count": len(codes), "in_scale": 0.1, "out_scale": 0.1, "in_zp": 0, "out_zp": 0}
        assert qe.emulate("litert", "MEAN", "ref", variant="nokeep", **same) == y
    for codes, y in (([1, 2], 2), ([-1, -2], -2), ([1, 0, 0, 0], 0), ([-3, -3, -4], -3)):
        same = {"sum": sum(codes), "count": len(codes), "in_scale": 0.1, "out_scale": 0.1, "in_zp": 0, "out_zp": 0}
        assert qe.emulate("litert", "MEAN", "xnnpack", **same) == y


def test_versions_of_mean_through_xnnpack() -> None:
    same = {"sum": 1, "count": 2, "in_scale": 0.5, "out_scale": 0.5, "in_zp": 0, "out_zp": 0}
    assert qe.emulate("litert", "MEAN", "xnnpack", **same) == 0  # 1/2, a tie: to even
    assert qe.emulate("tensorflow", "MEAN", "xnnpack", version="2.20", **same) == 1  # away from zero


def test_shapes_broadcast() -> None:
    acc = np.arange(-60, 60, dtype=np.int32).reshape(2, 3, 4, 5)
    sw = np.linspace(0.01, 0.05, 5, dtype=np.float32)
    got = qe.emulate(
        "litert", "CONV_2D", "opt", isa="aarch64", acc=acc, in_scale=0.1, w_scale=sw, out_scale=0.02, zero_point=1
    )
    assert got.shape == acc.shape
    for c in range(5):
        alone = qe.emulate(
            "litert", "CONV_2D", "opt", isa="aarch64", acc=acc[..., c], in_scale=0.1, w_scale=sw[c], out_scale=0.02,
            zero_point=1,
        )  # fmt: skip
        assert np.array_equal(got[..., c], alone)
    a, b = np.arange(-8, 8).reshape(4, 4), np.arange(-2, 2).reshape(4, 1)
    assert np.array_equal(
        qe.emulate("litert", "ADD", "opt", a=a, b=b, **PAIR),
        qe.emulate("litert", "ADD", "opt", a=a, b=np.broadcast_to(b, (4, 4)), **PAIR),
    )
    empty = qe.emulate("litert", "ADD", "xnnpack", a=np.empty((0, 3), np.int8), b=np.empty((0, 3), np.int8), **PAIR)
    assert empty.shape == (0, 3)


def test_inputs_are_not_written() -> None:
    a = np.arange(-8, 8, dtype=np.int8)
    a.flags.writeable = False
    qe.emulate("litert", "MUL", "opt", a=a, b=a[::-1], positions="tensor", **PAIR)
    qe.emulate("litert", "ADD", "opt", a=a[::2], b=a[1::2], positions="tensor", **PAIR)


def test_positions() -> None:
    """The rest behind the body runs the tail's arithmetic: MUL's body wraps in int16, its tail does not."""
    a = np.full(19, 127, np.int8)
    same = {
        **PAIR,
        "a_scale": 1.0,
        "b_scale": 1.0,
        "out_scale": 0.4,
        "a_zp": 0,
        "b_zp": 0,
        "out_zp": 100,
        "b": a,
        "a": a,
    }
    body = qe.emulate("litert", "MUL", "opt", **same)
    tail = qe.emulate("litert", "MUL", "opt", variant="tail", **same)
    assert (body != tail).all()
    whole = qe.emulate("litert", "MUL", "opt", positions="tensor", **same)
    assert np.array_equal(whole, np.concatenate([body[:16], tail[16:]]))
    assert np.array_equal(qe.emulate("litert", "MUL", "ref", positions="tensor", **same), tail)
    short = {name: value[:5] if isinstance(value, np.ndarray) else value for name, value in same.items()}
    assert np.array_equal(qe.emulate("litert", "MUL", "opt", positions="tensor", **short), tail[:5])


def test_positions_of_channels() -> None:
    acc = np.full((3, 11), -6, np.int32)
    same = {"acc": acc, "in_scale": 0.25, "w_scale": 1.0, "out_scale": 1.0, "zero_point": 0}
    whole = qe.emulate("litert", "DEPTHWISE_CONV_2D", "opt", positions="tensor", **same)
    assert whole.tolist() == [[-1] * 8 + [-2] * 3] * 3  # -1.5: half up in the body, away from zero behind it


def test_code_types_choose_the_variant() -> None:
    a = np.array([250], np.uint8)
    same = {**PAIR, "b_zp": 2, "a": a, "b": a}
    assert qe.emulate("litert", "ADD", "xnnpack", **same).dtype == np.uint8
    assert qe.emulate("onnxruntime", "QLinearAdd", "cpu", **same).dtype == np.uint8
    assert qe.emulate("litert", "QUANTIZE", "opt", input=[0.25], out_scale=0.5, out_zp=0).dtype == np.int8
    codes = {"input": np.array([3], np.int8), "in_scale": 0.5, "in_zp": 0, "out_scale": 1.0, "out_zp": 0}
    assert qe.emulate("litert", "QUANTIZE", "ref", **codes) == 2


def test_labels_are_not_read() -> None:
    got = qe.emulate("litert", "CONV_2D", "ref", acc=[585], zero_point=-126, kind=[1], output=[5], **ISSUE)
    assert got.tolist() == [-119]
    product = {**PAIR, "a": [3], "b": [4], "acc": [12]}
    assert qe.emulate("litert", "MUL", "ref", **product).shape == (1,)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ("tflite", "ADD", "ref"),
            "unknown runtime 'tflite'; known: litert, onnxruntime, tensorflow, tflite-runtime, torch",
        ),
        (("litert", "GELU", "ref"), "unknown op 'GELU' of litert; known: ADD, AVERAGE_POOL_2D, CONV_2D"),
        (("litert", "ADD", "gpu"), "unknown path 'gpu' of litert ADD on x86-64; known: opt, ref, xnnpack."),
        (("torch", "quantized_linear", "cpu"), "known: fbgemm, onednn, qnnpack, x86."),
    ],
)
def test_unknown_names(names: tuple[str, str, str], text: str) -> None:
    for call in (qe.get_profile, qe.emulate):
        with pytest.raises(qe.UnknownNameError, match=text):
            call(*names)


def test_unknown_versions_variants_and_isa() -> None:
    with pytest.raises(qe.UnknownNameError, match=r"unknown version '1.0' of litert ADD on x86-64.*; known: 2.3.0"):
        qe.emulate("litert", "ADD", "ref", version="1.0")
    with pytest.raises(qe.UnknownNameError, match=r"unknown variant 'perrow' .*; known: .*perchannel"):
        qe.get_profile("litert", "CONV_2D", "ref", variant="perrow")
    with pytest.raises(qe.UnknownNameError, match="unknown isa 'riscv' of litert ADD; known: aarch64, x86-64"):
        qe.get_profile("litert", "ADD", "ref", isa="riscv")
    with pytest.raises(qe.UnknownNameError, match=r"unknown isa 'aarch64' of torch dequantize; known: x86-64"):
        qe.get_profile("torch", "dequantize", "cpu", isa="aarch64")
    with pytest.raises(qe.UnknownNameError, match="unknown variant 'perchannel'"):  # it came with 2.21
        qe.get_profile("tensorflow", "FULLY_CONNECTED", "ref", version="2.20.0", variant="perchannel")
    assert qe.get_profile("torch", "dequantize", "cpu", version="2.13.0+cpu").versions == ("2.13.0",)
    assert qe.get_profile("tensorflow", "ADD", "ref", version="2.21").versions[-1] == "2.21.0"
    with pytest.raises(qe.DTypeError, match=r"version must be a name; got 2\.21"):
        qe.get_profile("tensorflow", "ADD", "ref", version=2.21)  # type: ignore[arg-type]
    with pytest.raises(qe.DTypeError, match=r"variant must be a name; got \['u8'\]"):
        qe.emulate("litert", "ADD", "ref", variant=["u8"])  # type: ignore[arg-type]
    with pytest.raises(qe.UnknownNameError, match="unknown positions 'all'; known: body, tensor"):
        qe.emulate("litert", "ADD", "ref", positions="all", a=1, b=1, **PAIR)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"a": None}, qe.DTypeError, "a must be an array of numbers; got None"),
        ({"a": [1, 128]}, qe.DomainError, r"column 'a' must be in \[-128, 127\]; got 128 at index 1"),
        ({"a": [0.5]}, qe.DTypeError, "column 'a' must hold integers; got dtype float64"),
        ({"a_scale": 0.0}, qe.DomainError, "column 'a_scale' must be finite, > 0"),
        ({"a_scale": np.nan}, qe.DomainError, "column 'a_scale' must be finite"),
        ({"out_zp": 128}, qe.DomainError, r"column 'out_zp' must be in \[-128, 127\]; got 128"),
        ({"a_scale": 1e-9}, qe.DomainError, "a_scale / out_scale must be in .*builtin kernel runs .path 'opt'.; got"),
        ({"a": [1, 2], "b": [1, 2, 3]}, qe.DomainError, "the shapes of the columns do not broadcast: a .2,., b .3,."),
        ({"zeropoint": 1}, qe.DomainError, "ADD of litert takes the columns a, b, .*; unknown zeropoint"),
        ({"qmin": 5, "qmax": 3}, qe.DomainError, "qmin must not exceed qmax; got 5 > 3"),
        ({"qmin": -129}, qe.DomainError, r"qmin must be in \[-128, 127\]; got -129"),
        ({"qmax": 1.5}, qe.DTypeError, "qmax must be an integer; got 1.5"),
        ({"activation": "GELU"}, qe.UnknownNameError, "unknown activation 'GELU'; did you mean 'RELU'"),
        ({"activation": "RELU", "out_zp": [1, 2]}, qe.DomainError, "one output scale and one zero point; got 1 and 2"),
    ],
)
def test_bad_columns(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        qe.emulate("litert", "ADD", "xnnpack", **{"a": [1, 2], "b": [3, 4], **PAIR, **changes})


def test_missing_columns_are_named() -> None:
    with pytest.raises(qe.DomainError, match="missing out_scale, zero_point; unknown outscale"):
        qe.emulate("litert", "CONV_2D", "ref", acc=1, in_scale=1.0, w_scale=1.0, outscale=1.0)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"sum": 300, "count": 2}, "sum must be that of count codes of int8"),
        ({"sum": 3, "count": 0}, r"column 'count' must be in \[1, 16777216\]; got 0"),
        ({"sum": [1, 2], "count": [1, 2, 3]}, "do not broadcast"),
    ],
)
def test_bad_sums(columns: dict[str, Any], text: str) -> None:
    with pytest.raises(qe.DomainError, match=text):
        qe.emulate("litert", "AVERAGE_POOL_2D", "opt", **columns)


def test_other_bad_inputs() -> None:
    with pytest.raises(qe.DomainError, match=r"acc' must be in \[-2147483648, 2147483647\]; got 2147483648"):
        qe.emulate("litert", "CONV_2D", "ref", acc=2**31, in_scale=1.0, w_scale=1.0, out_scale=1.0, zero_point=0)
    with pytest.raises(qe.DomainError, match="zero_point' must be in"):
        qe.emulate("litert", "CONV_2D", "ref", acc=2, in_scale=1.0, w_scale=1.0, out_scale=1.0, zero_point=200)
    with pytest.raises(qe.DomainError, match="'input' must be finite in float32; got nan at index 1"):
        qe.emulate("litert", "QUANTIZE", "ref", input=[1.0, np.nan], out_scale=1.0, out_zp=0)
    with pytest.raises(qe.DomainError, match=r"multiplier in \* w / out must be in"):
        qe.emulate(
            "litert", "CONV_2D", "opt", isa="aarch64", acc=1, in_scale=1e9, w_scale=1e9, out_scale=1e-9, zero_point=0
        )
    with pytest.raises(qe.DomainError, match="DEQUANTIZE gives float32: it has no activation"):
        qe.emulate("litert", "DEQUANTIZE", "ref", input=[1], in_scale=1.0, in_zp=0, activation="RELU")
    with pytest.raises(qe.DomainError, match="takes no fused activation"):
        qe.emulate(
            "litert", "MEAN", "ref", sum=1, count=1, in_scale=1.0, out_scale=1.0, in_zp=0, out_zp=0, activation="RELU"
        )
    with pytest.raises(qe.DomainError, match="without the columns scale, zp"):
        qe.emulate("litert", "AVERAGE_POOL_2D", "opt", sum=1, count=1, activation="RELU")
    with pytest.raises(qe.DomainError, match=r"must be \(batch, height, width, channels\); got shape \(3,\)"):
        qe.emulate("litert", "RESIZE_BILINEAR", "ref", input=[1, 2, 3], height=2, width=2)
    with pytest.raises(qe.DomainError, match="exclude one another"):
        qe.emulate(
            "litert", "RESIZE_BILINEAR", "ref", input=np.zeros((1, 2, 2, 1), np.int8), height=2, width=2,
            align_corners=True, half_pixel_centers=True,
        )  # fmt: skip
    with pytest.raises(qe.DomainError, match=r"the reference SOFTMAX aborts where .* 512 or more"):
        qe.emulate(
            "litert", "SOFTMAX", "ref", input=np.zeros((1, 600), np.int8), in_scale=0.1, out_scale=1 / 256, out_zp=-128
        )
    lstm = {
        "input": np.zeros((1, 1, 1), np.int8), "in_scale": 0.1, "in_zp": 0, "bias": np.zeros((4, 1), int),
        "input_weights": np.zeros((4, 1, 1), int), "recurrent_weights": np.zeros((4, 1, 1), int),
        "input_weight_scale": [0.1] * 4, "recurrent_weight_scale": [0.1] * 4, "hidden_scale": 0.1, "hidden_zp": 0,
    }  # fmt: skip
    with pytest.raises(qe.DomainError, match="cell_scale must be a power of two"):
        qe.emulate("litert", "UNIDIRECTIONAL_SEQUENCE_LSTM", "ref", cell_scale=0.3, **lstm)
    wide = {**lstm, "bias": np.zeros((4, 2), int)}
    with pytest.raises(qe.DomainError, match=r"bias \(4, 1\); got \(4, 1, 1\) and \(4, 2\)"):
        qe.emulate("litert", "UNIDIRECTIONAL_SEQUENCE_LSTM", "ref", cell_scale=2.0**-12, **wide)


def test_a_device_array_is_refused() -> None:
    class OnDevice:
        __cuda_array_interface__ = {"shape": (1,), "typestr": "<i4", "data": (0, True), "version": 3}  # noqa: RUF012

    with pytest.raises(qe.BackendError, match="columns must be on the host"):
        qe.emulate("litert", "ADD", "ref", a=OnDevice(), b=1, **PAIR)


@pytest.mark.parametrize(
    ("activation", "scale", "zero", "tflite", "xnnpack"),
    [
        ("NONE", 0.1, 5, (-128, 127), (-128, 127)),
        ("RELU", 0.1, 5, (5, 127), (5, 127)),
        ("RELU6", 0.5, -3, (-3, 9), (-3, 9)),
        ("RELU6", 6 / 0.5, 0, (0, 1), (0, 0)),  # 0.5: away from zero; to even
        ("RELU6", 4.0, 1, (1, 3), (1, 2)),  # 1.5 + 1
        ("RELU_N1_TO_1", 0.4, -20, (-23, -17), (-22, -18)),
        ("RELU6", 1e-30, 0, (0, 127), (0, 127)),
        ("RELU6", 2.0**-149, 0, (0, 127), (0, 127)),
    ],
)
def test_activation_range(
    activation: str, scale: float, zero: int, tflite: tuple[int, int], xnnpack: tuple[int, int]
) -> None:
    assert activation_range(activation, scale, zero, "int8") == tflite
    assert activation_range(activation, scale, zero, "int8", xnnpack=True) == xnnpack
    got = qe.emulate("litert", "ADD", "ref", a=[-128, 127], b=0, activation=activation, **{
        **PAIR, "out_scale": scale, "a_scale": scale * 4, "b_scale": scale, "out_zp": zero, "a_zp": 0, "b_zp": 0,
    }) if scale > 1e-3 else None  # fmt: skip
    assert got is None or got.tolist() == list(tflite)
