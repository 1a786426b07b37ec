"""Reports of audits: they are one file that needs no other, say what was counted, and show hostile names as text."""

from __future__ import annotations

import html.parser
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qengine.exceptions import InputFileError
from qengine.models.audit import audit_row
from qengine.models.audit_result import AuditResult
from qengine.models.audit_sides import parse_sides
from qengine.models.requantizing import ACCUMULATORS, CODES, SUMS, Requantizing, integers, scales
from qengine.report.audit import write_html, write_pdf
from qengine.report.audit_data import BARS, bars, spreads

HOSTILE = "conv\n\x1b[31m <script>alert(1)</script> &amp; \" ' 重み javascript:1"
SIDES = ("litert:xnnpack", "litert:opt", "litert:ref")


def convolution(index: int, **more: Any) -> Requantizing:
    rng = np.random.default_rng(index)
    given: dict[str, Any] = {
        "index": index, "op": "CONV_2D", "name": f"{HOSTILE} {index}", "states": ACCUMULATORS, "code_dtype": "int8",
        "dtype": "int8", "granularity": "per-channel", "variant": "perchannel", "qmin": -128, "qmax": 127,
        "in_scale": scales(0.05), "w_scale": rng.uniform(0.001, 0.01, 5).astype(np.float32), "out_scale": scales(0.1),
        "bias": np.zeros(5, np.int64), "low": np.full(5, -30_000), "high": np.full(5, 30_000), "shape": (1, 4, 4, 5),
    }  # fmt: skip
    return Requantizing(**(given | more))


def result(rows: list[Requantizing], sides: tuple[str, ...] = SIDES, model: str = "m.tflite") -> AuditResult:
    parsed = parse_sides(sides, "litert")
    return AuditResult(model, sides, tuple(audit_row(row, parsed) for row in rows), ("A note <b>.",), 0.1)


def mixed() -> AuditResult:
    """Operators of every kind and answer, and names from a hostile file."""
    common = {"code_dtype": "int8", "dtype": "int8", "qmin": -128, "qmax": 127, "shape": (1, 1, 1, 16)}
    rows = [
        Requantizing(index=0, op="RESHAPE", name="r", plain=True, reason="codes are moved"),
        convolution(1), convolution(2),
        Requantizing(
            index=3, op="MEAN", name="mean", states=SUMS, variant="keepdims", in_scale=scales(0.05),
            out_scale=scales(0.03), count=integers(49), low=integers(-49 * 128), high=integers(49 * 127), **common,
        ),
        Requantizing(
            index=4, op="QUANTIZE", name="same", states=CODES, variant="i8i8", in_scale=scales(0.5),
            out_scale=scales(0.5), first_codes=np.arange(-128, 128), low=integers(-128), high=integers(127), **common,
        ),
        Requantizing(index=5, op=HOSTILE, name=HOSTILE, reason=f"no profile {HOSTILE}"),
    ]  # fmt: skip
    return result(rows, model=f"/models/{HOSTILE}.tflite")


def many(count: int) -> AuditResult:
    return result([convolution(k) for k in range(count)], SIDES[:2])


def larger(found: AuditResult, greatest: tuple[int, ...]) -> AuditResult:
    """The same with larger differences in the first operators."""
    layers = list(found.layers)
    for k, value in enumerate(greatest):
        pairs = tuple(replace(pair, greatest=value) for pair in layers[k].pairs)
        layers[k] = replace(layers[k], pairs=pairs)
    return replace(found, layers=tuple(layers))


CASES: dict[str, AuditResult] = {
    "mixed": mixed(), "one": result([convolution(1)]), "nothing": result([]), "many": many(BARS + 25),
    "none covered": result([Requantizing(index=0, op="LSTM", name="x", reason="no profile")]),
    "schemes": result([convolution(3, low=np.full(5, -200), high=np.full(5, 200))], ("single", "double", "fp32")),
    "large differences": larger(result([convolution(1), convolution(2), convolution(3)]), (2, 5)),
}  # fmt: skip


class _Strict(html.parser.HTMLParser):
    """Collects tags and text, and checks that they nest."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(found: AuditResult, folder: Path) -> tuple[_Strict, str]:
    write_html(found, folder / "a.html")
    text = (folder / "a.html").read_text(encoding="utf-8")
    reader = _Strict()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader, text


@pytest.mark.parametrize("name", CASES)
def test_html_is_one_file_and_runs_nothing(name: str, tmp_path: Path) -> None:
    reader, text = parsed(CASES[name], tmp_path)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    assert not [entry for entry in reader.attributes if entry[1].startswith("on") or entry[1] in ("src", "href")]
    assert not re.search(r"url\(|@import|https?:", text)
    assert "\x1b" not in text
    assert "\x00" not in text


def test_html_says_what_was_counted(tmp_path: Path) -> None:
    found = CASES["mixed"]
    reader, text = parsed(found, tmp_path)
    for layer in found.requantizing:
        for pair in layer.pairs:
            if pair.divergent:
                assert f"{pair.divergent:,} " in reader.text
    for total in found.totals:
        assert f"may differ in {total.different} of {len(found.requantizing)} operators" in reader.text
    witness = found.layers[1].pairs[0].witness
    assert witness is not None
    assert witness.why in reader.text
    assert "<script>alert(1)</script>" in reader.text
    assert "重み" in reader.text
    assert "A note <b>." in reader.text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_larger_differences_have_other_colours(tmp_path: Path) -> None:
    reader, _ = parsed(CASES["large differences"], tmp_path)
    shades = [value for tag, name, value in reader.attributes if (tag, name) == ("rect", "class")]
    assert [shades.count(shade) for shade in ("d1", "d2", "d3")] == [6, 6, 6]  # three pairs, two pictures


def test_bars_of_many_operators_are_shared() -> None:
    found = CASES["many"]
    ((_, items),) = bars(found).items()
    assert len(items) <= BARS < len(found.layers)
    assert sum(item.divergent or 0 for item in items) == found.totals[0].divergent
    assert items[0].first == 0
    assert items[-1].last == BARS + 24


def test_sides_with_the_same_multipliers_share_a_picture() -> None:
    found = spreads(CASES["mixed"])
    assert list(found) == ["litert:xnnpack", "litert:opt, litert:ref"]
    (first, *_), layer = found["litert:xnnpack"], CASES["mixed"].layers[1]
    assert first.greatest == np.abs(layer.parameters[0].ppm).max()


@pytest.mark.parametrize("name", ["mixed", "nothing", "many", "none covered", "large differences"])
def test_pdf_opens_and_is_the_same_again(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pypdf = pytest.importorskip("pypdf")
    found = CASES[name]
    write_pdf(found, tmp_path / "a.pdf")
    contents = (tmp_path / "a.pdf").read_bytes()
    reader = pypdf.PdfReader(io.BytesIO(contents), strict=True)
    text = " ".join(page.extract_text() for page in reader.pages)
    assert "Audit of" in text
    for layer in found.requantizing:
        assert layer.row.op in text or layer.row.op == HOSTILE
    if name == "mixed":
        write_pdf(found, tmp_path / "b.pdf")
        assert (tmp_path / "b.pdf").read_bytes() == contents
        assert "no profile" in text


@pytest.mark.parametrize(("write", "ending"), [(write_html, "html"), (write_pdf, "pdf")])
def test_nothing_half_written(write: Any, ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no folder"):
        write(CASES["one"], tmp_path / "missing" / f"a.{ending}")
    with pytest.raises(InputFileError, match="must end in"):
        write(CASES["one"], tmp_path / "a.txt")
    (tmp_path / f"folder.{ending}").mkdir()
    with pytest.raises(InputFileError, match="folder"):
        write(CASES["one"], tmp_path / f"folder.{ending}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"folder.{ending}"]
