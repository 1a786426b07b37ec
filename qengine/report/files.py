"""Writing a file whole or not at all."""

from __future__ import annotations

import importlib
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from ..exceptions import BackendError, InputFileError
from .escape import shown


def optional(module: str) -> Any:
    """Import a module of the `report` extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"figures and PDF need the package {module.partition('.')[0]} ({error}); "
            "pip install 'qengine-numerics[report]'."
        ) from error


def check_target(path: str | os.PathLike[str], *endings: str) -> Path:
    """Return the path if a file can be written there as far as can be told beforehand; links are followed.

    Raises
    ------
    InputFileError
        For a folder that is missing or cannot be written, a path that is a folder, or another ending than `endings`.
    """
    target = Path(path)
    if "\0" in str(target):
        raise InputFileError(f"{shown(target)}: the name of a file has no NUL character.")
    if target.is_dir():
        raise InputFileError(f"{shown(path)}: a file is required to write to; this is a folder.")
    if endings and target.suffix.lower() not in endings:
        raise InputFileError(f"{shown(target)}: the name must end in {' or '.join(endings)}.")
    target = Path(os.path.realpath(target))
    if not target.parent.is_dir():
        raise InputFileError(f"{shown(path)}: cannot be written: there is no folder {shown(target.parent)}.")
    if not os.access(target if _special(target) else target.parent, os.W_OK):
        raise InputFileError(f"{shown(path)}: cannot be written: no permission in {shown(target.parent)}.")
    return target


def _special(path: Path) -> bool:
    """Tell whether a path is a device or a pipe, which must not be replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file: into a new one beside it, which then takes its place. An existing file keeps its permissions.

    Raises
    ------
    InputFileError
        If it cannot be written; nothing is left behind, and an existing file stays as it was.
    """
    target = check_target(path)
    try:
        if _special(target):
            target.write_bytes(content)
            return
        beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
        try:
            with open(beside, "xb") as stream:
                stream.write(content)
                if target.exists():
                    os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputFileError(f"{shown(path)}: cannot be written: {error.strerror or error}.") from error
