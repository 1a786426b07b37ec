"""QuantSpec: labels, grids, plain data, and what becomes of specs on a tensor."""

import copy
import itertools
import json
import pickle

import numpy as np
import pytest

import qengine as qe
from qengine.affine.spec import as_specs
from qengine.exceptions import DomainError, DTypeError, UnknownNameError

P = qe.QuantParams(0.5, 0, -8, 7)


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({}, "int8 symmetric minmax"),
        ({"bits": 4, "signed": False, "mode": "asymmetric"}, "uint4 asymmetric minmax"),
        ({"narrow": True}, "int8 narrow symmetric minmax"),
        ({"range": (-1.5, 1.5)}, "int8 symmetric [-1.5, 1.5]"),
        ({"method": "percentile", "percentile": 99.9}, "int8 symmetric percentile 99.9"),
        ({"method": "entropy"}, "int8 symmetric entropy"),
        ({"axis": 0}, "int8 symmetric minmax channel(axis 0)"),
        ({"axis": -1, "group": 32}, "int8 symmetric minmax group 32(axis -1)"),
        ({"group": 32}, "int8 symmetric minmax group 32"),
        ({"convention": "onnx"}, "int8 symmetric minmax onnx"),
        ({"convention": "ort"}, "int8 symmetric minmax onnx"),
        ({"convention": "textbook"}, "int8 symmetric minmax"),
        ({"rounding": "rne"}, "int8 symmetric minmax half-even"),
        ({"convention": "litert", "rounding": "floor"}, "int8 symmetric minmax xnnpack floor"),
        ({"params": P}, "params [-8, 7]"),
        ({"format": "mxfp8"}, "mxfp8-e4m3"),
        ({"format": "mxfp4", "group": 16, "axis": 0}, "mxfp4 group 16(axis 0)"),
        ({"format": "mxfp4", "scale_rounding": "ceil"}, "mxfp4 scale-ceil"),
        ({"format": "e4m3"}, "e4m3fn minmax"),
        ({"format": "e4m3fn", "scale": 1.0, "overflow": "nan"}, "e4m3fn scale 1 nan"),
        ({"format": "e5m2", "axis": 1, "rounding": "trunc"}, "e5m2 minmax channel(axis 1) trunc"),
        ({"bits": 2, "name": "mine"}, "mine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels(fields, label):
    spec = qe.QuantSpec(**fields)
    assert spec.label == str(spec) == label
    assert spec.to_dict()["label"] == label


def test_labels_of_a_grid_tell_its_choices_apart():
    specs = qe.QuantSpec.grid(
        bits=[2, 8], mode=["symmetric", "asymmetric"], signed=[True, False], method=["minmax", "mse"],
        rounding=[None, "floor"], convention=["calculator", "onnx"], axis=[None, 0], group=[None, 8],
    )  # fmt: skip
    assert len({spec.label for spec in specs}) == len(specs) == 2**8


def test_grid():
    specs = qe.QuantSpec.grid(bits=(4, 8), mode="asymmetric", axis=[None, 0])
    want = [(4, None), (4, 0), (8, None), (8, 0)]  # the last field varies fastest
    assert [(spec.bits, spec.axis) for spec in specs] == want
    assert {spec.mode for spec in specs} == {"asymmetric"}
    assert [spec.bits for spec in qe.QuantSpec.grid(bits=range(2, 17))] == list(range(2, 17))
    assert qe.QuantSpec.grid() == (qe.QuantSpec(),)
    assert qe.QuantSpec.grid(bits=[]) == ()
    (one,) = qe.QuantSpec.grid(range=(-1.0, 1.0))
    assert one.range == (-1.0, 1.0)
    two = qe.QuantSpec.grid(range=[(-1.0, 1.0), (0.0, 2.0)])
    assert [spec.range for spec in two] == [(-1.0, 1.0), (0.0, 2.0)]
    both = qe.QuantSpec.grid(params=[P, qe.QuantParams(1.0, 0, -8, 7)], rounding=["floor", "ceil"])
    assert [(spec.params.scale, spec.rounding) for spec in both] == [
        (0.5, "floor"),
        (0.5, "ceil"),
        (1.0, "floor"),
        (1.0, "ceil"),
    ]
    with pytest.raises((TypeError, UnknownNameError), match="bitz"):
        qe.QuantSpec.grid(bitz=[4, 8])


def test_a_grid_is_every_combination():
    specs = qe.QuantSpec.grid(bits=[3, 5], mode=["symmetric", "asymmetric"], rounding=["floor", "ceil"])
    want = itertools.product([3, 5], ["symmetric", "asymmetric"], ["floor", "ceil"])
    assert [(spec.bits, spec.mode, spec.rounding) for spec in specs] == list(want)


@pytest.mark.parametrize(
    "spec",
    [
        qe.QuantSpec(),
        qe.QuantSpec(bits=4, mode="asymmetric", axis=0, group=8, rounding="floor", seed=3),
        qe.QuantSpec(range=(-1.5, 2.5), convention="onnx", scale_dtype="float64", include_zero=True),
        qe.QuantSpec(params=qe.QuantParams([0.5, 0.25], [1, 2], -8, 7, axis=0)),
        qe.QuantSpec(format="mxfp4", scale_rounding="even", axis=1, group=16),
        qe.QuantSpec(format="e4m3fn", scale=0.5, overflow="nan", name="cast"),
    ],
    ids=str,
)
def test_to_dict_names_what_was_chosen(spec):
    data = json.loads(json.dumps(spec.to_dict(), allow_nan=False))
    assert data.pop("label") == spec.label
    if data.get("params") is not None:
        data["params"] = qe.QuantParams.from_dict(data["params"])
    if data.get("range") is not None:
        data["range"] = tuple(data["range"])
    assert qe.QuantSpec(**data) == spec


def test_a_spec_is_a_value():
    a, b = qe.QuantSpec(bits=4, params=P), qe.QuantSpec(bits=4, params=qe.QuantParams(0.5, 0, -8, 7))
    assert a == b
    assert hash(a) == hash(b)
    assert a != qe.QuantSpec(bits=4)
    with pytest.raises(AttributeError):
        a.bits = 3
    assert copy.deepcopy(a) == pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(TypeError):
        qe.QuantSpec(4)


def test_as_specs():
    spec = qe.QuantSpec(bits=4)
    assert as_specs(spec) == as_specs([spec]) == as_specs({"bits": 4}) == as_specs(iter([{"bits": 4}])) == (spec,)
    assert as_specs(P) == (qe.QuantSpec(params=P),)
    assert as_specs((spec, P, {"bits": 2})) == (spec, qe.QuantSpec(params=P), qe.QuantSpec(bits=2))
    for wrong in (3, None, "int8", [None], [["bits", 4]]):
        with pytest.raises(DTypeError, match="specs"):
            as_specs(wrong)
    with pytest.raises(DomainError, match="at least one"):
        as_specs([])
    with pytest.raises(DTypeError, match=r"specs\[1\].*width"):
        as_specs([{"bits": 4}, {"width": 4}])


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"convention": "onx"}, UnknownNameError),
        ({"rounding": "even"}, UnknownNameError),
        ({"format": "fp4x"}, UnknownNameError),
        ({"scale": 1.0}, DomainError),
        ({"scale_rounding": "floor"}, DomainError),
        ({"range": 3.0}, DomainError),
        ({"range": (1.0,)}, DomainError),
        ({"range": [0.0, 1.0]}, DomainError),
        ({"range": (None, 1.0)}, (DomainError, DTypeError)),
        ({"range": ("a", "b")}, (DomainError, DTypeError)),
        ({"params": {"scale": 1.0}}, DTypeError),
        ({"params": P, "format": "mxfp4"}, DomainError),
        ({"format": "e4m3fn", "scale": "1"}, DTypeError),
        ({"overflow": "wrap"}, (DomainError, UnknownNameError)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_specs_that_no_tensor_can_have(fields, kind):
    """At once where the field alone is wrong, or at the latest on a tensor; never an error of Python's own."""
    with pytest.raises(kind):
        qe.error_report([1.0, 2.0, -3.0], qe.QuantSpec(**fields))
    if "range" in fields:
        with pytest.raises(kind):
            _ = qe.QuantSpec(**fields).label


# --- on a tensor ----------------------------------------------------------------------------------------------


def test_a_spec_chooses_what_choose_qparams_chooses(rng):
    x = rng.normal(0.3, 1, (4, 25)).astype(np.float32)
    grid = qe.QuantSpec.grid(
        bits=[3, 8], mode=["symmetric", "asymmetric"], signed=[True, False],
        method=["minmax", "percentile", "mse"], axis=[None, 0, 1],
    )  # fmt: skip
    for row in qe.error_report(x, grid).rows:
        s = row.spec
        want = qe.choose_qparams(
            x, bits=s.bits, mode=s.mode, signed=s.signed, method=s.method, percentile=s.percentile, axis=s.axis
        )
        assert row.params == want


def test_scale_dtype_and_zero_follow_the_convention():
    """A float32 convention stores a float32 scale and a zero point that is a code."""
    x = np.array([2.0, 3.1])
    calculator, onnx, wide = qe.error_report(
        x,
        [
            {"mode": "asymmetric"},
            {"mode": "asymmetric", "convention": "onnx"},
            {"mode": "asymmetric", "convention": "onnx", "scale_dtype": "float64"},
        ],
    ).rows
    assert calculator.params == qe.choose_qparams(x, mode="asymmetric")
    assert not -128 <= calculator.params.zero_point <= 127
    assert onnx.params == qe.choose_qparams(x, mode="asymmetric", include_zero=True, scale_dtype="float32")
    assert np.float32(onnx.params.scale) == onnx.params.scale
    assert wide.params == qe.choose_qparams(x, mode="asymmetric", include_zero=True)
    assert qe.quantize(x, onnx.params, convention="onnx").tolist() == [37, 127]


def test_params_are_taken_as_they_are(rng):
    x = rng.normal(0, 1, (3, 10))
    for p in (
        P,
        qe.QuantParams([0.1, 0.2, 0.3], [1, 2, 3], -8, 7, axis=0),
        qe.QuantParams(np.ones((3, 4)), 0, -8, 7, axis=1, group=3),
    ):
        (row,) = qe.error_report(x, p).rows
        assert row.params is p
        q = qe.quantize(x, p).reshape(-1).astype(int)
        np.testing.assert_array_equal(row.code_counts, np.bincount(q + 8, minlength=16))
