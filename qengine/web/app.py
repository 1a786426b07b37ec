"""The application: its routes, and what it does with a refusal."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from .._version import __version__
from ..exceptions import BackendError
from . import requantization
from .answers import Answer, to_bytes
from .api import add_samples, add_schemes
from .calculator import EXAMPLE, Calculation
from .errors import RequestRefusedError, of_validation
from .form import FIELDS, parts_of
from .guard import Guard
from .limits import Limits
from .pages import CALCULATOR, COMPARE, PAGES, REQUANTIZE, SWEEP, Page
from .responses import TYPES, guarded, page_of, plotly_script
from .samples import tensor_of
from .work import CancelledWorkError, Token, Workshop

FOLDER = Path(__file__).parent
#: Status of an answer that nobody waits for.
CLIENT_GONE = 499

TAGS = [
    {"name": "samples", "description": "Error of quantization on a tensor."},
    {"name": "schemes", "description": "Requantization, scheme by scheme."},
    {"name": "about", "description": "This server."},
]


def warm_up(token: Token | None = None) -> None:
    """Calculate the examples once, so that no client waits for compilers."""
    limits, token = Limits(), token or Token(3600.0, threading.Event())
    form = Calculation.model_validate(EXAMPLE)
    raw = {"dtype": requantization.RAW, "zero_point": "0", "second": "double"}
    for page, more in (
        (CALCULATOR, {}),
        (COMPARE, {}),
        (REQUANTIZE, {}),
        (REQUANTIZE, raw),
        (SWEEP, {"pairs": "1000"}),
    ):
        other = page.form.model_validate(page.example | more)
        if page.measure is not None:
            page.measure(other, form.source(limits), limits, token).answer(token)
        if page.whole is not None:
            page.whole(other, limits, token)


def create_app(limits: Limits | None = None, *, warm: bool = False) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    limits : Limits, optional
        Caps.
    warm : bool
        Compile while the server starts, in the background.
    """
    caps = limits or Limits()
    shop = Workshop(caps.seconds)

    def warm_quietly() -> None:
        token = Token(3600.0, shop.stopping)
        with contextlib.suppress(CancelledWorkError):
            warm_up(token)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if warm:
            threading.Thread(target=warm_quietly, name="qengine-warm", daemon=True).start()
        yield
        shop.stopping.set()

    app = FastAPI(
        title="qengine", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json", openapi_tags=TAGS,
        description="Errors of quantization and exact requantization, on this machine. The pages use these addresses.",
    )  # fmt: skip
    app.state.shop = shop
    app.add_middleware(Guard, body_bytes=caps.body_bytes, held_bytes=caps.held_bytes)
    _add_errors(app)
    _add_files(app)
    add_samples(app, caps, shop)
    add_schemes(app, caps, shop)
    _add_pages(app, caps, shop)
    return app


def _add_errors(app: FastAPI) -> None:
    def refusal(request: Request, error: RequestRefusedError) -> Response:
        if request.url.path.startswith("/api/"):
            return Response(to_bytes(error.to_dict()), error.status, media_type=TYPES["json"])
        return page_of("refused.html", error.status, message=error.message)

    @app.exception_handler(RequestRefusedError)
    async def refused(request: Request, error: RequestRefusedError) -> Response:
        return refusal(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
        return refusal(request, of_validation(found))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        response = refusal(request, RequestRefusedError(str(error.detail), status=error.status_code))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(FormParserError)
    async def unreadable(request: Request, error: FormParserError) -> Response:
        return refusal(request, RequestRefusedError(f"The body is no form of the type it names: {error}", status=400))

    @app.exception_handler(CancelledWorkError)
    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)


def _add_files(app: FastAPI) -> None:
    script = plotly_script()

    @app.get("/static/plotly.min.js", include_in_schema=False)
    async def plotly() -> Response:
        return FileResponse(script, media_type="text/javascript", headers={"cache-control": "max-age=86400"})

    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(FOLDER / "static" / "icon.svg", media_type="image/svg+xml")


def _add_pages(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    def shown(
        page: Page, values: dict[str, Any], error: RequestRefusedError | None = None, answer: Answer | None = None,
        picture: str = "",
    ) -> HTMLResponse:  # fmt: skip
        defaults = {name: info.get_default() for name, info in page.form.model_fields.items()}
        return page_of(
            "page.html", 200 if error is None else error.status, page=page, path=page.path, groups=page.form.groups(),
            values=defaults | values, errors={} if error is None else error.fields,
            message="" if error is None else error.message, answer=answer, picture=picture,
            example=json.dumps(page.example), samples=page.measure is not None, caps=caps,
        )  # fmt: skip

    def values_of(page: Page, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """Return what was typed, as it was typed; boxes that were not ticked stay empty."""
        lists = page.form.lists()
        values: dict[str, Any] = {name: [] for name in lists}
        for name, value in pairs:
            if name in lists and name not in ("values", "shape"):
                values[name].append(value)
            elif name in page.form.model_fields:
                values[name] = value
        return values

    def add(page: Page) -> None:
        async def get(request: Request) -> HTMLResponse:
            pairs = request.query_params.multi_items()
            return shown(page, values_of(page, pairs) if pairs else {})

        async def post(request: Request) -> HTMLResponse:
            async with request.form(max_files=4, max_fields=FIELDS, max_part_size=caps.body_bytes) as data:
                pairs, file = parts_of(data)
                size = sum(len(value) for _, value in pairs) + (file.size or 0 if file else 0)

                def work(token: Token) -> tuple[Answer, str]:
                    form: Any = page.form.of_pairs(pairs)
                    return guarded(page.form, lambda: whole(page, form, file, token))  # type: ignore[no-any-return]

                try:
                    # Pages without script get drawn graphs, and drawing goes one at a time.
                    limiter = shop.limiter(size, draws=page.measure is not None, slow=page.slow)
                    seconds = caps.sweep_seconds if page is SWEEP else None
                    answer, picture = await shop.run(request, work, limiter, seconds)
                except RequestRefusedError as error:
                    return shown(page, values_of(page, pairs), error)
            return shown(page, values_of(page, pairs), None, answer, picture)

        app.add_api_route(page.path, get, methods=["GET"], include_in_schema=False, response_class=HTMLResponse)
        app.add_api_route(page.path, post, methods=["POST"], include_in_schema=False, response_class=HTMLResponse)

    def whole(page: Page, form: Any, file: UploadFile | None, token: Token) -> tuple[Answer, str]:
        begun = time.perf_counter()
        picture = ""
        if page.measure is not None:
            result = page.measure(form, tensor_of(form, file, caps), caps, token)
            answer = result.answer(token)
            try:
                picture = "data:image/png;base64," + base64.b64encode(result.picture(token)).decode()
            except BackendError:  # matplotlib is not installed: the numbers are there all the same
                picture = ""
        else:
            assert page.whole is not None
            answer = page.whole(form, caps, token)
        answer.milliseconds = round(1000 * (time.perf_counter() - begun), 3)
        return answer, picture

    for page in PAGES:
        add(page)

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page_of("docs.html", path="/api/docs", api=app.openapi(), caps=caps)
