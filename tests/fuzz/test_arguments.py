"""Every public function with arguments of any kind: an answer or an error of this package, never anything else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import qengine as qe
import qengine.exceptions
from qengine.exceptions import QEngineError
from tests import oracle
from tests.fuzz.values import QUARTER, anything

ACC = np.array([2, -2, 1, -3, 6, 585], np.int32)
X = np.array([0.5, -0.5, 1.5, 2.5, -3.0, 100.0], np.float32)
PARAMS = qe.QuantParams(0.1, 3, -128, 127)
CHANNELS = qe.QuantParams([0.1, 0.2, 0.3], [0, 1, 2], -128, 127, axis=0)
#: Numba compiles what is asked of "cpu": the reference shows the same checks at once.
HERE = {"backend": "reference"}


def _sweep(schemes: Any = ("single", "double"), **options: Any) -> Any:
    pairs = options.pop("pairs", None)
    return qe.sweep(*_listed(schemes), pairs=min(pairs, 1000) if type(pairs) is int else pairs, **options)


def _compare(schemes: Any = ("single", "double"), **options: Any) -> Any:
    return qe.compare_schemes(*_listed(schemes), **options)


def _listed(schemes: Any) -> Any:
    return schemes if isinstance(schemes, (tuple, list)) else (schemes, "double")


def _entered(name: Any) -> None:
    with qe.use_backend(name):
        pass


def _with_model(call: Callable[..., Any]) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        pytest.importorskip("tflite", reason="needs the extra: pip install '.[models]'")
        return call(**given)

    return run


NETWORK = Path(qe.__file__).parent / "demo" / "network.tflite"
NAMED = {"version": None, "isa": "x86-64", "variant": None}
#: A row of each kind of columns -> arguments of `emulate` that are right.
EMULATED: dict[str, dict[str, Any]] = {
    "emulate": {
        "op": "CONV_2D", "path": "opt", "acc": ACC, "in_scale": 0.05, "w_scale": 0.02, "out_scale": 0.1,
        "zero_point": -3,
    },
    "emulate.chain": {
        "op": "CONV_2D", "path": "xnnpack", "acc": ACC, "in_scale": 0.05, "w_scale": 0.02, "out_scale": 0.1,
        "zero_point": -3,
    },
    "emulate.addition": {
        "op": "ADD", "path": "xnnpack", "a": [1, -1, -3], "b": 0, "a_scale": 0.5, "b_scale": 0.5, "out_scale": 1.0,
        "a_zp": 0, "b_zp": 0, "out_zp": 0,
    },
    "emulate.product": {
        "op": "MUL", "path": "ref", "a": [1, -1, -3], "b": 2, "a_scale": 0.5, "b_scale": 0.5, "out_scale": 1.0,
        "a_zp": 0, "b_zp": 0, "out_zp": 0,
    },
    "emulate.mean": {
        "op": "MEAN", "path": "opt", "sum": [7, -7, 90], "count": 9, "in_scale": 0.5, "out_scale": 0.25, "in_zp": 1,
        "out_zp": -2,
    },
    "emulate.pool": {"op": "AVERAGE_POOL_2D", "path": "xnnpack", "sum": [7, -7, 90], "count": 9, "scale": 0.1, "zp": 3},
    "emulate.rescaling": {
        "op": "QUANTIZE", "path": "opt", "input": [1, -1, 5], "in_scale": 0.5, "in_zp": 0, "out_scale": 0.2,
        "out_zp": 3,
    },
    "emulate.quantization": {"op": "QUANTIZE", "path": "xnnpack", "input": X, "out_scale": 0.2, "out_zp": 3},
    "emulate.dequantization": {"op": "DEQUANTIZE", "path": "ref", "input": [1, -1, 5], "in_scale": 0.5, "in_zp": 1},
    "emulate.lookup": {
        "op": "LOGISTIC", "path": "ref", "input": [1, -1, 5], "in_scale": 0.05, "in_zp": 1, "out_scale": 1 / 256,
        "out_zp": -128,
    },
    "emulate.rows": {
        "op": "SOFTMAX", "path": "ref", "input": [1, -1, 5], "in_scale": 0.05, "out_scale": 1 / 256, "out_zp": -128,
        "beta": 1.0, "in_zp": 4,
    },
    "emulate.resizing": {
        "op": "RESIZE_BILINEAR", "path": "opt", "input": np.arange(8, dtype=np.int8).reshape(1, 2, 2, 2), "height": 3,
        "width": 5, "align_corners": False, "half_pixel_centers": True,
    },
    "emulate.sequence": {
        "op": "UNIDIRECTIONAL_SEQUENCE_LSTM", "path": "ref", "input": np.ones((2, 1, 3), np.int8), "in_scale": 0.05,
        "in_zp": 1, "input_weights": np.ones((4, 2, 3), np.int8), "input_weight_scale": [0.01] * 4,
        "recurrent_weights": np.ones((4, 2, 2), np.int8), "recurrent_weight_scale": [0.01] * 4,
        "bias": np.ones((4, 2), np.int32), "cell_scale": 2.0**-11, "hidden_scale": 1 / 128, "hidden_zp": 0,
        "cell_clip": 0,
    },
}  # fmt: skip

#: Public name -> (callable, arguments that are right).
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "QuantizedMultiplier": (qe.QuantizedMultiplier, {"value": 1 << 30, "shift": -1}),
    "QuantizedMultiplier.error_ppm": (QUARTER.error_ppm, {"real": 0.25}),
    "quantize_multiplier": (qe.quantize_multiplier, {"real": 0.25, "single_rounding": False}),
    "quantize_multiplier_smaller_than_one": (qe.quantize_multiplier_smaller_than_one, {"real": 0.3}),
    "quantize_multiplier_greater_than_one": (qe.quantize_multiplier_greater_than_one, {"real": 1.3}),
    "requantize": (
        qe.requantize,
        HERE | {"acc": ACC, "multiplier": QUARTER, "scheme": "single", "zero_point": 0, "dtype": "int8", "qmin": None,
                "qmax": None, "axis": None, "out": None, "overflow": "error"},
    ),
    "requantize_scales": (
        qe.requantize_scales,
        HERE | {"acc": ACC, "input_scale": 0.05, "weight_scale": 0.02, "output_scale": 0.1, "scheme": "fp32",
                "zero_point": 0, "dtype": "int8", "recipe": None, "axis": None},
    ),
    "get_scheme": (qe.get_scheme, {"name": "single"}),
    "use_backend": (_entered, {"name": "reference"}),
    "explain": (
        qe.explain,
        {"acc": 585, "multiplier": 0.25, "scales": None, "zero_point": 0, "dtype": "int8", "schemes": None},
    ),
    "sweep": (
        _sweep,
        HERE | {"schemes": ("single", "double"), "pairs": 100, "seed": 0, "multiplier": None, "scales": None,
                "multiplier_range": (0.01, 0.9), "distribution": "uniform", "acc": None, "zero_point": None,
                "dtype": "int8", "qmin": None, "qmax": None, "witnesses": 8, "threads": 1, "tile_pairs": 64,
                "progress": None},
    ),
    "census": (
        qe.census,
        HERE | {"a": "single", "b": "double", "shift": -1, "shifts": None, "multipliers": (1 << 30, (1 << 30) + 5),
                "acc_range": (-50, 50), "dtype": "int8", "zero_point": 0, "qmin": None, "qmax": None,
                "method": "auto", "resume": False},
    ),
    "compare_schemes": (
        _compare,
        HERE | {"schemes": ("single", "double"), "multiplier": 0.25, "scales": None, "acc_range": (-50, 50),
                "dtype": "int8", "zero_point": 0, "qmin": None, "qmax": None, "weights": None, "engine": None,
                "progress": None},
    ),
    "count_divergence": (
        qe.count_divergence,
        HERE | {"a": "single", "b": "double", "multiplier": 0.25, "scales": None, "acc_range": (-50, 50),
                "dtype": "int8", "zero_point": 0, "weights": None, "engine": None, "progress": None},
    ),
    "divergent_inputs": (
        qe.divergent_inputs,
        {"a": "single", "b": "double", "multiplier": 0.25, "scales": None, "channel": None, "acc_range": (-50, 50),
         "dtype": "int8", "zero_point": 0, "engine": None},
    ),
    "probes": (
        qe.probes,
        {"schemes": ["single", "double"], "multiplier": 0.25, "scales": None, "zero_point": 0, "dtype": "int8",
         "qmin": None, "qmax": None, "acc_range": (-50, 50)},
    ),
    "identify": (
        qe.identify,
        HERE | {"acc": [2, -2, 1], "output": [1, 0, 0], "multiplier": 0.25, "scales": None, "zero_point": 0,
                "dtype": "int8", "qmin": None, "qmax": None, "schemes": ["single", "double"], "recipes": None},
    ),
    "QuantParams": (
        qe.QuantParams,
        {"scale": 0.1, "zero_point": 0, "qmin": -128, "qmax": 127, "axis": None, "group": None},
    ),
    "QuantParams.from_dict": (qe.QuantParams.from_dict, {"fields": PARAMS.to_dict()}),
    "QuantParams.expand": (CHANNELS.expand, {"shape": (3, 2)}),
    "QuantSpec": (
        qe.QuantSpec,
        {"bits": 8, "mode": "symmetric", "signed": True, "narrow": False, "rounding": None, "method": "minmax",
         "convention": "calculator", "range": None, "percentile": 99.9, "axis": None, "group": None,
         "include_zero": False, "format": None, "scale": None, "scale_rounding": None, "overflow": "saturate",
         "params": None, "name": None},
    ),
    "Histogram": (qe.Histogram, {"axis": None, "mantissa_bits": None}),
    "Histogram.update": (lambda **given: qe.Histogram().update(**given), HERE | {"batch": X}),
    "Histogram.weighted": (qe.Histogram().update(X, **HERE).weighted, {"channel": 0}),
    "Histogram.from_dict": (
        lambda **changed: qe.Histogram.from_dict(qe.Histogram().update(X, **HERE).to_dict() | changed),
        {"min": [None], "max": [None], "keys": [[]], "counts": [[]], "nonfinite": [0], "axis": None},
    ),
    "choose_qparams": (
        qe.choose_qparams,
        HERE | {"x": X, "bits": 8, "mode": "symmetric", "signed": True, "narrow": False, "method": "minmax",
                "axis": None, "group": None, "percentile": 99.9, "gamma": 1.0, "candidates": 3,
                "include_zero": False, "scale_dtype": "float64", "nonfinite": "raise", "source": None},
    ),
    "quantize": (
        qe.quantize,
        HERE | {"x": X, "params": PARAMS, "rounding": "half-even", "convention": "calculator", "seed": 0},
    ),
    "dequantize": (qe.dequantize, HERE | {"q": [1, 2, 3], "params": PARAMS, "convention": "calculator"}),
    "fake_quantize": (
        qe.fake_quantize, HERE | {"x": X, "params": PARAMS, "rounding": None, "convention": "onnx", "seed": 0},
    ),
    "error_report": (
        qe.error_report,
        HERE | {"x": X, "specs": [qe.QuantSpec()], "axis": None, "nonfinite": "raise", "histograms": True,
                "threads": 1, "progress": None},
    ),
    "get_convention": (qe.get_convention, {"name": "onnx"}),
    "get_format": (qe.get_format, {"name": "mxfp8", "block": None}),
    "encode": (qe.encode, HERE | {"x": X, "format": "e4m3fn", "overflow": "saturate", "rounding": None}),
    "decode": (qe.decode, {"codes": [1, 2, 3], "format": "e4m3fn"}),
    "quantize_blocks": (
        qe.quantize_blocks,
        HERE | {"x": X, "format": "mxfp4", "axis": -1, "scale_rounding": None, "overflow": "saturate",
                "rounding": None},
    ),
    **{
        name: (
            qe.emulate,
            HERE | NAMED | {"runtime": "litert", "positions": "tensor", "activation": None, "qmin": None,
                            "qmax": None} | columns,
        )
        for name, columns in EMULATED.items()
    },
    "profiles": (qe.profiles, NAMED | {"runtime": "litert", "op": "CONV_2D", "path": "opt"}),
    "get_profile": (qe.get_profile, NAMED | {"runtime": "litert", "op": "CONV_2D", "path": "opt"}),
    "tosa_rescale": (
        qe.tosa_rescale,
        {"x": [2, -2, 1, -3], "multiplier": 1 << 30, "shift": 31, "input_zp": 0, "output_zp": -3, "input_dtype": "i32",
         "output_dtype": "i8", "scale32": True, "rounding_mode": "DOUBLE_ROUND", "per_channel": False,
         "input_unsigned": False, "output_unsigned": False},
    ),
    "audit": (
        _with_model(qe.audit),
        {"model": NETWORK, "schemes": ("litert:opt", "single"), "progress": None},
    ),
    "replay": (
        _with_model(qe.replay),
        HERE | {"model": NETWORK, "inputs": np.zeros((1, 9, 8, 3), np.int8), "path": "ref"},
    ),
}  # fmt: skip


def test_every_public_function_is_here() -> None:
    public = {name for name in qe.__all__ if not name.startswith("_")}
    errors = {name for name in public if name in vars(qe.exceptions)}
    without = {name for name in public - errors if not inspect.signature(getattr(qe, name)).parameters}
    assert public - errors - without <= set(CALLS)


def _answered(name: str, changed: dict[str, Any]) -> None:
    call, right = CALLS[name]
    text = ""
    with np.errstate(all="warn"):  # a warning is an error in this suite: none may leak
        try:
            call(**right | changed)
        except QEngineError as error:
            text = str(error)
    assert len(text) < 2000


def _fuzz(name: str) -> Callable[[Any], None]:
    @given(st.dictionaries(st.sampled_from(sorted(CALLS[name][1])), anything(), min_size=1, max_size=2))
    def body(changed: dict[str, Any]) -> None:
        if callable(changed.get("progress")):
            changed.pop("progress")  # what a caller's function raises is its own
        if changed.get("backend", "") is None:
            changed.pop("backend")  # the default one compiles
        _answered(name, changed)

    return body


@pytest.mark.parametrize("name", CALLS)
def test_any_argument(name: str) -> None:
    CALLS[name][0](**CALLS[name][1])
    settings(max_examples=60)(_fuzz(name))()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_any_argument_at_length(name: str) -> None:
    settings(max_examples=3000)(_fuzz(name))()


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2", ">i4", ">i8"])
@given(data=st.data())
@settings(max_examples=15)
def test_any_layout_gives_the_numbers_of_the_oracle(kind: str, data: st.DataObject) -> None:
    low, high = max(np.iinfo(kind).min, -(2**31)), min(np.iinfo(kind).max, 2**31 - 1)
    numbers = data.draw(st.lists(st.integers(int(low), int(high)), min_size=12, max_size=12))
    scheme = data.draw(st.sampled_from(["single", "double", "half-away", "fp32", "rndnu"]))
    real = data.draw(st.floats(1e-6, 0.99))
    layout = data.draw(st.sampled_from([
        lambda a: a, lambda a: a[::-1], lambda a: a.reshape(3, 4).T, lambda a: a.reshape(2, 2, 3)[:, ::-1, ::2],
        lambda a: a[:1].reshape(()), lambda a: a[:0], lambda a: np.frombuffer(b"-" + a.tobytes(), a.dtype, offset=1),
    ]))  # fmt: skip
    acc = layout(np.array(numbers, dtype=kind))
    got = qe.requantize(acc, real, scheme=scheme, dtype="int8", zero_point=-3, backend="reference")
    assert got.shape == acc.shape
    for x, y in zip(acc.ravel().tolist(), got.ravel().tolist(), strict=True):
        assert y == oracle.requantize(scheme, x, real=real, zero_point=-3, qmin=-128, qmax=127)


@pytest.mark.parametrize("shift", [-2, 0, 2])
def test_out_may_overlap_acc(shift: int) -> None:
    memory = np.arange(-20, 20, dtype=np.int32)
    acc, out = memory[4:30], memory[4 + shift : 30 + shift]
    expected = qe.requantize(acc.copy(), 0.3, backend="reference")
    np.testing.assert_array_equal(qe.requantize(acc, 0.3, out=out, backend="reference"), expected)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("wrong", "right"), [({"qmin": True}, {"qmin": 1}), ({"qmin": 1.0}, {"qmin": 1}), ({"overflow": ["wrap"]}, {})]
)
def test_a_cached_call_lets_nothing_pass(wrong: dict[str, Any], right: dict[str, Any]) -> None:
    # True and 1.0 are keys equal to 1.
    qe.requantize(ACC, 0.25, dtype="int8", backend="reference", **right)
    with pytest.raises(QEngineError):
        qe.requantize(ACC, 0.25, dtype="int8", backend="reference", **wrong)
