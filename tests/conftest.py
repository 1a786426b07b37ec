"""Fixtures and options of the whole suite."""

from __future__ import annotations

import os
import re
import signal
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

import qengine as qe
from qengine import backends

# Started in the background, or by nohup, processes ignore these and hand that on: tests send them to their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SEED = int(os.environ.get("QENGINE_TEST_SEED", "20261121"))
REQUIRED = {name.strip() for name in os.environ.get("QENGINE_REQUIRE_BACKENDS", "").split(",") if name.strip()}

hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("ci"), max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --runslow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


def pytest_report_header() -> str:
    return f"qengine: QENGINE_TEST_SEED={SEED}, required back ends: {sorted(REQUIRED) or 'none'}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("seed", f"reproduce with QENGINE_TEST_SEED={SEED}"))
    return report


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the seed and on the test's own name, not on the order of the tests.

    Every back end gets the same ones: what an oracle says of them is then worked out once.
    """
    name = re.sub(r"(?<=[\[-])(reference|cpu|cuda)(?=[\]-])", "", request.node.nodeid)
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def serving(name: str) -> str:
    """Return the back end's name, or skip the test with the reason why it cannot serve."""
    reason = backends.unavailable(name)
    if reason is not None:
        if name in REQUIRED:
            pytest.fail(f"QENGINE_REQUIRE_BACKENDS names {name!r}: {reason}", pytrace=False)
        pytest.skip(reason)
    return name


@pytest.fixture(params=["reference", "cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def backend(request: pytest.FixtureRequest) -> str:
    """Each back end in turn."""
    return serving(request.param)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def other_backend(request: pytest.FixtureRequest) -> str:
    """Each back end that has to equal the reference."""
    return serving(request.param)


@pytest.fixture(params=qe.schemes(), ids=lambda row: row.name)
def scheme(request: pytest.FixtureRequest) -> qe.requant.schemes.Scheme:
    """Each row of the table of schemes."""
    return request.param


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Path:
    """Folder of recorded material that lies beside the repository; it is not part of it."""
    path = request.config.rootpath.parent / "shared"
    if not (path / "golden" / "README.md").is_file():  # any other folder of that name is somebody else's
        pytest.skip("no ../shared beside the repository: the full recordings are not here")
    return path


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """The clusters of the session, the running one last."""
    started: list[Any] = []
    yield started
    for one in started:
        one.stop()


@pytest.fixture
def processes(clusters: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A scheduler and two workers of dask, processes of their own, for all tests of the session."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'qengine-numerics[cluster]'")
    from tests.clusters import Processes

    # A scheduler that nobody asks for some minutes ends by itself; tests of clusters may lie further apart.
    if not clusters or clusters[-1].scheduler.poll() is not None:
        clusters.append(Processes(tmp_path_factory.mktemp("cluster"), workers=2))
    return clusters[-1]
