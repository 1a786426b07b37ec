"""The kernel texts: read, joined, listed, and digested."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"[^\n]*$', re.MULTILINE)
_KERNEL = re.compile(r"^QE_(BLOCK_)?KERNEL\((\d+), (\w+)\)\(([^)]*)\)", re.MULTILINE)
_SHARED = re.compile(r"^#define (QE_\w+_PARAMETERS)\b((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?:const )?(\w+) ?(\*)? ?(?:__restrict__ )?\w+")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)

#: Options of every compilation, in this order, before the digest. CuPy appends the architecture,
#: ``--device-as-default-execution-space`` and ``-ftz=true``: the last -ftz wins, so a -ftz=false here would say what is
#: not done. `compiler.cuh` writes every float32 instruction out instead, without .ftz.
OPTIONS = ("--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as its text declares it.

    Attributes
    ----------
    name : str
    threads : int
        Most threads a block.
    cooperative : bool
        Whether the threads of a block wait for each other.
    parameters : tuple of (type, pointer?)
        In order; types as `compiler.cuh` names them.
    """

    name: str
    threads: int
    cooperative: bool
    parameters: tuple[tuple[str, bool], ...]


def rooms() -> tuple[str, ...]:
    """Return the names of the .cu files, without the suffix."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.cu")))


def texts() -> dict[str, str]:
    """Return every kernel text by file name, in order of names."""
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in (".cu", ".cuh"))
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


@functools.cache
def digest() -> str:
    """Return the SHA-256 of all texts, in hex: no compilation of an edited header is mistaken for an older one."""
    state = hashlib.sha256()
    for name, text in texts().items():
        state.update(f"{name} {len(text)}\n".encode())
        state.update(text.encode())
    return state.hexdigest()


@functools.cache
def assemble(room: str) -> str:
    """Return a room's text with its headers written out where they are first included.

    CuPy's cache looks at this string and at the options, not at the files behind an ``#include``.
    """
    known, seen = texts(), set()

    def expand(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        if name not in known:
            raise FileNotFoundError(f"no kernel text {name!r} in {FOLDER}")
        parts, end, text = [f'#line 1 "{name}"\n'], 0, known[name].replace("#pragma once", "")
        for match in _INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 2  # the one behind the include
            parts += [text[end : match.start()], expand(match[1]), f'#line {line} "{name}"']
            end = match.end()
        return "".join([*parts, text[end:]])

    return expand(f"{room}.cu")


def _parameter(text: str) -> tuple[str, bool]:
    match = _PARAMETER.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError(f"a kernel's parameter must read [const] type [*] name; got {text!r}")
    return match[1], bool(match[2])


@functools.cache
def kernels(room: str) -> dict[str, Kernel]:
    """Return the kernels that a room defines, by name.

    A definition starts its line: ``QE_KERNEL(threads, name)(parameters) {``. Those that several kernels share are a
    macro of the same file, named ``QE_..._PARAMETERS``.
    """
    text = _COMMENT.sub("", texts()[f"{room}.cu"])
    shared = {name: parameters.replace("\\", "") for name, parameters in _SHARED.findall(text)}

    def each(parameters: str) -> Iterator[str]:
        for part in parameters.split(","):
            yield from shared.get(part.strip(), part).split(",")

    found = (
        Kernel(name, int(threads), bool(block), tuple(_parameter(part) for part in each(parameters)))
        for block, threads, name, parameters in _KERNEL.findall(text)
    )
    return {kernel.name: kernel for kernel in found}


def options() -> tuple[str, ...]:
    """Return what CuPy is told to compile with."""
    return (*OPTIONS, f"-DQENGINE_SOURCES={digest()}")
