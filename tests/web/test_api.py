"""The JSON API: its numbers are the engine's, its files the command line's, its errors stand at their fields."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from pypdf import PdfReader

import qengine as qe
from qengine.report.csv_table import COLUMNS
from qengine.web import calculator
from qengine.web.calculator import Calculation
from qengine.web.limits import Limits
from qengine.web.pages import CALCULATOR, COMPARE, PAGES
from qengine.web.work import CancelledWorkError, Token
from tests.web.serving import CUSTOM, ISSUE, TEXT, WORKED, answer, refusal, server

METRICS = ("mse", "rmse", "mae", "max_abs", "bias", "sqnr", "psnr", "cosine", "clip_rate")


def analyze(client: httpx.Client, **fields: Any) -> Any:
    return answer(client.post("/api/analyze", json=fields))


def same_metrics(row: dict[str, Any], expected: Any) -> None:
    for name in METRICS:
        value = float(getattr(expected, name))
        assert row[name] == (value if np.isfinite(value) else None), name


# --- correctness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({**CUSTOM}, {"range": (-1.5, 1.5)}),
        ({"bits": 4, "mapping": "asymmetric-unsigned"}, {"bits": 4, "mode": "asymmetric", "signed": False}),
        ({"bits": "5", "mapping": "symmetric-unsigned"}, {"bits": 5, "signed": False}),
        ({"narrow": True, "mapping": "asymmetric-signed", "include_zero": "true"},
         {"narrow": True, "mode": "asymmetric", "include_zero": True}),
        ({"range": "percentile", "percentile": 80}, {"method": "percentile", "percentile": 80.0}),
        ({"range": "mse", "bits": 3}, {"method": "mse", "bits": 3}),
        ({"range": "entropy", "rounding": "floor"}, {"method": "entropy", "rounding": "floor"}),
        ({"rounding": "stochastic", "seed": 7, "convention": "calculator"}, {"rounding": "stochastic", "seed": 7}),
        ({"convention": "torch"}, {"convention": "torch"}),
        ({"granularity": "channel", "shape": "2, 5"}, {"axis": 0}),
        ({"granularity": "channel", "shape": [2, 5], "axis": 1}, {"axis": 1}),
        ({"granularity": "group", "group": 4}, {"axis": -1, "group": 4}),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_are_those_of_error_report(client: httpx.Client, fields: dict[str, Any], spec: dict[str, Any]) -> None:
    found = analyze(client, values=TEXT, name="t", **fields)["data"]
    x = np.array(WORKED).reshape(2, 5) if "shape" in fields else np.array(WORKED)
    axis = spec["axis"] if fields.get("granularity") == "channel" else None
    expected = qe.error_report(x, qe.QuantSpec(**spec), axis=axis).rows[0]
    (row,) = found["rows"]
    same_metrics(row, expected)
    assert row["params"] == expected.params.to_dict()
    assert row["spec"] == json.loads(json.dumps(expected.spec.to_dict()))
    assert found["shape"] == list(x.shape)


def test_the_worked_example(client: httpx.Client) -> None:
    found = answer(client.post("/api/analyze", json=calculator.EXAMPLE))
    tiles = {tile["id"]: tile["value"] for tile in found["tiles"]}
    assert tiles["sqnr"] == "49.06"
    assert tiles["scale"] == "0.011811024"
    assert (tiles["zero_point"], tiles["codes"], tiles["clip_rate"]) == ("0", "-128 … 127", "0 %")
    assert [sample["code"] for sample in found["data"]["samples"]] == [-106, -78, -43, -8, 0, 12, 31, 67, 95, 124]
    sections = {section["id"]: section for section in found["sections"]}
    graphs = [figure["id"] for figure in sections["graphs"]["figures"]]
    assert graphs == ["values", "errors", "staircase", "staircase-near", "histogram", "bits", "codes"]
    assert "max(|-1.5|, |1.5|) / 127" in json.dumps(sections["formulas"])
    assert len(sections["samples"]["tables"][0]["rows"]) == 10


def test_graphs_draw_the_samples(client: httpx.Client) -> None:
    found = analyze(client, values=[0.1, 0.2, 5.0], range="custom", low=-1, high=1, bits=3)
    figures = {figure["id"]: figure for section in found["sections"] for figure in section["figures"]}
    original, reconstructed = figures["values"]["data"]
    codes = [sample["value"] for sample in found["data"]["samples"]]
    assert original["y"] == [0.1, 0.2, 5.0]
    assert reconstructed["y"] == codes
    errors = {trace["name"]: trace for trace in figures["errors"]["data"]}
    assert errors["clipped"]["x"] == [2]
    assert "staircase-near" not in figures  # seven steps are seen as they are
    stairs = figures["staircase"]["data"][0]
    assert len(set(stairs["y"])) == 8
    bits = figures["bits"]["data"][0]
    assert bits["x"] == list(range(2, 17))
    expected = qe.error_report([0.1, 0.2, 5.0], qe.QuantSpec.grid(bits=list(range(2, 17)), range=(-1.0, 1.0)))
    assert bits["y"] == [row.sqnr for row in expected.rows]


def test_infinite_numbers_are_null(client: httpx.Client) -> None:
    found = analyze(client, values="1 -1 0.5 2", range="custom", low=-63.5, high=63.5)
    assert found["data"]["rows"][0]["sqnr"] is None
    assert {tile["id"]: tile["value"] for tile in found["tiles"]}["sqnr"] == "inf"


def test_nonfinite_samples(client: httpx.Client) -> None:
    error = refusal(client.post("/api/analyze", json={"values": "1, nan, 2"}))
    assert "index 1" in error["fields"]["values"]
    found = analyze(client, values="1, nan, 2", nonfinite="ignore")
    assert found["data"]["nonfinite"] == 1


def test_a_million_pasted_values(client: httpx.Client, rng: np.random.Generator) -> None:
    x = np.round(rng.normal(size=1_000_000), 6)
    begun = time.perf_counter()
    found = analyze(client, values="\n".join(map(repr, x.tolist())))
    assert time.perf_counter() - begun < 20  # a busy machine; the figure itself is measured apart
    same_metrics(found["data"]["rows"][0], qe.error_report(x, qe.QuantSpec()).rows[0])
    assert len(found["data"]["samples"]) == 200


# --- compare ----------------------------------------------------------------------------------------------------


def test_compare_measures_every_combination(client: httpx.Client) -> None:
    found = answer(client.post("/api/compare", json={
        "values": TEXT, "bits": ["4", "8"], "mapping": ["symmetric-signed", "asymmetric-signed"],
        "range": ["custom", "minmax"], "low": -1.5, "high": 1.5, "rounding": ["half-even", "floor"],
        "format": ["e4m3fn"], "rank": "mse",
    }))  # fmt: skip
    rows = found["data"]["rows"]
    assert len(rows) == 2 * 2 * 2 * 2 + 2
    assert [row["mse"] for row in rows] == sorted(row["mse"] for row in rows)
    spec = qe.QuantSpec(bits=8, mode="asymmetric", range=(-1.5, 1.5), rounding="floor")
    expected = qe.error_report(WORKED, spec).rows[0]
    same_metrics(next(row for row in rows if row["spec"]["label"] == spec.label), expected)
    table = found["sections"][0]["tables"][0]
    titles = [column["name"] for column in table["columns"]]
    for metric, title in (("mse", "MSE"), ("sqnr", "SQNR dB"), ("max_abs", "max |e|")):
        values = [row[metric] for row in rows]
        best = max(values) if metric == "sqnr" else min(values)
        marked = [titles.index(title) in columns for columns in table["best"]]
        assert marked == [value == best for value in values], metric


def test_compare_says_what_was_left_out(client: httpx.Client) -> None:
    found = answer(client.post("/api/compare", json={
        "values": TEXT, "bits": ["8", "16"], "mapping": ["symmetric-signed"], "range": ["entropy"],
    }))  # fmt: skip
    assert len(found["data"]["rows"]) == 1
    assert found["data"]["left_out"][0]["spec"]["bits"] == 16
    assert found["sections"][-1]["id"] == "left-out"
    error = refusal(client.post("/api/compare", json={"values": TEXT, "bits": ["16"], "range": ["entropy"]}))
    assert "entropy" in error["message"]


def test_compare_needs_something_to_compare(client: httpx.Client) -> None:
    error = refusal(client.post("/api/compare", json={"values": TEXT, "bits": []}))
    assert error["fields"] == {"bits": "Tick at least one."}


# --- requantization ---------------------------------------------------------------------------------------------


def test_explain_is_that_of_the_engine(client: httpx.Client) -> None:
    found = answer(client.post("/api/explain", json=ISSUE))
    scales = (ISSUE["input_scale"], ISSUE["weight_scale"], ISSUE["output_scale"])
    expected = qe.explain(585, scales=scales, zero_point=-126, dtype="int8")
    assert found["data"] == expected.to_dict()
    assert [tile["value"] for tile in found["tiles"]] == ["-119", "-120"]
    steps = {section["id"]: section for section in found["sections"]}
    assert len(steps["steps"]["tables"][0]["rows"]) == len(qe.schemes())
    assert "XNNPACK" in json.dumps(steps["outputs"])
    figure = steps["staircase"]["figures"][0]
    drawn = dict(zip(figure["data"][-1]["x"], figure["data"][-1]["y"], strict=True))
    assert drawn[585] == -119
    for acc in drawn:
        e = qe.explain(acc, scales=scales, zero_point=-126, dtype="int8", schemes=["single", "fp32"])
        assert e["single"].output == drawn[acc] != e["fp32"].output


@pytest.mark.parametrize(
    "fields",
    [
        {**ISSUE, "first": "single", "second": "fp32"},
        {**ISSUE, "first": "single", "second": "double", "dtype": "raw", "zero_point": 0},
        {
            "source": "fixed",
            "multiplier": 1518500251,
            "shift": -1,
            "dtype": "raw",
            "first": "single",
            "second": "double",
        },
        {"source": "real", "real": 0.25, "dtype": "uint8", "zero_point": 128, "first": "double", "second": "fp32"},
    ],
    ids=lambda fields: f"{fields['source']} {fields['dtype']}",
)
def test_count_is_exact(client: httpx.Client, fields: dict[str, Any]) -> None:
    found = answer(client.post("/api/count", json=fields))
    given: dict[str, Any] = {"multiplier": fields.get("real")}
    if fields["source"] == "scales":
        given = {"scales": (ISSUE["input_scale"], ISSUE["weight_scale"], ISSUE["output_scale"])}
    elif fields["source"] == "fixed":
        given = {"multiplier": qe.QuantizedMultiplier(fields["multiplier"], fields["shift"])}
    clamp = {} if fields["dtype"] == "raw" else {"dtype": fields["dtype"], "zero_point": fields["zero_point"]}
    expected = qe.count_divergence(fields["first"], fields["second"], **given, **clamp)
    assert found["data"]["pair"]["couples"][0]["divergent"] == expected
    assert found["tiles"][0]["value"] == f"{expected:,}"


def test_requantization_errors_stand_at_their_fields(client: httpx.Client) -> None:
    missing = {name: value for name, value in ISSUE.items() if name != "weight_scale"}
    assert "weight_scale" in refusal(client.post("/api/explain", json=missing))["fields"]
    for name in ("input_scale", "weight_scale", "output_scale"):
        assert name in refusal(client.post("/api/explain", json={**ISSUE, name: -1}))["fields"]
    assert "zero_point" in refusal(client.post("/api/explain", json={**ISSUE, "zero_point": 999}))["fields"]
    assert "second" in refusal(client.post("/api/count", json={**ISSUE, "first": "fp32"}))["fields"]
    assert "acc" in refusal(client.post("/api/explain", json={**ISSUE, "acc": 2**31}))["fields"]


# --- files ------------------------------------------------------------------------------------------------------


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.npy", npy(np.array(WORKED, np.float32).reshape(2, 5))),
        ("w.csv", TEXT.encode()),
        ("w.TXT", TEXT.replace(", ", "\n").encode()),
        ("../../etc/w.csv", TEXT.encode()),
        ("C:\\temp\\w.csv", TEXT.encode()),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_uploaded_files(client: httpx.Client, name: str, content: bytes) -> None:
    response = client.post("/api/analyze/form", data={"bits": "8", "name": "w"}, files={"file": (name, content)})
    found = answer(response)["data"]
    x = np.array(WORKED, np.float32).reshape(2, 5) if name.endswith("npy") else np.array(WORKED)
    same_metrics(found["rows"][0], qe.error_report(x, qe.QuantSpec()).rows[0])
    assert found["shape"] == list(x.shape)
    values = answer(client.post("/api/values", files={"file": (name, content)}))
    assert (values["count"], values["shape"]) == (10, list(x.shape))
    assert [float(word) for word in values["text"].split(",")] == x.reshape(-1).astype(float).tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pkl", b"x", "ends in .csv"), ("w", b"1", "ends in .csv"), ("w.npz", b"PK", "ends in .csv"),
        ("w.npy", b"no array", "The file"), ("w.npy", npy(np.array([{}], dtype=object)), "never unpickled"),
        ("w.csv", b"a,b\n", "no"), ("w.csv", b"", "at least one number"), ("w.npy", npy(np.zeros(0)), "no sample"),
        ("w.csv", b"1;2,3", "line 1"),
    ],
)  # fmt: skip
def test_files_that_are_refused(client: httpx.Client, name: str, content: bytes, words: str) -> None:
    for address in ("/api/values", "/api/analyze/form"):
        error = refusal(client.post(address, files={"file": (name, content)}))
        assert words in error["fields"]["file"]
        assert "/tmp" not in error["message"]


def test_a_large_file_is_not_echoed(client: httpx.Client) -> None:
    values = answer(client.post("/api/values", files={"file": ("w.npy", npy(np.zeros(5001)))}))
    assert (values["count"], values["text"]) == (5001, None)


def test_csv_is_that_of_the_command_line(client: httpx.Client) -> None:
    response = client.post("/api/analyze?as=csv", json={**calculator.EXAMPLE, "name": "=cmd|' /C calc'!A0"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"].startswith("attachment; filename=")
    (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
    assert tuple(row) == COLUMNS
    expected = qe.error_report(WORKED, qe.QuantSpec(range=(-1.5, 1.5))).rows[0]
    assert float(row["mse"]) == expected.mse
    assert float(row["sqnr"]) == expected.sqnr
    assert row["tensor"].startswith("'=")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "  ="])
def test_csv_cells_are_no_formulas(client: httpx.Client, start: str) -> None:
    text = client.post("/api/compare?as=csv", json={"values": TEXT, "name": f"{start}1+1"}).text
    for row in csv.DictReader(io.StringIO(text, newline="")):
        assert row["tensor"].startswith("'")


def test_pdf_is_a_report(client: httpx.Client) -> None:
    for address, body in (("/api/analyze", calculator.EXAMPLE), ("/api/compare", {"values": TEXT})):
        response = client.post(f"{address}?as=pdf", json=body)
        assert response.headers["content-type"] == "application/pdf"
        pages = [page.extract_text() for page in PdfReader(io.BytesIO(response.content)).pages]
        assert "SQNR" in "".join(pages)
        assert "reconstructed" in pages[-1]  # the samples stand above the graphs, not on a page of their own


def test_names_of_downloads_are_harmless(client: httpx.Client) -> None:
    name = 'a"b\r\nX-Evil: 1/../é☃'
    response = client.post("/api/analyze?as=csv", json={"values": TEXT, "name": name})
    assert response.status_code == 200
    assert "x-evil" not in response.headers
    assert response.headers["content-disposition"].isascii()


# --- errors at their fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"values": ""}, "values", "Samples are needed"),
        ({"values": "1, 2\n3, x5"}, "values", "line 2, column 4"),
        ({"values": []}, "values", "At least one"),
        ({"bits": 1}, "bits", "At least 2"),
        ({"bits": "eight"}, "bits", "whole number"),
        ({"mapping": "symmetrical"}, "mapping", "Unknown integer mapping"),
        ({"mapping": "symmetric-unsigned", "narrow": True}, "narrow", "narrow must be False"),
        ({"rounding": "up-ish"}, "rounding", "Unknown rounding rule"),
        ({"convention": "nobody"}, "convention", "Unknown convention"),
        ({"range": "custom", "low": 1}, "high", "greatest"),
        ({"range": "custom", "high": 1}, "low", "least"),
        ({"range": "custom", "low": 2, "high": 1}, "high", "must not end below"),
        ({"range": "custom", "low": 0, "high": 0}, "high", "lo must be below hi"),
        ({"range": "percentile", "percentile": 20}, "percentile", "percentile"),
        ({"range": "entropy", "bits": 16}, "range", "entropy"),
        ({"granularity": "channel", "axis": 3}, "axis", "axis"),
        ({"granularity": "channel", **CUSTOM}, "granularity", "custom range"),
        ({"granularity": "channel", "shape": "3, 4"}, "shape", "12 samples"),
        ({"shape": "a"}, "shape", "whole numbers"),
        ({"seed": -1}, "seed", "At least 0"),
        ({"seed": 2**63}, "seed", f"At most {2**63 - 1}"),
        ({"surprise": 1}, "surprise", "no such field"),
    ],
    ids=lambda v: json.dumps(v) if isinstance(v, dict) else "",
)
def test_errors_stand_at_their_fields(client: httpx.Client, fields: dict[str, Any], field: str, words: str) -> None:
    error = refusal(client.post("/api/analyze", json={"values": TEXT, **fields}))
    assert words in error["fields"][field]
    assert error["message"]


def test_every_field_is_explained() -> None:
    for page in PAGES:
        for name, info in page.form.model_fields.items():
            assert info.title, name
            assert info.description, name
            assert page.form.look(name) is not None, name


def test_examples_are_valid() -> None:
    for page in PAGES:
        page.form.model_validate(page.example)
    assert Calculation.model_validate(calculator.EXAMPLE).spec() == qe.QuantSpec(range=(-1.5, 1.5))


# --- caps -------------------------------------------------------------------------------------------------------


def test_caps() -> None:
    small = Limits(body_bytes=20_000, elements=100, choices=4, work=300)
    with server(small) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        error = refusal(client.post("/api/analyze", json={"values": [0.5] * 101}), 413)
        assert "At most 100 samples" in error["fields"]["values"]
        assert "20,000 bytes" in refusal(client.post("/api/analyze", json={"values": "1 " * 20_000}), 413)["message"]

        def pieces() -> Any:
            for _ in range(50):
                yield b"1 " * 1000

        unknown = client.post("/api/analyze", content=pieces())  # no length is declared
        assert "20,000 bytes" in refusal(unknown, 413)["message"]
        big = {"file": ("w.npy", npy(np.zeros(101)))}
        assert "At most 100" in refusal(client.post("/api/values", files=big), 413)["fields"]["file"]
        many = {"values": TEXT, "bits": ["2", "3", "4", "5", "6"]}
        assert "at most 4" in refusal(client.post("/api/compare", json=many), 413)["message"]
        much = {"values": [0.5] * 99, "bits": ["2", "4"], "mapping": ["symmetric-signed", "asymmetric-signed"]}
        assert "396 to measure" in refusal(client.post("/api/compare", json=much), 413)["message"]


@pytest.mark.parametrize("name", ["/api/analyze", "/api/compare"])
def test_scales_are_capped(client: httpx.Client, name: str) -> None:
    many = name == "/api/compare"
    fields: dict[str, Any] = {"values": "1 2 " * 10_000, "group": 1, "granularity": ["group"] if many else "group"}
    error = refusal(client.post(name, json=fields), 413)
    assert "At most 16,384 scales" in error["fields"]["granularity"]
    fields |= {"group": 16, "range": ["entropy"] if many else "entropy"}
    assert "At most 256 scales" in refusal(client.post(name, json=fields), 413)["fields"]["granularity"]
    fields |= {"range": ["minmax"] if many else "minmax"}
    assert answer(client.post(name, json=fields))


def test_brackets_of_a_pasted_list_are_blanks(client: httpx.Client) -> None:
    assert analyze(client, values="[[-1.25, 0.5],\n [2, 3]]")["data"] == analyze(client, values="-1.25 0.5 2 3")["data"]
    error = refusal(client.post("/api/analyze", json={"values": "[1, 2,\n [3, x]]"}))
    assert "line 2, column 6" in error["fields"]["values"]


def test_time_is_capped() -> None:
    fields = {**ISSUE, "dtype": "raw", "zero_point": 0, "first": "fp32", "second": "fp64-away"}
    with server(Limits(seconds=0.2)) as url:
        error = refusal(httpx.post(f"{url}/api/count", json=fields, timeout=60, trust_env=False), 413)
    assert "stopped after 0.2 s" in error["message"]


class Weary(Token):
    """Goes on when asked, a few times."""

    def __init__(self, times: int) -> None:
        super().__init__(60.0, threading.Event())
        self.times = times

    def check(self) -> None:
        self.times -= 1
        if self.times < 0:
            raise CancelledWorkError


@pytest.mark.parametrize("page", [CALCULATOR, COMPARE], ids=lambda page: page.name)
@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_a_search_of_ranges_is_ended(page: Any, method: str) -> None:
    """A search over channels asks before each of them, also inside a batch of choices, and for every width drawn."""
    listed = page is COMPARE
    given: dict[str, Any] = {"range": method, "granularity": "channel", "bits": "4", "mapping": "asymmetric-signed"}
    form = page.form.model_validate(
        {"values": [0.5, -1.0, 2.0, 0.25] * 8, "shape": "32, 1"}
        | {name: [value] if listed else value for name, value in given.items()}
    )
    source, limits = form.source(Limits()), Limits()
    with pytest.raises(CancelledWorkError):
        page.measure(form, source, limits, Weary(2))
    token = Weary(10_000)
    measured = page.measure(form, source, limits, token)
    token.times = 20  # enough to measure the widths, not to search for their ranges
    with pytest.raises(CancelledWorkError) if not listed else contextlib.nullcontext():
        measured.answer(token)
    token.times = 20
    with pytest.raises(CancelledWorkError):
        measured.pdf(token)


# --- many at once -----------------------------------------------------------------------------------------------


def test_two_hundred_requests_at_once(url: str) -> None:
    limits = httpx.Limits(max_connections=200)
    with (
        httpx.Client(base_url=url, timeout=120, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(200) as pool,
    ):
        start = threading.Barrier(200)

        def one(k: int) -> tuple[int, Any]:
            start.wait()
            fields = {"values": [k + 1.0, -0.5, 0.25 * k], "bits": 2 + k % 15}
            return k, answer(client.post("/api/analyze", json=fields))["data"]["rows"][0]

        for k, row in pool.map(one, range(200)):
            expected = qe.error_report([k + 1.0, -0.5, 0.25 * k], qe.QuantSpec(bits=2 + k % 15)).rows[0]
            same_metrics(row, expected)


def test_a_slow_request_does_not_block_others(client: httpx.Client, url: str) -> None:
    analyze(client, values=TEXT)  # compiled
    with httpx.stream("POST", f"{url}/api/sweep", json={"pairs": "2^33"}, timeout=30, trust_env=False) as response:
        next(line for line in response.iter_lines() if "progress" in line)
        begun = time.perf_counter()
        for _ in range(5):
            analyze(client, values=TEXT)
        assert time.perf_counter() - begun < 10
