"""The compile cache: keyed by every source of the wing, movable, optional, and never trusted blindly."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Compiles the smallest kernel; prints whether it came from the cache, then its words.
RUN = """
import numpy as np
from qengine.kernels.cpu import jit, philox
out = np.empty((4, 1), np.uint32)
philox.philox_words(np.uint64(0), np.uint64(0), np.uint64(0), out)
hits = sum(philox.philox_words.stats.cache_hits.values())
print(hits, *(format(int(w), "08x") for w in out[:, 0]))
"""
WORDS = ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def python(code: str, *, path: Path | None = None, **environment: str) -> list[str]:
    """Words that a fresh Python prints; `path` is a tree to import instead of the installed one."""
    variables = {k: v for k, v in os.environ.items() if k not in ("QENGINE_CACHE_DIR", "PYTHONPATH")}
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=path or ROOT.parent,
        env=variables | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return done.stdout.split()


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.nbc"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package that can be edited."""
    ignore = shutil.ignore_patterns("__pycache__", "cuda")
    shutil.copytree(ROOT / "qengine", tmp_path / "tree" / "qengine", ignore=ignore)
    shutil.copytree(ROOT / "kernels", tmp_path / "tree" / "qengine" / "kernels", ignore=ignore)
    return tmp_path / "tree"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("filled") / "cache"
    assert python(RUN, QENGINE_CACHE_DIR=str(directory)) == ["0", *WORDS]
    assert len(files(directory)) == 1
    return directory


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """A cache with the compiled kernel in it."""
    return Path(shutil.copytree(filled, tmp_path / "cache"))


#: Prints the digest of the tree that it is imported from: as it is, after every edit of a source, after a further
#: file, and after an edit of another wing. It is asked for anew each time, as a fresh process would.
DIGESTS = """
from pathlib import Path
from qengine.kernels.cpu import jit
print(jit.__file__)
def digest():
    jit.source_digest.cache_clear()
    print(jit.source_digest())
digest()
kernels = Path(jit.__file__).parents[1]
for path in [kernels / "codes.py", *sorted((kernels / "cpu").glob("*.py"))]:
    path.write_text(path.read_text(encoding="utf-8") + "\\n# edited\\n", encoding="utf-8")
    digest()
(kernels / "cpu" / "further.py").write_text("")
digest()
(kernels / "reference" / "philox.py").write_text("# the other wing\\n")
digest()
"""
DIGEST = "from qengine.kernels.cpu import jit; print(jit.source_digest())"


def test_digest_follows_every_source(tree: Path) -> None:
    before = python(DIGEST, path=tree, QENGINE_CACHE_DIR="")
    file, *seen = python(DIGESTS, path=tree, QENGINE_CACHE_DIR="")
    assert Path(file).is_relative_to(tree)
    assert seen[:1] == before, "another process, the same digest"
    *different, last = seen
    assert len(different) == 3 + len(list((ROOT / "kernels" / "cpu").glob("*.py")))
    assert len(set(different)) == len(different) >= 8
    assert last == different[-1]
    assert python(DIGEST, path=tree, QENGINE_CACHE_DIR="") == [last]


def test_edited_callee_is_recompiled(tree: Path, tmp_path: Path) -> None:
    """`fill` is inlined into `philox_words`; Numba's own cache would run the old machine code."""
    directory = str(tmp_path / "cache")
    assert python(RUN, path=tree, QENGINE_CACHE_DIR=directory) == ["0", *WORDS]
    assert python(RUN, path=tree, QENGINE_CACHE_DIR=directory) == ["1", *WORDS]
    source = tree / "qengine" / "kernels" / "cpu" / "philox.py"
    text = source.read_text(encoding="utf-8")
    assert "range(10)" in text
    source.write_text(text.replace("range(10)", "range(9)"), encoding="utf-8")
    hits, *words = python(RUN, path=tree, QENGINE_CACHE_DIR=directory)
    assert hits == "0"
    assert words != WORDS


def test_second_process_loads(cache: Path) -> None:
    before = files(cache)[0].stat()
    assert python(RUN, QENGINE_CACHE_DIR=str(cache)) == ["1", *WORDS]
    assert files(cache)[0].stat().st_mtime_ns == before.st_mtime_ns
    assert [path.parent.parent for path in files(cache)] == [cache]


def test_home_of_the_cache(tmp_path: Path) -> None:
    assert python(RUN, XDG_CACHE_HOME=str(tmp_path / "xdg"))[0] == "0"
    assert len(files(tmp_path / "xdg" / "qengine")) == 1


def test_empty_setting_turns_it_off(tmp_path: Path) -> None:
    home = {"QENGINE_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    assert python(RUN, **home) == ["0", *WORDS]
    assert files(tmp_path) == []
    assert python("from qengine.kernels.cpu import jit; print(jit.cache_directory())", **home) == ["None"]


def test_corrupted_file_is_recompiled(cache: Path) -> None:
    (path,) = files(cache)
    for damage in ("empty", "short", "flipped", "rubbish"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        damaged = {"empty": b"", "short": bytes(content[:-100]), "flipped": bytes(content), "rubbish": os.urandom(5000)}
        path.write_bytes(damaged[damage])
        assert python(RUN, QENGINE_CACHE_DIR=str(cache)) == ["0", *WORDS], damage
        assert files(cache) == [path], "replaced, nothing left beside it"
        whole = path.read_bytes()
        assert whole[:32] == hashlib.sha256(whole[32:]).digest(), damage
    assert python(RUN, QENGINE_CACHE_DIR=str(cache)) == ["1", *WORDS]


def test_file_of_another_source_is_not_taken(cache: Path) -> None:
    """The directory carries the digest: files under another one stay untouched."""
    other = cache / "cpu-0123456789abcdef"
    files(cache)[0].parent.rename(other)
    assert python(RUN, QENGINE_CACHE_DIR=str(cache)) == ["0", *WORDS]
    assert len(files(cache)) == 2


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path(os.devnull) / "cache"):
        assert python(RUN, QENGINE_CACHE_DIR=str(place)) == ["0", *WORDS]


def test_read_only_directory(tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    directory.mkdir(mode=0o500)
    assert python(RUN, QENGINE_CACHE_DIR=str(directory))[1:] == WORDS


def test_directory_that_vanishes(tmp_path: Path) -> None:
    """Another process may clean up between the import and the first compilation."""
    directory = tmp_path / "cache"
    code = RUN.replace("out = ", f"import shutil; shutil.rmtree({str(directory)!r}); out = ", 1)
    assert python(code, QENGINE_CACHE_DIR=str(directory)) == ["0", *WORDS]


def test_old_digests_are_cleaned_up(tmp_path: Path) -> None:
    for age in range(6):
        stale = tmp_path / f"cpu-{age:016x}"
        stale.mkdir()
        os.utime(stale, (1e9 - age, 1e9 - age))
    (tmp_path / "unrelated").mkdir()
    assert python(RUN, QENGINE_CACHE_DIR=str(tmp_path)) == ["0", *WORDS]
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert "unrelated" in kept
    assert len(kept) == 5
    assert {f"cpu-{age:016x}" for age in range(3)} <= set(kept), "the newest stay"


def test_compiled_twice_at_once(tmp_path: Path) -> None:
    """Two processes compile into one cache; both are right and one file remains."""
    environment = os.environ | {"QENGINE_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    assert [process.communicate()[0].split()[1:] for process in started] == [WORDS, WORDS]
    assert len(files(tmp_path)) == 1
    assert not list(tmp_path.rglob(".partial-*"))


def decorated(tree: ast.Module) -> dict[str, tuple[set[str], ast.FunctionDef]]:
    """Functions of a module with the names of their decorators."""
    return {
        node.name: ({d.id for d in node.decorator_list if isinstance(d, ast.Name)}, node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def returns(node: ast.FunctionDef) -> list[ast.expr]:
    """What a function returns."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value is not None]


def test_what_counts_no_references_makes_no_arrays() -> None:
    """An array that `inner` or `inlined` functions make, or get from a call, is never released."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "kernels" / "cpu").glob("*.py"))]
    functions = {name: entry for tree in trees for name, entry in decorated(tree).items()}
    making = {"empty", "zeros", "ones", "full", "empty_like", "zeros_like", "copy", "arange", "array", "concatenate"}
    making |= {name for name, (kinds, node) in functions.items() if "allocating" in kinds and returns(node)}
    assert "aligned_block" in making
    checked = 0
    for name, (kinds, node) in functions.items():
        if not kinds & {"inner", "inlined"}:
            continue
        checked += 1
        calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
        called = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
        assert not called & making, f"{name} makes arrays: it must be `allocating`"
        handed = [r.value.id for r in ast.walk(node) if isinstance(r, ast.Return) and isinstance(r.value, ast.Name)]
        subscripted = {
            s.value.id for s in ast.walk(node) if isinstance(s, ast.Subscript) and isinstance(s.value, ast.Name)
        }
        assert not set(handed) & subscripted, f"{name} returns an array"
    assert checked > 100
