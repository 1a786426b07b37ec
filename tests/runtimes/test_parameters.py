"""Integer parameters of CMSIS-NN, Vela and TOSA."""

from __future__ import annotations

from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import qengine as qe
from qengine.runtimes import parameters as p


@pytest.mark.parametrize(
    ("real", "scale", "shift"),
    [(0.1, 1717986918, 34), (1 - 2**-33, 1 << 31, 31), (2**-33, 1 << 30, 63), (2**-34, 0, 16), (0.0, 0, 31)],
)
def test_vela_scale(real: float, scale: int, shift: int) -> None:
    assert p.vela_scale(real) == (scale, shift)


@given(st.floats(2.0**-33, 2.0**30))
def test_vela_scale_is_the_nearest_of_31_bits(real: float) -> None:
    scale, shift = p.vela_scale(real)
    if shift != 16 or scale:
        assert abs(Fraction(scale, 1 << shift) - Fraction(real)) <= Fraction(1, 1 << (shift + 1))
        assert 1 << 30 <= scale <= 1 << 31
    reduced, small = p.vela_reduced_scale(real)
    assert small == shift - 16
    assert reduced == min((scale + (1 << 15)) >> 16, 32767)


def test_a_row_of_zeros_and_bad_values() -> None:
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(qe.DomainError, match="real must be finite and >= 0"):
            p.vela_scale(bad)
    with pytest.raises(qe.DomainError, match="count must be >= 1"):
        p.vela_pooling_scale(0)
    with pytest.raises(qe.DomainError, match="above 63"):
        p.vela_pooling_scale(1 << 40)
    with pytest.raises(qe.DomainError, match=r"count must be in \[1, 2\*\*31 - 1\]"):
        p.tosa_reciprocal_scale(0)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 49, 100, 1 << 20])
def test_reciprocals(count: int) -> None:
    scale, shift = p.vela_pooling_scale(count)
    assert 0 <= Fraction(scale, 1 << shift) - Fraction(1, count) <= Fraction(1, 1 << 31)
    m, shift = p.tosa_reciprocal_scale(count)
    assert 1 << 29 < m <= (1 << 31) - 1
    if shift > 31:  # TOSA's AVG_POOL2D: the multiplier rounds every sum of that many int8 codes as division does
        for total in (-128 * count, -1, 0, count // 2, 127 * count):
            y = qe.tosa_rescale(
                total, multiplier=m, shift=shift, input_zp=0, output_zp=0, input_dtype="i32", output_dtype="i32",
                scale32=True, per_channel=False,
            )  # fmt: skip
            assert abs(int(y) - Fraction(total, count)) <= Fraction(1, 2) + Fraction(abs(total), 1 << 28)


def test_cmsis_nn(rng: np.random.Generator) -> None:
    si, so = 0.02, 0.1
    sw = rng.uniform(0.001, 0.05, 7).astype(np.float32)
    multiplier = p.cmsis_nn_multiplier(si, sw, so)
    real = np.float64(np.float32(si)) * sw.astype(np.float64) / np.float64(np.float32(so))
    assert multiplier == qe.quantize_multiplier(real)
    assert p.cmsis_nn_reduced(multiplier).tolist() == [min((int(v) + 32768) >> 16, 32767) for v in multiplier.value]
    assert p.cmsis_nn_reduced(qe.QuantizedMultiplier(0x7FFEFFFF, 0)) == 0x7FFF


def test_cmsis_nn_add_computes_tflite_add(rng: np.random.Generator) -> None:
    """The catalogue's example through the arguments of arm_elementwise_add_s8, against the profile of the reference."""
    parameters = p.cmsis_nn_add(0.05, 0.03, 0.06)
    assert parameters.input1 == qe.QuantizedMultiplier(1073741824, 0)
    assert parameters.input2 == qe.QuantizedMultiplier(1288490141, -1)
    a, b = np.array([10, -128, 3, -7]), np.array([20, 127, -8, -7])
    terms = [
        qe.requantize((q << parameters.left_shift).astype(np.int32), m, scheme="double")
        for q, m in ((a, parameters.input1), (b, parameters.input2))
    ]
    y = qe.requantize(terms[0] + terms[1], parameters.output, scheme="double", dtype="int8")
    assert y.tolist() == [18, -43, -2, -9]
    same = {"a_scale": 0.05, "b_scale": 0.03, "out_scale": 0.06, "a_zp": 0, "b_zp": 0, "out_zp": 0}
    assert qe.emulate("litert", "ADD", "ref", a=a, b=b, **same).tolist() == y.tolist()
    assert qe.emulate("litert", "ADD", "xnnpack", a=a, b=b, **same).tolist() == [18, -43, -1, -9]
