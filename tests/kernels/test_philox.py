"""Philox4x32-10 of every wing against Random123's known answers and the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qengine import selftest
from qengine.kernels.cpu import philox as cpu
from qengine.kernels.reference import philox as reference
from tests import oracle

Words = tuple[int, ...]
MASK = 2**32 - 1


def known_answers() -> list[tuple[Words, Words, Words]]:
    """(counter, key, output) of each line of the file."""
    text = (Path(__file__).parents[1] / "data" / "philox.kat").read_text(encoding="ascii")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert all(row[:2] == ["philox4x32", "10"] and len(row) == 12 for row in rows)
    words = [tuple(int(word, 16) for word in row[2:]) for row in rows]
    return [(w[:4], w[4:6], w[6:]) for w in words]


def cpu_words(key: Words, first: int, count: int) -> np.ndarray:
    out = np.empty((4, count), np.uint32)
    cpu.philox_words(np.uint64(key[0]), np.uint64(key[1]), np.uint64(first), out)
    return out


def oracle_words(key: Words, first: int, count: int) -> np.ndarray:
    blocks = [((first + i) % 2**64 & MASK, (first + i) % 2**64 >> 32, 0, 0) for i in range(count)]
    return np.array([oracle.philox4x32_10(block, (key[0], key[1])) for block in blocks], np.uint64).T


@pytest.mark.parametrize(("counter", "key", "output"), known_answers())
def test_known_answers(counter: Words, key: Words, output: Words) -> None:
    assert tuple(int(w) for w in reference.philox4x32_10(counter, key)) == output
    assert oracle.philox4x32_10(counter, key) == output  # type: ignore[arg-type]


def test_known_answer_of_the_cpu() -> None:
    """The CPU's counters have two words: of the three vectors it can be asked for the first."""
    counter, key, output = known_answers()[0]
    assert counter == (0, 0, 0, 0)
    assert tuple(cpu_words(key, 0, 1)[:, 0].tolist()) == output


def test_selftest_ships_the_same_vectors() -> None:
    assert list(selftest.PHILOX) == known_answers()


def test_random_counters_and_keys(rng: np.random.Generator) -> None:
    for _ in range(200):
        words = [int(w) for w in rng.integers(0, 2**32, 6)]
        counter, key = (words[0], words[1], words[2], words[3]), (words[4], words[5])
        assert tuple(int(w) for w in reference.philox4x32_10(counter, key)) == oracle.philox4x32_10(counter, key)


def test_arrays_of_counters(rng: np.random.Generator) -> None:
    counter = rng.integers(0, 2**32, (4, 3, 5), dtype=np.uint64)
    got = np.stack(reference.philox4x32_10(tuple(counter), (7, MASK)))
    assert got.shape == (4, 3, 5)
    assert got.max() <= MASK
    for at in np.ndindex(3, 5):
        expected = oracle.philox4x32_10(tuple(int(c[at]) for c in counter), (7, MASK))  # type: ignore[arg-type]
        assert tuple(int(w) for w in got[(slice(None), *at)]) == expected


@pytest.mark.parametrize("first", [0, 1, 2**32 - 3, 2**32, 2**32 + 1, 5 * 2**32 - 1, 2**40 + 12_345, 2**62, 2**63])
def test_consecutive_blocks(first: int, rng: np.random.Generator) -> None:
    """Blocks are counted in 64 bits: the second counter word takes over beyond 2**32."""
    keys = [(0, 0), (MASK, MASK), tuple(int(k) for k in rng.integers(0, 2**32, 2))]
    for key in keys:
        expected = oracle_words(key, first, 9)
        np.testing.assert_array_equal(reference.words(key, first, 9), expected)
        np.testing.assert_array_equal(cpu_words(key, first, 9), expected)


def test_any_number_of_blocks() -> None:
    whole = reference.words((1, 2), 100, 70)
    for count in (0, 1, 7, 8, 15, 16, 17, 63, 70):
        np.testing.assert_array_equal(reference.words((1, 2), 100, count), whole[:, :count])
        np.testing.assert_array_equal(cpu_words((1, 2), 100, count), whole[:, :count])
