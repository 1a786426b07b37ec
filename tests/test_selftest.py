"""The checks that ship to users."""

from __future__ import annotations

import pytest

import qengine as qe
from qengine import backends, selftest
from tests import oracle


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few structured values: the whole set runs once, in `test_run_checks`."""
    monkeypatch.setattr(selftest, "structured_values", lambda: [-(2**31), -585, -1, 0, 1, 2, 45, 585, 2**31 - 1])


def test_run_checks() -> None:
    checks = selftest.run_checks()
    assert [check.name for check in checks if not check.passed] == []
    serving = [name for name in backends.BACKENDS if not backends.unavailable(name)]
    assert len(checks) == 2 + len(serving) * (1 + len(selftest.SWEEPS))
    assert {check.name.split(":")[0] for check in checks[2:]} == set(serving)


def test_digests_are_complete() -> None:
    assert selftest.DIGESTS.keys() == selftest.SWEEPS.keys()
    assert len(set(selftest.DIGESTS.values())) == len(selftest.SWEEPS)
    assert all(len(digest) == 64 for digest in selftest.DIGESTS.values())


def test_every_scheme_is_in_a_canonical_sweep() -> None:
    assert {name for names, _ in selftest.SWEEPS.values() for name in names} == {row.name for row in qe.schemes()}


@pytest.mark.parametrize("name", selftest.SWEEPS)
def test_canonical_digest(name: str, backend: str) -> None:
    assert selftest.canonical_digest(name, backend) == selftest.DIGESTS.get(name)


def test_structured_values() -> None:
    values = selftest.structured_values()
    assert values == sorted(set(values))
    assert {0, 1, -1, 2**31 - 1, -(2**31), 2**30 + 2, -(2**30) - 2} <= set(values)
    assert all(-(2**31) <= v < 2**31 for v in values)


def test_known_answers_are_the_oracle_s() -> None:
    for counter, key, output in selftest.PHILOX:
        assert oracle.philox4x32_10(counter, key) == output


def test_one_back_end(quick: None) -> None:
    names = [check.name for check in selftest.run_checks(["reference"])]
    assert names[2:] == ["reference: schemes", *(f"reference: sweep {name}" for name in selftest.SWEEPS)]


def test_unknown_back_end(quick: None) -> None:
    with pytest.raises(qe.UnknownNameError):
        selftest.run_checks(["gpu"])


def test_failures_are_reported(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong digest, a wrong output and an error of a check are failures with a reason, not crashes."""
    monkeypatch.setitem(selftest.DIGESTS, "range", "0" * 64)
    true = selftest.spec.requantize
    monkeypatch.setattr(selftest.spec, "requantize", lambda *args: true(*args) + (args[1] == 585))
    monkeypatch.setattr(selftest, "explain", lambda *args, **options: 1 // 0)
    checks = {check.name: check for check in selftest.run_checks(["reference"])}
    assert not checks["reference: sweep range"].passed
    assert not checks["reference: schemes"].passed
    assert "acc 585" in checks["reference: schemes"].detail
    assert not checks["issue 102943"].passed
    assert "ZeroDivisionError" in checks["issue 102943"].detail
    assert checks["philox"].passed
    assert checks["philox"].to_dict() == {"name": "philox", "passed": True, "detail": checks["philox"].detail}
