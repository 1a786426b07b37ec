"""How an engine's answer becomes a response: pages, files, JSON, and what each address says it takes."""

from __future__ import annotations

import functools
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Response
from fastapi.responses import HTMLResponse

from .._version import __version__
from ..exceptions import BackendError, QEngineError
from ..models.source import TensorSource
from .answers import Answer, Refusal, to_bytes
from .errors import RequestRefusedError, of_engine
from .form import Form
from .pages import PAGES
from .work import Token

#: Media types of the kinds of answers.
TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "pdf": "application/pdf"}


def plotly_script() -> Path:
    """Return the script of the installed package plotly, which carries it; the package itself is not imported."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise BackendError("the page needs the package plotly; pip install 'qengine-numerics[web]'.")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


@functools.cache
def plotly_styles() -> tuple[str, ...]:
    """Return the ids of style elements that Plotly's script would add to a page: those of its maps, which are not used.

    It leaves them out where an element of that id is there; so the policy needs no exception for them.
    """
    found = re.findall(rb'getElementById\("([0-9a-f]{40,})"\)', plotly_script().read_bytes())
    return tuple(sorted({name.decode() for name in found}))


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("qengine.web")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def page_of(name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a template filled in."""
    shared = {"pages": PAGES, "version": __version__, "path": "", "styles": plotly_styles()}
    return HTMLResponse(_templates().get_template(name).render(shared | context), status)


def _filename(name: str, kind: str) -> dict[str, str]:
    """Return the header that names a download: letters and digits, and the whole name for who can read it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "tensor"
    whole = quote(re.sub(r"[\x00-\x1f\x7f/\\\\]", "-", name)[:80] or "tensor", errors="replace")
    return {"content-disposition": f"attachment; filename=\"{plain}.{kind}\"; filename*=UTF-8''{whole}.{kind}"}


def deliver(result: Any, source: TensorSource, kind: str, token: Token, begun: float) -> Response:
    """Return a measured tensor as the kind of answer that was asked for."""
    if kind == "json":
        return json_of(result.answer(token), begun)
    content = result.csv() if kind == "csv" else result.pdf(token)
    return Response(content, media_type=TYPES[kind], headers=_filename(source.name, kind))


def json_of(answer: Answer, begun: float) -> Response:
    """Return an answer as JSON, with the time that it took."""
    answer.milliseconds = round(1000 * (time.perf_counter() - begun), 3)
    return Response(to_bytes(answer), media_type=TYPES["json"])


def guarded(form: type[Form], make: Callable[[], Any]) -> Any:
    """Return what `make` makes; an error of the engine becomes a refusal at the form's field."""
    try:
        return make()
    except QEngineError as error:
        raise of_engine(error, form.model_fields) from None
    except MemoryError:
        raise RequestRefusedError("This takes more memory than there is. Send fewer samples.", status=413) from None


def documented(form: type[Form]) -> dict[str, Any]:
    """Return the part of the OpenAPI description that says what a body holds: bodies are read off the event loop."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": form.schema_of_api()}}}}


def as_form(form: type[Form]) -> dict[str, Any]:
    """Return the same of a browser's form, which may hold a file."""
    schema = form.schema_of_api()
    schema["properties"] |= {"file": {"type": "string", "format": "binary", "description": "Instead of values."}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "Beyond a cap of this server; the message names it."},
    422: {"model": Refusal, "description": "A field is wrong; the message says why."},
}
FILES: dict[int | str, dict[str, Any]] = {
    200: {"model": Answer, "content": {"text/csv": {}, "application/pdf": {}}},
    **REFUSALS,
}
