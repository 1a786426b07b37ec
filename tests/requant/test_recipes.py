"""Recipes against the oracle, their ranges and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import qengine as qe
from qengine.requant import recipes
from tests import oracle

ISSUE = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
SCALE = st.floats(2.0**-40, 2.0**20, width=32)
#: The largest and the smallest (subnormal) too.
ANY_SCALE = st.floats(2.0**-149, 2.0**127, width=32) | st.sampled_from([2.0**-149, 2.0**-126, 2.0**127])


@pytest.mark.parametrize("name", recipes.RECIPES)
@given(i=SCALE, w=SCALE, o=SCALE)
def test_oracle(name: str, i: float, w: float, o: float) -> None:
    assert recipes.apply(name, i, w, o) == oracle.recipe(name, i, w, o)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_oracle_on_arrays_and_broadcasting(name: str, rng: np.random.Generator) -> None:
    i, w, o = (rng.uniform(0.001, 0.2, shape).astype(np.float32) for shape in ((), (7,), (3, 1)))
    real = recipes.apply(name, i, w, o)
    assert real.shape == (3, 7)
    assert real.dtype == np.float64
    for row in range(3):
        for c in range(7):
            assert real[row, c] == oracle.recipe(name, float(i), float(w[c]), float(o[row, 0]))


@pytest.mark.parametrize("name", recipes.RECIPES)
@given(i=ANY_SCALE, w=ANY_SCALE, o=ANY_SCALE)
def test_extreme_scales_give_the_oracles_number_or_an_error(name: str, i: float, w: float, o: float) -> None:
    try:
        wanted = oracle.recipe(name, i, w, o)
    except (ZeroDivisionError, OverflowError, ValueError):
        assume(False)
    if math.isfinite(wanted) and wanted > 0:
        assert recipes.apply(name, i, w, o) == wanted
    else:
        with pytest.raises(qe.DomainError, match="leaves the range of its type"):
            recipes.apply(name, i, w, o)


def test_the_issue_needs_the_order_of_float32() -> None:
    """tensorflow#102943: only f32(f32(i * w) / o) makes 585 a tie."""
    reals = {name: recipes.apply(name, *ISSUE) for name in recipes.RECIPES}
    assert reals["float32"] == 0.011111111380159855
    assert reals["double"] == 0.011111111910680305
    assert reals["float32-of-double"] == 0.01111111231148243
    for name, half in (("float32", True), ("float32-of-double", False)):
        assert (np.float32(585) * np.float32(reals[name]) == np.float32(6.5)) == half


def test_float32_recipes_are_exact_in_float32() -> None:
    for name in ("float32", "float32-reciprocal", "float32-of-double"):
        real = recipes.apply(name, *ISSUE)
        assert float(np.float32(real)) == real


def test_python_floats_are_rounded_to_float32_first() -> None:
    assert recipes.apply("double", 0.1, 0.2, 0.3) == oracle.recipe(
        "double", *(oracle.to_float32(s) for s in (0.1, 0.2, 0.3))
    )


def test_every_scheme_names_a_recipe(scheme: qe.requant.schemes.Scheme) -> None:
    row = recipes.get_recipe(scheme.recipe)
    assert row.name == scheme.recipe
    y = qe.requantize_scales(585, *ISSUE, scheme=scheme, zero_point=-126)
    wanted = qe.requantize(585, recipes.apply(scheme.recipe, *ISSUE), scheme=scheme, zero_point=-126, dtype="int8")
    assert y.dtype == np.int8
    assert int(y) == int(wanted)


def test_issue_through_requantize_scales(backend: str) -> None:
    for name in ("single", "double", "double-up", "half-away", "fp64-away"):
        assert int(qe.requantize_scales(585, *ISSUE, scheme=name, zero_point=-126, backend=backend)) == -119
    assert int(qe.requantize_scales(585, *ISSUE, scheme="fp32", zero_point=-126, backend=backend)) == -120


def test_another_recipe() -> None:
    y = qe.requantize_scales(585, *ISSUE, scheme="fp32", recipe="float32-of-double", zero_point=-126)
    assert int(y) == -119


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -0.0, -0.1, 1e-60, 1e60])
def test_bad_scales(place: int, bad: float) -> None:
    scales = list(ISSUE)
    scales[place] = bad
    name = ("input_scale", "weight_scale", "output_scale")[place]
    with pytest.raises(qe.DomainError, match=rf"^{name} must be finite, > 0 and representable in float32; got .*\.$"):
        qe.requantize_scales(1, *scales, scheme="double")


def test_bad_scale_in_an_array_is_named() -> None:
    weights = np.array([[0.1, 0.2], [0.3, math.nan]])
    with pytest.raises(qe.DomainError, match=r"weight_scale must be finite.*got nan at index \(1, 1\)\."):
        qe.requantize_scales(np.zeros((2, 2), np.int32), 0.1, weights, 0.1, scheme="fp32")


@pytest.mark.parametrize("bad", ["0.1", None, 1j, True])
def test_scales_of_a_wrong_type(bad: object) -> None:
    with pytest.raises(qe.DTypeError, match="input_scale must be real numbers"):
        recipes.apply("double", bad, 0.1, 0.1)


def test_a_product_that_leaves_float32() -> None:
    with pytest.raises(
        qe.DomainError, match=r"recipe 'float32' leaves the range of its type: f32\(f32\(i \* w\) / o\) = 0"
    ):
        recipes.apply("float32", 1e-30, 1e-30, 1.0)
    with pytest.raises(qe.DomainError, match=r"= inf at index 1\."):
        recipes.apply("float32", [1.0, 1e30], 1e30, 1.0)
    assert recipes.apply("double", 1e-30, 1e-30, 1.0) > 0


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(qe.DomainError, match=r"the shapes of the scales do not broadcast: \(2,\), \(3,\), \(\)\."):
        recipes.apply("double", [0.1, 0.1], [0.1, 0.1, 0.1], 0.1)


def test_unknown_recipe() -> None:
    with pytest.raises(qe.UnknownNameError, match="unknown recipe 'flot32'; did you mean 'float32'"):
        qe.requantize_scales(1, *ISSUE, scheme="double", recipe="flot32")
