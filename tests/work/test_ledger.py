"""Ranges that are done, and their merged results: each index counted once, whatever is in the file."""

from __future__ import annotations

import os
import random
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from qengine.work import checkpoint
from qengine.work.checkpoint import Checkpoint
from qengine.work.ledger import Ledger, Spans
from qengine.work.run import Tile

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 31)), max_size=12)


@given(RANGES)
def test_spans_are_sets_of_indices(ranges: list[tuple[int, int]]) -> None:
    spans, indices = Spans(), set[int]()
    for start, stop in ranges:
        new = set(range(start, stop))
        taken = bool(new) and not new & indices
        assert spans.add(start, stop) == taken
        indices |= new if taken else set()
        assert spans.size == len(indices)
        assert [k for a, b in spans for k in range(a, b)] == sorted(indices)
        assert [k for a, b in spans.gaps(31) for k in range(a, b)] == sorted(set(range(31)) - indices)
        assert all(b < c for (_, b), (c, _) in zip(list(spans), list(spans)[1:], strict=False)), "neighbours are joined"


def total(tile: Tile) -> int:
    return sum(k * k for k in range(tile.start, tile.stop))


def ledger(kept: Checkpoint | None, end: int = 1000) -> Ledger[int]:
    return Ledger(end, 0, int.__add__, kept=kept, pack=int, unpack=int)


@given(st.integers(0, 2**32))
def test_any_lines_of_a_file(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Runs that stop anywhere, with tiles of any size; lines then shuffled, doubled, dropped: the total is exact."""
    chance, folder = random.Random(seed), tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST", "SHARE", "COST"):
            patch.setattr(checkpoint, name, 0)
        patch.setattr(os, "fsync", lambda descriptor: None)
        for _ in range(3):
            with Checkpoint(folder, {}, resume=True) as kept, ledger(kept) as part:
                tiles = list(part.tiles(chance.randrange(1, 400)))
                chance.shuffle(tiles)
                for tile in tiles[: chance.randrange(len(tiles) + 1)]:
                    part.add(tile, total(tile))
            path = folder / checkpoint.FILE
            lines = path.read_bytes().splitlines(keepends=True)
            lines = [line for line in lines for _ in range(chance.choice([0, 1, 1, 2]))]
            chance.shuffle(lines)
            path.write_bytes(b"".join(lines))
    with Checkpoint(folder, {}, resume=True) as kept, ledger(kept) as whole:
        before = whole.total
        assert before == sum(total(Tile(*span)) for span in whole._spans)
        for tile in whole.tiles(77):
            whole.add(tile, total(tile))
        assert whole.total == total(Tile(0, 1000))


def test_a_tile_that_comes_twice(tmp_path: Path) -> None:
    with Checkpoint(tmp_path, {}) as kept, ledger(kept, 30) as one:
        for tile in (Tile(0, 10), Tile(20, 30), Tile(0, 10), Tile(5, 15), Tile(10, 20), Tile(10, 20)):
            one.add(tile, total(tile))
    with Checkpoint(tmp_path, {}, resume=True) as kept:
        again = ledger(kept, 30)
        assert (again.total, again.resumed, list(again.tiles(9))) == (total(Tile(0, 30)), 30, [])


@pytest.mark.parametrize(
    "key", ["tiles", "tiles ", "tiles 3", "tiles 0-x", "tiles 0-2000", "tiles 7-7", "tiles 0-9 5-12"]
)
def test_lines_that_are_no_parts(key: str, tmp_path: Path) -> None:
    with Checkpoint(tmp_path, {}) as kept:
        kept.put(key, 5)
        kept.put("tiles 10-20", "no number")
    with Checkpoint(tmp_path, {}, resume=True) as kept:
        assert ledger(kept).resumed == 0
        assert kept.damaged == (1 if key == "tiles" else 2)  # a key without the space is of another ledger


def test_an_interrupted_count_is_not_recorded(tmp_path: Path) -> None:
    """Ctrl-C between two halves of a merge: what is recorded afterwards is what was whole before."""

    def merge(one: int, other: int) -> int:
        if other == 99:
            raise KeyboardInterrupt
        return one + other

    with Checkpoint(tmp_path, {}) as kept:
        part = Ledger(30, 0, merge, kept=kept, pack=int, unpack=int)
        part.add(Tile(0, 10), 1)
        with part, pytest.raises(KeyboardInterrupt):
            part.add(Tile(10, 20), 99)
    with Checkpoint(tmp_path, {}, resume=True) as kept:
        assert (ledger(kept, 30).total, ledger(kept, 30).resumed) == (1, 10)


@pytest.mark.parametrize("value", [2**70, float(2**80), "x", None, [1]])
def test_a_number_that_does_not_fit(tmp_path: Path, value: object) -> None:
    """The checksum is right, the content is none: counted as altered, and done again."""
    with Checkpoint(tmp_path, {}) as kept:
        kept.put("tiles 0-4", value)
    with Checkpoint(tmp_path, {}, resume=True) as kept:
        part = Ledger(10, 0, int.__add__, kept=kept, pack=int, unpack=lambda data: int(np.array(data, np.int64)[()]))
        assert (part.total, part.resumed, kept.damaged) == (0, 0, 1)
