"""Probes: they separate what can be separated, no fewer do, and classes are equal everywhere."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.exact import probes as room
from qengine.exact.probes import Probes

REFERENCE = ("single", "double", "double-up", "half-away", "truncate", "rndnu", "q31", "fp32", "fp64-away")
TENTH = qe.QuantizedMultiplier(1717986918, -3)


def table(schemes: tuple[str, ...], multiplier: Any, low: int, high: int, **options: Any) -> npt.NDArray[np.int64]:
    """What each scheme gives on every accumulator of a closed range, by the reference back end."""
    acc = np.arange(low, high + 1, dtype=np.int32)
    return np.stack(
        [qe.requantize(acc, multiplier, scheme=s, backend="reference", **options).astype(np.int64) for s in schemes]
    )


def fewest(values: npt.NDArray[np.int64]) -> int:
    """The size of the smallest separating set of columns, by trying all sets; every distinct column once."""
    rows = np.unique(values, axis=0)
    i, j = np.triu_indices(len(rows), 1)
    split = np.unique(rows[i] != rows[j], axis=1)
    for size in itertools.count():
        for chosen in itertools.combinations(range(split.shape[1]), size):
            if split[:, chosen].any(axis=1).all():
                return size
    raise AssertionError


def check_classes(p: Probes, values: npt.NDArray[np.int64]) -> None:
    """Classes are the sets of equal rows."""
    groups: dict[bytes, list[str]] = {}
    for name, row in zip(p.names, values, strict=True):
        groups.setdefault(row.tobytes(), []).append(name)
    assert p.classes == tuple(tuple(group) for group in groups.values())
    assert p.inseparable == tuple(tuple(group) for group in groups.values() if len(group) > 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("multiplier", [0.25, 0.1, 1 / 425, 0.75, 0.3333], ids=str)
def test_probes_are_a_smallest_set(multiplier: float, dtype: str) -> None:
    low, high = -3000, 2500
    p = qe.probes(REFERENCE, multiplier, dtype=dtype, acc_range=(low, high), zero_point=3)
    values = table(REFERENCE, multiplier, low, high, dtype=dtype, zero_point=3)
    assert p.names == REFERENCE
    assert p.domain == (low, high)
    check_classes(p, values)
    assert np.array_equal(p.outputs, values[:, p.accumulators - low])
    assert len(np.unique(p.outputs, axis=0)) == len(p.classes)
    assert len(p) == fewest(values)


def test_ends_of_int32_and_every_scheme(rng: np.random.Generator) -> None:
    """Over all of int32: what the probes leave together is equal on random accumulators and about every probe."""
    for real in (2.0**-31, 3e-9, 0.011111111910680305, 0.5, 1.7, 3.0, 200.0):
        p = qe.probes(multiplier=real)
        assert set(p.names) | set(p.refused) == {row.name for row in qe.schemes()}
        low, high = p.domain
        acc = np.concatenate([rng.integers(low, high + 1, 20_000), [low, high, *p.accumulators]]).astype(np.int32)
        outputs = {s: qe.requantize(acc, real, scheme=s, dtype="int8", backend="reference") for s in p.names}
        for group in p.classes:
            for name in group[1:]:
                assert np.array_equal(outputs[group[0]], outputs[name]), (real, group)
        assert np.array_equal(
            np.stack([outputs[s][-len(p) :] if len(p) else outputs[s][:0] for s in p.names]), p.outputs
        )
        assert len({tuple(row) for row in p.outputs.tolist()}) == len(p.classes)


def test_worked_examples() -> None:
    """1/4: a tie at every even accumulator. 0.1: fp32 has ties where the fixed-point multiplier has none."""
    quarter = qe.QuantizedMultiplier(1 << 30, -1)
    p = qe.probes(["single", "double"], quarter)
    assert p.accumulators.tolist() == [1]
    assert p.outputs.tolist() == [[0], [1]]
    assert qe.probes(["single", "half-away"], quarter).accumulators.tolist() == [-2]
    assert qe.probes(["single", "double"], TENTH).accumulators.tolist() == [5]
    assert qe.probes(["single", "fp64-away"], 0.1, acc_range=(-4, 4)).inseparable == (("single", "fp64-away"),)


def test_equal_on_the_whole_domain() -> None:
    """1/90 as the recorded multiplier: 0 of 2^32 accumulators tell single from double in int8."""
    p = qe.probes(["gemmlowp", "single"], qe.QuantizedMultiplier(1527099593, -6))
    assert p.inseparable == (("double", "single"),)
    assert len(p) == 0
    assert p.outputs.shape == (2, 0)
    assert "no accumulator tells" in str(p)
    wide = qe.probes(["single", "double"], qe.QuantizedMultiplier(1527099593, -6), dtype="int16")
    assert wide.inseparable == (("single", "double"),)


def test_recipes_of_scales() -> None:
    issue = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    p = qe.probes(["single", "fp32"], scales=issue, zero_point=-126)
    (acc,) = p
    pair = [int(qe.requantize_scales(acc, *issue, scheme=s, zero_point=-126)) for s in ("single", "fp32")]
    assert p.outputs[:, 0].tolist() == pair
    assert pair[0] != pair[1]
    assert abs(acc) <= 585, "585 is the one of the issue; the smallest in magnitude is taken"
    assert p.multipliers["single"] != p.multipliers["fp32"]


def test_clamps_and_ranges_cut_the_domain() -> None:
    p = qe.probes(["single", "double"], TENTH, qmin=0, qmax=3, acc_range=(6, 1000))
    assert all(6 <= acc <= 1000 for acc in p)
    assert p.outputs.min() >= 0
    assert p.outputs.max() <= 3
    clamped = qe.probes(["single", "double"], TENTH, qmin=0, qmax=3, acc_range=(100, 1000))
    assert clamped.inseparable == (("single", "double"),)


def test_one_scheme_has_no_probe() -> None:
    p = qe.probes("single", 0.1)
    assert p.classes == (("single",),)
    assert list(p) == []


def test_left_out_schemes_say_why() -> None:
    p = qe.probes(["single", "q31", "double"], 1.5)
    assert p.names == ("single", "double")
    assert "q31" in p.refused
    assert "multiplier must be in" in p.refused["q31"]
    assert "left out: q31" in str(p)


def test_search_equals_exhaustion_on_random_tables(rng: np.random.Generator) -> None:
    """Tables that no scheme has: many patterns, three values a piece."""
    for _ in range(60):
        count, pieces = int(rng.integers(2, 7)), int(rng.integers(1, 14))
        values = rng.integers(0, int(rng.integers(2, 4)), (count, pieces))
        values = np.unique(values, axis=0)
        starts = np.arange(pieces, dtype=np.int64) * 7 - 30
        chosen = room._smallest(starts, starts + 6, values)
        at = (chosen + 30) // 7
        assert len(chosen) == fewest(values)
        assert len(np.unique(values[:, at], axis=0)) == len(values)


# --- export -----------------------------------------------------------------------------------------------------


def test_export(tmp_path: Path) -> None:
    p = qe.probes(["single", "double-up", "fp32"], TENTH, zero_point=-5)
    for ending in (".npy", ".csv", ".h"):
        p.save(tmp_path / f"probes{ending}")
    loaded = np.load(tmp_path / "probes.npy")
    assert loaded.dtype == np.int32
    assert loaded.tolist() == p.accumulators.tolist()
    with open(tmp_path / "probes.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["acc", "single", "double-up", "fp32"]
    assert [int(row[0]) for row in rows[1:]] == p.accumulators.tolist()
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == p.outputs.T.tolist()
    with pytest.raises(qe.InputFileError, match=r"\.npy, \.csv, \.h; got the ending '\.txt'"):
        p.save(tmp_path / "probes.txt")
    with pytest.raises(qe.InputFileError, match="cannot be written"):
        p.save(tmp_path / "nowhere" / "probes.npy")


def test_header_compiles_and_holds_the_numbers(tmp_path: Path) -> None:
    """The header as C reads it, with the least int32, which has no literal."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    p = qe.probes(["single", "truncate"], 2.0**-31, acc_range=(-(2**31), -(2**30)))
    assert -(2**31) in p or all(acc <= -(2**30) for acc in p)
    lowest = Probes(
        ("single",), np.array([-(2**31)]), np.array([[-1]]), (("single",),), (-(2**31), 0), {}, 0, "int8", {}
    )  # fmt: skip
    for name, probe in (("a", p), ("b", lowest), ("empty", qe.probes("single", 0.1))):
        (tmp_path / "probes.h").write_text(probe.to_header())
        body = "".join(
            f'  for (int i = 0; i < QENGINE_PROBES; i++) printf("%d ", qengine_probes_{s.replace("-", "_")}[i]);\n'
            for s in (probe.names if len(probe) else ())
        )
        first = 'for (int i = 0; i < QENGINE_PROBES; i++) printf("%d ", qengine_probes[i]);' if len(probe) else ""
        include = '#include <stdio.h>\n#include "probes.h"\n#include "probes.h"\n'
        code = tmp_path / f"{name}.c"
        code.write_text(f"{include}int main(void) {{\n  {first}\n{body}  return 0;\n}}\n")
        flags = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
        command = [compiler, *flags, "-o", str(tmp_path / name), str(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = subprocess.run([str(tmp_path / name)], capture_output=True, text=True, check=True).stdout.split()
        assert list(map(int, printed)) == [*probe.accumulators.tolist(), *probe.outputs.ravel().tolist()]


def test_csv_of_nothing_is_a_header() -> None:
    assert list(csv.reader(io.StringIO(qe.probes("single", 0.1).to_csv()))) == [["acc", "single"]]


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"multiplier": 0.1, "scales": (1, 1, 1)}, qe.DomainError, "one of the two"),
        ({}, qe.DomainError, "one of the two"),
        ({"multiplier": [0.1, 0.2]}, qe.DomainError, "once for each channel"),
        ({"scales": ([0.1, 0.2], 0.1, 0.2)}, qe.DomainError, "once for each channel"),
        ({"multiplier": 0.1, "zero_point": [1, 2]}, qe.DomainError, "once for each channel"),
        ({"multiplier": 0.1, "zero_point": 200}, qe.DomainError, "zero_point must be in"),
        ({"multiplier": 0.1, "dtype": "int32"}, qe.DTypeError, "dtype must be int8, uint8 or int16"),
        ({"multiplier": 0.1, "schemes": ["singel"]}, qe.UnknownNameError, "did you mean 'single'"),
        ({"multiplier": 0.1, "schemes": []}, qe.DomainError, "at least one scheme; got none"),
        ({"multiplier": float("nan")}, qe.DomainError, "must be finite"),
        ({"multiplier": 0.1, "acc_range": (5, 4)}, qe.DomainError, "acc_range must not be empty"),
        ({"multiplier": 0.1, "acc_range": (0, 2**31)}, qe.DomainError, "the highest accumulator must be in"),
        ({"multiplier": 0.1, "acc_range": 7}, qe.DomainError, "acc_range must be \\(lowest, highest\\)"),
        (
            {"multiplier": 8.0, "schemes": ["single", "double"], "acc_range": (2**30, 2**31 - 1)},
            qe.DomainError,
            "leave some",
        ),
        ({"multiplier": 0.1, "qmin": 4, "qmax": 3}, qe.DomainError, "qmin must not exceed qmax"),
        ({"multiplier": 2.0, "schemes": ["q31"]}, qe.DomainError, "no scheme admits these parameters"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        qe.probes(**options)
