"""Every worked example of the scheme catalogue through the public interface."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.requant import recipes

DATA = Path(__file__).parents[1] / "data"
OUTSIDE = "outside-domain"
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


EXAMPLES = rows("schemes_examples.csv")
EXAMPLE_SCHEMES = sorted({row["scheme"] for row in EXAMPLES})


def integer(text: str) -> int | None:
    return int(text) if text else None


def multiplier(row: Row) -> qe.QuantizedMultiplier | float:
    return float(row["real"]) if row["real"] else qe.QuantizedMultiplier(int(row["value"]), int(row["shift"]))


def answer(row: Row, backend: str) -> str:
    """The engine's answer to one row, as the table writes it."""
    try:
        y = qe.requantize(
            int(row["acc"]), multiplier(row), scheme=row["scheme"], zero_point=int(row["zero_point"]),
            qmin=integer(row["qmin"]), qmax=integer(row["qmax"]), backend=backend,
        )  # fmt: skip
    except qe.DomainError:
        return OUTSIDE
    return str(int(y))


def test_every_scheme_has_examples() -> None:
    # fp32-qnnpack is the arithmetic of fp32 with another recipe, which has its own table.
    assert {row.name for row in qe.schemes()} - set(EXAMPLE_SCHEMES) <= {"fp32-qnnpack"}
    assert len(EXAMPLES) > 480


@pytest.mark.parametrize("name", EXAMPLE_SCHEMES)
def test_scheme_examples(name: str, backend: str) -> None:
    wrong = [
        f"{row} gives {got}"
        for row in EXAMPLES
        if row["scheme"] == name and (got := answer(row, backend)) != row["expected"]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", EXAMPLE_SCHEMES)
def test_scheme_examples_in_one_call(name: str, backend: str) -> None:
    """The same rows as arrays: one call for those with (value, shift), one for those with a real number."""
    for key in ("value", "real"):
        chosen = [
            row for row in EXAMPLES
            if row["scheme"] == name and row[key] and not row["qmin"] and row["expected"] != OUTSIDE
        ]  # fmt: skip
        if not chosen:
            continue
        multipliers = (
            np.array([float(row["real"]) for row in chosen])
            if key == "real"
            else qe.QuantizedMultiplier([int(r["value"]) for r in chosen], [int(r["shift"]) for r in chosen])
        )
        y = qe.requantize(
            np.array([int(row["acc"]) for row in chosen]), multipliers, scheme=name,
            zero_point=np.array([int(row["zero_point"]) for row in chosen]), backend=backend,
        )  # fmt: skip
        assert y.tolist() == [int(row["expected"]) for row in chosen]


@pytest.mark.parametrize("name", EXAMPLE_SCHEMES)
def test_examples_hold_under_every_alias(name: str) -> None:
    for alias in qe.get_scheme(name).aliases:
        for row in EXAMPLES:
            if row["scheme"] == name:
                assert answer({**row, "scheme": alias}, "cpu") == row["expected"], (alias, row)


@pytest.mark.parametrize("row", rows("multiplier_examples.csv"), ids=lambda r: f"{r['function']} {r['real']}")
def test_multiplier_examples(row: Row) -> None:
    single = row["function"] == "quantize_multiplier_single"
    wanted = qe.QuantizedMultiplier(int(row["value"]), int(row["shift"]))
    assert qe.quantize_multiplier(float(row["real"]), single_rounding=single) == wanted
    many = qe.quantize_multiplier(np.full((2, 1), float(row["real"])), single_rounding=single)
    assert many.shape == (2, 1)
    assert many.value.tolist() == [[wanted.value]] * 2
    assert many.shift.tolist() == [[wanted.shift]] * 2


@pytest.mark.parametrize("row", rows("recipe_examples.csv"), ids=lambda r: f"{r['source']} {r['recipe']}")
def test_recipe_examples(row: Row) -> None:
    scales = [float(row[name]) for name in ("input_scale", "weight_scale", "output_scale")]
    # float32-widened is float32 whose result a double variable holds: the same number.
    real = recipes.apply("float32" if row["recipe"] == "float32-widened" else row["recipe"], *scales)
    got = qe.quantize_multiplier(real)
    if row["real"]:
        assert real == float(row["real"])
    if row["value"]:
        assert got.value == int(row["value"])
    if row["shift"]:
        assert got.shift == int(row["shift"])


def test_wrapping_examples(backend: str) -> None:
    """The original's int32 left shift wraps: `overflow="wrap"` reproduces it."""
    checked = 0
    for row in rows("primitive_examples.csv"):
        if row["function"] == "double_wrapping":
            acc, value, shift = map(int, row["args"].split())
            m = qe.QuantizedMultiplier(value, shift)
            y = qe.requantize(acc, m, scheme="double", overflow="wrap", backend=backend)
            assert int(y) == int(row["expected"])
            checked += 1
    assert checked
