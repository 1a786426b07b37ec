"""The table of profiles."""

from __future__ import annotations

import json

import pytest

import qengine as qe
from qengine.runtimes.fronts import FRONTS
from qengine.runtimes.profiles import PROFILES
from qengine.runtimes.row import Profile


def test_every_row_has_a_name_of_its_own() -> None:
    names = [
        (row.runtime, version, row.isa, row.op, row.path, variant)
        for row in PROFILES for version in row.versions for variant in row.variants
    ]  # fmt: skip
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", PROFILES, ids=lambda r: f"{r.runtime}-{r.isa}-{r.op}-{r.path}-{r.variant}")
def test_rows_are_found_and_describe_themselves(row: Profile) -> None:
    for variant in row.variants:
        found = qe.get_profile(row.runtime, row.op, row.path, version=row.versions[-1], isa=row.isa, variant=variant)
        assert found is row
    plain = row.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert all(plain[field] for field in ("recipe", "formula", "epilogue", "source", "columns", "versions"))
    assert row.evidence.how
    assert row.columns == FRONTS[row.front].columns
    if row.body is not None:
        assert qe.get_profile(row.runtime, row.op, row.path, isa=row.isa, variant=row.body.rest).body is None
    if row.front == "accumulator":
        assert row.granularity in ("per-channel", "per-tensor")


def test_filters() -> None:
    assert qe.profiles() == PROFILES
    rows = qe.profiles("litert", "FC", isa="arm64", variant="perchannel")
    assert {(row.op, row.isa) for row in rows} == {("FULLY_CONNECTED", "aarch64")}
    assert {row.path for row in rows} == {"xnnpack", "opt", "ref"}
    assert all("2.20.0" in row.versions for row in qe.profiles("tensorflow", version="2.20"))


def test_what_does_not_exist_has_no_row() -> None:
    """FULLY_CONNECTED per channel of the reference came with TensorFlow 2.21."""
    assert not any(
        row.path == "ref" and row.granularity == "per-channel"
        for row in qe.profiles("tensorflow", "FULLY_CONNECTED", version="2.20")
    )
    assert qe.get_profile("tensorflow", "FULLY_CONNECTED", "ref").versions == ("2.21.0",)
