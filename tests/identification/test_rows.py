"""Columns from arrays and files: what is read, and what bad input says."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.identification.identify import identify_rows
from qengine.identification.row_files import output_dtype, read_rows
from qengine.identification.rows import make_rows

HEADER = "acc,in_scale,w_scale,out_scale,zero_point,output"
LINES = ("585,0.05296124517917633,0.024093778803944588,0.11484327912330627,-126,-120", "-585,0.5,0.5,1,3,-128")
TENTH = qe.QuantizedMultiplier(1717986918, -3)


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(qe.InputFileError) as caught:
        read_rows(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    return text


# --- what is read -----------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path / "a.csv", HEADER, LINES[0], "", LINES[1]))
    assert rows.acc.tolist() == [585, -585]
    assert rows.output.tolist() == [-120, -128]
    assert rows.zero_point.tolist() == [-126, 3]
    assert rows.scales is not None
    assert rows.scales[0].tolist() == [np.float32(0.05296124517917633), 0.5]
    assert rows.dtype == np.int8
    assert rows.name == "a.csv"
    assert [rows.place(k) for k in range(2)] == ["line 2", "line 4"]


def test_names_of_columns(tmp_path: Path) -> None:
    """Names of the project's other files; columns in any order; others are ignored."""
    header = "layer,output_zero_point,output_scale,weight_scale,input_scale,accumulator,output"
    rows = read_rows(written(tmp_path / "a.csv", header, "conv,-3,0.5,0.25,1,-7,9"))
    assert rows.scales is not None
    assert [float(s[0]) for s in rows.scales] == [1.0, 0.25, 0.5]
    assert (rows.acc[0], rows.zero_point[0], rows.output[0]) == (-7, -3, 9)


def test_multipliers(tmp_path: Path) -> None:
    fixed = read_rows(
        written(tmp_path / "a.csv", "acc,multiplier,shift,output", "5,1717986918,-3,1", "15,1073741824,-1,4")
    )
    assert isinstance(fixed.multiplier, qe.QuantizedMultiplier)
    assert fixed.multiplier.value.tolist() == [1717986918, 1 << 30]
    assert fixed.real(1) == 0.25
    assert fixed.zero_point.tolist() == [0, 0]
    real = read_rows(written(tmp_path / "b.csv", "acc,multiplier,output", "5,0.1,1"))
    assert real.multiplier.tolist() == [0.1]  # type: ignore[union-attr]


def test_npz_with_scalars(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(
        path, acc=np.arange(4, dtype=np.int32), output=np.zeros(4, np.int8), multiplier=0.1, zero_point=-3, other="x"
    )
    rows = read_rows(path)
    assert rows.zero_point.tolist() == [-3] * 4
    assert rows.place(3) == "row 3"
    assert read_rows(path, dtype="int16").dtype == np.int16


def test_given_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "acc,output", "5,1", "15,2")
    rows = read_rows(path, given={"multiplier": 1717986918, "shift": -3, "zero_point": 4, "qmax": 9})
    assert rows.zero_point.tolist() == [4, 4]
    assert rows.clamp(0) == (-128, 9)
    assert "leave one out" in refusal(
        written(tmp_path / "b.csv", "acc,output,zero_point", "5,1,0"), given={"multiplier": 0.1, "zero_point": 4}
    )


def test_quantize_operators(tmp_path: Path) -> None:
    """Codes in, codes out: the accumulator is the difference from the input zero point."""
    path = tmp_path / "q.npz"
    np.savez(
        path, input=np.array([-128, 127], np.int8), in_zp=np.array([3, -3]), in_scale=np.float32(0.5),
        out_scale=np.float32(0.25), out_zp=np.array([1, 2]), output=np.array([-128, 127], np.int8),
    )  # fmt: skip
    rows = read_rows(path)
    assert rows.acc.tolist() == [-131, 130]
    assert rows.zero_point.tolist() == [1, 2]
    assert rows.scales is not None
    assert rows.scales[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "zero", "name"),
    [
        (np.array([1], np.int8), 0, "int8"),
        (np.array([1], np.uint8), 0, "uint8"),
        (np.array([0, 255], np.int16), 128, "uint8"),
        (np.array([-1, 127], np.int16), 0, "int8"),
        (np.array([0, 100]), 200, "uint8"),
        (np.array([-1, 200]), 0, "int16"),
        (np.array([0, 40_000]), 0, "int32"),
    ],
)
def test_type_of_outputs(values: Any, zero: int, name: str) -> None:
    assert output_dtype(values, np.array(zero)) == name


def test_activations(tmp_path: Path) -> None:
    """TFLite: zero_point + round(bound / scale), half away; 6 / 0.048 is 125, 1 / 0.4 a tie."""
    lines = [
        "5,NONE,1,1,0.048,-10,0",
        "5,relu,1,1,0.048,-10,0",
        "5,RELU6,1,1,0.048,-10,0",
        "5,RELU_N1_TO_1,1,1,0.4,4,0",
    ]
    rows = read_rows(
        written(tmp_path / "a.csv", "acc,activation,in_scale,w_scale,out_scale,zero_point,output", *lines), dtype="int8"
    )
    assert [rows.clamp(k) for k in range(4)] == [(-128, 127), (-10, 127), (-10, 115), (1, 7)]
    bad = written(tmp_path / "b.csv", "acc,activation,in_scale,w_scale,out_scale,output", "5,GELU,1,1,1,0")
    assert "line 2: activation must be one of NONE, RELU, RELU6, RELU_N1_TO_1; got 'GELU'" in refusal(bad)
    assert "needs the column out_scale" in refusal(
        written(tmp_path / "c.csv", "acc,activation,multiplier,output", "5,RELU,0.5,0")
    )
    assert "keep one of the two" in refusal(
        written(tmp_path / "d.csv", "acc,activation,qmin,in_scale,w_scale,out_scale,output", "5,RELU,0,1,1,1,0")
    )


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    acc = np.arange(-2000, 2000, dtype=np.int32)
    output = qe.requantize(acc, TENTH, scheme="double", zero_point=-5, dtype="int8")
    size = acc.size
    columns = {
        "acc": acc, "output": output, "multiplier": np.full(size, 1717986918), "shift": np.full(size, -3),
        "zero_point": np.full(size, -5), "activation": ["x"] * size, "note": ["n"] * size,
    }  # fmt: skip
    parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if k != "activation"}), tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert rows.dtype == np.int8
    assert "double" in {m.scheme for m in identify_rows(rows).remaining}
    parquet.write_table(
        pyarrow.table({"acc": [1, None], "output": [1, 1], "multiplier": [0.5, 0.5]}), tmp_path / "b.parquet"
    )
    assert "row 1: acc must not be null" in refusal(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 but not really")
    assert "not a readable Parquet file" in refusal(tmp_path / "c.parquet")


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(qe.BackendError, match=r"qengine-numerics\[parquet\]"):
        read_rows(tmp_path / "a.parquet")


# --- bad files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((), "line 1: a header with the names of the columns is required"),
        ((HEADER,), "no rows below the header"),
        ((HEADER, LINES[0] + ",7"), "line 2: 7 cells where the header has 6"),
        ((HEADER, LINES[0], LINES[1].replace("-585", "1.5")), "line 3: acc must be an integer that fits int64; got '"),
        ((HEADER, LINES[0], LINES[1].replace("-585", "1_000")), "line 3: acc must be an integer"),
        ((HEADER, LINES[0], LINES[1].replace("-585", "9" * 30)), "line 3: acc must be an integer that fits int64"),
        ((HEADER, LINES[0], LINES[1].replace("-585", str(2**60))), "line 3: acc must have at most 48 bits"),
        ((HEADER, LINES[0], LINES[1].replace("0.5,0.5", "0.5,x")), "line 3: w_scale must be a number; got 'x'"),
        ((HEADER, LINES[0], LINES[1].replace("0.5,0.5", "0,0.5")), "line 3: in_scale must be finite, > 0"),
        ((HEADER, LINES[0], LINES[1].replace("0.5,0.5", "nan,0.5")), "line 3: in_scale must be finite, > 0"),
        ((HEADER, LINES[0], LINES[1].replace("0.5,0.5", "0.5,1e-60")), "line 3: w_scale must be finite, > 0"),
        ((HEADER, LINES[0], LINES[1].replace("0.5,0.5", "0.5,")), "line 3: w_scale must be a number; got ''"),
        ((HEADER.replace("zero_point", "acc"), LINES[0]), "line 1: the column 'acc' is there twice"),
        ((HEADER.replace("w_scale", "x"), LINES[0]), "no column w_scale; needed are in_scale, w_scale, out_scale"),
        ((HEADER.replace("acc", "x"), LINES[0]), "there is no column 'acc' of accumulators; it has"),
        ((HEADER.replace("output", "x"), LINES[0]), "there is no column 'output' of recorded outputs; it has acc"),
        (("acc,multiplier,in_scale,output", "1,0.5,0.5,1"), "has a multiplier and the scales in_scale"),
        (("acc,multiplier,output", "1,-0.5,1"), "line 2: multiplier must be finite and not negative; got -0.5"),
        (("acc,multiplier,shift,output", "1,0.5,0,1"), "line 2: multiplier must be an integer"),
        (("acc,multiplier,shift,output", "1,-7,0,1"), "multiplier value must be in [0, 2147483647]"),
        (("acc,shift,in_scale,w_scale,out_scale,output", "1,0,1,1,1,1"), "'shift' needs a column 'multiplier'"),
        (("acc,multiplier,qmin,qmax,output", "1,0.5,3,9,3", "1,0.5,4,3,3"), "line 3: qmin must not exceed qmax; got 4"),
    ],
)  # fmt: skip
def test_bad_csv(lines: tuple[str, ...], text: str, tmp_path: Path) -> None:
    assert text in refusal(written(tmp_path / "a.csv", *lines))


def test_types_that_do_not_hold_the_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "acc,multiplier,zero_point,output", "1,0.5,0,1", "1,0.5,0,200")
    assert "line 3: output must be in [-128, 127], the type int8" in refusal(path, dtype="int8")
    path = written(tmp_path / "b.csv", "acc,multiplier,zero_point,output", "1,0.5,-200,1")
    assert "line 2: zero_point must be in [-128, 127]" in refusal(path, dtype="int8")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "a.csv")
    assert "must end in .csv, .npz or .parquet" in refusal(written(tmp_path / "a.txt", HEADER, *LINES))
    (tmp_path / "folder.csv").mkdir()
    assert "this is a folder" in refusal(tmp_path / "folder.csv")
    (tmp_path / "b.csv").write_bytes(b"acc,output\n\xff\xfe,1\n")
    assert "cannot be read as text" in refusal(tmp_path / "b.csv")


def test_bad_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 nonsense")
    assert "not a readable .npz file" in refusal(path)
    np.savez(path, acc=np.array([None, 1], object), output=np.zeros(2, np.int8), multiplier=0.5)
    assert "not a readable .npz file" in refusal(path)
    np.savez(path, acc=np.zeros(3, np.int32), output=np.zeros(2, np.int8), multiplier=0.5)
    assert "columns must have one length; got acc 3, output 2" in refusal(path)
    np.savez(path, acc=np.zeros(2), output=np.zeros(2, np.int8), multiplier=0.5)
    assert "acc must hold integers; got dtype float64" in refusal(path)
    np.savez(path, input=np.zeros(2), in_zp=0, in_scale=1.0, out_scale=1.0, output=np.zeros(2, np.int8))
    assert "input must hold integers" in refusal(path)
    np.savez(path, acc=np.zeros(0, np.int32), output=np.zeros(0, np.int8), multiplier=0.5)
    assert "there are no rows" in refusal(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "not a readable .npz file" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("acc.npy", b"\x93NUMPY\x01\x00")
        archive.writestr("output.npy", b"")
    assert "not a readable .npz file" in refusal(path)


# --- bad arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, qe.DomainError, "exactly one of the two"),
        ({"multiplier": 0.5, "scales": (1, 1, 1)}, qe.DomainError, "exactly one of the two"),
        ({"scales": (1, 1)}, qe.DomainError, r"scales must be \(input, weight, output\)"),
        ({"scales": (1, [0.5, 0.0], 1)}, qe.DomainError, "row 1: w_scale must be finite, > 0"),
        ({"multiplier": [0.5, np.inf]}, qe.DomainError, "row 1: multiplier must be finite and not negative; got inf"),
        ({"multiplier": "0.5"}, qe.DTypeError, "multiplier must hold real numbers"),
        ({"multiplier": 0.5, "acc": [1.0, 2.0]}, qe.DTypeError, "acc must hold integers; got dtype float64"),
        ({"multiplier": 0.5, "acc": [True, False]}, qe.DTypeError, "acc must hold integers; got dtype bool"),
        (
            {"multiplier": 0.5, "acc": np.array([1, 2**63], np.uint64)},
            qe.DomainError,
            "row 1: acc must have at most 48",
        ),
        ({"multiplier": 0.5, "acc": [1, -(2**47) - 1]}, qe.DomainError, "row 1: acc must have at most 48 bits"),
        ({"multiplier": 0.5, "output": [1, 128]}, qe.DomainError, "row 1: output must be in .*; got 128"),
        ({"multiplier": 0.5, "zero_point": [0, -129]}, qe.DomainError, "row 1: zero_point must be in .*; got -129"),
        ({"multiplier": 0.5, "qmax": 300}, qe.DomainError, "row 0: qmax must be in"),
        ({"multiplier": 0.5, "acc": [1, 2, 3]}, qe.DomainError, r"do not broadcast: acc \(3,\), output \(2,\)"),
        ({"multiplier": 0.5, "dtype": "int4"}, qe.DTypeError, "dtype must be int8, uint8, int16, or None"),
        ({"multiplier": 0.5, "dtype": "float32"}, qe.DTypeError, "dtype must be int8, uint8, int16, or None"),
        ({"multiplier": 0.5, "acc": [], "output": []}, qe.DomainError, "there are no rows"),
        ({"multiplier": 0.5, "schemes": "doubel"}, qe.UnknownNameError, "did you mean 'double'"),
        ({"multiplier": 0.5, "schemes": []}, qe.DomainError, "schemes must name at least one; got none"),
        ({"multiplier": 0.5, "recipes": "double"}, qe.DomainError, "recipes need scales"),
        ({"scales": (1, 1, 2), "recipes": "dubble"}, qe.UnknownNameError, "unknown recipe 'dubble'"),
        ({"scales": (1, 1, 2), "recipes": []}, qe.DomainError, "recipes must name at least one; got none"),
        ({"multiplier": 0.5, "backend": "gpu"}, qe.UnknownNameError, "unknown back end 'gpu'"),
    ],
)
def test_bad_arrays(options: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"acc": [1, -1], "output": [1, 0], **options}
    with pytest.raises(error, match=text):
        qe.identify(arguments.pop("acc"), arguments.pop("output"), **arguments)


def test_ends_of_the_types() -> None:
    rows = make_rows(np.array([2**47 - 1, -(2**47)]), [-32768, 32767], 0.5, dtype="int16", zero_point=[-32768, 32767])
    assert rows.acc.tolist() == [2**47 - 1, -(2**47)]
    assert rows.limits == (-32768, 32767)


def test_a_scheme_that_overflows_its_recipe_is_not_judged() -> None:
    """in * w underflows in float32: that recipe has no multiplier for the row."""
    tiny = np.float32(1e-30)
    result = qe.identify([1, 5], [0, 1], scales=([tiny, 0.5], [tiny, 0.5], [np.float32(1e-38), 1]), schemes="fp32")
    by_recipe = {m.recipe: m for m in result.ranking}
    assert by_recipe["float32"].outside == 1
    assert by_recipe["double"].outside == 0
