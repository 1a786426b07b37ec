"""The benchmarks that a short run takes exist; the report tells a wrong result from a slow one."""

import sys
from typing import Any

import pytest

from benchmarks import bench_audit, choices, common, report


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [name for name, *_ in report.tracks("")]


@pytest.mark.parametrize("name", list(choices.SETS))
def test_every_expression_of_a_choice_names_a_benchmark(name: str, names: list[str]) -> None:
    assert choices.unmatched(name, names) == []


def test_a_name_stands_for_one_benchmark(names: list[str]) -> None:
    assert len(set(names)) == len(names) > 200


class Made:
    """Benchmarks of a report that measures nothing."""

    value = 0.0

    @common.tracked("outputs", lambda: 0)
    def track_outputs(self) -> float:
        return self.value

    @common.tracked("s", lambda: 0.0)
    def track_slow(self) -> float:
        return 1.0

    @common.tracked("s")
    def track_skipped(self) -> float:
        raise NotImplementedError("not here")

    @common.tracked("s")
    def track_raising(self) -> float:
        raise ValueError("broken")


@pytest.mark.parametrize(
    ("match", "value", "code"),
    [("slow|skipped", 0, 0), ("outputs", 0, 0), ("outputs", 3, 1), ("raising", 0, 1), ("skipped", 0, 1)],
)
def test_the_exit_code_is_of_results_not_of_times(
    match: str, value: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(pattern: str) -> Any:
        return ((f"x.Made.{name}()", Made, name, ()) for name in vars(Made) if name[:6] == "track_" and match_of(name))

    def match_of(name: str) -> bool:
        return any(part in name for part in match.split("|"))

    monkeypatch.setattr(Made, "value", float(value))
    monkeypatch.setattr(report, "tracks", made)
    monkeypatch.setattr(sys, "argv", ["report.py"])
    assert report.main() == code
    assert ("wrong: " in capsys.readouterr().err) == bool(code)


def test_the_demonstrations_model_is_audited_and_replayed() -> None:
    assert report.measure(bench_audit.ReplayWings, "track_differing", ())["met"] is True
    assert report.measure(bench_audit.Audit, "track_divergent", ("demo",))["value"] > 0


@pytest.mark.parametrize("name", bench_audit.LARGE)
def test_a_model_that_is_not_here_skips(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(bench_audit.MODELS, name, tmp_path / "none.tflite")
    monkeypatch.setattr(bench_audit, "SHARED", tmp_path)
    monkeypatch.setattr(bench_audit, "ROOT", tmp_path / "repository")
    with pytest.raises(NotImplementedError, match=name):
        bench_audit.model(name)
