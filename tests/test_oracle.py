"""The oracle against every worked example of the scheme catalogue; nothing here imports the engine."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import pytest

from tests import oracle

DATA = Path(__file__).parent / "data"
OUTSIDE = "outside-domain"


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _identify(row: dict[str, str]) -> str:
    return " ".join(text for text in row.values() if text)


def _integer(text: str) -> int | None:
    return int(text) if text else None


@pytest.mark.parametrize("row", _rows("schemes_examples.csv"), ids=_identify)
def test_scheme(row: dict[str, str]) -> None:
    def requantize() -> int:
        return oracle.requantize(
            row["scheme"],
            int(row["acc"]),
            multiplier=(int(row["value"]), int(row["shift"])) if row["value"] else None,
            real=float(row["real"]) if row["real"] else None,
            zero_point=int(row["zero_point"]),
            qmin=_integer(row["qmin"]),
            qmax=_integer(row["qmax"]),
        )

    if row["expected"] == OUTSIDE:
        with pytest.raises(oracle.OutsideDomain):
            requantize()
    else:
        assert requantize() == int(row["expected"])


@pytest.mark.parametrize("row", _rows("multiplier_examples.csv"), ids=_identify)
def test_multiplier(row: dict[str, str]) -> None:
    quantize = getattr(oracle, row["function"])
    assert quantize(float(row["real"])) == (int(row["value"]), int(row["shift"]))


@pytest.mark.parametrize("row", _rows("recipe_examples.csv"), ids=_identify)
def test_recipe(row: dict[str, str]) -> None:
    scales = [float(row[name]) for name in ("input_scale", "weight_scale", "output_scale")]
    real = oracle.recipe(row["recipe"], *scales)
    value, shift = oracle.quantize_multiplier(real)
    if row["real"]:
        assert real == float(row["real"])
    if row["value"]:
        assert value == int(row["value"])
    if row["shift"]:
        assert shift == int(row["shift"])


@pytest.mark.parametrize("row", _rows("primitive_examples.csv"), ids=_identify)
def test_primitive(row: dict[str, str]) -> None:
    function = getattr(oracle, row["function"])
    assert function(*map(int, row["args"].split())) == int(row["expected"])


@pytest.mark.parametrize("row", _rows("rounding_examples.csv"), ids=_identify)
def test_rounding(row: dict[str, str]) -> None:
    assert oracle.round_real(row["rounding"], float(row["real"])) == int(row["expected"])


ADD_CHAIN = {
    ((2**30, 0), (1288490141, -1), (1789569773, -19)): {
        (10, 20): 18,
        (-128, 127): -43,
        (3, -8): -2,
        (-7, -7): -9,
    },
    ((2**30, 0), (2**30, 0), (2**30, -19)): {(1, 0): 1, (-1, 0): -1, (3, 0): 2, (-3, 0): -2},
}


@pytest.mark.parametrize(
    ("multipliers", "inputs", "expected"),
    [(multipliers, *case) for multipliers, cases in ADD_CHAIN.items() for case in cases.items()],
)
def test_double_in_the_add_chain(
    multipliers: tuple[tuple[int, int], ...], inputs: tuple[int, int], expected: int
) -> None:
    """TFLite's reference ADD (catalogue 1.8): three roundings of scheme ``double``."""
    first, second, output = multipliers
    total = oracle.requantize("double", inputs[0] << 20, multiplier=first)
    total += oracle.requantize("double", inputs[1] << 20, multiplier=second)
    assert oracle.requantize("double", total, multiplier=output) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Fraction(0), 0.0),
        (Fraction(2**24 + 1), 2.0**24),
        (Fraction(2**24 + 3), 2.0**24 + 4),
        (Fraction(-(2**24 + 3)), -(2.0**24 + 4)),
        (Fraction(1, 2**150), 0.0),
        (Fraction(3, 2**150), 2.0**-148),
        (Fraction(2**128 - 2**104), 2.0**128 - 2.0**104),
        (Fraction(2**128 - 2**103 - 1), 2.0**128 - 2.0**104),
        (Fraction(2**128 - 2**103), float("inf")),
        (Fraction(-(2**200)), float("-inf")),
        (Fraction(2**24 - 1, 2**150), 2.0**-126),
    ],
)
def test_float32_rounding(value: Fraction, expected: float) -> None:
    assert oracle.to_float32(value) == expected


@pytest.mark.parametrize(
    ("scheme", "acc", "options"),
    [
        ("single", 2**31, {"multiplier": (2**30, 0)}),
        ("single", 1, {"multiplier": (2**31, 0)}),
        ("single", 1, {"multiplier": (-1, 0)}),
        ("single", 1, {"multiplier": (2**30, 31)}),
        ("single", 1, {"multiplier": (2**30, -32)}),
        ("single", 2**31 - 1, {"multiplier": (2**30, 2)}),
        ("single", 1, {"real": float("nan")}),
        ("single", 1, {"real": -0.5}),
        ("double", 2**30, {"multiplier": (1, 1)}),
        ("int16x8", 2**47, {"multiplier": (2**30, 0)}),
        ("int16x8", 1, {"multiplier": (2**30, 8)}),
        ("rndnu", 1, {"real": 256.0}),
        ("rndna", 1, {"real": 2.0**-33}),
        ("q31", 1, {"real": 1.0}),
        ("vcvt", 1, {"real": 2.0**-8 * (1 - 2.0**-24)}),
        ("vcvt", 1, {"real": 128.0 * (1 + 2.0**-23)}),
        ("vcvt", 2**30, {"real": 2.0}),
        ("tosa-scale16", 1, {"real": 2.0**13}),
        ("fp32", 2**31 - 1, {"real": 2.0}),
        ("fp64-away", 2**31 - 1, {"real": 2.0, "qmin": -128, "qmax": 127}),
    ],
)
def test_outside_the_domain(scheme: str, acc: int, options: dict[str, object]) -> None:
    with pytest.raises(oracle.OutsideDomain):
        oracle.requantize(scheme, acc, **options)


def test_clamping_schemes_saturate_what_the_raw_form_excludes() -> None:
    assert oracle.requantize("fp32", 2**31 - 1, real=1e30, zero_point=-5, qmin=-128, qmax=127) == 127
    assert oracle.requantize("fp32-zp-inside", -(2**31), real=1e30, zero_point=7, qmin=-128, qmax=127) == -128


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    """Known-answer vectors of the Random123 library."""
    assert oracle.philox4x32_10(counter, key) == expected
