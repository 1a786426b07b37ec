"""Identification: recorded files, made-up rows with every kind of defect, verdicts, counterexamples."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.identification import rows as room
from qengine.identification.candidates import Candidate, candidates
from qengine.identification.identify import identify_rows
from qengine.identification.row_files import read_rows
from qengine.identification.rows import Rows, make_rows
from qengine.requant import recipes, spec
from tests import oracle
from tests.requant.test_golden import ARM_FILES, COMMITTED, FILES, Runs

Columns = dict[str, npt.NDArray[Any]]
ISSUE = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
#: Recordings that do not tell their recipe from another one, not even on all 8,000 rows.
UNDECIDED = {"torch213_quantized_linear_qnnpack_pertensor"}


@functools.cache
def committed() -> dict[str, Columns]:
    with np.load(COMMITTED) as archive:
        names, source = archive["names"], archive["source"]
        columns = {name: archive[name] for name in archive.files if name not in ("names", "source")}
    return {str(name): {c: a[source == k] for c, a in columns.items()} for k, name in enumerate(names)}


def identified(columns: Columns, dtype: str, **options: Any) -> qe.identification.result.Identification:
    return qe.identify(
        columns["acc"], columns["output"], scales=tuple(columns[c] for c in ("in_scale", "w_scale", "out_scale")),
        zero_point=columns["zero_point"], dtype=dtype, **options,
    )  # fmt: skip


def check_named(name: str, result: Any, runs: Runs) -> None:
    """The recorded operator's scheme and recipe come first, without a mismatch."""
    recipe = runs.recipe or qe.get_scheme(runs.scheme).recipe
    assert result.found, result.verdict
    named = {(m.scheme, m.recipe) for m in result.remaining}
    assert (runs.scheme, recipe) in named
    best = result.ranking[0]
    assert best.mismatches == 0
    assert best.matches + best.outside + result.clamped == result.rows
    if name not in UNDECIDED:
        assert (best.scheme, best.recipe) == (runs.scheme, recipe)
        assert best.outside == 0
        assert best.scheme in result.verdict


# --- recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_committed_recordings(name: str) -> None:
    runs = FILES[name]
    result = identified(committed()[name], runs.dtype)
    check_named(name, result, runs)
    assert len(result.ranking) == len(qe.schemes()) * len(recipes.RECIPES)
    assert result.ranking[-1].mismatches > result.ranking[0].mismatches


@pytest.mark.parametrize("name", [*FILES, *ARM_FILES])
def test_full_recordings(name: str, shared: Path) -> None:
    """Read as files; types are those of the columns or, for the int16 columns of torch, what the values say."""
    runs = {**FILES, **ARM_FILES}[name]
    rows = read_rows(shared / "golden" / f"{name}.npz")
    assert rows.dtype == runs.dtype
    check_named(name, identify_rows(rows), runs)


#: What runs on 64-bit Arm (measured): scheme, recipe.
ARM = {
    "CONV2D_perchannel-1px_opt": ("double-up", "double"),
    "CONV2D_perchannel-overflow_xnnpack": ("fp32", "float32"),
    "CONV2D_perchannel-sme2_xnnpack": ("fp32", "float32"),
    "CONV2D_perchannel_opt": ("single", "double"),
    "CONV2D_perchannel_ref": ("double", "double"),
    "CONV2D_perchannel_xnnpack": ("fp32", "float32"),
    "CONV2D_pertensor_opt": ("single", "double"),
    "CONV2D_pertensor_ref": ("double", "double"),
    "CONV2D_pertensor_xnnpack": ("fp32", "float32"),
    "CONV2D_u8-cortexa53_xnnpack": ("rndnu16", "float32"),
    "CONV2D_u8_opt": ("single", "float-product"),
    "CONV2D_u8_ref": ("double", "float-product"),
    "CONV2D_u8_xnnpack": ("rndnu", "float32"),
    "CONV_i16x8_biasint32_opt": ("single", "double"),
    "CONV_i16x8_biasint32_ref": ("double", "double"),
    "CONV_i16x8_biasint64_ref": ("int16x8", "double"),
    "DWCONV_perchannel-general5x5_opt": ("double-up", "double"),
    "DWCONV_perchannel-tailCmod8_opt": ("double", "double"),
    "DWCONV_perchannel_ref": ("double", "double"),
    "DWCONV_perchannel_xnnpack": ("fp32", "float32"),
    "DWCONV_u8-3x3_opt": ("double-up", "float-product"),
    "DWCONV_u8-5x5_opt": ("double", "float-product"),
    "DWCONV_u8-3x3_xnnpack": ("rndnu", "float32"),
    "DW_i16x8_biasint64_ref": ("int16x8", "double"),
    "FC_perch_i16x8_biasint32_opt": ("single", "double"),
    "FC_perch_i16x8_biasint32_ref": ("fp64-away", "double"),
    "FC_perch_i16x8_biasint64_ref": ("fp64-away", "double"),
    "FC_perchannel-1row_opt": ("double-up", "double"),
    "FC_perchannel-sme2_xnnpack": ("fp32", "float32"),
    "FC_perchannel_opt": ("single", "double"),
    "FC_perchannel_ref": ("fp64-away", "double"),
    "FC_perchannel_xnnpack": ("fp32", "float32"),
    "FC_pertensor-1row_opt": ("double-up", "float-product"),
    "FC_pertensor_opt": ("single", "float-product"),
    "FC_pertensor_ref": ("fp64-away", "double"),
    "FC_pertensor_xnnpack": ("fp32", "float32"),
    "FC_u8-cortexa53_xnnpack": ("rndnu16", "float32"),
    "FC_u8_opt": ("single", "float-product"),
    "FC_u8_ref": ("fp64-away", "double"),
    "FC_u8_xnnpack": ("rndnu", "float32"),
}


@pytest.mark.parametrize("name", ARM)
def test_arm_recordings(name: str, shared: Path) -> None:
    result = identify_rows(read_rows(shared / "golden" / f"litert230arm_{name}.npz"))
    assert result.found, result.verdict
    best = result.ranking[0]
    assert (best.scheme, best.recipe, best.mismatches) == (*ARM[name], 0)


@pytest.mark.parametrize("inputs", ["s8s8", "u8s8"])
@pytest.mark.parametrize("op", ["QLinearConv_{}_perch", "QLinearConv_depthwise_{}", "QLinearMatMul_{}_percol"])
def test_arm_recordings_of_onnxruntime(op: str, inputs: str, shared: Path) -> None:
    result = identify_rows(read_rows(shared / "golden" / f"ort1311arm_{op.format(inputs)}.npz"))
    best = result.ranking[0]
    assert (best.scheme, best.recipe, best.mismatches) == ("fp32", "float32", 0)


@pytest.mark.parametrize(
    ("name", "scheme", "recipe"),
    [
        ("litert230_MUL_ref", "double", "float32"),
        ("litert230_MUL_xnnpack", "fp32", "float32"),
        ("litert230arm_MUL_xnnpack", "rndnu", "float32"),
    ],
)
def test_products(name: str, scheme: str, recipe: str, shared: Path) -> None:
    """MUL is a requantization of a product: its columns are called otherwise."""
    best = identify_rows(read_rows(shared / "golden" / f"{name}.npz")).ranking[0]
    assert (best.scheme, best.recipe, best.mismatches) == (scheme, recipe, 0)


@pytest.mark.parametrize(("path", "scheme"), [("xnnpack", "fp32"), ("opt", "double-up"), ("ref", "double")])
def test_the_issue(path: str, scheme: str, shared: Path) -> None:
    """Scalars of the file apply to all rows; the column of outputs is chosen."""
    file = shared / "golden" / "litert230_issue102943_CONV2D.npz"
    result = identify_rows(read_rows(file, output=f"output_{path}"))
    assert scheme in {m.scheme for m in result.remaining}
    assert result.ranking[0].mismatches == 0
    with pytest.raises(qe.InputFileError, match="choose one of 'output_xnnpack', 'output_opt', 'output_ref'"):
        read_rows(file)


def test_what_is_not_listed_is_not_called_noise(shared: Path) -> None:
    """oneDNN rounds each product by itself, in an order that depends on K, which the file lacks."""
    result = identify_rows(read_rows(shared / "golden" / "torch213_quantized_linear_onednn_percol.npz"))
    assert result.kind == "unlisted"
    assert not result.found
    assert result.ranking[0].scheme == "fp32-zp-inside"
    assert "rounding boundaries" in result.verdict


def test_shift_after_the_multiplication_is_seen(shared: Path) -> None:
    """LiteRT's 3x3 depthwise kernel on Arm shifts left after the multiplication: listed below 1 alone."""
    result = identify_rows(read_rows(shared / "golden" / "litert230arm_DWCONV_perchannel_opt.npz"))
    assert not result.found
    assert re.search(
        r"double-up with recipe 'double'\S* gives all [\d,]+ rows with a multiplier below 1", result.verdict
    )


# --- rows of a known scheme ----------------------------------------------------------------------------------------


def made(
    scheme: str, rng: np.random.Generator, count: int = 3000, zero_point: Any = -7, dtype: str = "int8"
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], qe.QuantizedMultiplier]:
    """Accumulators of which most are not clamped, many of them at ties; outputs; one multiplier with ties."""
    multiplier = qe.QuantizedMultiplier(5 << 28, -5)  # 5 / 256
    acc = rng.integers(-6000, 6000, count)
    ties = rng.integers(-24, 24, count) * 256 + 128 * rng.choice([-1, 1], count)
    acc = np.where(rng.random(count) < 0.5, ties, acc).astype(np.int32)
    return acc, qe.requantize(acc, multiplier, scheme=scheme, zero_point=zero_point, dtype=dtype), multiplier


def test_every_scheme_finds_itself(scheme: Any, rng: np.random.Generator) -> None:
    """By multiplier, int16 outputs: nothing is rejected that is right, and what is equal everywhere is named."""
    real = 0.3333333432674408  # in every scheme's domain, exact in float32
    acc = rng.integers(-90_000, 90_000, 6000).astype(np.int32)
    output = qe.requantize(acc, real, scheme=scheme, dtype="int16", zero_point=5)
    result = qe.identify(acc, output, multiplier=real, zero_point=5, dtype="int16")
    assert scheme.name in {m.scheme for m in result.remaining}
    assert result.found
    for match in result.ranking:
        expected = qe.requantize(acc, real, scheme=match.scheme, dtype="int16", zero_point=5)
        ends = np.isin(output, (-32768, 32767))
        assert match.mismatches == np.count_nonzero(expected != output)
        assert match.matches >= np.count_nonzero((expected == output) & ~ends)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_recipe_is_told(recipe: str, rng: np.random.Generator) -> None:
    """Half a million rows hold some on which each recipe stands alone; most of the others are left out."""
    scales = tuple((rng.uniform(0.5, 1, 500_000) * c).astype(np.float32) for c in (0.02, 0.02, 2e-3))
    acc = rng.integers(-90_000, 90_000, 500_000).astype(np.int32)
    by_recipe = {
        name: qe.requantize_scales(acc, *scales, scheme="single", dtype="int16", recipe=name)
        for name in recipes.RECIPES
    }
    differ = np.ptp(np.stack(list(by_recipe.values())).astype(np.int64), axis=0) > 0
    kept = np.flatnonzero(differ | (np.arange(acc.size) < 2000))
    result = qe.identify(
        acc[kept], by_recipe[recipe][kept], scales=tuple(s[kept] for s in scales), dtype="int16",
        schemes=["single", "double", "fp32"],
    )  # fmt: skip
    assert (result.ranking[0].scheme, result.ranking[0].recipe) == ("single", recipe)
    assert result.kind == "exact"


def test_counts_are_those_of_the_oracle(rng: np.random.Generator) -> None:
    acc, output, multiplier = made("double", rng, 400)
    result = qe.identify(acc, output, multiplier=multiplier, zero_point=-7)
    pair = (multiplier.value, multiplier.shift)
    for match in result.ranking:
        given = [
            oracle.requantize(match.scheme, int(a), multiplier=pair, real=None, zero_point=-7, qmin=-128, qmax=127)
            for a in acc
        ]
        wrong = [k for k, (y, o) in enumerate(zip(given, output.tolist(), strict=True)) if y != o]
        assert match.mismatches == len(wrong), match.scheme
        assert (match.counterexample is None) == (not wrong)
        if wrong:
            example = match.counterexample
            assert example is not None
            assert (example.row, example.acc, example.given, example.recorded) == (
                wrong[0], acc[wrong[0]], given[wrong[0]], output[wrong[0]]
            )  # fmt: skip


def test_counterexamples_say_the_numbers() -> None:
    """-2 * 0.25 is a tie: half up 0, half away -1."""
    result = qe.identify([2, -2], [1, 0], multiplier=qe.QuantizedMultiplier(1 << 30, -1), zero_point=0)
    example = next(m for m in result.ranking if m.scheme == "double").counterexample
    assert example is not None
    assert example.text == (
        "row 1: acc -2 * 0.25 is -0.5; double (rounded twice: half up, then half away from zero) goes to -1; "
        "recorded was 0."
    )
    assert example.exact == -0.5
    fp = qe.identify(585, -119, scales=ISSUE, zero_point=-126, schemes="fp32", recipes="float32").ranking[0]
    assert fp.counterexample is not None
    assert Fraction(fp.counterexample.exact) != Fraction(13, 2), "float32 alone makes the tie"
    assert "goes to 6, with the zero point -120; recorded was -119" in fp.counterexample.text


def test_counterexamples_follow_the_specification(rng: np.random.Generator) -> None:
    acc, output, multiplier = made("fp64-away", rng, 500)
    for match in qe.identify(acc, output, multiplier=multiplier, zero_point=-7).ranking:
        if match.counterexample is not None:
            c = match.counterexample
            assert spec.requantize(match.scheme, c.acc, multiplier, -7, -128, 127) == c.given
            assert output[c.row] == c.recorded
            for number in (c.acc, c.given, c.recorded):
                assert str(number) in c.text


def test_beyond_the_contract(rng: np.random.Generator) -> None:
    """The wrapped sum of XNNPACK's x86 kernels: rejected by contract, given by the wrapping original."""
    acc = np.array([2**31 - 1, 2**30, -(2**31), 585, -585, 7], np.int32)
    output = qe.requantize(acc, 4.0, scheme="fp64-away", zero_point=-3, dtype="int8", overflow="wrap")
    result = qe.identify(acc, output, multiplier=4.0, zero_point=-3)
    best = next(m for m in result.ranking if m.scheme == "fp64-away")
    assert (best.overflow, best.mismatches, best.outside) == ("wrap", 0, 0)
    fp32 = next(m for m in result.ranking if m.scheme == "fp32-away")
    assert fp32.mismatches > 0 or fp32.overflow != "error"


def test_equal_by_construction(rng: np.random.Generator) -> None:
    """float32 schemes: the recipes of one arithmetic give one float32 multiplier, also near the ends of float32."""
    by_arithmetic: dict[Any, list[Candidate]] = {}
    for candidate in candidates(None, None, True):
        by_arithmetic.setdefault(candidate.arithmetic, []).append(candidate)
    assert len(by_arithmetic) < len(qe.schemes()) * len(recipes.RECIPES)
    scales = [np.exp2(rng.uniform(-60, 30, 400_000)).astype(np.float32) for _ in range(3)]
    with np.errstate(all="ignore"):
        made = {name: one.compute(*scales).astype(np.float32) for name, one in recipes.RECIPES.items()}
    for group in by_arithmetic.values():
        for candidate in group[1:]:
            assert candidate.scheme.parameter == group[0].scheme.parameter
            assert candidate.scheme.form == group[0].scheme.form
            if candidate.recipe != group[0].recipe:
                assert candidate.scheme.parameter == "float32"
                assert np.array_equal(made[candidate.recipe], made[group[0].recipe])  # type: ignore[index]
    assert not np.array_equal(made["float32"], made["float32-of-double"])


# --- clamped rows, ambiguity --------------------------------------------------------------------------------------


def test_clamped_rows_are_counted_apart() -> None:
    acc = [2, -2, 1, 10**6, -(10**6), 10**7]
    result = qe.identify(acc, [1, 0, 0, 127, -128, 127], multiplier=0.25)
    assert result.clamped == 3
    assert all(m.matches + m.mismatches + m.outside == 3 for m in result.ranking)
    wrong = qe.identify(acc, [1, 0, 0, 126, -128, 127], multiplier=0.25)
    assert wrong.clamped == 2
    assert all(m.mismatches >= 1 for m in wrong.ranking if not m.outside), "a clamped row with another code rejects all"


def test_all_rows_clamped() -> None:
    result = qe.identify([10**6, -(10**7)], [127, -128], multiplier=0.25)
    assert result.kind == "clamped"
    assert not result.found
    assert result.clamped == 2
    assert "Nothing can be told" in result.verdict
    assert "Nothing can be told" in str(result)


def test_clamps_of_rows() -> None:
    """qmin and qmax a row, as a fused activation has them."""
    result = qe.identify([2, -2, 400], [1, 0, 6], multiplier=0.25, qmin=[0, 0, 0], qmax=6)
    single = next(m for m in result.ranking if m.scheme == "single")
    assert (single.matches, single.mismatches, result.clamped) == (1, 0, 2), "-2 is 0 or, clamped, 0"


def test_ambiguity_and_the_probes_that_decide(rng: np.random.Generator) -> None:
    """Rows without ties: what remains is told apart by the probes, evaluated on their own."""
    multiplier = qe.QuantizedMultiplier(5 << 28, -5)
    acc = np.array([1, 40, 300, -700, 2000], np.int32)
    output = qe.requantize(acc, multiplier, scheme="half-away", dtype="int8")
    result = qe.identify(acc, output, multiplier=multiplier)
    assert result.kind == "ambiguous"
    remaining = [m.scheme for m in result.remaining]
    assert {"single", "half-away"} <= set(remaining)
    assert "do not tell it from" in result.verdict
    separation = result.separation
    assert separation is not None
    probes = separation.probes
    outputs = {
        s: qe.requantize(np.array(probes.accumulators, np.int32), multiplier, scheme=s, dtype="int8").tolist()
        for s in probes.names
    }
    for k, name in enumerate(probes.names):
        assert outputs[name] == probes.outputs[k].tolist()
    assert outputs["single"] != outputs["half-away"]
    more = np.concatenate([acc, probes.accumulators]).astype(np.int32)
    decided = qe.identify(
        more, qe.requantize(more, multiplier, scheme="half-away", dtype="int8"), multiplier=multiplier
    )  # fmt: skip
    together = next(group for group in probes.classes if "half-away" in group)
    assert {m.scheme for m in decided.remaining} <= {*together, *_same("half-away", remaining, together)}
    for accumulator in probes:
        assert f"acc {accumulator}" in str(result)


def _same(name: str, remaining: list[str], together: tuple[str, ...]) -> set[str]:
    """Schemes equal to `name` by construction, which the probes name once."""
    return {s for s in remaining if qe.get_scheme(s).rule == qe.get_scheme(name).rule} | set(together)


def test_equal_everywhere_is_said() -> None:
    """1/90: no accumulator tells single from double in int8 (exact, over all of int32)."""
    multiplier = qe.QuantizedMultiplier(1527099593, -6)
    acc = np.arange(-9000, 9000, 7, dtype=np.int32)
    output = qe.requantize(acc, multiplier, scheme="double", dtype="int8")
    result = qe.identify(acc, output, multiplier=multiplier, schemes=["single", "double", "truncate"])
    assert {m.scheme for m in result.remaining} == {"single", "double"}
    separation = result.separation
    assert separation is not None
    assert separation.undecided == (("single", "double"),) or separation.undecided == (("double", "single"),)
    assert "equal on every accumulator" in str(result)


def test_separation_looks_for_other_parameters_of_the_rows(rng: np.random.Generator) -> None:
    """1/90 cannot decide, 0.1 can: the parameters of that row are taken."""
    values = qe.QuantizedMultiplier([1527099593] * 5 + [1717986918], [-6] * 5 + [-3])
    acc = np.array([90, 180, 270, 360, 450, 20], np.int32)
    output = qe.requantize(acc, values, scheme="single", dtype="int8")
    result = qe.identify(acc, output, multiplier=values, schemes=["single", "double"])
    assert result.separation is not None
    assert result.separation.place == "row 5"
    assert result.separation.probes.accumulators.tolist() == [5]
    assert result.separation.parameters == {"multiplier": 1717986918, "shift": -3, "zero_point": 0}


# --- defects of recordings ----------------------------------------------------------------------------------------


def test_wrong_sign_of_the_zero_point(rng: np.random.Generator) -> None:
    zero_points = rng.integers(-60, 60, 3000)
    acc, output, multiplier = made("double-up", rng, zero_point=zero_points)
    result = qe.identify(acc, output, multiplier=multiplier, zero_point=-zero_points)
    assert result.kind == "sign"
    assert not result.found
    assert result.correction is not None
    assert result.correction.kind == "sign"
    assert result.corrected is not None
    assert result.corrected.ranking[0].scheme == "double-up"
    assert result.corrected.ranking[0].mismatches == 0
    assert "sign of the zero point" in result.verdict
    assert "double-up" in result.verdict
    assert "sign of the zero point" in str(result)


@pytest.mark.parametrize("offset", [1, -1, 13])
def test_constant_offset_of_the_zero_point(offset: int, rng: np.random.Generator) -> None:
    acc, output, multiplier = made("double", rng)
    result = qe.identify(acc, output, multiplier=multiplier, zero_point=-7 - offset)
    assert result.kind == "offset"
    assert result.correction is not None
    assert (result.correction.kind, result.correction.offset) == ("zero-point", offset)
    assert result.corrected is not None
    assert "double" in {m.scheme for m in result.corrected.remaining}
    assert f"{offset:+d}" in result.verdict


def test_constant_offset_of_the_outputs(rng: np.random.Generator) -> None:
    """After the clamp: the ends are shifted too."""
    acc, output, multiplier = made("single", rng, count=6000)
    acc = np.concatenate([acc, rng.integers(20_000, 90_000, 2000)]).astype(np.int32)
    output = qe.requantize(acc, multiplier, scheme="single", zero_point=-7, dtype="int8").astype(np.int64)
    kept = output > -120
    result = qe.identify(acc[kept], output[kept] - 3, multiplier=multiplier, zero_point=-7)
    assert result.correction is not None
    assert (result.correction.kind, result.correction.offset) == ("output", -3)
    assert result.corrected is not None
    assert "single" in {m.scheme for m in result.corrected.remaining}


@pytest.mark.parametrize("share", [0.01, 0.1])
@pytest.mark.parametrize("scheme", ["double-up", "half-away", "truncate", "fp32"])
def test_noise(scheme: str, share: float, rng: np.random.Generator) -> None:
    acc, output, multiplier = made(scheme, rng, count=8000)
    flipped = rng.random(acc.size) < share
    noisy = np.where(flipped, output + rng.choice([-1, 1], acc.size), output).clip(-128, 127)
    result = qe.identify(acc, noisy, multiplier=multiplier, zero_point=-7)
    assert result.kind == "noise", result.verdict
    assert result.found
    group = next((g for g in result.equivalent if result.ranking[0] in g), (result.ranking[0],))
    assert scheme in {m.scheme for m in group}
    assert result.flipped == pytest.approx(share, rel=0.35)
    assert "flipped" in result.verdict


def test_noise_and_wrong_sign(rng: np.random.Generator) -> None:
    acc, output, multiplier = made("double-up", rng, count=8000)
    flipped = rng.random(acc.size) < 0.02
    noisy = np.where(flipped, output + 1, output).clip(-128, 127)
    result = qe.identify(acc, noisy, multiplier=multiplier, zero_point=7)
    assert result.kind == "sign"
    assert result.corrected is not None
    assert result.corrected.kind == "noise"
    assert result.corrected.ranking[0].scheme == "double-up"


def test_random_outputs_are_nothing(rng: np.random.Generator) -> None:
    acc, _, multiplier = made("single", rng)
    result = qe.identify(acc, rng.integers(-128, 128, acc.size), multiplier=multiplier, zero_point=-7)
    assert result.kind == "none"
    assert not result.found
    assert result.correction is None
    assert result.remaining == ()


def test_unlisted_arithmetic_is_not_noise(rng: np.random.Generator) -> None:
    """Half toward zero: wrong at ties alone."""
    acc, output, _ = made("half-away", rng, count=8000)
    product = acc * (5 / 256)
    tie = product - np.floor(product) == 0.5
    output = np.where(tie, np.trunc(product) - 7, output.astype(np.int64)).clip(-128, 127).astype(np.int64)
    result = qe.identify(acc, output, multiplier=5 / 256, zero_point=-7)
    assert result.kind in ("unlisted", "none")
    assert not result.found


# --- blocks, back ends, forms ------------------------------------------------------------------------------------


def test_blocks_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = committed()["litert230_FC_perchannel_ref"]
    whole = identified(columns, "int8").to_dict()
    monkeypatch.setattr(room, "BLOCK", 37)
    assert identified(columns, "int8").to_dict() == whole


def test_back_ends_agree() -> None:
    columns = committed()["litert230_CONV2D_perchannel_xnnpack"]
    assert identified(columns, "int8", backend="reference").to_dict() == identified(columns, "int8").to_dict()


def test_restricted_candidates() -> None:
    columns = committed()["litert230_FC_pertensor_opt"]
    result = identified(columns, "int8", schemes=["ruy-x86", "single"], recipes="double")
    assert {(m.scheme, m.recipe) for m in result.ranking} == {("double-up", "double"), ("single", "double")}
    assert not result.found, "it runs with the recipe 'float-product'"


def test_raw_outputs(rng: np.random.Generator) -> None:
    acc = rng.integers(-(2**20), 2**20, 4000).astype(np.int32)
    output = qe.requantize(acc, 0.3, scheme="double-up", zero_point=300)
    result = qe.identify(acc, output, multiplier=0.3, zero_point=300, dtype=None)
    assert result.clamped == 0
    assert result.ranking[0].scheme == "double-up"
    assert result.dtype == "int32"


def test_48_bit_accumulators(rng: np.random.Generator) -> None:
    acc = rng.integers(-(2**46), 2**46, 2000)
    multiplier = qe.QuantizedMultiplier(3 << 29, -31)
    output = qe.requantize(acc, multiplier, scheme="int16x8", dtype="int16")
    result = qe.identify(acc, output, multiplier=multiplier, dtype="int16")
    assert result.ranking[0].scheme == "int16x8"
    assert result.ranking[0].mismatches == 0
    single = next(m for m in result.ranking if m.scheme == "single")
    assert single.outside == sum((acc < -(2**31)) | (acc > 2**31 - 1)) - result.clamped or single.outside > 0


def test_to_dict_is_json_and_str_is_a_table() -> None:
    result = identified(committed()["litert230_FC_pertensor_opt"], "int8")
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["ranking"][0]["scheme"] == "double-up"
    assert data["ranking"][0]["recipe"] == "float-product"
    assert data["ranking"][0]["runs_in"]
    text = str(result)
    for row in qe.schemes():
        assert row.name in text
    assert "float-product" in text


def test_speed(shared: Path) -> None:
    """8,000 rows, every scheme and recipe: within a second once the kernels are compiled."""
    rows = read_rows(shared / "golden" / "litert230_CONV2D_perchannel_opt.npz")
    identify_rows(rows)
    best = min(_seconds(rows) for _ in range(3))
    assert best < 1


def _seconds(rows: Rows) -> float:
    begun = time.perf_counter()
    identify_rows(rows)
    return time.perf_counter() - begun


def test_rows_are_never_written(rng: np.random.Generator) -> None:
    acc, output, multiplier = made("double", rng, 200)
    zero = np.full(200, -7)
    for array in (acc, output, zero):
        array.flags.writeable = False
    before = [array.copy() for array in (acc, output, zero)]
    qe.identify(acc, output, multiplier=multiplier, zero_point=zero, qmin=-100)
    assert all(np.array_equal(a, b) for a, b in zip(before, (acc, output, zero), strict=True))


def test_part_keeps_the_rows() -> None:
    rows = make_rows(np.arange(5), [0] * 5, qe.QuantizedMultiplier([1 << 30] * 5, [0, -1, -2, -3, -4]), qmax=[9] * 5)
    part = rows.part(slice(3, 5))
    assert part.size == 2
    assert part.clamp(1) == (-128, 9)
    assert part.real(0) == 2.0**-4
    assert dataclasses.replace(part, name="other").place(1) == "row 1"
