"""The application: routes, and how an engine's answer becomes a response."""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from .._version import __version__
from ..exceptions import BackendError, QEngineError
from ..models.source import TensorSource
from . import requantization, sweeping
from .answers import Answer, Refusal, to_bytes
from .calculator import EXAMPLE, Calculation
from .errors import RequestRefusedError, of_engine, of_validation, refused_field
from .form import Form
from .guard import Guard
from .limits import Limits
from .pages import CALCULATOR, COMPARE, PAGES, REQUANTIZE, SWEEP, Page
from .requantization import Requantization
from .samples import as_text, pasted, uploaded
from .sweeping import Sweep
from .work import CancelledWorkError, Token, Workshop

FOLDER = Path(__file__).parent
#: Kinds of answers of a calculation on samples, and their media types.
Kind = Literal["json", "csv", "pdf"]
TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "pdf": "application/pdf"}
#: Status of an answer that nobody waits for.
CLIENT_GONE = 499
#: Fields of a browser's form at most.
FIELDS = 600
TAGS = [
    {"name": "samples", "description": "Error of quantization on a tensor."},
    {"name": "schemes", "description": "Requantization, scheme by scheme."},
    {"name": "about", "description": "This server."},
]


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


def _page(name: str, status: int = 200, **context: Any) -> HTMLResponse:
    shared = {"pages": PAGES, "version": __version__, "path": "", "styles": plotly_styles()}
    return HTMLResponse(_templates().get_template(name).render(shared | context), status)


def _filename(name: str, kind: str) -> dict[str, str]:
    """Return the header that names a download: letters and digits, and the whole name for who can read it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "tensor"
    whole = quote(re.sub(r"[\x00-\x1f\x7f/\\\\]", "-", name)[:80] or "tensor", errors="replace")
    return {"content-disposition": f"attachment; filename=\"{plain}.{kind}\"; filename*=UTF-8''{whole}.{kind}"}


def _deliver(result: Any, source: TensorSource, kind: str, token: Token, begun: float) -> Response:
    """Return a measured tensor as the kind of answer that was asked for."""
    if kind == "json":
        return _json(result.answer(token), begun)
    content = result.csv() if kind == "csv" else result.pdf(token)
    return Response(content, media_type=TYPES[kind], headers=_filename(source.name, kind))


def _json(answer: Answer, begun: float) -> Response:
    answer.milliseconds = round(1000 * (time.perf_counter() - begun), 3)
    return Response(to_bytes(answer), media_type=TYPES["json"])


def _guarded(form: type[Form], make: Callable[[], Any]) -> Any:
    """Return what `make` makes; an error of the engine becomes a refusal at the form's field."""
    try:
        return make()
    except QEngineError as error:
        raise of_engine(error, form.model_fields) from None
    except MemoryError:
        raise RequestRefusedError("This takes more memory than there is. Send fewer samples.", status=413) from None


def _documented(form: type[Form]) -> dict[str, Any]:
    """Return the part of the OpenAPI description that says what a body holds: bodies are read off the event loop."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": form.schema_of_api()}}}}


def _as_form(form: type[Form]) -> dict[str, Any]:
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
    _add_samples(app, caps, shop)
    _add_schemes(app, caps, shop)
    _add_pages(app, caps, shop)
    return app


def _add_errors(app: FastAPI) -> None:
    def refusal(request: Request, error: RequestRefusedError) -> Response:
        if request.url.path.startswith("/api/"):
            return Response(to_bytes(error.to_dict()), error.status, media_type=TYPES["json"])
        return _page("refused.html", error.status, message=error.message)

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


def _parts_of(data: FormData) -> tuple[list[tuple[str, str]], UploadFile | None]:
    """Return the fields of a browser's form, and its file if one was chosen."""
    pairs: list[tuple[str, str]] = []
    file: UploadFile | None = None
    for name, value in data.multi_items():
        if isinstance(value, str):
            pairs.append((name, value))
        elif name != "file":
            raise RequestRefusedError(f"The field {name[:80]!r} takes no file; 'file' does.", status=400)
        elif value.filename:
            file = value
    return pairs, file


def _tensor(form: Any, file: UploadFile | None, caps: Limits) -> TensorSource:
    if file is None:
        return pasted(form.name, form.values, form.shape, caps)
    return uploaded(form.name, file.filename or "", file.file, form.shape, caps)


def _add_samples(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    async def from_json(request: Request, page: Page, kind: str) -> Response:
        body = await request.body()

        def work(token: Token) -> Response:
            begun = time.perf_counter()
            form = page.form.of_json(body, caps.elements)
            return run(page, form, None, kind, token, begun)

        return await shop.run(request, work, shop.limiter(len(body), draws=kind == "pdf"))

    async def from_form(request: Request, page: Page, kind: str) -> Response:
        async with request.form(max_files=4, max_fields=FIELDS, max_part_size=caps.body_bytes) as data:
            pairs, file = _parts_of(data)
            size = sum(len(value) for _, value in pairs) + (file.size or 0 if file else 0)

            def work(token: Token) -> Response:
                begun = time.perf_counter()
                form = page.form.of_pairs(pairs)
                return run(page, form, file, kind, token, begun)

            return await shop.run(request, work, shop.limiter(size, draws=kind == "pdf"))

    def run(page: Page, form: Any, file: UploadFile | None, kind: str, token: Token, begun: float) -> Response:
        def make() -> Response:
            assert page.measure is not None
            source = _tensor(form, file, caps)
            token.check()
            return _deliver(page.measure(form, source, caps, token), source, kind, token, begun)

        response: Response = _guarded(page.form, make)
        return response

    as_kind = Query("json", alias="as", description="json, or the files that the command line writes: csv, pdf.")

    @app.post(
        "/api/analyze", tags=["samples"], summary="Measure one choice", responses=FILES,
        openapi_extra=_documented(CALCULATOR.form),
    )  # fmt: skip
    async def analyze(request: Request, kind: Kind = as_kind) -> Response:
        """Metrics, samples, graphs and formulas of one choice of quantization on pasted samples."""
        return await from_json(request, CALCULATOR, kind)

    @app.post(
        "/api/analyze/form", tags=["samples"], summary="Measure one choice on a file", responses=FILES,
        openapi_extra=_as_form(CALCULATOR.form),
    )  # fmt: skip
    async def analyze_form(request: Request, kind: Kind = as_kind) -> Response:
        """Like /api/analyze, as a browser's form, which may hold a file (.npy, .csv, .txt, .tsv) instead of values."""
        return await from_form(request, CALCULATOR, kind)

    @app.post(
        "/api/compare", tags=["samples"], summary="Measure many choices", responses=FILES,
        openapi_extra=_documented(COMPARE.form),
    )  # fmt: skip
    async def compare(request: Request, kind: Kind = as_kind) -> Response:
        """Measure every combination of lists of settings, ranked."""
        return await from_json(request, COMPARE, kind)

    @app.post(
        "/api/compare/form", tags=["samples"], summary="Measure many choices on a file", responses=FILES,
        openapi_extra=_as_form(COMPARE.form),
    )  # fmt: skip
    async def compare_form(request: Request, kind: Kind = as_kind) -> Response:
        """Like /api/compare, as a browser's form, which may hold a file instead of values."""
        return await from_form(request, COMPARE, kind)

    @app.post("/api/values", tags=["samples"], summary="Read a file", responses=REFUSALS, openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
            "type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}},
        }}}},
    })  # fmt: skip
    async def values(request: Request) -> Response:
        """Name, shape and type of the tensor of a file, and its samples as text where they are few."""
        async with request.form(max_files=1, max_fields=1, max_part_size=caps.body_bytes) as data:
            _, file = _parts_of(data)
            if file is None:
                raise refused_field("file", "A file is needed, in the field 'file'.")

            def read(_: Token) -> bytes:
                source = uploaded("file", file.filename or "", file.file, "", caps)
                few = source.size <= caps.echoed
                return to_bytes({
                    "shape": list(source.shape), "dtype": source.dtype, "count": source.size,
                    "text": as_text(source.read()) if few else None,
                })  # fmt: skip

            content = await shop.run(request, read, shop.limiter(file.size or 0))
        return Response(content, media_type=TYPES["json"])


def _add_schemes(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    async def answered(
        request: Request, form: type[Form], make: Callable[[Any, Token], Answer], slow: bool
    ) -> Response:
        body = await request.body()

        def work(token: Token) -> Response:
            begun = time.perf_counter()
            read = form.of_json(body, caps.elements)
            return _json(_guarded(form, lambda: make(read, token)), begun)

        return await shop.run(request, work, shop.limiter(len(body), slow=slow))

    answers: dict[int | str, dict[str, Any]] = {200: {"model": Answer}, **REFUSALS}

    @app.post(
        "/api/explain", tags=["schemes"], summary="One accumulator, every scheme", responses=answers,
        openapi_extra=_documented(Requantization),
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """Every step of every scheme, who runs it, and the staircase around the accumulator."""
        return await answered(request, Requantization, requantization.explained, False)

    @app.post(
        "/api/count", tags=["schemes"], summary="Count differing accumulators", responses=answers,
        openapi_extra=_documented(Requantization),
    )  # fmt: skip
    async def count(request: Request) -> Response:
        """Count exactly, of all 2^32 accumulators, those on which two schemes differ."""
        return await answered(request, Requantization, requantization.counted, True)

    @app.post(
        "/api/sweep", tags=["schemes"], summary="Sweep pairs", openapi_extra=_documented(Sweep), responses={
            200: {"description": "Lines of JSON: {sweep}, its name; {progress}; and at last {answer} or {error}.",
                  "content": {"application/x-ndjson": {}}}, **REFUSALS,
        },
    )  # fmt: skip
    async def sweep(request: Request) -> Response:
        """Count how often schemes disagree. The answer comes in lines while it runs; hanging up ends it without one."""
        form = Sweep.of_json(await request.body(), caps.elements)
        form.arguments(caps)  # what is wrong with the form itself is a plain refusal

        def work(token: Token, say: Callable[[Any], None]) -> None:
            begun = time.perf_counter()
            name = secrets.token_hex(16)
            shop.sweeps[name] = token
            try:
                say({"sweep": name})
                answer = _guarded(Sweep, lambda: sweeping.swept(form, caps, token, say))
                answer.milliseconds = round(1000 * (time.perf_counter() - begun), 3)
                say({"answer": answer.model_dump()})
            except RequestRefusedError as error:
                say(error.to_dict())
            except CancelledWorkError:
                return
            finally:
                del shop.sweeps[name]

        async def lines() -> AsyncIterator[bytes]:
            async for item in shop.stream(work, caps.sweep_seconds):
                yield (to_bytes(item) if item is not None else b"{}") + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.post("/api/sweep/{name}/cancel", tags=["schemes"], summary="Cancel a sweep", responses={
        404: {"model": Refusal, "description": "No sweep of this name is under way."},
    })  # fmt: skip
    async def cancel(name: str) -> dict[str, str]:
        """End a sweep by the name in its first line; it then answers with what it has counted."""
        token = shop.sweeps.get(name)
        if token is None:
            raise RequestRefusedError("No sweep of this name is under way.", status=404)
        token.finish()
        return {"cancelled": name}

    @app.get("/api/about", tags=["about"], summary="Version and caps")
    async def about() -> dict[str, Any]:
        """Return the version and the caps of this server."""
        return {"version": __version__, "limits": {name: getattr(caps, name) for name in Limits.__slots__}}


def _add_pages(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    def shown(
        page: Page, values: dict[str, Any], error: RequestRefusedError | None = None, answer: Answer | None = None,
        picture: str = "",
    ) -> HTMLResponse:  # fmt: skip
        defaults = {name: info.get_default() for name, info in page.form.model_fields.items()}
        return _page(
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
                pairs, file = _parts_of(data)
                size = sum(len(value) for _, value in pairs) + (file.size or 0 if file else 0)

                def work(token: Token) -> tuple[Answer, str]:
                    form: Any = page.form.of_pairs(pairs)
                    return _guarded(page.form, lambda: whole(page, form, file, token))  # type: ignore[no-any-return]

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
            result = page.measure(form, _tensor(form, file, caps), caps, token)
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
        return _page("docs.html", path="/api/docs", api=app.openapi(), caps=caps)
