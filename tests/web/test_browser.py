"""The pages in a real browser: headless Chromium at the widths of a desk, a tablet and a phone.

Skipped, with the reason, where no Chromium is installed; QENGINE_REQUIRE_BROWSER=1 turns that into a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pypdf import PdfReader

import qengine as qe
from qengine.web.pages import PAGES
from tests.web.serving import WORKED

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
WIDTHS = {1400: 3, 900: 2, 390: 1}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: As root in a container there is no sandbox; nothing in the background looks for its maker.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, started once."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = f"no browser: none of {', '.join(NAMES)} is installed (Debian: apt-get install chromium)"
        if os.environ.get("QENGINE_REQUIRE_BROWSER"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def shared(browser: Any) -> Iterator[Any]:
    """A context for all pages that keep nothing: scripts stay compiled in it."""
    context = browser.new_context(accept_downloads=True)
    yield context
    context.close()


class Watched:
    """A page, with what it said to the console and what it asked for."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.said: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda line: self.said.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: None if self.own(request.url) else self.foreign.append(request.url))

    def own(self, address: str) -> bool:
        return address.startswith((f"{self.url}/", "data:", f"blob:{self.url}/"))

    def go(self, path: str) -> Any:
        self.page.goto(self.url + path)
        return self.page

    def calculated(self, button: str = "#run") -> Any:
        """Press, and wait until numbers and graphs are there."""
        self.page.click(button)
        self.page.wait_for_selector("#results[data-drawn]", timeout=60_000)
        return self.page


@pytest.fixture
def opened(browser: Any, shared: Any, url: str) -> Iterator[Callable[..., Watched]]:
    """Open pages, and check at the end that none complained and none asked another machine."""
    with contextlib.ExitStack() as stack:
        pages: list[Watched] = []

        def open_page(width: int = 1400, scheme: str = "light", **options: Any) -> Watched:
            context = browser.new_context(**options) if options else shared
            page = context.new_page()
            stack.callback((context if options else page).close)
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            pages.append(Watched(page, url))
            return pages[-1]

        yield open_page
        for watched in pages:
            refused = [line for line in watched.said if "422" not in line]  # Chromium logs every refusal itself
            assert refused == []
            assert watched.foreign == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition: Playwright's own way evaluates text inside the page, which its policy forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


def columns(page: Any, selector: str) -> int:
    """How many tracks a grid has."""
    return len(page.eval_on_selector(selector, "e => getComputedStyle(e).gridTemplateColumns").split())


def tiles(page: Any) -> dict[str, str]:
    """The numbers in large letters, without their units."""
    return dict(
        page.eval_on_selector_all(
            "[data-tile]", "all => all.map(e => [e.dataset.tile, e.querySelector('.value').firstChild.data.trim()])"
        )
    )


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_columns(opened: Callable[..., Watched], path: str) -> None:
    page = opened().go(path)
    for width, count in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        assert columns(page, ".groups") == count
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (900, "dark"), (390, "light")])
def test_example_to_numbers(opened: Callable[..., Watched], width: int, scheme: str) -> None:
    watched = opened(width, scheme)
    page = watched.go("/")
    page.click("#example")
    watched.calculated()
    expected = qe.error_report(WORKED, qe.QuantSpec(range=(-1.5, 1.5))).rows[0]
    found = tiles(page)
    assert found["scale"] == f"{expected.params.scale:.8g}"
    assert found["zero_point"] == str(expected.params.zero_point)
    assert found["codes"] == f"{expected.params.qmin} … {expected.params.qmax}"
    assert found["sqnr"] == f"{expected.sqnr:.2f}"
    for name in ("mse", "rmse", "mae", "max_abs", "bias"):
        assert found[name] == f"{getattr(expected, name):.6g}", name
    assert found["clip_rate"] == "0 %"
    rows = page.eval_on_selector_all(
        "#section-samples tbody tr", "all => all.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert [float(row[1]) for row in rows] == WORKED
    assert [int(row[3]) for row in rows] == qe.quantize(WORKED, expected.params).tolist()
    graphs = page.eval_on_selector_all(
        ".graph", "all => all.map(e => [e.id, e.querySelectorAll('.main-svg').length, e.getAttribute('aria-label')])"
    )
    assert len(graphs) == 7
    assert all(layers and label for _, layers, label in graphs)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_error_stands_at_its_field(opened: Callable[..., Watched]) -> None:
    page = opened().go("/")
    page.click("#example")
    page.fill("#bits", "99")
    page.click("#run")
    page.wait_for_selector("#bits-error:not([hidden])")
    assert "At most 16" in page.text_content("#bits-error")
    assert page.get_attribute("#bits", "aria-invalid") == "true"
    assert page.input_value("#bits") == "99"
    assert page.evaluate("document.activeElement.id") == "bits"
    page.fill("#bits", "8")
    page.fill("#values", "1, 2\n3, oops")
    page.click("#run")
    page.wait_for_selector("#values-error:not([hidden])")
    assert "line 2, column 4" in page.text_content("#values-error")
    assert page.input_value("#values") == "1, 2\n3, oops"
    assert not page.is_visible("#bits-error")


def test_downloads(opened: Callable[..., Watched], tmp_path: Path) -> None:
    page = opened().go("/")
    page.click("#example")
    for kind in ("csv", "pdf"):
        with page.expect_download() as waiting:
            page.click(f"[data-download={kind}]")
        assert waiting.value.suggested_filename == f"activations.{kind}"
        waiting.value.save_as(tmp_path / f"report.{kind}")
    header, line = (tmp_path / "report.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=False))
    assert cells["tensor"] == "activations"
    assert "SQNR" in "".join(p.extract_text() for p in PdfReader(tmp_path / "report.pdf").pages)


@pytest.mark.parametrize("long", [False, True], ids=["query", "fragment"])
def test_a_link_holds_every_input(opened: Callable[..., Watched], long: bool) -> None:
    values = ", ".join(str(k / 7) for k in range(2000 if long else 6))
    watched = opened()
    page = watched.go("/")
    for name, value in {
        "name": "é & = #1",
        "values": values,
        "bits": "5",
        "seed": "9",
        "low": "-2",
        "high": "3",
    }.items():
        page.evaluate("([name, value]) => { document.getElementById(name).value = value; }", [name, value])
    chosen = {"mapping": "asymmetric-unsigned", "rounding": "stochastic", "range": "custom", "nonfinite": "ignore"}
    for name, value in chosen.items():
        page.select_option(f"#{name}", value)
    page.check("#narrow")
    watched.calculated()
    before, link = tiles(page), page.url
    assert ("#" in link) == long
    other = opened(900)
    again = other.go(link.removeprefix(other.url))
    again.wait_for_selector("#results[data-drawn]", timeout=60_000)
    assert tiles(again) == before
    for name in ("name", "values", "bits", "seed", "low", "high", *chosen):
        assert again.input_value(f"#{name}") == page.input_value(f"#{name}"), name
    assert again.is_checked("#narrow")


def test_fields_show_when_they_mean_something(opened: Callable[..., Watched]) -> None:
    page = opened().go("/")
    assert not page.is_visible("#low")
    page.select_option("#range", "custom")
    assert page.is_visible("#low")
    page.select_option("#range", "percentile")
    assert page.is_visible("#percentile")
    assert not page.is_visible("#high")
    page.select_option("#granularity", "group")
    assert page.is_visible("#group")
    assert page.is_visible("#shape")


def test_reset(opened: Callable[..., Watched]) -> None:
    watched = opened()
    page = watched.go("/")
    page.click("#example")
    watched.calculated()
    with page.expect_navigation():
        page.click("#reset")
    until(page, "document.querySelector('#results').children.length === 0 && !document.getElementById('values').value")
    assert urlsplit(page.url).query == ""


def test_files(opened: Callable[..., Watched], tmp_path: Path, rng: np.random.Generator) -> None:
    watched = opened()
    page = watched.go("/")
    small, large = rng.normal(size=(4, 8)).astype(np.float32), rng.normal(size=20_000)
    np.save(tmp_path / "small.npy", small)
    np.save(tmp_path / "large.npy", large)
    page.set_input_files("#file", tmp_path / "small.npy")
    until(page, "document.getElementById('values').value !== ''")
    assert page.input_value("#name") == "small"
    assert page.input_value("#shape") == "4, 8"
    assert [float(word) for word in page.input_value("#values").split(",")] == small.reshape(-1).astype(float).tolist()
    page.set_input_files("#file", tmp_path / "large.npy")
    until(page, "document.getElementById('status').textContent.includes('20,000 samples')")
    watched.calculated()
    assert tiles(page)["mse"] == f"{qe.error_report(large, qe.QuantSpec()).rows[0].mse:.6g}"


def test_compare(opened: Callable[..., Watched]) -> None:
    watched = opened()
    page = watched.go("/")
    page.click("#example")
    page.click("#compare")
    page.wait_for_selector("#results[data-drawn]", timeout=60_000)
    assert page.url.startswith(f"{watched.url}/compare")
    first = page.eval_on_selector(
        "#section-ranking tbody tr", "row => [...row.cells].map(c => [c.textContent, c.className])"
    )
    assert first[1][0].startswith("int8")
    assert "best" in first[4][1]
    assert parse_qs(urlsplit(page.url).query)["bits"] == ["4", "6", "8"]
    with page.expect_download() as waiting:
        page.click("[data-download=csv]")
    assert waiting.value.suggested_filename == "activations.csv"


def test_requantize(opened: Callable[..., Watched]) -> None:
    watched = opened()
    page = watched.go("/requantize")
    page.click("#example")
    watched.calculated()
    page.wait_for_selector("#section-counts")
    scales = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    assert (
        tiles(page)["divergent"]
        == f"{qe.count_divergence('single', 'fp32', scales=scales, dtype='int8', zero_point=-126):,}"
    )
    assert tiles(page)["output0"] == "-119"
    assert page.locator("#section-steps tbody tr").count() == len(qe.schemes())
    assert "XNNPACK" in page.text_content("#section-outputs")
    assert page.locator("#graph-steps .main-svg").count() > 0


def test_sweep_with_progress(opened: Callable[..., Watched]) -> None:
    watched = opened(390)
    page = watched.go("/sweep")
    page.click("#example")
    page.fill("#pairs", "20M")
    watched.calculated()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the digest is wider than the screen"
    result = qe.sweep("single", "double", "fp32", multiplier_range=(0.01, 0.99), pairs=20_000_000, seed=42)
    assert tiles(page)["digest"] == result.digest[:16]
    assert tiles(page)["divergent"] == f"{result.divergent:,}"


def test_sweep_is_cancelled(opened: Callable[..., Watched]) -> None:
    page = opened().go("/sweep")
    page.fill("#pairs", "2^33")
    page.click("#run")
    page.wait_for_selector("#progress:not([hidden])", timeout=60_000)
    page.click("#cancel")
    until(page, "document.getElementById('status').textContent.startsWith('Cancelled: ')")
    assert not page.is_visible("#cancel")
    words = page.text_content("#status").replace(",", "").split()
    assert 0 < int(words[1]) < int(words[3]) == 2**33
    assert page.text_content(".summary") == page.text_content("#status")
    assert set(tiles(page)) == {"divergent", "rate", "largest", "digest"}


def test_keyboard_alone(opened: Callable[..., Watched]) -> None:
    page = opened().go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "name"
    page.focus("#example")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    page.wait_for_selector("#results[data-drawn]", timeout=60_000)
    assert tiles(page)["sqnr"] == "49.06"


#: Of what can be worked with and is seen: its number, what it is, its name, and whether what describes it is there.
CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((e) => e.checkVisibility() && !e.closest(".plotly")).map((e, k) => {
    e.dataset.control = k;
    const texts = (name) => (e.getAttribute(name) || "").split(" ").filter(Boolean)
      .map((id) => (document.getElementById(id) || { textContent: null }).textContent);
    const name = e.getAttribute("aria-label") || texts("aria-labelledby").join(" ") ||
      [...(e.labels || [])].map((label) => label.textContent).join(" ") || (e.matches("a, button, summary") ? e.textContent : "");
    return [k, e.id || e.name || e.className || e.tagName, name.trim(), !texts("aria-describedby").includes(null)];
  })"""  # noqa: E501
#: Notes what gets the focus, and how thick the line around it is; a chip's line is around its words.
NOTE_FOCUS = """() => {
  window.reached = {};
  document.addEventListener("focusin", ({ target }) => {
    const style = getComputedStyle(target.matches(".chip input") ? target.nextElementSibling : target);
    window.reached[target.dataset.control] = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
  });
  document.querySelector(".skip").focus();
}"""


@pytest.mark.parametrize("about", PAGES, ids=lambda page: page.name)
def test_tab_reaches_everything_and_everything_has_a_name(opened: Callable[..., Watched], about: Any) -> None:
    watched = opened()
    page = watched.go(about.path)
    page.click("#example")
    if about.path == "/requantize":  # the results too; other pages have many graphs, each with a row of buttons
        watched.calculated()
        page.wait_for_selector("#section-counts")
        assert page.get_attribute("#status", "aria-live") == "polite"
        assert page.text_content("#status").startswith("Calculated in")
    controls = page.evaluate(CONTROLS)
    assert len(controls) > 15
    assert [what for _, what, name, described in controls if not (name and described)] == []
    page.evaluate(NOTE_FOCUS)
    for _ in range(len(controls) + page.locator(".modebar-btn").count()):
        page.keyboard.press("Tab")
    reached = page.evaluate("window.reached")
    assert [what for key, what, *_ in controls[1:] if not reached.get(str(key))] == []  # the first is the skip link


def test_chips_and_enter(opened: Callable[..., Watched]) -> None:
    """Space ticks a chip, Enter in a field asks, the first field in error gets the focus and says what is wrong."""
    page = opened().go("/compare")
    page.focus("[name=bits][value='5']")
    page.keyboard.press("Space")
    assert page.is_checked("[name=bits][value='5']")
    page.keyboard.press("Space")
    assert not page.is_checked("[name=bits][value='5']")
    page.focus("[name=range][value=custom]")
    page.keyboard.press("Space")
    page.fill("#low", "x")
    page.fill("#high", "y")
    page.keyboard.press("Enter")
    page.wait_for_selector("#low-error:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "low"
    assert page.is_visible("#high-error")
    assert page.get_attribute("#low-error", "role") == "alert"
    assert "low-error" in page.get_attribute("#low", "aria-describedby")


#: For every element of text: its colour, the first ground behind it that is not transparent, and what it is.
COLOURS = """() => {
  const clear = (colour) => /, 0\\)$/.test(colour);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!clear(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = "h1, h2, .lead p, .label, .help, .help a, .unit, button, td, th, .tile dt, .value, .meaning," +
    ".summary, .status, nav a, .chip span, summary, footer p, caption";
  return [...document.querySelectorAll(texts)].filter((e) => e.offsetParent && e.textContent.trim())
    .map((e) => [getComputedStyle(e).color, ground(e), e.className || e.tagName]);
}"""


def luminance(colour: str) -> float:
    parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("about", PAGES, ids=lambda page: page.name)
def test_contrast(opened: Callable[..., Watched], about: Any) -> None:
    """WCAG AA: 4.5 to 1 between text and its ground, in both themes."""
    watched = opened()
    page = watched.go(about.path)
    page.click("#example")
    if about.path == "/sweep":
        page.fill("#pairs", "1000")
    watched.calculated()
    pairs = page.evaluate(COLOURS)
    page.emulate_media(color_scheme="dark")
    pairs += page.evaluate(COLOURS)
    assert len(pairs) > 200
    for text, ground, what in pairs:
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (what, text, ground)


def test_the_theme_is_chosen_and_kept(opened: Callable[..., Watched]) -> None:
    page = opened(color_scheme="light").go("/")  # a context of its own: the choice is stored in it
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminance(dark) < 0.05 < luminance(ground)
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_without_script(opened: Callable[..., Watched]) -> None:
    page = opened(java_script_enabled=False).go("/")
    assert not page.is_visible("#example")
    page.fill("#values", "-1, 0.5, 2")
    page.select_option("#range", "mse")
    page.click("#run")
    expected = qe.error_report([-1, 0.5, 2], qe.QuantSpec(method="mse")).rows[0]
    assert f"{expected.mse:.6g}" in page.text_content("[data-tile=mse]")
    assert page.get_attribute(".drawn", "src").startswith("data:image/png")
