"""Which arithmetic each operator of each runtime runs: the rows, and how one is found.

A row is (runtime, versions, ISA, operator, path, variant) -> recipe, arithmetic, epilogue, with the number of recorded
outputs that it reproduced without a mismatch. Names of variants are the middle parts of the recordings' names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..exceptions import DTypeError, UnknownNameError, brief
from . import others, tflite
from .columns import LABELS
from .fronts import ALIASES, FRONTS
from .row import ARM, X86, Profile

ISA_NAMES: Mapping[str, str] = {
    "x86-64": X86, "x86_64": X86, "amd64": X86, "aarch64": ARM, "arm64": ARM,
}  # fmt: skip
#: Short names of operators, as recordings use them.
OP_NAMES: Mapping[str, str] = {
    "FC": "FULLY_CONNECTED", "CONV": "CONV_2D", "CONV2D": "CONV_2D", "DW": "DEPTHWISE_CONV_2D",
    "DWCONV": "DEPTHWISE_CONV_2D",
}  # fmt: skip
PROFILES: tuple[Profile, ...] = (*tflite.rows(), *others.rows())


def _one_of(
    kind: str, name: str, rows: Iterable[Profile], of: Callable[[Profile], Iterable[str]], where: str
) -> tuple[Profile, ...]:
    """Return the rows that bear the name, or raise with the names that exist."""
    rows = tuple(rows)
    found = tuple(row for row in rows if name in of(row))
    if not found:
        known = sorted({text or "''" for row in rows for text in of(row)})
        raise UnknownNameError(f"unknown {kind} {brief(name)}{where}; known: {', '.join(known)}.")
    return found


def _text(kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DTypeError(f"{kind} must be a name; got {brief(value)}.")
    return value


def _version_names(row: Profile) -> list[str]:
    return list(row.versions)


def _with_version(rows: tuple[Profile, ...], version: str | None, where: str) -> tuple[Profile, ...]:
    """Return the rows of the version, or of the newest one; ``2.21`` means 2.21.0, a local part (+cpu) is ignored."""
    known = sorted({v for row in rows for v in row.versions}, key=lambda v: [int(part) for part in v.split(".")])
    if version is None:
        version = known[-1]
    given = _text("version", version).partition("+")[0]
    full = next((v for v in reversed(known) if v == given or v.startswith(f"{given}.")), given)
    return _one_of("version", full, rows, _version_names, where)


def profiles(
    runtime: str | None = None,
    op: str | None = None,
    path: str | None = None,
    *,
    version: str | None = None,
    isa: str | None = None,
    variant: str | None = None,
) -> tuple[Profile, ...]:
    """Return the profiles, all or those that bear the names given.

    Parameters
    ----------
    runtime, op, path, variant : str, optional
        E.g. ``"litert"``, ``"CONV_2D"``, ``"xnnpack"``, ``"perchannel"``.
    version : str, optional
        Rows measured on that version; by default on any.
    isa : {"x86-64", "aarch64"}, optional

    Returns
    -------
    tuple of Profile
        In the order of the table; never empty.

    Raises
    ------
    UnknownNameError
        Where nothing bears a name; the text lists what exists.

    Examples
    --------
    >>> import qengine as qe
    >>> for row in qe.profiles("litert", "MUL", isa="x86-64", variant=""):
    ...     print(row.path, row.formula)
    xnnpack fp32: RNE(f32(f32(x) * S))
    opt RDPOT(SRDHM(wrap32(x << max(e,0)), m), max(-e,0))
    ref double: RDPOT(SRDHM(x << max(e,0), m), n)
    """
    rows = PROFILES
    where = ""
    if runtime is not None:
        rows = _one_of("runtime", _text("runtime", runtime), rows, lambda row: (row.runtime,), "")
        where = f" of {runtime}"
    if op is not None:
        name = OP_NAMES.get(_text("op", op), op)
        rows = _one_of("op", name, rows, lambda row: (row.op,), where)
        where += f" {name}" if where else f" of {name}"
    if isa is not None:
        machine = ISA_NAMES.get(_text("isa", isa).lower(), isa)
        rows = _one_of("isa", machine, rows, lambda row: (row.isa,), where)
        where += f" on {machine}"
    if path is not None:
        rows = _one_of("path", _text("path", path), rows, lambda row: (row.path,), where)
        where += f", path {path!r}"
    if version is not None:
        rows = _with_version(rows, version, where)
        where += f", version {version}"
    if variant is not None:
        rows = _one_of("variant", _text("variant", variant), rows, lambda row: row.variants, where)
    return rows


def candidates(
    runtime: str, op: str, path: str, *, version: str | None = None, isa: str = X86, variant: str | None = None
) -> tuple[Profile, ...]:
    """Return the rows of one operator on one path, of one version (the newest by default), the default one first."""
    for kind, name in {"runtime": runtime, "op": op, "path": path, "isa": isa}.items():
        _text(kind, name)
    for kind, given in {"version": version, "variant": variant}.items():
        if given is not None:
            _text(kind, given)
    return _candidates(runtime, op, path, version, isa, variant)


@functools.lru_cache(maxsize=1024)
def _candidates(
    runtime: str, op: str, path: str, version: str | None, isa: str, variant: str | None
) -> tuple[Profile, ...]:
    rows = profiles(runtime, op, path, isa=isa)
    where = f" of {runtime} {rows[0].op} on {rows[0].isa}, path {path!r}"
    rows = _with_version(rows, version, where)
    if variant is not None:
        return _one_of("variant", _text("variant", variant), rows, lambda row: row.variants, where)
    return rows


def get_profile(
    runtime: str, op: str, path: str, *, version: str | None = None, isa: str = X86, variant: str | None = None
) -> Profile:
    """Return the profile of one operator.

    Parameters
    ----------
    runtime, op, path : str
        E.g. ``"litert"``, ``"CONV_2D"``, ``"xnnpack"``; ``"onnxruntime"``, ``"QLinearConv"``, ``"cpu"``; ``"torch"``,
        ``"quantized_linear"``, ``"fbgemm"``.
    version : str, optional
        Default: the newest that was measured.
    isa : {"x86-64", "aarch64"}
        Default: x86-64, whatever this machine is.
    variant : str, optional
        Default: the operator's first variant (int8, per channel).

    Returns
    -------
    Profile

    Raises
    ------
    UnknownNameError
        For a name without a row; the text lists the names that have one.

    Examples
    --------
    >>> import qengine as qe
    >>> row = qe.get_profile("litert", "FULLY_CONNECTED", "opt", variant="pertensor")
    >>> row.recipe, row.evidence.rows
    ('f64(f32(i * w)) / f64(o)', 1310720)
    >>> qe.get_profile("litert", "FULLY_CONNECTED", "opt", isa="aarch64").formula
    'HU(floor(wrap32(x << (e+r)) m / 2^31), r),  r = max(-e, 1)'
    >>> qe.get_profile("litert", "CONV_2D", "tpu")
    Traceback (most recent call last):
        ...
    qengine.exceptions.UnknownNameError: unknown path 'tpu' of litert CONV_2D on x86-64; known: opt, ref, xnnpack.
    """
    return candidates(runtime, op, path, version=version, isa=isa, variant=variant)[0]


def choose(rows: tuple[Profile, ...], columns: Mapping[str, Any]) -> Profile:
    """Return the first row that takes the columns' names and the type of their codes, else the first."""

    def takes(row: Profile) -> bool:
        front, aliases = FRONTS[row.front], ALIASES.get(row.front, {})
        given = {aliases.get(name, name) for name in columns} - LABELS
        if not set(front.columns) <= given <= {*front.columns, *front.optional}:
            return False
        dtype = getattr(columns.get(front.codes[0]), "dtype", None)
        return dtype is None or dtype not in (np.int8, np.uint8) or row.code_dtype == dtype

    return next((row for row in rows if takes(row)), rows[0])
