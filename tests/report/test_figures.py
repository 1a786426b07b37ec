"""Figures and PDF: they are drawn without a warning, say what they show, and are the same bytes each time."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import qengine as qe
from qengine.report.tensors import Measured, Refused
from tests.report.test_tables import WORKED, measured, source

pytest.importorskip("matplotlib")

from qengine.report.charts import comparison_picture, tensors_picture
from qengine.report.figures import SHOWN, TensorGraphs, error_bars, tensor_figure, tensor_picture
from qengine.report.style import label, style

HOSTILE = "bias\n\x1b[31m $x^$ <b>&amp; 重み"


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


CASES = {
    "worked": (WORKED, qe.QuantSpec(range=(-1.5, 1.5))),
    "one sample": ([0.7], qe.QuantSpec(mode="asymmetric")),
    "scalar": (np.float64(3.0), qe.QuantSpec()),
    "constant": ([0.3] * 300, qe.QuantSpec(mode="asymmetric", bits=4)),
    "clipped": (np.random.default_rng(1).standard_cauchy(3000), qe.QuantSpec(method="percentile", percentile=99.0)),
    "many": (normal(300, 400), qe.QuantSpec(bits=16)),
    "channels": (normal(16, 8, 3, 3), qe.QuantSpec(axis=0, mode="asymmetric")),
    "groups": (normal(64, 6), qe.QuantSpec(axis=0, group=10, bits=2)),
    "stochastic": (normal(500), qe.QuantSpec(rounding="stochastic", bits=3)),
    "blocks": (normal(10, 70), qe.QuantSpec(format="mxfp4", axis=0)),
    "cast": (normal(100), qe.QuantSpec(format="e4m3fn", scale=1.0)),
    "given": (WORKED, qe.QuantSpec(params=qe.QuantParams(0.1, 3, -8, 7))),
    "offset": ([1e6 + 1, 1e6 + 2, 1e6 + 4], qe.QuantSpec(mode="asymmetric", convention="onnx")),
    "zeros": (np.zeros(5), qe.QuantSpec(mode="asymmetric")),
    "tiny": ([1e-150, -3e-150, 2e-150], qe.QuantSpec(bits=4)),
    "huge": ([1e150, -3e150, 2e150], qe.QuantSpec(bits=4)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_picture_of_each_kind(name: str) -> None:
    values, spec = CASES[name]
    item = measured(HOSTILE, values, spec)
    png = tensor_picture(item, "raise", "png")
    assert png.startswith(b"\x89PNG")
    assert tensor_picture(item, "raise", "png") == png


def test_svg_has_no_date_and_is_the_same_again() -> None:
    item = measured("w", WORKED, qe.QuantSpec())
    svg = tensor_picture(item, "raise", "svg")
    assert b"<svg" in svg
    assert b"dc:date" not in svg
    assert tensor_picture(item, "raise", "svg") == svg


def test_panels_say_what_they_show() -> None:
    item = measured("w", normal(100, 100), qe.QuantSpec())
    graphs = TensorGraphs.of(item, item.report.rows[0], "raise")
    assert graphs.samples.index.size == SHOWN
    with style():
        figure = tensor_figure(graphs)
    titles = [axes.get_title("left") for axes in figure.axes]
    for text in (
        "200 of 10,000 samples, evenly spaced", "Error of each sample", "Transfer staircase",
        "all 10,000 finite samples", "Codes", "SQNR against bits",
    ):  # fmt: skip
        assert any(text in title for title in titles), text
    for axes in figure.axes[:6]:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert all(len(line.get_xdata()) <= 4000 for axes in figure.axes for line in axes.lines)
    assert [bits for bits, _ in graphs.curve] == list(range(2, 17))
    assert dict(graphs.curve)[8] == item.report.rows[0].sqnr


def test_the_error_histogram_keeps_every_sample() -> None:
    for name in ("worked", "clipped", "many", "constant"):
        row = measured("w", *CASES[name]).report.rows[0]
        edges, counts = error_bars(row)
        assert counts.sum() == row.count, name
        assert np.all(np.diff(edges) > 0)
        assert len(edges) == len(counts) + 1
    row = measured("w", *CASES["clipped"]).report.rows[0]
    edges, counts = error_bars(row)
    used = np.flatnonzero(counts)
    inner, outer = (pick(np.abs(edges[used]), np.abs(edges[used + 1])) for pick in (np.minimum, np.maximum))
    assert inner.max() <= row.max_abs <= outer.max()


def test_settings_of_the_user_stay_and_do_not_matter() -> None:
    import matplotlib

    item = measured("w", WORKED, qe.QuantSpec())
    plain = tensor_picture(item, "raise", "png")
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": False}):
        assert tensor_picture(item, "raise", "png") == plain
        assert matplotlib.rcParams["font.size"] == 30.0


def test_labels_hold_what_the_font_has() -> None:
    assert label("ä_重") == r"ä_\u91cd"
    assert len(label("x" * 500, 60)) == 60


def test_pictures_of_many() -> None:
    specs = [
        *qe.QuantSpec.grid(bits=(2, 8), mode=("symmetric", "asymmetric")), qe.QuantSpec(format="mxfp4"),
        qe.QuantSpec(format="nvfp4"),
    ]  # fmt: skip
    items = [measured(f"{HOSTILE}{k}", normal(40 + k), *specs) for k in range(3)]
    items.append(measured("exact", [1.0, 0.0], *specs))
    for rank in ("sqnr", "mse", "bias", "clip_rate"):
        assert comparison_picture(items[0], rank, "png").startswith(b"\x89PNG")
    assert comparison_picture(items[3], "sqnr", "png").startswith(b"\x89PNG")
    first = tensors_picture(items, "svg")
    assert first == tensors_picture(items, "svg")


def test_nothing_global_is_imported_or_set(pytestconfig: pytest.Config) -> None:
    """No pyplot: no display, no state; and neither package is imported by tables."""
    code = (
        "import sys, numpy as np, qengine as qe\n"
        "from tests.report.test_tables import measured\n"
        "item = measured('w', [1.0, 0.3], qe.QuantSpec()); str(item.report)\n"
        "assert not {'matplotlib', 'reportlab'} & set(sys.modules)\n"
        "from qengine.report.figures import tensor_picture\n"
        "tensor_picture(item, 'raise', 'png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pytestconfig.rootpath)
    assert done.returncode == 0, done.stderr


# --- PDF --------------------------------------------------------------------------------------------------------


def pages(pdf: bytes) -> list[str]:
    """The text of each page where a reader is installed, else as many empty texts as the file says."""
    assert pdf.startswith(b"%PDF-")
    try:
        from pypdf import PdfReader
    except ImportError:
        return [""] * len(re.findall(rb"/Type\s*/Page\b", pdf))
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def test_pdf_of_the_worked_example() -> None:
    pytest.importorskip("reportlab")
    from qengine.report.pdf import analysis_pdf

    item = measured("w", WORKED, qe.QuantSpec(range=(-1.5, 1.5)))
    pdf = analysis_pdf("w.csv", [item], [], "", "raise")
    assert analysis_pdf("w.csv", [item], [], "", "raise") == pdf
    text = pages(pdf)
    assert len(text) == 2
    if any(text):
        joined = " ".join(" ".join(text).split())
        for figure in (
            "0.011811023622047244",
            "8.508897017794076e-06",
            "-105.833333",
            "-106",
            "max(|-1.5|, |1.5|) / 127",
        ):
            assert figure in joined


def test_pdf_of_many_tensors_and_hostile_names() -> None:
    pytest.importorskip("reportlab")
    from qengine.report.pdf import analysis_pdf, comparison_pdf

    specs = (qe.QuantSpec(bits=4), qe.QuantSpec(format="mxfp4"))
    items = [measured(HOSTILE * (k + 1), normal(30 + k), *specs) for k in range(3)]
    refused = [Refused(source(HOSTILE, [1.0]), "no <reason> & none")]
    assert len(pages(analysis_pdf(HOSTILE, items, refused, "passed over: <1>", "raise"))) >= 5
    assert len(pages(comparison_pdf(HOSTILE, items, "mse", 20, refused, "", "raise"))) >= 5
    one = Measured(items[0].source, items[0].report)
    assert len(pages(comparison_pdf("w.npy", [one], "sqnr", 1, [], "", "raise"))) >= 4


def test_pdf_of_two_processes_is_the_same(pytestconfig: pytest.Config) -> None:
    pytest.importorskip("reportlab")
    code = (
        "import hashlib, qengine as qe\n"
        "from tests.report.test_tables import WORKED, measured\n"
        "from qengine.report.pdf import analysis_pdf\n"
        "item = measured('w', WORKED, qe.QuantSpec())\n"
        "print(hashlib.sha256(analysis_pdf('w.csv', [item], [], '', 'raise')).hexdigest())\n"
    )
    digests = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=pytestconfig.rootpath,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
