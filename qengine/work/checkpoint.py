"""Results of parts of a long run, kept so that a killed run goes on where it was.

A file of JSON lines that only grows: each line holds the run it belongs to, the key of a part, its value and a
checksum, and is on the disk (fsync) before the next part is recorded. A process that dies in the middle of a line
leaves a line whose checksum fails: it is dropped, and that part is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import InputFileError

FILE = "checkpoint.jsonl"


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Checkpoint:
    """The finished parts of one run, in a folder.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    run : mapping
        Everything that decides the values, as plain data: lines of other runs are left alone.
    resume : bool
        Whether to take over what is there; without it, a folder that holds a checkpoint is refused.

    Attributes
    ----------
    foreign, damaged : int
        Lines of other runs, and lines that are torn or altered: neither is used.

    Raises
    ------
    InputFileError
        A folder that cannot be read or written; one that holds a checkpoint, unless `resume`.

    Notes
    -----
    Values are plain data that JSON gives back as it was: integers of any size, strings, lists, dicts, None. A folder
    serves one process at a time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Checkpoint(folder, {"seed": 1}).put("part 0", [-1, 2**70])
    ...     again = Checkpoint(folder, {"seed": 1}, resume=True)
    ...     other = Checkpoint(folder, {"seed": 2}, resume=True)
    >>> again.get("part 0"), again.get("part 1"), (other.get("part 0"), other.foreign)
    ([-1, 1180591620717411303424], None, (None, 1))
    """

    def __init__(self, folder: str | os.PathLike[str], run: Mapping[str, Any], *, resume: bool = False) -> None:
        if not os.fspath(folder):
            raise InputFileError("a checkpoint needs the name of a folder; got an empty one.")
        self.path = Path(folder) / FILE
        self.foreign = self.damaged = 0
        self._run = _digest(dict(run))
        self._done: dict[str, Any] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise InputFileError(f"{folder}: cannot hold a checkpoint: {error.strerror or error}.") from error
        if content and not resume:
            raise InputFileError(f"{self.path}: there is a checkpoint: resume it, or choose another folder.")
        for line in content.split(b"\n"):
            if line:
                self._take(line)
        # What follows a torn line begins on a line of its own.
        self._append("\n" if content and not content.endswith(b"\n") else "")

    @property
    def parts(self) -> int:
        """Finished parts of this run."""
        return len(self._done)

    def _take(self, line: bytes) -> None:
        try:
            run, key, value, check = json.loads(line)
            whole = isinstance(key, str) and check == _digest([run, key, value])
        except (ValueError, TypeError, RecursionError):
            whole = False
        if not whole:
            self.damaged += 1
        elif run != self._run:
            self.foreign += 1
        else:
            self._done[key] = value

    def _append(self, text: str) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputFileError(f"{self.path}: cannot be written: {error.strerror or error}.") from error

    def get(self, key: str) -> Any:
        """Return the value of a finished part, or None."""
        return self._done.get(key)

    def put(self, key: str, value: Any) -> None:
        """Record a finished part; it is on the disk when this returns."""
        self._append(json.dumps([self._run, key, value, _digest([self._run, key, value])], allow_nan=False) + "\n")
        self._done[key] = value

    def dropped(self) -> str:
        """Say which lines were not used; empty if there are none."""
        counts = ((self.foreign, "of other runs"), (self.damaged, "torn or altered"))
        told = [f"{count} line{'s' * (count != 1)} {what}" for count, what in counts if count]
        return f"{self.path}: {' and '.join(told)} left out." if told else ""
