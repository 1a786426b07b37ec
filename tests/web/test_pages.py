"""The pages as a browser without script sees them, and the assets that they need."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

import qengine as qe
from qengine.web import responses
from qengine.web.pages import PAGES
from tests.web.serving import TEXT, WORKED, answer

STATIC = Path(responses.__file__).parent / "static"


class Controls(HTMLParser):
    """The controls of a page, what labels and describes them, and what the page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.controls: list[dict[str, str | None]] = []
        self.labelled: set[str] = set()
        self.loads: list[str] = []
        self.inline = 0
        self._label = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self._label += 1
            self.labelled |= {str(given["for"])} if "for" in given else set()
        if tag in ("input", "select", "textarea"):
            self.controls.append({**given, "tag": tag, "inside": "label" if self._label else None})
        self.loads += [str(given[name]) for name in ("src", "href") if given.get(name)]
        self.inline += any(name.startswith("on") or name == "style" for name in given)
        self.inline += tag == "style" or (tag == "script" and "src" not in given)

    def handle_endtag(self, tag: str) -> None:
        self._label -= tag == "label"


def filled(page: Any, **more: Any) -> dict[str, Any]:
    data = {**page.example, **more}
    return {name: str(value) if isinstance(value, (int, float)) else value for name, value in data.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_sound(client: httpx.Client, page: Any) -> None:
    response = client.get(page.path)
    assert response.status_code == 200
    found = Controls(response.text)
    assert len(found.ids) == len(set(found.ids)), "an id twice"
    assert found.inline == 0, "script or style inside the page"
    for control in found.controls:
        assert control["inside"] or control.get("id") in found.labelled, control
        for name in (control.get("aria-describedby") or "").split():
            assert name in found.ids, name
    for place in found.loads:
        assert place.startswith(("/", "#", "data:")), place
        assert not place.startswith("//"), place
        if place.startswith("/"):
            assert client.get(place).status_code == 200, place
        elif place.startswith("#"):
            assert place[1:] in found.ids, place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_forms_work_without_script(client: httpx.Client, page: Any) -> None:
    data = filled(page, **({"pairs": "10000"} if page.name == "Sweep" else {}))
    response = client.post(page.path, data=data, files={"file": ("", b"")})
    assert response.status_code == 200
    assert "Calculated in" in response.text
    if page.measure is not None:
        assert 'src="data:image/png;base64,' in response.text
    for name, value in data.items():  # what was typed is still there
        if isinstance(value, str) and page.form.look(name).kind in ("text", "number"):
            assert f'name="{name}" type="text"' in response.text
            assert f'value="{value}"' in response.text


def test_numbers_without_script(client: httpx.Client) -> None:
    page = PAGES[0]
    text = client.post("/", data=filled(page), files={"file": ("w.csv", TEXT.encode())}).text
    expected = qe.error_report(WORKED, qe.QuantSpec(range=(-1.5, 1.5))).rows[0]
    tiles = dict(re.findall(r'data-tile="(\w+)">\s*<dt>[^<]*</dt>\s*<dd class="value">([^<]+?)\s*<', text))
    assert tiles["sqnr"] == f"{expected.sqnr:.2f}"
    assert tiles["mse"] == f"{expected.mse:.6g}"
    assert repr(expected.rmse) in text


def test_an_error_without_script_keeps_what_was_typed(client: httpx.Client) -> None:
    response = client.post("/", data=filled(PAGES[0], bits="eight", values="1, 2, x3"), files={"file": ("", b"")})
    assert response.status_code == 422
    assert 'value="eight"' in response.text
    assert "1, 2, x3</textarea>" in response.text
    place = re.search(r'id="bits-error"[^>]*>([^<]*)<', response.text)
    assert place
    assert "whole number" in place[1]
    assert re.search(r'id="bits"[^>]*aria-invalid="true"', response.text)


def test_a_link_fills_the_form_without_script(client: httpx.Client) -> None:
    text = client.get(
        "/", params={"bits": "5", "mapping": "asymmetric-unsigned", "values": "1 2", "narrow": "true"}
    ).text
    assert 'name="bits" type="text" inputmode="decimal" autocomplete="off" value="5"' in text
    assert '<option value="asymmetric-unsigned" selected>' in text
    assert "1 2</textarea>" in text
    assert re.search(r'name="narrow"[^>]* checked', text)
    text = client.get("/compare", params={"bits": ["5", "7"]}).text
    assert re.findall(r'name="bits" value="(\d+)" checked', text) == ["5", "7"]


def test_plotly_comes_from_the_installed_package(client: httpx.Client) -> None:
    response = client.get("/static/plotly.min.js")
    assert response.content == responses.plotly_script().read_bytes()
    for name in responses.plotly_styles():
        assert f'id="{name}"' in client.get("/").text


def test_assets_name_no_other_machine() -> None:
    for path in STATIC.iterdir():
        for place in re.findall(r"https?://[^\s\"')]+", path.read_text()):
            assert place == "http://www.w3.org/2000/svg", (path.name, place)


def test_api_is_described(client: httpx.Client) -> None:
    api = answer(client.get("/api/openapi.json"))
    text = client.get("/api/docs").text
    for address, methods in api["paths"].items():
        assert address.startswith("/api/")
        assert address in text
        for about in methods.values():
            assert about["summary"]
            body = about.get("requestBody")
            if body:
                for content in body["content"].values():
                    assert content["schema"]["properties"]
                    assert "x-form" not in str(content)
    about = answer(client.get("/api/about"))
    assert about["version"] == qe.__version__
    assert about["limits"]["elements"] >= 10**6
