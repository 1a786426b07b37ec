"""Recorded outputs of real runtimes through their profiles: 0 mismatches.

A part of every recording is committed (`tests/data`, see the README there); the whole files are tested where ../shared
lies beside the repository.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.runtimes.fronts import FRONTS
from qengine.runtimes.profiles import PROFILES

from .recordings import COMMITTED, Columns, call_of, committed_part, full_recordings, recordings_of

COMMITTED_ROWS = committed_part()
NAMES = sorted(COMMITTED_ROWS)
#: Their output depends on a shape that was not recorded: the two orders of products share the rows out.
SHAPED = {f"torch213_quantized_linear_onednn_{variant}" for variant in ("percol", "pertensor")}


def check(name: str, columns: Columns, backend: str) -> None:
    call = call_of(name)
    output = columns["output"]
    given = {column: values for column, values in columns.items() if column != "output"}
    got = call.emulate(given, backend=backend)
    assert got.dtype == call.profile().dtype
    wrong = got.astype(output.dtype) != output
    if name in SHAPED:
        wrong &= call._replace(variant=f"{call.variant}-separate").emulate(given, backend=backend) != output
    bad = np.flatnonzero(wrong)
    assert not bad.size, f"{bad.size} of {output.size} rows differ; first {bad[0]}: got {got[bad[0]]}, " + ", ".join(
        f"{column}={np.broadcast_to(values, output.shape)[bad[0]]!r}" for column, values in columns.items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_committed_rows(name: str, backend: str) -> None:
    check(name, COMMITTED_ROWS[name], backend)


@pytest.mark.parametrize("name", NAMES)
def test_full_files(name: str, backend: str, shared: Path) -> None:
    check(name, full_recordings(shared, name), backend)


def test_every_file_has_its_rows(shared: Path) -> None:
    """A new recording has to be named by a profile and committed in part."""
    files = sorted((shared / "golden").glob("*.npz"))
    assert sorted(name for file in files for name, _ in recordings_of(file)) == NAMES
    assert len(files) == 191


def test_the_committed_part_is_whole() -> None:
    assert len(NAMES) == 199
    assert all(columns["output"].size in (240, 400) for columns in COMMITTED_ROWS.values())
    assert COMMITTED.stat().st_size < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_committed_rows_are_rows_of_the_full_files(name: str, shared: Path) -> None:
    full, part = full_recordings(shared, name), COMMITTED_ROWS[name]
    front = FRONTS[call_of(name).profile().front]
    spelled = {column: column if column in full else "zero_point" for column in front.columns}
    size = full["output"].shape
    rows = [np.broadcast_to(full[spelled[column]], size).astype(np.float64).tolist() for column in front.columns]
    known = set(zip(*rows, full["output"].tolist(), strict=True))
    taken = [part[column].astype(np.float64).tolist() for column in front.columns]
    assert set(zip(*taken, part["output"].tolist(), strict=True)) <= known


def arithmetic_of(name: str) -> object:
    return call_of(name).profile().arithmetic


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("litert230arm_ADD_adversarial_opt", "litert230_ADD_ref"),
        ("litert230arm_ADD_adversarial_ref", "litert230_ADD_opt"),
        ("litert230_SUB_xnnpack", "litert230_SUB_ref"),
        ("litert230_ADD_xnnpack", "litert230_ADD_ref"),
        ("litert230_ADD_ref", "litert230_ADD_xnnpack"),
        ("litert230_MUL_opt", "litert230_MUL_ref"),
        ("litert230_MUL_ref", "litert230_MUL_opt"),
        ("litert230_MUL_xnnpack", "litert230arm_MUL_xnnpack"),
        ("litert230arm_MUL_xnnpack", "litert230_MUL_xnnpack"),
        ("litert230_MEAN_keepdims_xnnpack", "litert230arm_MEAN_keepdims_xnnpack"),
        ("litert230arm_MEAN_nokeep_xnnpack", "litert230_MEAN_nokeep_xnnpack"),
        ("litert230_MEAN_keepdims_opt", "litert230_MEAN_nokeep_opt"),
        ("litert230_MEAN_nokeep_ref", "litert230_MEAN_keepdims_opt"),
        ("litert230arm_CONV2D_perchannel_opt", "litert230arm_CONV2D_perchannel-1px_opt"),
        ("litert230arm_CONV2D_perchannel-1px_opt", "litert230arm_CONV2D_perchannel_opt"),
        ("litert230arm_CONV2D_perchannel-sme2_xnnpack", "litert230arm_CONV2D_perchannel_xnnpack"),
        ("litert230arm_CONV2D_perchannel-overflow_xnnpack", "litert230arm_CONV2D_perchannel-sme2_xnnpack"),
        ("litert230arm_CONV2D_u8-cortexa53_xnnpack", "litert230arm_CONV2D_u8_xnnpack"),
        ("litert230arm_CONV2D_u8_xnnpack", "litert230arm_CONV2D_u8-cortexa53_xnnpack"),
        ("litert230arm_DWCONV_perchannel_opt", "litert230arm_DWCONV_perchannel-general5x5_opt"),
        ("litert230arm_DWCONV_perchannel-tailCmod8_opt", "litert230arm_DWCONV_perchannel-general5x5_opt"),
        ("litert230arm_DWCONV_u8-3x3_opt", "litert230arm_DWCONV_u8-5x5_opt"),
        ("litert230arm_FC_perchannel_ref", "litert230_FC_perchannel_ref"),
        ("litert230arm_FC_pertensor-1row_opt", "litert230arm_FC_perchannel-1row_opt"),
        ("ort1311_QLinearAdd_s8", "ort1311arm_QLinearAdd_s8"),
        ("ort1311arm_QLinearAdd_u8", "ort1311_QLinearAdd_u8"),
        ("litert230arm_DEQUANTIZE_i8f32_opt", "litert230_DEQUANTIZE_i8f32_opt"),
    ],
)
def test_the_committed_rows_tell_profiles_apart(name: str, other: str) -> None:
    """Another path's arithmetic fails on them: the part was chosen where arithmetics disagree."""
    call, wrong = call_of(name), call_of(other)
    columns = {column: values for column, values in COMMITTED_ROWS[name].items() if column != "output"}
    assert (wrong.emulate(columns) != COMMITTED_ROWS[name]["output"]).any()
    assert (call.emulate(columns) == COMMITTED_ROWS[name]["output"]).all()


def test_the_two_orders_of_onednn_are_both_there() -> None:
    rows = COMMITTED_ROWS["torch213_quantized_linear_onednn_percol"]
    columns = {column: values for column, values in rows.items() if column != "output"}
    merged, separate = (
        qe.emulate("torch", "quantized_linear", "onednn", variant=variant, **columns) == rows["output"]
        for variant in ("percol", "percol-separate")
    )
    assert (~merged).any()
    assert (~separate).any()
    assert (merged | separate).all()


def test_profiles_with_recordings_say_so() -> None:
    """Where a recording exists, the evidence is at least what is stored of it."""
    for name, columns in COMMITTED_ROWS.items():
        assert call_of(name).profile().evidence.rows >= columns["output"].size, name
    assert all(row.evidence.rows > 0 or "tail" in row.variant for row in PROFILES)


def test_emulation_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES[::7]:
            check(name, COMMITTED_ROWS[name], "reference")
