"""Audits: attainable accumulators against loops, counts against every state, reports, what is not covered."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.exceptions import InputFileError
from qengine.models.audit import audit_row
from qengine.models.audit_result import AuditResult
from qengine.models.audit_sides import parse_sides
from qengine.models.audit_tflite import rows
from qengine.models.graph import read_graph
from qengine.models.requantizing import ACCUMULATORS, SUMS, Requantizing, integers, scales
from qengine.runtimes.activations import activation_range
from tests.cli.running import qengine

from .networks import RELU6, SAME, VALID, Op, Tensor, network, tiny, window

PATHS = ("xnnpack", "opt", "ref")
LITERT = tuple(f"litert:{path}" for path in PATHS)
DATA = Path(__file__).parents[2] / "qengine" / "demo" / "network.tflite"


def saved(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return path


def convolution(
    rng: np.random.Generator, *, op: str = "CONV_2D", channels: int = 12, act: int = 0, image: tuple[int, int] = (6, 5),
    filters: tuple[int, int] = (3, 2), depth: int = 3, **options: int,
) -> tuple[list[Tensor], list[Op]]:  # fmt: skip
    """A convolution at scales where outputs are not clamped everywhere."""
    depthwise = op == "DEPTHWISE_CONV_2D"
    depth = channels if depthwise else depth
    w_scale = rng.uniform(0.001, 0.004, channels).astype(np.float32)
    shape = (1, *filters, channels) if depthwise else (channels, *filters, depth)
    codes = rng.integers(-127, 128, shape, np.int8)
    g = window(op, 2, 1) | options
    out = [
        -(-n // s) if g["Padding"] == SAME else (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(
            image, filters, (int(g["StrideH"]), int(g["StrideW"])),
            (int(g["DilationHFactor"]), int(g["DilationWFactor"])), strict=True,
        )
    ]  # fmt: skip
    tensors = [
        Tensor((1, *image, depth), "int8", 0.03, int(rng.integers(-128, 128))),
        Tensor(shape, "int8", w_scale, 0, codes, 3 if depthwise else 0),
        Tensor((channels,), "int32", w_scale, 0, rng.integers(-3000, 3000, channels, np.int32)),
        Tensor((1, out[0], out[1], channels), "int8", 0.04, int(rng.integers(-128, 0))),
    ]
    more = {"DepthMultiplier": 1} if depthwise else {}
    table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    return tensors, [Op(op, [0, 1, 2], 3, table, 3, g | more | {"FusedActivationFunction": act})]


def extremes(tensors: list[Tensor], op: Op, low: int, high: int) -> tuple[list[int], list[int]]:
    """Least and greatest accumulator of each channel, position by position and tap by tap."""
    x, w, b, y = tensors
    assert w.data is not None
    assert b.data is not None
    zero, g = x.zero_point, op.options
    depthwise = op.name == "DEPTHWISE_CONV_2D"
    kh, kw = w.shape[1:3]
    least, greatest = [], []
    for c in range(y.shape[3]):
        found = []
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                ends = [int(b.data[c]), int(b.data[c])]
                for i in range(kh):
                    for j in range(kw):
                        place = []
                        for o, k, n, reach, s, d in (
                            (oy, i, x.shape[1], kh, g["StrideH"], g["DilationHFactor"]),
                            (ox, j, x.shape[2], kw, g["StrideW"], g["DilationWFactor"]),
                        ):
                            s, d = int(s), int(d)
                            total = max(0, (-(-n // s) - 1) * s + (reach - 1) * d + 1 - n)
                            place.append(o * s - (total // 2 if g["Padding"] == SAME else 0) + k * d)
                        if not (0 <= place[0] < x.shape[1] and 0 <= place[1] < x.shape[2]):
                            continue
                        taps = [int(w.data[0, i, j, c])] if depthwise else w.data[c, i, j].astype(int).tolist()
                        for tap in taps:
                            products = [tap * (low - zero), tap * (high - zero)]
                            ends[0] += min(products)
                            ends[1] += max(products)
                found.append(ends)
        least.append(min(e[0] for e in found))
        greatest.append(max(e[1] for e in found))
    return least, greatest


@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    "options",
    [
        {"Padding": SAME}, {"Padding": VALID}, {"Padding": SAME, "StrideH": 1, "StrideW": 1, "DilationHFactor": 3},
        {"image": (1, 2), "filters": (3, 3), "Padding": SAME},
    ],
)  # fmt: skip
def test_attainable_accumulators_are_those_of_loops(
    op: str, options: dict[str, Any], rng: np.random.Generator, tmp_path: Path
) -> None:
    tensors, ops = convolution(rng, op=op, channels=5, **options)
    graph = read_graph(saved(tmp_path, network(tensors, ops, [0], [3])))
    (row,) = rows(graph)
    low, high = extremes(tensors, ops[0], -128, 127)
    assert row.low.tolist() == low
    assert row.high.tolist() == high


def test_an_activation_before_narrows_the_accumulators(rng: np.random.Generator, tmp_path: Path) -> None:
    tensors, ops = convolution(rng, channels=4, act=RELU6)
    tensors[3].scale, tensors[3].zero_point = 0.1, -100  # RELU6 leaves [-100, -40]
    second, more = convolution(rng, channels=3, image=tensors[3].shape[1:3], depth=4)
    second[0].scale, second[0].zero_point = 0.1, -100
    more[0].inputs, more[0].output = [3, 4, 5], 6
    graph = read_graph(saved(tmp_path, network([*tensors, *second[1:]], [*ops, *more], [0], [6])))
    row = rows(graph)[1]
    low, high = extremes(second, more[0], -100, -40)
    assert (row.low.tolist(), row.high.tolist()) == (low, high)
    assert (rows(graph)[0].qmin, rows(graph)[0].qmax) == (-100, -40)


def test_codes_that_operators_between_leave(tmp_path: Path) -> None:
    """RELU6, PAD, MAX_POOL_2D and CONCATENATION hand on what they leave; MUL then has fewer pairs to try."""
    same: dict[str, Any] = {"scale": 0.1, "zero_point": -100}  # RELU6: [-100, -40]
    pads = np.array([[0, 0], [1, 1], [0, 0], [0, 0]], np.int32)
    tensors = [
        Tensor((1, 2, 4, 1), **same), Tensor((1, 2, 4, 1), **same), Tensor((4, 2), "int32", data=pads),
        Tensor((1, 4, 4, 1), **same), Tensor((1, 2, 2, 1), **same), Tensor((1, 2, 4, 1), **same),
        Tensor((1, 2, 4, 1), "int8", 0.3, 0), Tensor((1, 2, 4, 1), "int8", 0.3, 0),
    ]  # fmt: skip
    ops = [
        Op("RELU6", [0], 1), Op("PAD", [1, 2], 3),
        Op("MAX_POOL_2D", [3], 4, "Pool2DOptions", 2, window("pool", 2, 2, FilterHeight=2, FilterWidth=2)),
        Op("CONCATENATION", [4, 4], 5, "ConcatenationOptions", 2, {"Axis": 2}),
        Op("MUL", [5, 1], 6, "MulOptions"), Op("MUL", [5, 0], 7, "MulOptions"),
    ]  # fmt: skip
    layers = qe.audit(saved(tmp_path, network(tensors, ops, [0], [6, 7]))).layers
    assert [layer.row.plain for layer in layers] == [True] * 4 + [False] * 2
    assert [layer.states for layer in layers[4:]] == [61 * 61, 61 * 256]


#: Operator, variant, type, activation; then the ratio of scales and how far accumulators reach.
OPERATORS = [
    ("CONV_2D", "perchannel", "int8", "NONE", 0.01, 20000),
    ("CONV_2D", "perchannel", "int8", "RELU6", 1.7, 300),
    ("DEPTHWISE_CONV_2D", "perchannel", "int8", "NONE", 0.003, 40000),
    ("FULLY_CONNECTED", "pertensor", "int8", "RELU", 0.011111111, 20000),
    ("CONV_2D", "u8", "uint8", "NONE", 0.007, 20000),
    ("CONV_2D", "i16x8_biasint32", "int16", "NONE", 0.4, 20000),
    ("CONV_2D", "i16x8_biasint64", "int16", "NONE", 0.4, 20000),
]  # fmt: skip


@pytest.mark.parametrize(("op", "variant", "dtype", "activation", "ratio", "reach"), OPERATORS)
def test_counts_are_those_of_every_accumulator(
    op: str, variant: str, dtype: str, activation: str, ratio: float, reach: int, rng: np.random.Generator
) -> None:
    """Staircases and bisection against `qe.emulate` and `qe.requantize_scales` on each accumulator."""
    info = np.iinfo(dtype)
    channels = 1 if variant in ("pertensor", "u8") else 11
    w_scale = (rng.uniform(0.8, 1.2, channels) * ratio).astype(np.float32)
    low = rng.integers(-reach, 0, channels)
    high = low + rng.integers(1, reach, channels)
    zero = 0 if dtype == "int16" else int(rng.integers(info.min, info.max))
    out = np.float32(0.07)
    clamp = (int(info.min), int(info.max))
    if activation != "NONE":
        clamp = activation_range(activation, out, zero, dtype)
    row = Requantizing(
        index=0, op=op, name="y", states=ACCUMULATORS, code_dtype=dtype, dtype=dtype, variant=variant,
        granularity="per-channel", activation=activation, qmin=clamp[0], qmax=clamp[1], in_scale=scales(out),
        w_scale=w_scale, out_scale=scales(out), out_zp=integers(zero), low=low, high=high,
    )  # fmt: skip
    fixed = "double" if variant != "u8" else "float-product"
    names = (
        (*LITERT, "litert:opt@arm64", "single", "fp32") if "16" not in variant else (*LITERT, "litert:xnnpack@arm64")
    )
    if op == "DEPTHWISE_CONV_2D":
        names = tuple(name for name in names if "arm64" not in name)  # there the kernel depends on the geometry
    layer = audit_row(
        Requantizing(**{f: getattr(row, f) for f in row.__slots__} | {
            "facts": {"pixels": 9, "batch": 1, "inputs": 4},
        }), parse_sides(names, "litert"),
    )  # fmt: skip
    outputs: dict[str, list[npt.NDArray[Any]]] = {}
    for name in names:
        runtime, _, rest = name.partition(":")
        path, _, isa = rest.partition("@")
        outputs[name] = []
        for c in range(channels):
            acc = np.arange(low[c], high[c] + 1)
            stored = out, w_scale[c], out
            if not path:
                found = qe.requantize_scales(
                    acc, *stored, scheme=name, recipe=None if name == "fp32" else fixed, zero_point=zero, dtype=dtype,
                    qmin=clamp[0], qmax=clamp[1],
                )  # fmt: skip
            else:
                tail = op == "DEPTHWISE_CONV_2D" and path == "opt" and c >= 8
                found = qe.emulate(
                    runtime, op, path, isa=isa or "x86-64", variant="perchannel-tail" if tail else variant,
                    activation=activation, acc=acc, in_scale=stored[0], w_scale=stored[1], out_scale=stored[2],
                    zero_point=zero,
                )  # fmt: skip
            outputs[name].append(found.astype(np.int64))
    for pair in layer.pairs:
        a, b = (outputs[name] for name in pair.sides)
        apart = [y - x for x, y in zip(a, b, strict=True)]
        assert not pair.reason, pair.reason
        assert pair.by_channel.tolist() == [np.count_nonzero(d) for d in apart]
        assert pair.states == sum(d.size for d in apart)
        assert (pair.least, pair.greatest) == (min(0, *map(np.min, apart)), max(0, *map(np.max, apart)))
        if pair.witness is not None:
            c, (acc,) = pair.witness.channel, pair.witness.state
            at = acc - int(low[c])
            assert at == np.flatnonzero(apart[c])[0]
            assert pair.witness.outputs == (a[c][at], b[c][at])
            assert str(pair.sides[1]) in pair.witness.why
    assert any(pair.divergent for pair in layer.pairs) or ratio > 0.1


def test_an_overflow_is_tried_or_undecided() -> None:
    """Beyond the range where nothing overflows, accumulators are tried one by one; too many are undecided."""
    same: dict[str, Any] = {
        "index": 0, "op": "CONV_2D", "name": "y", "states": ACCUMULATORS, "code_dtype": "int8", "dtype": "int8",
        "granularity": "per-tensor", "variant": "pertensor", "qmin": -128, "qmax": 127, "in_scale": scales(1),
        "w_scale": scales(40), "out_scale": scales(1),
    }  # fmt: skip
    sides = parse_sides(["litert:opt", "litert:ref"], "litert")
    low, high = -(2**26) - 1000, -(2**26) + 1000  # x << 6 wraps below -2**25
    row = Requantizing(**same, low=integers(low), high=integers(high))
    (pair,) = audit_row(row, sides).pairs
    acc = np.arange(low, high + 1)
    given = {"acc": acc, "in_scale": 1, "w_scale": 40, "out_scale": 1, "zero_point": 0}
    a, b = (qe.emulate("litert", "CONV_2D", path, variant="pertensor", **given) for path in ("opt", "ref"))
    assert (pair.divergent, pair.undecided) == (np.count_nonzero(a != b), 0)
    row = Requantizing(**same, low=integers(-(2**31)), high=integers(2**31 - 1))
    (pair,) = audit_row(row, sides).pairs
    assert pair.undecided > 2**31
    assert "undecided" in pair.verdict
    assert pair.status in ("open", "different")


def test_pairs_sums_and_codes_are_tried(tmp_path: Path, rng: np.random.Generator) -> None:
    """ADD with a tail, MEAN, QUANTIZE: against `qe.emulate` on every state."""
    tensors = [
        Tensor((1, 1, 3, 7), "int8", 0.11, 3), Tensor((1, 1, 3, 7), "int8", 0.013, -7),
        Tensor((1, 1, 3, 7), "int8", 0.07, -5), Tensor((2,), "int32", data=np.array([1, 2], np.int32)),
        Tensor((1, 1, 1, 7), "int8", 0.05, 11), Tensor((1, 1, 1, 7), "int8", 0.09, -3),
    ]  # fmt: skip
    ops = [
        Op("ADD", [0, 1], 2, "AddOptions"), Op("MEAN", [2, 3], 4, "ReducerOptions", 2, {"KeepDims": True}),
        Op("QUANTIZE", [4], 5),
    ]  # fmt: skip
    result = qe.audit(saved(tmp_path, network(tensors, ops, [0, 1], [5])))
    assert [layer.states for layer in result.layers] == [65536, 3 * 255 + 1, 256]
    codes = np.arange(-128, 128)
    a, b = np.repeat(codes, 256), np.tile(codes, 256)
    scale = {"a_scale": 0.11, "b_scale": 0.013, "out_scale": 0.07, "a_zp": 3, "b_zp": -7, "out_zp": -5}
    added = {path: qe.emulate("litert", "ADD", path, a=a, b=b, **scale).astype(int) for path in PATHS}
    total = np.arange(-384, 382)
    given = {"sum": total, "count": 3, "in_scale": 0.07, "out_scale": 0.05, "in_zp": -5, "out_zp": 11}
    # Seven channels are all rest: the vector body of the optimized kernel takes sixteen.
    means = {
        path: qe.emulate("litert", "MEAN", path, variant="keepdims-tail" if path == "opt" else "keepdims", **given)
        for path in PATHS
    }
    given = {"input": codes, "in_scale": 0.05, "in_zp": 11, "out_scale": 0.09, "out_zp": -3}
    turned = {
        path: qe.emulate("litert", "QUANTIZE", path, variant="i8i8-tail" if path == "opt" else "i8i8", **given)
        for path in PATHS
    }
    for layer, outputs in zip(result.layers, (added, means, turned), strict=True):
        for pair, (first, second) in zip(layer.pairs, result.couples, strict=True):
            y, z = (outputs[name.partition(":")[2]].astype(int) for name in (first, second))
            if layer.row.op == "ADD" and "opt" in first + second:
                # 21 elements: sixteen of the body, five of the rest, which is the reference's.
                assert pair.regions["body"] == np.count_nonzero(y != z)
                rest = outputs["ref"]
                other = rest if "ref" in first + second else outputs["xnnpack"]
                assert pair.regions["rest"] == np.count_nonzero(rest != other)
                assert pair.divergent >= max(pair.regions.values())
            else:
                assert pair.divergent == np.count_nonzero(y != z)
            if pair.witness is not None and not pair.witness.region:
                k = int((y != z).argmax())
                assert pair.witness.outputs == (y[k], z[k])


@pytest.mark.parametrize(("b", "variant"), [((1, 3, 21), "u8"), ((1, 1, 1), "u8-one")])
def test_rows_of_products_are_counted(b: tuple[int, ...], variant: str, tmp_path: Path) -> None:
    """MUL of shapes that differ: each row has a body of eight uint8 codes, and what follows it is the reference's."""
    scales = {"a_scale": 1.9, "b_scale": 0.9, "out_scale": 0.5}
    zeros = {"a_zp": 239, "b_zp": 128, "out_zp": 128}
    shapes = (1, 3, 21) if variant == "u8-one" else (2, 3, 21), b, (1, 3, 21) if variant == "u8-one" else (2, 3, 21)
    tensors = [
        Tensor(shape, "uint8", scale, zero)
        for shape, scale, zero in zip(shapes, scales.values(), zeros.values(), strict=True)
    ]
    (layer,) = qe.audit(saved(tmp_path, network(tensors, [Op("MUL", [0, 1], 2, "MulOptions")], [0, 1], [2]))).layers
    codes = np.arange(256).astype(np.uint8)
    given: dict[str, Any] = {"a": codes[:, None], "b": codes, **scales, **zeros}
    body = qe.emulate("litert", "MUL", "opt", variant=variant, **given)
    other = qe.emulate("litert", "MUL", "ref", variant="u8", **given)
    pair = layer.pairs[2]
    assert pair.sides == ("litert:opt", "litert:ref")
    assert pair.regions == {"body": np.count_nonzero(body != other), "rest": 0}
    assert pair.divergent == pair.regions["body"] > 0


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_real_numbers_are_counted(dtype: str, tmp_path: Path) -> None:
    """QUANTIZE of float32: against `qe.emulate` on every number about some ties, and on all of a coarse grid."""
    scale, zero = np.float32(0.0371), 5
    tensors = [Tensor((1, 13), "float32"), Tensor((1, 13), dtype, float(scale), zero)]
    (layer,) = qe.audit(saved(tmp_path, network(tensors, [Op("QUANTIZE", [0], 1)], [0], [1]))).layers
    variants = {"xnnpack": "", "opt": "", "opt-tail": "-tail", "ref": ""}

    def outputs(x: npt.NDArray[np.float32], of: str) -> npt.NDArray[np.int64]:
        variant = f"f32{dtype[0]}8{variants[of]}"
        path = of.partition("-")[0]
        y = qe.emulate("litert", "QUANTIZE", path, variant=variant, input=x, out_scale=scale, out_zp=zero)
        return y.astype(np.int64)

    # Differences lie within a few hundred units in the last place of the 256 ties; elsewhere all agree.
    ties = ((np.arange(-140, 260) - 0.5) * np.float64(scale)).astype(np.float32)
    places = (ties.view(np.int32).astype(np.int64)[:, None] + np.arange(-400, 401)).ravel()
    near = np.unique(places[places % (1 << 32) < 0x7F000000 + (1 << 31)]).astype(np.int32).view(np.float32)
    grid = np.linspace(-30000 * scale, 30000 * scale, 100001).astype(np.float32)
    y = {of: outputs(near, of) for of in variants}
    assert all(np.array_equal(outputs(grid, "ref"), outputs(grid, of)) for of in variants)
    xnnpack_opt, xnnpack_ref, opt_ref = layer.pairs
    assert layer.states == 2 * int(np.float32(30000 * scale).view(np.int32)) + 1
    tail, ref = y["opt-tail"], y["ref"]
    assert xnnpack_ref.divergent == np.count_nonzero(y["xnnpack"] != ref) > 0
    assert xnnpack_opt.regions == {"body": 0, "rest": np.count_nonzero(y["xnnpack"] != tail)}
    assert opt_ref.regions == {"body": xnnpack_ref.divergent, "rest": np.count_nonzero(tail != ref)}
    assert opt_ref.divergent == np.count_nonzero((y["opt"] != ref) | (tail != ref))
    assert xnnpack_ref.witness is not None
    (x,) = xnnpack_ref.witness.state
    assert tuple(int(outputs(np.float32([x]), of)[0]) for of in ("xnnpack", "ref")) == xnnpack_ref.witness.outputs


def test_a_sum_with_itself_and_with_a_constant_has_fewer_states(tmp_path: Path) -> None:
    constant = np.array([[5, -3, 5, 9]], np.int8)
    tensors = [
        Tensor((1, 4), "int8", 0.1, 0), Tensor((1, 4), "int8", 0.2, 0, constant), Tensor((1, 4), "int8", 0.3, 1),
        Tensor((1, 4), "int8", 0.15, 2),
    ]  # fmt: skip
    ops = [Op("ADD", [0, 1], 2, "AddOptions"), Op("MUL", [0, 0], 3, "MulOptions")]
    result = qe.audit(saved(tmp_path, network(tensors, ops, [0], [2, 3])))
    assert [layer.states for layer in result.layers] == [256 * 3, 256]
    witness = next((p.witness for p in result.layers[1].pairs if p.witness), None)
    assert witness is None or witness.state[0] == witness.state[1]


def test_a_pool_has_states_for_each_number_of_codes(tmp_path: Path) -> None:
    tensors = [Tensor((1, 5, 5, 2), "uint8", 0.1, 7), Tensor((1, 3, 3, 2), "uint8", 0.1, 7)]
    options = window("pool", 2, 2, FilterHeight=3, FilterWidth=3)
    ops = [Op("AVERAGE_POOL_2D", [0], 1, "Pool2DOptions", 2, options)]
    result = qe.audit(saved(tmp_path, network(tensors, ops, [0], [1])))
    (layer,) = result.layers
    assert layer.row.states == SUMS
    assert layer.row.count.tolist() == [4, 6, 9]
    assert [pair.verdict for pair in layer.pairs] == ["proven equal"] * 3


def test_what_is_not_covered_is_listed(tmp_path: Path) -> None:
    tensors = [
        Tensor((1, 4), "int8", 0.1, 0), Tensor((1, 4), "float32"), Tensor((1, 4), "float32"),
        Tensor((1, 4), "int8", 0.2, 0), Tensor((1, 4), "int8", 0.2, 0), Tensor((1, 4), "int8", 1 / 256, -128),
        Tensor((1, 4), "int8", 0.3, 0),
    ]  # fmt: skip
    ops = [
        Op("DEQUANTIZE", [0], 1), Op("EXP", [1], 2, "ExpOptions"), Op("QUANTIZE", [2], 3),
        Op("HARD_SWISH", [3], 4), Op("SOFTMAX", [4], 5, "SoftmaxOptions"), Op("WHILE", [5], 6),
    ]  # fmt: skip
    result = qe.audit(saved(tmp_path, network(tensors, ops, [0], [6])), ["single", "litert:ref"])
    assert [layer.row.plain for layer in result.layers] == [True, True, False, False, False, False]
    reasons = [layer.row.reason for layer in result.requantizing]
    assert reasons[0] == ""
    assert (
        result.requantizing[0].pairs[0].reason.startswith("single: the scheme single says nothing of QUANTIZE of real")
    )
    assert reasons[1:] == ["no profile", "a code depends on its whole row", "control flow: it runs other subgraphs"]
    (total,) = result.totals
    assert (total.unknown, total.equal, total.different) == (4, 0, 0)
    assert "not covered" in str(result)


def test_a_side_without_a_profile_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny())
    result = qe.audit(path, ["litert:xnnpack", "onnxruntime:cpu", "torch:fbgemm", "single"])
    mean = next(layer for layer in result.layers if layer.row.op == "MEAN")
    assert mean.pairs[1].reason.startswith("torch:fbgemm: ")
    assert not mean.pairs[2].reason  # against single
    convolutions = [layer for layer in result.layers if "CONV" in layer.row.op]
    assert all(layer.pairs[0].verdict == "proven equal" for layer in convolutions)  # both are fp32
    text = str(result)
    assert "litert:xnnpack / onnxruntime:cpu" in text


def test_tails_are_compared_where_the_shape_has_them(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors, ops = convolution(rng, op="DEPTHWISE_CONV_2D", channels=11)
    (layer,) = qe.audit(saved(tmp_path, network(tensors, ops, [0], [3]))).layers
    opt_ref = layer.pairs[2]
    assert set(opt_ref.regions) == {"body", "rest"}
    assert opt_ref.regions["rest"] == 0
    assert not opt_ref.by_channel[8:].any()
    assert opt_ref.regions["body"] == opt_ref.divergent > 0


def test_command(tmp_path: Path) -> None:
    target = tmp_path / "channels.csv"
    ran = qengine("audit", DATA, "--csv", target)
    assert ran.code == 0
    assert "proven equal" in ran.out
    result: AuditResult = qe.audit(DATA)
    ran = qengine("audit", DATA, "--json")
    data = json.loads(ran.out)
    assert data["totals"] == [total.to_dict() for total in result.totals]
    lines = list(csv.DictReader(io.StringIO(target.read_text())))
    assert len(lines) == sum(layer.row.channels for layer in result.layers if layer.covered)
    by_pair = {
        name: sum(int(line[f"divergent {name}"]) for line in lines)
        for name in ("litert:xnnpack / litert:opt", "litert:opt / litert:ref")
    }
    assert by_pair["litert:xnnpack / litert:opt"] == result.totals[0].divergent
    assert by_pair["litert:opt / litert:ref"] == result.totals[2].divergent
    first = lines[0]
    stored = [np.float32(first[name]) for name in ("in_scale", "w_scale", "out_scale")]
    multiplier = qe.quantize_multiplier(float(stored[0]) * float(stored[1]) / float(stored[2]))
    assert (int(first["multiplier litert:ref"]), int(first["shift litert:ref"])) == (multiplier.value, multiplier.shift)
    assert abs(float(first["ppm litert:ref"])) < 1e-3
    ppm = [abs(float(line["ppm litert:xnnpack"] or 0)) for line in lines]
    assert 0 < max(ppm) < 0.2
    short = json.loads(qengine("audit", DATA, "--json", "--summary").out)
    assert "by_channel" not in short["operators"][0]
    assert "--summary shortens --json" in qengine("audit", DATA, "--summary").err
    assert data["operators"][0]["by_channel"]["divergent litert:opt / litert:ref"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--against", "litert:fast"], "unknown path 'fast'"), (["--against", "nobody:cpu"], "unknown runtime"),
        (["--against", "litert:ref@mips"], "unknown isa"), (["--against", "litert:ref/9.9"], "unknown version"),
        (["--against", "litert:xnnpack"], "must differ"), (["--against", "sngle"], "did you mean"),
        (["--against", "litert:"], "runtime:path"), (["--report", "x.txt"], ".html or .pdf"),
        (["--csv", "/no/such/folder/x.csv"], "no folder"), (["--schemes"], "requires an argument"),
        (["--schemes", "--json"], "requires an argument"), (["--schemes", "single", "sngle"], "did you mean"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: list[str], text: str) -> None:
    ran = qengine("audit", DATA, *arguments)
    assert ran.code == 2
    assert text in ran.err
    assert ran.out == ""


def test_schemes_takes_names_up_to_an_option_or_the_model() -> None:
    one = qengine("audit", DATA, "--against", "single", "--against", "double", "--json", "--summary")
    assert one.code == 0, one.err
    assert json.loads(one.out)["sides"] == ["single", "double"]

    def timeless(text: str) -> str:
        return re.sub(r'"seconds": [^,\n]*', "", text)

    for arguments in ([DATA, "--schemes", "single", "double"], ["--schemes", "single", "double", DATA]):
        assert timeless(qengine("audit", *arguments, "--json", "--summary").out) == timeless(one.out)
    assert [str(side) for side in qe.audit(DATA, schemes=["single", "double"]).sides] == ["single", "double"]


def test_damaged_files(tmp_path: Path, rng: np.random.Generator) -> None:
    """A result that can be written in every form, or an error of this package."""
    whole = DATA.read_bytes()
    outcomes = set()
    for _ in range(60):
        content = bytearray(whole)
        for at in rng.integers(8, len(content), int(rng.integers(1, 9))).tolist():
            content[at] = int(rng.integers(256))
        if rng.random() < 0.2:
            content = content[: int(rng.integers(1, len(content)))]
        try:
            result = qe.audit(saved(tmp_path, bytes(content)), ["litert:xnnpack", "litert:ref"])
        except InputFileError:
            outcomes.add("error")
        else:
            json.loads(result.to_json())
            assert str(result)
            outcomes.add("result")
    assert outcomes == {"error", "result"}
    with pytest.raises(InputFileError, match="cannot be read"):
        qe.audit(tmp_path / "missing.tflite")
    with pytest.raises(InputFileError, match="TFL3"):
        qe.audit(saved(tmp_path, b"hello, this is no model"))


@pytest.mark.parametrize(("multiplier", "op"), [(1, "DEPTHWISE_CONV_2D"), (3, "CONV_2D")])
def test_xnnpack_runs_several_outputs_a_channel_as_a_grouped_convolution(
    multiplier: int, op: str, tmp_path: Path
) -> None:
    """The two differ below -2**31: there one wraps where the zero point is added, the other saturates."""
    channels = 5 * multiplier
    tensors = [
        Tensor((1, 3, 4, 5), "int8", 4.0, -128),
        Tensor((1, 2, 2, channels), "int8", np.full(channels, 0.2, "f4"), 0, np.ones((1, 2, 2, channels), np.int8), 3),
        Tensor((channels,), "int32", np.full(channels, 0.8, np.float32), 0, np.full(channels, -(10**8), np.int32)),
        Tensor((1, 3, 4, channels), "int8", 2.0**-7, -7),
    ]  # fmt: skip
    options = window("dw", 1, 1, DepthMultiplier=multiplier)
    path = tmp_path / "depthwise.tflite"
    path.write_bytes(
        network(tensors, [Op("DEPTHWISE_CONV_2D", [0, 1, 2], 3, "DepthwiseConv2DOptions", 3, options)], [0], [3])
    )
    (row,) = rows(read_graph(path))
    (xnnpack, reference) = parse_sides(["litert:xnnpack", "litert:ref"], "litert")
    assert xnnpack.regions(row)[0].kernel.profile.op == op
    assert reference.regions(row)[0].kernel.profile.op == "DEPTHWISE_CONV_2D"
    (pair,) = qe.audit(path, ["litert:xnnpack", "litert:ref"]).layers[0].pairs
    columns: dict[str, Any] = {"in_scale": 4.0, "w_scale": np.float32(0.2), "out_scale": 2.0**-7, "zero_point": -7}
    first, second = (
        int(qe.emulate("litert", name, way, acc=-(10**8), **columns))
        for name, way in ((op, "xnnpack"), ("DEPTHWISE_CONV_2D", "ref"))
    )
    assert (pair.status == "equal") == (first == second) == (multiplier == 3)
