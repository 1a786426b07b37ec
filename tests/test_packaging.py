"""What is packaged is what is in the tree: the list in pyproject.toml, the wheel, the sdist."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

import qengine

ROOT = Path(__file__).parents[1]
TOP = {"qengine": "qengine", "kernels": "qengine/kernels"}


def configuration() -> dict:  # type: ignore[type-arg]
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def installed_name(path: Path) -> str:
    """Where a file of the tree is installed: ``kernels/`` becomes ``qengine/kernels/``."""
    relative = path.relative_to(ROOT)
    return "/".join([TOP[relative.parts[0]], *relative.parts[1:]])


def tree_files() -> list[Path]:
    """Every source and data file of the package."""
    found = [path for top in TOP for path in (ROOT / top).rglob("*") if path.is_file()]
    return sorted(p for p in found if "__pycache__" not in p.parts and p.suffix not in (".pyc", ".so"))


def test_package_list() -> None:
    packages = {
        installed_name(p.parent / "x").removesuffix("/x").replace("/", ".") for p in tree_files() if p.suffix == ".py"
    }
    for path in tree_files():
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").is_file(), path
    listed = configuration()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages)
    assert len(set(listed)) == len(listed)


def test_every_file_is_source_or_listed_data() -> None:
    data = configuration()["tool"]["setuptools"]["package-data"]
    for path in tree_files():
        if path.suffix != ".py":
            patterns = [p for globs in data.values() for p in globs]
            assert any(path.match(pattern) for pattern in patterns), path
    assert (ROOT / "qengine" / "py.typed").is_file()


def test_top_level() -> None:
    """No shadows: a module in two places would be packaged from one."""
    assert not (ROOT / "qengine" / "kernels").exists()
    assert configuration()["project"]["name"] == "qengine-numerics"
    assert configuration()["project"]["scripts"] == {"qengine": "qengine.cli:main"}


def minimum(project: dict) -> dict[str, str]:  # type: ignore[type-arg]
    """What ``.ci/versions minimum`` installs."""
    return runpy.run_path(str(ROOT / ".ci" / "minimum.py"))["minimum"](project)  # type: ignore[no-any-return]


def test_minimum_versions() -> None:
    """Every dependency has one, the same in all extras."""
    packaging = pytest.importorskip("packaging.requirements")
    project = configuration()["project"]
    found = minimum(project)
    every = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [packaging.Requirement(text) for extra in every for text in extra]
    assert {r.name for r in requirements} == {*found, project["name"]}
    for requirement in requirements:
        if requirement.name != project["name"]:
            assert str(requirement.specifier) == f">={found[requirement.name]}"


@pytest.mark.parametrize("text", ["numpy", "numpy<3", "numpy>=2.0,<3", "numpy>=2.1"])
def test_minimum_versions_that_cannot_be_tested(text: str) -> None:
    project = {"name": "x", "dependencies": ["numpy>=2.0"], "optional-dependencies": {"all": ["x[some]", text]}}
    with pytest.raises(ValueError, match="numpy"):
        minimum(project)


def test_every_package_imports() -> None:
    for name in configuration()["tool"]["setuptools"]["packages"]:
        assert importlib.util.find_spec(name) is not None, name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist and the wheel that is built from it; the tree itself stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    if importlib.util.find_spec("build") is None:
        pytest.skip("building needs the package 'build' (pip install build)")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    for top in TOP:
        shutil.copytree(ROOT / top, source / top, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    try:
        here = int(metadata.version("setuptools").split(".")[0]) >= 77
    except metadata.PackageNotFoundError:  # environments of Python 3.12 and later have none of their own
        here = False
    command = [sys.executable, "-m", "build", *(["--no-isolation"] if here else []), "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=source)
    if (
        done.returncode
        and not here
        and any(s in done.stderr + done.stdout for s in ("connection", "No matching distribution"))
    ):
        pytest.skip("building needs setuptools >= 77, which is neither installed nor reachable")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return out


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_wheel_holds_the_tree(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = wheel.namelist()
        files = sorted(n for n in names if ".dist-info/" not in n)
        assert files == sorted(installed_name(path) for path in tree_files())
        assert "qengine/py.typed" in files
        for path in tree_files():
            assert wheel.read(installed_name(path)) == path.read_bytes()
        metadata = Parser().parsestr(wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    assert metadata["Name"] == "qengine-numerics"
    assert metadata["Version"] == qengine.__version__
    assert metadata["Requires-Python"] == ">=3.11"


def test_sdist_holds_the_tree(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    missing = {str(path.relative_to(ROOT).as_posix()) for path in tree_files()} - names
    assert not missing
    assert {"pyproject.toml", "README.md"} <= names


def test_installed_wheel_imports(built: Path, tmp_path: Path) -> None:
    """Unpacked into an empty folder, away from the tree, it imports and computes."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        "--target",
        str(tmp_path / "site"),
        str(only(built, "*.whl")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    code = (
        "import qengine, qengine.kernels.cpu.jit, qengine.kernels.reference.sweep, qengine.kernels.codes, numpy as np\n"
        "assert qengine.requantize(np.int32(2), 0.25, scheme='single', backend='reference') == 1\n"
        "print(qengine.__file__, qengine.kernels.cpu.jit.__file__, sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "QENGINE_CACHE_DIR": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for file in done.stdout.splitlines():
        assert Path(file).is_relative_to(tmp_path / "site")
