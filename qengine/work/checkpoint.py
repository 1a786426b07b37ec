"""Results of parts of a long run, kept so that a killed run goes on where it was.

A file of lines that only grows: each holds a checksum, the run it belongs to, the key of a part and its value, and is
on the disk (fsync of the file, and of the folder when the file is new) before the next part is recorded. A process
that dies in the middle of a line, or a disk that fills up, leaves a line whose checksum fails: it is dropped, and that
part is done again. One process at a time writes to a folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from .. import arguments
from ..canonical import canonical
from ..exceptions import DomainError, InputFileError
from .lock import FolderLock, FolderTakenError

FILE = "checkpoint.log"
#: Key of the line that says what the run is.
RUN = ""
#: Seconds between two lines: this share of the time so far, within these bounds, and so many times what the last took.
SHARE, LEAST, MOST, COST = 0.01, 1.0, 60.0, 50
#: Bytes up to which a line is read at all, and bytes read at a time.
LONGEST, BLOCK = 1 << 28, 1 << 20


class CheckpointWarning(UserWarning):
    """A checkpoint cannot be written at the moment; the run goes on without it."""


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def _parsed(line: bytes) -> tuple[Any, Any, Any]:
    """Return run, key and value of a line; None where its checksum is wrong."""
    if line[32:33] == b" " and line[:32] == _checksum(line[33:]):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            run, key, value = json.loads(line[33:])
            return run, key, value
    return None, None, None


def recorded(folder: str | os.PathLike[str], run: Mapping[str, Any]) -> list[str]:
    """Return the keys of what a folder holds of a run, also while a process works there; none without a checkpoint.

    Raises
    ------
    InputFileError
        A checkpoint that cannot be read.
    """
    path, digest, keys = Path(folder) / FILE, _checksum(canonical(dict(run))).decode(), {}
    try:
        if path.exists() and not path.is_file():
            raise InputFileError(f"{path}: is not a regular file.")
        with path.open("rb") as file:
            while line := file.readline(LONGEST):
                one, key, _ = _parsed(line.removesuffix(b"\n"))
                if one == digest and isinstance(key, str) and key != RUN:
                    keys[key] = True
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {_reason(error)}.") from error
    return list(keys)


def _sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk when this returns."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    if not missing and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        _sync_folder(one.parent)


class Checkpoint:
    """The finished parts of one run, in a folder. A context manager, which gives the folder back.

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
    foreign, damaged, changed : int
        Lines of other runs, torn or altered ones, and those of samples that are not what they were: none is used.
    terminated : bool
        Whether the process was asked to end (SIGTERM, SIGHUP) since the context began, in the main thread: the run
        should stop, and when the context ends, with all recorded, the signal takes its usual course.

    Raises
    ------
    InputFileError
        A folder that cannot be read or written, or that another process uses; one that holds a checkpoint, unless
        `resume`; a checkpoint that is no regular file: a device has no end.

    Warns
    -----
    CheckpointWarning
        When a part cannot be written (a full disk, say): the run goes on, later parts try again, `notes` tells.

    Notes
    -----
    Values are plain data that JSON gives back as it was: integers of any size, strings, lists, dicts, None. Memory
    holds the places of the lines, not the values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Checkpoint(folder, {"seed": 1}) as kept:
    ...         kept.put("part 0", [-1, 2**70])
    ...     with Checkpoint(folder, {"seed": 1}, resume=True) as kept:
    ...         kept.get("part 0"), kept.get("part 1")
    ...     with Checkpoint(folder, {"seed": 2}, resume=True) as other:
    ...         other.get("part 0"), other.foreign
    True
    ([-1, 1180591620717411303424], None)
    (None, 2)
    """

    def __init__(self, folder: str | os.PathLike[str], run: Mapping[str, Any], *, resume: bool = False) -> None:
        if not os.fspath(folder):
            raise InputFileError("a checkpoint needs the name of a folder; got an empty one.")
        self.path = Path(folder) / FILE
        self.foreign = self.damaged = self.changed = 0
        self.terminated = False
        self._handlers: dict[int, Any] = {}
        self._about = dict(run)
        self._run = _checksum(canonical(self._about)).decode()
        self._other: Any = None  # what the first of the other runs is
        self._places: dict[str, tuple[int, int]] = {}
        self._held: dict[str, bytes] = {}  # lines that could not be written
        self._problem = ""
        self._begun = self._due = time.monotonic()  # the first line at once: what cannot be written is known early
        try:
            _make_folder(self.path.parent)
            lock = FolderLock(self.path.parent)
        except FolderTakenError as error:
            raise InputFileError(
                f"{folder}: this checkpoint is in use {error}. Wait for its end, or choose another folder."
            ) from error
        except (OSError, ValueError) as error:
            raise InputFileError(f"{folder}: cannot hold a checkpoint: {_reason(error)}.") from error
        try:
            new = not self.path.exists()
            if not new and not stat.S_ISREG(self.path.stat().st_mode):
                raise OSError(errno.EINVAL, f"{FILE} in it is not a regular file")
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            lock.release()
            raise InputFileError(f"{folder}: cannot hold a checkpoint: {_reason(error)}.") from error
        self._close = weakref.finalize(self, _release, self._descriptor, lock)
        try:
            if new:
                _sync_folder(self.path.parent)
            self._size = os.fstat(self._descriptor).st_size
            if self._size and not resume:
                raise InputFileError(f"{self.path}: there is a checkpoint: resume it, or choose another folder.")
            self._empty = resume and not self._size
            # What follows a torn line begins on a line of its own.
            self._torn = self._size > 0 and self._read(self._size - 1, 1) != b"\n"
            for place, line in self._lines():
                self._take(place, line)
        except OSError as error:
            self._close()
            raise InputFileError(f"{folder}: cannot hold a checkpoint: {_reason(error)}.") from error
        except InputFileError:
            self._close()
            raise

    def _read(self, place: int, size: int) -> bytes:
        os.lseek(self._descriptor, place, os.SEEK_SET)  # what is written is appended, wherever this stands
        return os.read(self._descriptor, size)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield where each line begins, and the line; of one that is too long, its beginning."""
        begin = size = at = 0
        line = bytearray()
        while block := self._read(at, BLOCK):
            at += len(block)
            for k, piece in enumerate(block.split(b"\n")):
                if k:
                    yield begin, bytes(line)
                    begin, size = begin + size + 1, 0
                    line.clear()
                size += len(piece)
                if len(line) <= LONGEST:
                    line += piece
        if line:
            yield begin, bytes(line)

    def _take(self, place: int, line: bytes) -> None:
        if not line:
            return
        run, key, value = _parsed(line)
        if not isinstance(run, str) or not isinstance(key, str):
            self.damaged += 1
        elif run != self._run:
            self.foreign += 1
            if key == RUN and self._other is None:
                self._other = value
        else:
            self._places[key] = (place + 33, len(line) - 33)

    def __enter__(self) -> Checkpoint:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = 0
                    signal.signal(number, self._terminate)
        return self

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        self._handlers[number] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        for number in self._handlers:
            signal.signal(number, signal.SIG_DFL)
        asked = [number for number, times in self._handlers.items() if times]
        self._handlers.clear()
        for number in asked:
            signal.raise_signal(number)

    def close(self) -> None:
        """Give the folder back; lines that could not be written are tried once more."""
        if self._close.alive:
            if self._held:
                self._append()
            self._close()

    @property
    def parts(self) -> int:
        """Finished parts of this run."""
        return len({*self._places, *self._held} - {RUN})

    def keys(self, scope: str = "") -> list[str]:
        """Return the keys that begin with `scope`, in the order in which they were first recorded."""
        return [key for key in {**self._places, **self._held} if key.startswith(scope) and key != RUN]

    def get(self, key: str) -> Any:
        """Return the value of a finished part, or None."""
        if key in self._held:
            return json.loads(self._held[key][33:])[2]
        if key not in self._places:
            return None
        place, size = self._places[key]
        text = b""
        while len(text) < size and (piece := self._read(place + len(text), size - len(text))):
            text += piece
        try:
            return json.loads(text)[2]
        except ValueError as error:
            raise InputFileError(f"{self.path}: has changed while it was in use.") from error

    def _line(self, key: str, value: Any) -> bytes:
        text = json.dumps([self._run, key, value], separators=(",", ":"), allow_nan=False).encode()
        return _checksum(text) + b" " + text + b"\n"

    def due(self) -> bool:
        """Tell whether it is time for another line: few lines, and little to do again."""
        return time.monotonic() >= self._due

    def put(self, key: str, value: Any, *, hold: bool = True, lazy: bool = False) -> bool:
        """Record a finished part: it is on the disk if this returns True; with ``lazy=True``, once a line is due.

        Otherwise the disk refused it, there was a warning, and the next call tries again; with ``hold=False`` the
        part is then forgotten, and the caller keeps it.
        """
        if RUN not in self._places and RUN not in self._held:
            self._held[RUN] = self._line(RUN, self._about)
        self._held[key] = self._line(key, value)
        if (lazy and not self.due()) or self._append():
            return True
        if not hold:
            del self._held[key]
        return False

    def _append(self) -> bool:
        """Write the held lines; of those that cannot be, nothing stays in the file."""
        before = time.monotonic()
        done = self._write()
        after = time.monotonic()
        self._due = after + max(LEAST, min(MOST, SHARE * (after - self._begun)), COST * (after - before))
        return done

    def _write(self) -> bool:
        content = b"\n" * self._torn + b"".join(self._held.values())
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
            if not os.fstat(self._descriptor).st_nlink:  # what is written to it is lost with this process
                raise OSError(errno.ENOENT, "it has been deleted")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            size = os.fstat(self._descriptor).st_size
            self._torn, self._size = self._torn or size > self._size, size
            if not self._problem:
                warnings.warn(
                    f"{self.path}: cannot be written: {_reason(error)}. The run goes on; what it finishes is not "
                    "recorded until there is room.",
                    CheckpointWarning, stacklevel=2,
                )  # fmt: skip
            self._problem = _reason(error)
            return False
        place = self._size + self._torn
        for key, line in self._held.items():
            self._places[key] = (place + 33, len(line) - 34)
            place += len(line)
        self._size, self._torn, self._problem = place, False, ""
        self._held.clear()
        return True

    def left_out(self, *, changed: bool = False) -> None:
        """Count one more line as damaged: its checksum is right, its content is none; or as one of other samples."""
        self.damaged += not changed
        self.changed += changed

    def notes(self) -> tuple[str, ...]:
        """Say which lines were not used, that there were none, and what could not be written."""
        counts = (
            (self.foreign, "of other runs" + self._difference()),
            (self.damaged, "torn or altered"),
            (self.changed, "of samples that have changed"),
        )
        told = [f"{count} line{'s' * (count != 1)} {what}" for count, what in counts if count]
        notes = [f"{self.path}: {' and '.join(told)} left out."] if told else []
        if self._empty:
            notes.append(f"{self.path}: there was nothing to resume; the run began at its beginning.")
        if self._problem:
            notes.append(
                f"{self.path}: cannot be written: {self._problem}. The checkpoint is incomplete: the last parts are "
                "not in it."
            )
        return tuple(notes)

    def _difference(self) -> str:
        """Say in what another run differs, if that is known."""
        if not isinstance(self._other, dict):
            return ""
        names = [name for name, value in self._about.items() if self._other.get(name) != value]
        return f" (other {', '.join(names)})" if names else ""


@contextlib.contextmanager
def open_checkpoint(
    folder: str | os.PathLike[str] | None, run: Mapping[str, Any], resume: bool
) -> Iterator[Checkpoint | None]:
    """Open the checkpoint of a run while the context lasts; None where no folder is named.

    Raises
    ------
    DomainError
        `resume` without a folder.
    InputFileError
        As `Checkpoint`.
    """
    resume = arguments.flag("resume", resume)
    if folder is not None:
        with Checkpoint(arguments.path("checkpoint", folder), run, resume=resume) as kept:
            yield kept
        return
    if resume:
        raise DomainError("resume needs a checkpoint: the folder of the run that is to go on.")
    yield None


def _release(descriptor: int, lock: FolderLock) -> None:
    os.close(descriptor)
    lock.release()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
