"""One pass over a tensor, in tiles that are added up in their order; with a checkpoint, from where a killed run was."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import Progress
from ..backends.quantizers import ErrorPlan
from ..exceptions import DomainError
from ..work.checkpoint import Checkpoint
from ..work.cluster import ClusterExecutor
from ..work.run import Tile, cut, run
from .metrics import Totals
from .segments import samples
from .windows import Windowed

#: Elements a tile. It belongs to the definition of the sums: the same bits for every number of threads and chunks.
TILE = 1 << 20
#: Tiles of a task of a cluster.
TOGETHER = 8
#: Tasks a worker that may be ahead of the first one that is not done: results wait in memory for those before them.
AHEAD = 8
#: 64-bit words of a tile that are summed, for its checksum.
WORDS = 1 << 10
Array = npt.NDArray[Any]


@runtime_checkable
class Chunked(Protocol):
    """A tensor that is read in pieces: its shape, and flat pieces that follow one another in C order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""

    def chunks(self, elements: int = ...) -> Iterator[Array]:
        """Yield flat pieces of at most `elements` elements; each call starts anew."""


def _flat_reader(x: Array) -> Callable[[int, int], Array]:
    """Return a function that gives elements ``start .. stop - 1`` in C order as float32 or float64."""
    if x.flags.c_contiguous or backends.on_device(x):
        flat = backends.arrays_of(x).ascontiguousarray(x).reshape(-1)
        return lambda start, stop: samples(flat[start:stop])
    if x.ndim and x[0].flags.c_contiguous and x.strides[0] > 0 and x[0].size >= TILE:
        rows, size = x, x[0].size

        def read(start: int, stop: int) -> Array:
            pieces = []
            while start < stop:
                row, place = divmod(start, size)
                end = min(stop, (row + 1) * size)
                pieces.append(rows[row].reshape(-1)[place : place + end - start])
                start = end
            return samples(np.concatenate(pieces) if len(pieces) > 1 else pieces[0])

        return read
    return lambda start, stop: samples(x.flat[start:stop])


def _regrouped(source: Chunked, size: int, length: int) -> Iterator[Array]:
    """Yield a tensor's pieces again in pieces of `length` elements, whatever pieces it comes in."""
    buffer: Array | None = None
    filled = done = 0
    for piece in source.chunks(length):
        piece = samples(np.asarray(piece).reshape(-1))
        while piece.size:
            if buffer is None:
                if done == size:
                    raise DomainError(f"the tensor has more than the {size} elements of its shape.")
                buffer, filled = np.empty(min(length, size - done), piece.dtype), 0
            elif buffer.dtype != piece.dtype:
                buffer = buffer.astype(np.float64)
            take = min(buffer.size - filled, piece.size)
            buffer[filled : filled + take] = piece[:take]
            piece, filled = piece[take:], filled + take
            if filled == buffer.size:
                yield buffer
                done, buffer = done + filled, None
    if buffer is not None or done != size:
        raise DomainError(f"the tensor ended after {done + filled} of {size} elements.")


def in_memory(x: Any) -> bool:
    """Tell an array, of host or device, from a tensor that is read in pieces."""
    return isinstance(x, np.ndarray) or backends.on_device(x)


def _workers(name: str) -> int:
    if name != "cpu":
        return 1
    from ..backends.cpu import thread_count

    return thread_count()


class _ChangedError(Exception):
    """The tensor is not the one that a checkpoint was begun with."""


def checksum(tile: Array) -> bytes:
    """Return a checksum of a tile's samples: of the sums of its words, line by line, at the speed of memory."""
    raw = np.ascontiguousarray(tile).view(np.uint8)
    whole = raw.size // (8 * WORDS) * 8 * WORDS
    sums = raw[:whole].view(np.uint64).reshape(-1, WORDS).sum(axis=1, dtype=np.uint64)  # modulo 2**64
    return hashlib.blake2b(sums.tobytes() + raw[whole:].tobytes(), digest_size=8).digest()


class Progression:
    """The totals of a tensor's first tiles: in memory, and in a checkpoint.

    What the checkpoint holds counts once the samples that it is of were read again, and are the same. `whole`: only
    what is of all of the `size` elements is recorded and used.
    """

    def __init__(
        self, totals: Totals, size: int, kept: Checkpoint | None, key: str, *, whole: bool = False, anew: bool = False
    ) -> None:
        self.totals, self.done, self.known = totals, 0, 0
        self._size, self._whole = size, whole
        self._kept, self._key = kept, key
        self._check, self._wanted, self._state = b"", "", []
        if kept is not None and not anew and (found := kept.get(key)) is not None:
            try:
                self.known, self._wanted, self._state = int(found[0]), str(found[1]), list(found[2])
                totals.empty().unpack(unpacked(self._state))
                if not 0 < self.known <= size or (self.known % TILE and self.known != size):
                    raise ValueError(f"{self.known} elements are no tiles")
                self.known *= not whole or self.known == size
            except (ValueError, TypeError, LookupError, OverflowError):
                kept.left_out()
                self.known = 0

    def add(self, elements: int, check: bytes, result: Any) -> None:
        """Add the next tile: its result, which is None of a tile that the checkpoint has counted."""
        self.done += elements
        if self._kept is None:
            self.totals.add(result)
            return
        self._check = hashlib.blake2b(self._check + check, digest_size=8).digest()
        if self.done > self.known:
            self.totals.add(result)
        elif self.done == self.known:
            if self._check.hex() != self._wanted:
                raise _ChangedError
            self.totals.unpack(unpacked(self._state))

    def record(self, *, now: bool = False) -> None:
        """Record the totals if it is time, or `now`."""
        new = self.done > self.known and (self.done == self._size or not self._whole)
        if self._kept is not None and new and (now or self._kept.due()):
            self._kept.put(self._key, [self.done, self._check.hex(), packed(self.totals.pack())], lazy=True)


def packed(arrays: list[Array]) -> list[str]:
    """Return arrays as text, bit for bit, without their shapes."""
    little = (one.astype(one.dtype.newbyteorder("<"), copy=False).tobytes() for one in arrays)
    return [base64.b64encode(zlib.compress(one, 1)).decode() for one in little]


def unpacked(texts: list[str]) -> list[bytes]:
    """Undo `packed`, up to the shapes."""
    try:
        return [zlib.decompress(base64.b64decode(text, validate=True)) for text in texts]
    except zlib.error as error:
        raise ValueError(str(error)) from error


def measure(
    x: Array | Chunked, size: int, plan: ErrorPlan, name: str, threads: int | None, progress: Progress | None,
    kept: Checkpoint | None = None, key: str = "", executor: ClusterExecutor | None = None,
) -> Totals:  # fmt: skip
    """Run the tiles and add them up in their order."""
    totals = Totals(plan.rows.shape[0], plan.channels, plan.histograms, int(plan.starts[-1]))
    whole = name == "cuda"  # codes of tiles that go together stand in the first one's result
    try:
        state = Progression(totals.empty(), size, kept, key, whole=whole)
        return _measure(x, size, plan, name, threads, progress, state, kept, executor)
    except _ChangedError:
        assert kept is not None
        kept.left_out(changed=True)
    state = Progression(totals, size, kept, key, whole=whole, anew=True)
    return _measure(x, size, plan, name, threads, progress, state, kept, executor)


def _measure(
    x: Array | Chunked, size: int, plan: ErrorPlan, name: str, threads: int | None, progress: Progress | None,
    state: Progression, kept: Checkpoint | None, executor: ClusterExecutor | None,
) -> Totals:  # fmt: skip
    waiting: dict[int, list[Any]] = {}

    def on_result(task: Tile, results: list[Any]) -> None:
        waiting[task.start] = results
        while (ready := waiting.pop(state.done, None)) is not None:
            for check, result in ready:
                state.add(min(TILE, size - state.done), check, result)
            if progress is not None:
                progress(state.done, size)
        state.record()

    stopped = None if kept is None else lambda: kept.terminated
    if executor is not None:
        from .tasks import ErrorTask

        remote = ErrorTask(cast(Windowed, x), plan, name, state.known, kept is not None)
        try:
            if not run(cut(size, TOGETHER * TILE), remote, on_result, executor=executor, stopped=stopped, ahead=AHEAD):
                raise KeyboardInterrupt
        finally:
            state.record(now=True)
        return state.totals
    backend = backends.load(name)
    workers = threads or _workers(name)
    held: dict[int, Array] = {}
    if name == "cuda":
        together = backends.device_backend().tiles_at_once(plan, TILE)
    else:
        # Handing out a task costs as much as a tenth of a tile: tensors of many tiles go several at a time.
        together = max(1, min(8, size // TILE // (8 * workers)))
    span = TILE * together

    def tasks() -> Iterator[Tile]:
        if is_array:
            yield from (Tile(start, min(start + span, size)) for start in range(0, size, span))
            return
        piece_size = span if name == "cuda" else TILE
        for k, piece in enumerate(_regrouped(cast(Chunked, x), size, piece_size)):
            held[k * piece_size] = piece
            yield Tile(k * piece_size, k * piece_size + piece.size)

    is_array = in_memory(x)
    read = _flat_reader(cast(Array, x)) if is_array else lambda start, stop: held.pop(start)

    def evaluate(start: int, stop: int) -> list[Any]:
        if name == "cuda":
            return _on_device(read(start, stop), start)
        return [one(read(first, min(first + TILE, stop)), first) for first in range(start, stop, TILE)]

    def one(tile: Array, first: int) -> tuple[bytes, Any]:
        check = b"" if kept is None else checksum(tile)
        return check, None if first + tile.size <= state.known else backend.error_tile(tile, first, plan)

    def _on_device(piece: Array, start: int) -> list[Any]:
        parts = [piece[first : first + TILE] for first in range(0, piece.size, TILE)]
        checks = [b"" if kept is None else checksum(part) for part in parts]
        if start + piece.size <= state.known:
            return [(check, None) for check in checks]
        return list(zip(checks, backends.device_backend().error_tiles(piece, start, plan, TILE), strict=True))

    if name == "cuda":  # in the caller's thread: a device and a stream are current for one thread
        for task in tasks():
            on_result(task, evaluate(task.start, task.stop))
    elif not run(tasks(), evaluate, on_result, workers=workers, stopped=stopped, ahead=AHEAD):
        state.record(now=True)
        raise KeyboardInterrupt
    state.record(now=True)
    return state.totals
