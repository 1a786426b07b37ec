"""Recorded outputs of real runtimes, quantize and dequantize: 0 mismatches.

A part of every file is committed (`tests/data/golden_affine.npz`, see the README beside it); the whole files are
tested where ../shared lies beside the repository.
"""

from pathlib import Path

import numpy as np
import pytest

import qengine as qe

from . import oracle

COMMITTED = Path(__file__).parents[1] / "data" / "golden_affine.npz"
COLUMNS = ("input", "scale", "zero_point", "output")


def _files():
    """Which convention each recorded operator runs."""
    files = {}
    for tag, optimized in (("litert230", "tflite-opt"), ("litert230arm", "tflite-opt-arm")):
        for operator in ("QUANTIZE_f32i8", "DEQUANTIZE_i8f32"):
            files |= {
                f"{tag}_{operator}_xnnpack": "xnnpack",
                f"{tag}_{operator}_opt": optimized,
                f"{tag}_{operator}_ref": "tflite-ref",
            }
    for sign in ("s8", "u8"):
        for tag in ("ort1311", "ort1311arm"):
            files |= {f"{tag}_QuantizeLinear_{sign}": "onnx", f"{tag}_DequantizeLinear_{sign}": "onnx"}
        files |= {
            f"torch213_quantize_per_tensor_{sign}": "torch",
            f"torch213_dequantize_{sign}": "torch",
            f"torch213_fake_quantize_per_tensor_{sign}": "torch-fake",
        }
    return files


FILES = _files()


def is_dequantization(name):
    return "DEQUANTIZE" in name.upper()


def columns_of(path):
    """The columns of a full file, under the names of the committed part."""
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    names = {"scale": ("in_scale", "out_scale"), "zero_point": ("in_zp", "out_zp", "zero_point")}
    for name, candidates in names.items():
        (columns[name],) = [columns[c] for c in candidates if c in columns]
    return {name: columns[name] for name in COLUMNS}


def check(name, columns, convention, backend):
    """Every row has a scale of its own: one call with a channel a row, then some rows alone."""
    x, scale, zero_point, output = (columns[column] for column in COLUMNS)
    qmin = 0 if name.endswith("u8") else -128
    p = qe.QuantParams(scale, zero_point.astype(np.int64), qmin, qmin + 255, axis=0)
    if is_dequantization(name):
        call, x, dtype = qe.dequantize, x.astype(np.int64), np.dtype(np.float32)
    else:
        call, dtype = qe.quantize, p.dtype
    got = call(x, p, convention=convention, backend=backend)
    bad = np.flatnonzero(got.astype(dtype) != output)
    assert not bad.size, f"{bad.size} of {x.size} rows differ; first {bad[0]}: " + ", ".join(
        f"{column}={columns[column][bad[0]]!r}" for column in COLUMNS
    )
    assert got.dtype == dtype
    for k in range(0, x.size, max(1, x.size // 50)):
        alone = qe.QuantParams(scale[k], int(zero_point[k]), qmin, qmin + 255)
        assert call(x[k], alone, convention=convention, backend=backend) == output[k]
        row = oracle.ALIASES.get(convention, convention)
        if is_dequantization(name):
            assert float(oracle.value(x[k], scale[k], zero_point[k], row)) == output[k]
        else:
            assert oracle.quantize(x[k], scale[k], int(zero_point[k]), qmin, qmin + 255, row) == output[k]


@pytest.fixture(scope="module")
def committed():
    with np.load(COMMITTED) as archive:
        names, source = archive["names"], archive["source"]
        columns = {name: archive[name] for name in COLUMNS}
    return {str(name): {c: a[source == k] for c, a in columns.items()} for k, name in enumerate(names)}


def test_the_committed_part_is_whole(committed):
    assert set(committed) == set(FILES)
    assert all(columns["input"].size == 400 for columns in committed.values())
    assert COMMITTED.stat().st_size < 200_000


@pytest.mark.parametrize("name", FILES)
def test_committed_rows(name, backend, committed):
    check(name, committed[name], FILES[name], backend)


@pytest.mark.parametrize("name", FILES)
def test_full_files(name, backend, shared):
    check(name, columns_of(shared / "golden" / f"{name}.npz"), FILES[name], backend)


@pytest.mark.parametrize("name", FILES)
def test_committed_rows_are_rows_of_the_full_files(name, shared, committed):
    columns = columns_of(shared / "golden" / f"{name}.npz")
    full = set(zip(*(columns[column].tolist() for column in COLUMNS), strict=True))
    assert set(zip(*(committed[name][column].tolist() for column in COLUMNS), strict=True)) <= full


def wrong_conventions():
    """Every convention whose arithmetic is another than that which the file's operator runs."""
    for name, convention in FILES.items():
        right = oracle.CONVENTIONS[oracle.ALIASES.get(convention, convention)]
        for other, row in oracle.CONVENTIONS.items():
            if row.symmetric:
                continue  # demands zero point 0
            if is_dequantization(name):
                # float64 products of 8-bit codes and float32 scales are exact: the same after rounding once
                if row.value is not right.value and other != "calculator":
                    yield name, other
            elif (row.scaled, row.inside, row.rule) != (right.scaled, right.inside, right.rule):
                yield name, other


@pytest.mark.parametrize(("name", "other"), list(wrong_conventions()))
def test_the_committed_rows_tell_conventions_apart(name, other, committed):
    """A wrong convention fails on them: the part was chosen where conventions disagree."""
    with pytest.raises(AssertionError, match="rows differ"):
        check(name, committed[name], other, "cpu")
