"""One process at a time in a folder.

The lock is the kernel's (``flock``; ``msvcrt.locking`` on Windows): it ends with the process, however that ends. Where
the file system has none, a file names the owner; a killed one leaves it behind, and it is taken over if that process
is known to be gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK, OWNER = "lock", "owner"
#: What a file system says that has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}


class FolderTakenError(Exception):
    """Another process has the folder; the text says which."""


def _kernel_lock(descriptor: int) -> None:
    """Lock a file or raise BlockingIOError; OSError where there are no locks."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _gone(owner: str) -> bool:
    """Tell whether a process of this machine has ended; never true of one that may run."""
    words = owner.split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _own(path: Path) -> None:
    """Make the file that names the owner."""
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            owner = path.read_text(errors="replace").strip()
            if not _gone(owner):
                break
            path.unlink(missing_ok=True)
            continue
        os.write(descriptor, _me().encode())
        os.close(descriptor)
        return
    raise FolderTakenError(f"by {owner or 'a process'}; if that has ended, delete {path}")


class FolderLock:
    """The lock of a folder, held until `release` or the end of the process.

    Raises
    ------
    FolderTakenError
        If another process, or another part of this one, holds it.
    OSError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     held = FolderLock(Path(folder))
    ...     try:
    ...         FolderLock(Path(folder))
    ...     except FolderTakenError:
    ...         print("taken")
    ...     held.release()
    ...     FolderLock(Path(folder)).release()
    taken
    """

    def __init__(self, folder: Path) -> None:
        self._owner: Path | None = None
        self._process = os.getpid()
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                _kernel_lock(self._descriptor)
            except BlockingIOError:
                raise FolderTakenError(f"by {self._holder()}") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _own(folder / OWNER)
                self._owner = folder / OWNER
        except BaseException:
            os.close(self._descriptor)
            raise
        with contextlib.suppress(OSError):  # who it is serves a message alone; a full disk has no room for it
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, _me().encode())

    def _holder(self) -> str:
        try:
            return os.read(self._descriptor, 300).decode(errors="replace").strip() or "another process"
        except OSError:  # Windows locks the bytes themselves
            return "another process"

    def release(self) -> None:
        """Give the folder back; a second call does nothing."""
        if self._descriptor >= 0:
            if sys.platform != "win32" and self._process == os.getpid():  # a fork has the lock too, while it lives
                with contextlib.suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1
            if self._owner is not None and self._process == os.getpid():
                self._owner.unlink(missing_ok=True)
