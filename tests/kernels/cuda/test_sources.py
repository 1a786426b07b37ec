"""The kernel texts as text: joined, digested, listed; who may know what; arguments in the kernels' own types."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qengine.kernels.cuda import arguments, requantize, sources

COMPILER = "compiler.cuh"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the wing that can be edited."""
    copy = tmp_path / "cuda"
    shutil.copytree(sources.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "FOLDER", copy)
    cached = (sources.digest, sources.assemble, sources.kernels)
    for function in cached:
        function.cache_clear()
    yield copy
    for function in cached:
        function.cache_clear()


def edit(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)
    sources.digest.cache_clear()
    sources.assemble.cache_clear()


@pytest.mark.parametrize("name", sources.texts())
def test_every_edit_changes_the_options(name: str, folder: Path) -> None:
    before = sources.options()
    edit(folder / name, "\n// edited\n")
    after = sources.options()
    assert before != after
    assert before[:-1] == after[:-1]
    assert re.fullmatch(r"-DQENGINE_SOURCES=[0-9a-f]{64}", after[-1])


def test_a_new_header_and_a_renamed_one_change_the_options(folder: Path) -> None:
    seen = {sources.options()}
    (folder / "other.cuh").write_text("")
    sources.digest.cache_clear()
    seen.add(sources.options())
    (folder / "other.cuh").rename(folder / "another.cuh")
    sources.digest.cache_clear()
    seen.add(sources.options())
    assert len(seen) == 3


@pytest.mark.parametrize("room", sources.rooms())
def test_a_room_is_one_text(room: str, folder: Path) -> None:
    text = sources.assemble(room)
    assert "#include" not in text
    assert "#pragma once" not in text
    assert text.count("typedef double f64;") == 1
    edit(folder / COMPILER, "\n// edited\n")
    assert "// edited" in sources.assemble(room)


@pytest.mark.parametrize("room", sources.rooms())
def test_lines_keep_their_numbers(room: str) -> None:
    """A compiler's message names the line of the file that is at fault."""
    lines = {name: text.replace("#pragma once", "").split("\n") for name, text in sources.texts().items()}
    name, number = "", 0
    for line in sources.assemble(room).split("\n"):
        directive = re.fullmatch(r'#line (\d+) "([\w.]+)"', line)
        if directive:
            name, number = directive[2], int(directive[1])
            continue
        if name and number <= len(lines[name]):
            assert line == lines[name][number - 1], f"{name}:{number}"
        number += 1


def test_a_missing_header_is_named(folder: Path) -> None:
    edit(folder / "primitives.cu", '\n#include "absent.cuh"\n')
    with pytest.raises(FileNotFoundError, match=r"absent\.cuh"):
        sources.assemble("primitives")


@pytest.mark.parametrize("room", sources.rooms())
def test_every_kernel_is_listed(room: str) -> None:
    text = re.sub(r"//[^\n]*", "", sources.texts()[f"{room}.cu"])
    listed = sources.kernels(room)
    assert len(listed) == len(re.findall(r"\bQE_(?:BLOCK_)?KERNEL\(", text)) > 0
    for kernel in listed.values():
        assert kernel.threads % 32 == 0
        assert kernel.parameters
        for name, pointer in kernel.parameters:
            assert pointer or name in arguments.DTYPES, (kernel.name, name)


def test_kernel_names_are_unique() -> None:
    names = [name for room in sources.rooms() for name in sources.kernels(room)]
    assert len(names) == len(set(names))


def code(name: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", sources.texts()[name], flags=re.DOTALL)


@pytest.mark.parametrize("name", [name for name in sources.texts() if name != COMPILER])
def test_one_file_knows_the_compiler(name: str) -> None:
    text = code(name)
    assert not re.findall(r"__CUDA\w+|__GNUC__|\basm\b|__device__|__global__|__shared__|#\s*include\s*<", text)
    foreign = set(re.findall(r"\b__\w+", text)) - {"__syncthreads", "__restrict__"}
    assert not foreign, f"{name} calls the compiler's own {sorted(foreign)}: give them a name in {COMPILER}"
    assert not re.findall(r"\b(?:fmaf?|sqrtf?|rintf?|roundf?|floorf|ceilf|truncf|fminf?|fmaxf?|fabsf?)\(", text)


def test_one_module_imports_cupy() -> None:
    importing = []
    for folder in (sources.FOLDER.parent, Path(sources.FOLDER.parents[1] / "qengine")):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] == "cupy" for name in names):
                    importing.append(path.name)
    assert importing == ["load.py"]


def test_codes_of_the_rules_are_those_of_the_text() -> None:
    defined = dict(re.findall(r"#define QE_RULE_(\w+) (\d+)", sources.texts()["requantize.cuh"]))
    known = {
        "FLOOR": requantize.FLOOR, "FLOOR_WRAPPED": requantize.FLOOR_WRAPPED, "NESTED16": requantize.NESTED16,
        "FLOAT": requantize._FLOAT, "FLOAT64": requantize._FLOAT64, "HALF_AWAY": requantize._HALF_AWAY,
        "INSIDE": requantize._INSIDE, "WRAPPED": requantize._WRAPPED,
    }  # fmt: skip
    assert {name: int(value) for name, value in defined.items()} == known


def test_a_channel_is_laid_out_as_in_the_text() -> None:
    body = re.search(r"struct alignas\(16\) Channel \{(.*?)\};", code("requantize.cuh"), re.DOTALL)
    assert body
    fields: list[tuple[str, str]] = []
    for kind, names in re.findall(r"(i32|i64) ([^;]+);", body[1]):
        fields += [(name.strip(), kind) for name in names.split(",")]
    dtype = requantize.CHANNEL
    assert dtype.names is not None
    offset = 0
    for name, (declared, kind) in zip(dtype.names, fields, strict=True):
        field, at = dtype.fields[name][:2]  # type: ignore[index]
        assert (declared.split("[")[0], arguments.DTYPES[kind], offset) == (name, field.base, at)
        offset += field.itemsize
    assert offset == dtype.itemsize == 48


KERNEL = sources.Kernel("k", 256, False, (("u64", False), ("f32", False), ("i32", True), ("void", True)))


def test_arguments_take_the_types_of_the_parameters() -> None:
    x, anything = np.zeros(3, np.int32), np.zeros(3, np.float16)
    n, scale, first, second = arguments.prepare(KERNEL, (5, 0.1, x, anything))
    assert (type(n), type(scale)) == (np.uint64, np.float32)
    assert n == 5
    assert scale == np.float32(0.1)
    assert first is x
    assert second is anything


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ((5, 0.1, np.zeros(3, np.int32)), TypeError, "k takes 4 arguments; got 3"),
        ((-1, 0.1, np.zeros(3, np.int32), np.zeros(3)), OverflowError, "argument 0 of k must fit uint64; got -1"),
        ((2.5, 0.1, np.zeros(3, np.int32), np.zeros(3)), TypeError, "must be a whole number; got 2.5"),
        ((5, 0.1, np.zeros(3, np.int64), np.zeros(3)), TypeError, "argument 2 of k must be of dtype int32; got int64"),
        ((5, 0.1, 7, np.zeros(3)), TypeError, "argument 2 of k must be an array; got int"),
    ],
)
def test_wrong_arguments(values: tuple[object, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        arguments.prepare(KERNEL, values)
