"""Recorded outputs of real runtimes: 0 mismatches.

A part of every file is committed (`tests/data/golden_requantize.npz`, see the README beside it); the whole
files are tested where ../shared lies beside the repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe

COMMITTED = Path(__file__).parents[1] / "data" / "golden_requantize.npz"
COLUMNS = ("acc", "in_scale", "w_scale", "out_scale", "zero_point", "output")


class Runs(NamedTuple):
    """What the recorded operator runs."""

    scheme: str
    dtype: str = "int8"
    recipe: str | None = None
    overflow: str = "error"


def _files() -> dict[str, Runs]:
    wrap = {"overflow": "wrap"}
    files = {}
    for variant in ("perchannel", "pertensor"):
        product = "float-product" if variant == "pertensor" else None
        files |= {
            f"litert230_CONV2D_{variant}_xnnpack": Runs("fp32", **wrap),
            f"litert230_CONV2D_{variant}_opt": Runs("double-up", **wrap),
            f"litert230_CONV2D_{variant}_ref": Runs("double", **wrap),
            f"litert230_FC_{variant}_xnnpack": Runs("fp32", **wrap),
            f"litert230_FC_{variant}_opt": Runs("double-up", recipe=product, **wrap),
            f"litert230_FC_{variant}_ref": Runs("fp64-away", **wrap),
        }
    files |= {
        "litert230_DWCONV_perchannel_xnnpack": Runs("fp32"),
        "litert230_DWCONV_perchannel_opt": Runs("double-up", **wrap),
        "litert230_DWCONV_perchannel_ref": Runs("double", **wrap),
    }
    # XNNPACK takes no int16x8 operator: those files equal the builtin optimized kernel.
    for path in ("xnnpack", "opt", "ref"):
        files |= {
            f"litert230_CONV_i16x8_biasint64_{path}": Runs("int16x8", "int16"),
            f"litert230_DW_i16x8_biasint64_{path}": Runs("int16x8", "int16"),
            f"litert230_FC_perch_i16x8_biasint64_{path}": Runs("fp64-away", "int16", **wrap),
            f"litert230_CONV_i16x8_biasint32_{path}": Runs("double" if path == "ref" else "double-up", "int16", **wrap),
            f"litert230_FC_perch_i16x8_biasint32_{path}": Runs(
                "fp64-away" if path == "ref" else "double-up", "int16", **wrap
            ),
        }
    for variant in ("percol", "pertensor"):
        files |= {
            f"torch213_quantized_linear_fbgemm_{variant}": Runs("fp32", "uint8"),
            f"torch213_quantized_linear_x86_{variant}": Runs("fp32", "uint8"),
            f"torch213_quantized_linear_qnnpack_{variant}": Runs("fp32-qnnpack", "uint8"),
        }
    for inputs, dtype in (("s8s8", "int8"), ("u8s8", "uint8")):
        files |= {
            f"ort1311_QLinearConv_{inputs}_perch": Runs("fp32", dtype),
            f"ort1311_QLinearConv_depthwise_{inputs}": Runs("fp32", dtype),
            f"ort1311_QLinearMatMul_{inputs}_percol": Runs("fp32", dtype),
            f"ort1311_QLinearMatMul_{inputs}_pertensor": Runs("fp32", dtype),
        }
    return files | _quantize_files("litert230")


def _quantize_files(tag: str) -> dict[str, Runs]:
    """QUANTIZE int8 to int8: a requantization of ``input - in_zp`` with a weight scale of 1."""
    schemes = {"xnnpack": "vcvt", "opt": "double-up", "ref": "double"}
    return {f"{tag}_QUANTIZE_i8i8_{path}": Runs(scheme) for path, scheme in schemes.items()}


FILES = _files()
ARM_FILES = _quantize_files("litert230arm")


def columns_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The columns of a full file, those of QUANTIZE put as the other operators' are."""
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    if "input" in columns:
        columns["acc"] = columns["input"].astype(np.int32) - columns["in_zp"]
        columns["w_scale"] = np.ones(columns["acc"].size, np.float32)
        columns["zero_point"] = columns["out_zp"]
    return columns


def check(columns: Mapping[str, npt.NDArray[Any]], runs: Runs, backend: str) -> None:
    """Every row has scales of its own: one call with per-element multipliers, then some rows alone."""
    acc, in_scale, w_scale, out_scale, zero_point, output = (columns[name] for name in COLUMNS)
    options = {**runs._asdict(), "backend": backend}
    y = qe.requantize_scales(acc, in_scale, w_scale, out_scale, zero_point=zero_point, **options)
    assert y.dtype == runs.dtype
    bad = np.flatnonzero(y != output)
    assert not bad.size, (
        f"{bad.size} of {y.size} rows differ; first {bad[0]}: "
        + ", ".join(f"{name}={columns[name][bad[0]]!r}" for name in COLUMNS)
        + f", got {y[bad[0]]}"
    )
    for k in range(0, acc.size, max(1, acc.size // 50)):
        one = qe.requantize_scales(
            acc[k : k + 1], in_scale[k], w_scale[k], out_scale[k], zero_point=int(zero_point[k]), **options
        )
        assert one.tolist() == [int(output[k])]


@pytest.fixture(scope="module")
def committed() -> dict[str, dict[str, npt.NDArray[Any]]]:
    with np.load(COMMITTED) as archive:
        names, source = archive["names"], archive["source"]
        columns = {name: archive[name] for name in (*COLUMNS, "kind")}
    return {str(name): {c: a[source == k] for c, a in columns.items()} for k, name in enumerate(names)}


def test_the_committed_part_is_whole(committed: dict[str, dict[str, npt.NDArray[Any]]]) -> None:
    assert set(committed) == set(FILES)
    assert all(columns["acc"].size == 400 for columns in committed.values())
    assert COMMITTED.stat().st_size < 300_000


@pytest.mark.parametrize("name", FILES)
def test_committed_rows(name: str, backend: str, committed: dict[str, dict[str, npt.NDArray[Any]]]) -> None:
    check(committed[name], FILES[name], backend)


@pytest.mark.parametrize("name", [*FILES, *ARM_FILES])
def test_full_files(name: str, backend: str, shared: Path) -> None:
    check(columns_of(shared / "golden" / f"{name}.npz"), {**FILES, **ARM_FILES}[name], backend)


@pytest.mark.parametrize("name", FILES)
def test_committed_rows_are_rows_of_the_full_files(
    name: str, shared: Path, committed: dict[str, dict[str, npt.NDArray[Any]]]
) -> None:
    columns = columns_of(shared / "golden" / f"{name}.npz")
    full = set(zip(*(columns[column].tolist() for column in COLUMNS), strict=True))
    kinds = set(columns["kind"].tolist()) if "kind" in columns else {0}
    assert set(zip(*(committed[name][column].tolist() for column in COLUMNS), strict=True)) <= full
    assert set(committed[name]["kind"].tolist()) == kinds


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("litert230_CONV2D_perchannel_ref", Runs("double-up", overflow="wrap")),
        ("litert230_CONV2D_perchannel_ref", Runs("single", overflow="wrap")),
        ("litert230_CONV2D_perchannel_ref", Runs("floor-port", overflow="wrap")),
        ("litert230_CONV2D_perchannel_opt", Runs("double", overflow="wrap")),
        ("litert230_CONV2D_perchannel_xnnpack", Runs("fp32")),
        ("litert230_CONV2D_perchannel_xnnpack", Runs("fp32", recipe="float32-of-double", overflow="wrap")),
        ("litert230_CONV2D_perchannel_xnnpack", Runs("single", overflow="wrap")),
        ("litert230_DWCONV_perchannel_xnnpack", Runs("fp32", overflow="wrap")),
        ("litert230_FC_pertensor_opt", Runs("double-up", overflow="wrap")),
        ("litert230_FC_perchannel_ref", Runs("double", overflow="wrap")),
        ("torch213_quantized_linear_qnnpack_percol", Runs("fp32", "uint8")),
        ("torch213_quantized_linear_fbgemm_percol", Runs("fp32-qnnpack", "uint8")),
        ("ort1311_QLinearConv_u8s8_perch", Runs("fp32-away", "uint8")),
        ("litert230_QUANTIZE_i8i8_xnnpack", Runs("single")),
        ("litert230_QUANTIZE_i8i8_xnnpack", Runs("rndnu")),
        ("litert230_QUANTIZE_i8i8_xnnpack", Runs("fp32")),
        ("litert230_QUANTIZE_i8i8_opt", Runs("vcvt")),
        ("litert230_QUANTIZE_i8i8_opt", Runs("double")),
        ("litert230_QUANTIZE_i8i8_ref", Runs("double-up")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.scheme}-{value.recipe}-{value.overflow}",
)
def test_the_committed_rows_tell_schemes_apart(
    name: str, other: Runs, committed: dict[str, dict[str, npt.NDArray[Any]]]
) -> None:
    """A wrong scheme, recipe or overflow rule fails on them: the part was chosen where schemes disagree."""
    with pytest.raises(AssertionError, match="rows differ"):
        check(committed[name], other, "cpu")
