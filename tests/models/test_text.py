"""Numbers as text: what is a number, what separates them, and where a mistake stands."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qengine.exceptions import InputFileError
from qengine.models import text as text_module
from qengine.models.tensors import open_tensors, parse_numbers
from qengine.models.text import NumberReader


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", [1.0]),
        ("1 2\t3\n4,5\r\n6;7\r8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("1, 2,\n3, 4,\n", [1, 2, 3, 4]),
        ("\n\n 1\n\n\n2\n", [1, 2]),
        ("# only a comment, 5\n1 # 2, 3\n#\n4", [1, 4]),
        ("a,b\n1,2", [1, 2]),
        ('"first column";"second"\n1;2', [1, 2]),
        ("# c\n\nname\n1", [1]),
        ("t (s), x1 [%], - \n1,2,3", [1, 2, 3]),
        ("-1e-3 +.5 5.", [-0.001, 0.5, 5.0]),
        ("\ufeff1 2", [1, 2]),
        ("\ufeffa\n1 2", [1, 2]),
        ("1 , 2", [1, 2]),
        ("1,5", [1, 5]),
        ("1e-400 -1e-400", [0.0, -0.0]),
        ("0.1 9007199254740993 1.7976931348623157e308", [0.1, 2.0**53, 1.7976931348623157e308]),
    ],
)
def test_numbers(text: str, expected: list[float]) -> None:
    values = parse_numbers(text)
    assert values.dtype == np.float64
    assert values.tolist() == expected


def test_nan_and_inf_are_words() -> None:
    values = parse_numbers("nan NaN -nan\ninf -inf Infinity +INF")
    assert all(math.isnan(x) for x in values[:3])
    assert values[3:].tolist() == [math.inf, -math.inf, math.inf, math.inf]


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("1 2\n3 abc 4", 2, 3, "'abc'"),
        ("1\n2,,3", 2, 3, "empty"),
        ("1\n,2", 2, 1, "empty"),
        ("1\n2, ,3", 2, 4, "empty"),
        ("1\n2,3,,", 2, 5, "empty"),
        ("1,2\n1,5;2,5", 2, 4, "decimal comma"),
        ("1_000", 1, 1, "'1_000'"),
        ("1 2_0", 1, 3, "'2_0'"),
        ("1.0.0\n2", 1, 1, "'1.0.0'"),
        ("1 ٣", 1, 3, "'٣'"),
        ("a\nb\n1", 2, 1, "'b'"),
        ("1\nhead", 2, 1, "'head'"),
        ("1 1e999", 1, 3, "beyond float64"),
        ("1\n\n5 -1e309", 3, 3, "beyond float64"),
        ("[1, 2]", 1, 1, "'[1'"),
        ("(.5)\n2", 1, 1, "'(.5)'"),
        ('"1","2"\n3,4', 1, 1, "1"),
        ("$5\n6", 1, 1, "'$5'"),
        ("[nan]\n6", 1, 1, "'[nan]'"),
        ("1\n2\x003", 2, 1, "NUL"),
        ("a\0b\0\n1", 1, 1, "NUL"),
        ("0x10", 1, 1, "'0x10'"),
        ("1 2 3 'x'", 1, 7, "x"),
        ("nan x", 1, 5, "'x'"),
    ],
)
def test_mistakes_are_named_with_line_and_column(text: str, line: int, column: int, part: str) -> None:
    with pytest.raises(InputFileError) as caught:
        parse_numbers(text, where="pasted")
    assert str(caught.value).startswith(f"pasted: line {line}, column {column}: ")
    assert part in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n\n", "# 1 2 3", "a, b\n", "\ufeff"])
def test_a_text_without_numbers(text: str) -> None:
    with pytest.raises(InputFileError, match=r"at least one number is required"):
        parse_numbers(text)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf1,2\n3, 4\xff5\n")
    with pytest.raises(InputFileError, match=r"t\.csv: line 2, column 5: UTF-8 is required; got the byte 0xff"):
        open_tensors(path)
    path.write_text("1\n2\n", encoding="utf-16")
    with pytest.raises(InputFileError, match=r"line 1, column 1: .*(NUL|0xff)"):
        open_tensors(path)
    path.write_bytes(b"# gr\xf6\xdfe\n1 2\n")  # a comment may be in any encoding
    assert open_tensors(path)[0].read().tolist() == [1, 2]


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "measured.TXT"
    path.write_bytes(b"time,value\r\n1,2\r\n3,4\r\n")
    (source,) = open_tensors(path)
    assert (source.name, source.shape, source.dtype, source.values) == ("measured", (4,), "text", "float64")
    assert "'time,value'" in source.note
    assert [piece.tolist() for piece in source.chunks(3)] == [[1, 2, 3], [4]]
    assert source.read().tolist() == [1, 2, 3, 4]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"1 2\n-3"), encoding="ascii")
    monkeypatch.setattr("sys.stdin", stdin)
    (source,) = open_tensors("-")
    assert (source.name, source.read().tolist()) == ("stdin", [1, 2, -3])
    assert not stdin.buffer.closed
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nx"))
    with pytest.raises(InputFileError, match=r"^<stdin>: line 2, column 1: "):
        open_tensors("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputFileError, match=r"closed"):
        open_tensors("-")


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_pieces_of_a_text_do_not_show(block: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Any length of the pieces gives the same numbers, and the same place of a mistake."""
    monkeypatch.setattr(text_module, "_BLOCK", max(block, 12))
    expected = rng.normal(size=200).round(3)
    joined = "a header, b\n" + "".join(
        f"{x:g}" + str(rng.choice([", ", ",", " ", "\t", "\n", " # c, d\n", ",\n", "\r\n", "\n\n"])) for x in expected
    )
    assert parse_numbers(joined).tolist() == [float(f"{x:g}") for x in expected]
    for at in rng.integers(0, 200, 20):
        places = [f"{x:g}" for x in expected[: int(at)]]
        broken = ",\n".join(places) + ("," if places else "") + " 1 , 2x5 "
        lines = broken.split("\n")
        with pytest.raises(InputFileError) as caught:
            parse_numbers(broken)
        assert f"line {len(lines)}, column {lines[-1].index('2x5') + 1}:" in str(caught.value)


def test_one_long_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_BLOCK", 100)
    assert parse_numbers(",".join(map(str, range(1000)))).tolist() == list(range(1000))
    line = ",".join(map(str, range(1000))) + ",,1"
    with pytest.raises(InputFileError, match=rf"line 1, column {len(line) - 1}: .*empty"):
        parse_numbers(line)
    assert parse_numbers("1 #" + "x" * 1000 + "\n2").tolist() == [1, 2]
    with pytest.raises(InputFileError, match=r"line 2, column 1: a field of more than \d+ characters"):
        parse_numbers("1\n" + "1" * 1000)


def test_many_numbers_go_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(text_module, "_IN_MEMORY", 1000)
    path = tmp_path / "t.txt"
    path.write_text("\n".join(map(str, range(5000))))
    (source,) = open_tensors(path)
    path.unlink()
    first, second = source.chunks(700), source.chunks(11)
    assert next(first).tolist() == list(range(700))
    assert next(second).tolist() == list(range(11))
    assert next(first).tolist() == list(range(700, 1400))
    assert source.read().tolist() == list(range(5000))


LINES = (
    "1 2 # a, b; c",
    "#",
    "3;4",
    "5, 6,",
    "7;",
    "# é _",
    "",
    "-0.5;2e3 # ;",
    "8,9 ;",
    "nan",
    "1_0",
    "é",
    "; 1",
    "1e999",
)


def test_the_quick_path_says_what_the_careful_one_says(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def outcome(text: str) -> Any:
        try:
            return [repr(v) for v in parse_numbers(text).tolist()]
        except InputFileError as error:
            return str(error)

    texts = ["\n".join(rng.choice(LINES[:10], 6)) for _ in range(40)]
    texts += ["\n".join(rng.choice(LINES, 4)) + end for end in ("", "\n", " #") for _ in range(40)]
    for block in (7, 1 << 20):
        monkeypatch.setattr(text_module, "_BLOCK", block)
        quick = [outcome(text) for text in texts]
        with monkeypatch.context() as careful:
            careful.setattr(NumberReader, "_quick", lambda self, text: None)
            assert quick == [outcome(text) for text in texts]


def test_progress_counts_numbers_and_may_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_BLOCK", 8)
    seen: list[int] = []

    def few(count: int) -> None:
        seen.append(count)
        if count > 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parse_numbers("-1 2\n" * 100, progress=few)
    assert seen == sorted(seen)
    assert 5 < seen[-1] < 20
