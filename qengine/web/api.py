"""The addresses below /api: calculations on samples, and schemes."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from .._version import __version__
from . import requantization, sweeping
from .answers import Answer, Refusal, to_bytes
from .errors import RequestRefusedError, refused_field
from .form import FIELDS, Form, parts_of
from .limits import Limits
from .pages import CALCULATOR, COMPARE, Page
from .requantization import Requantization
from .responses import FILES, REFUSALS, TYPES, as_form, deliver, documented, guarded, json_of
from .samples import as_text, tensor_of, uploaded
from .sweeping import Sweep
from .work import CancelledWorkError, Token, Workshop

#: Kinds of answers of a calculation on samples.
Kind = Literal["json", "csv", "pdf"]


def add_samples(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    """Add the addresses that measure samples, or read a file of them."""

    async def from_json(request: Request, page: Page, kind: str) -> Response:
        body = await request.body()

        def work(token: Token) -> Response:
            begun = time.perf_counter()
            form = page.form.of_json(body, caps.elements)
            return run(page, form, None, kind, token, begun)

        return await shop.run(request, work, shop.limiter(len(body), draws=kind == "pdf"))

    async def from_form(request: Request, page: Page, kind: str) -> Response:
        async with request.form(max_files=4, max_fields=FIELDS, max_part_size=caps.body_bytes) as data:
            pairs, file = parts_of(data)
            size = sum(len(value) for _, value in pairs) + (file.size or 0 if file else 0)

            def work(token: Token) -> Response:
                begun = time.perf_counter()
                form = page.form.of_pairs(pairs)
                return run(page, form, file, kind, token, begun)

            return await shop.run(request, work, shop.limiter(size, draws=kind == "pdf"))

    def run(page: Page, form: Any, file: UploadFile | None, kind: str, token: Token, begun: float) -> Response:
        def make() -> Response:
            assert page.measure is not None
            source = tensor_of(form, file, caps)
            token.check()
            return deliver(page.measure(form, source, caps, token), source, kind, token, begun)

        response: Response = guarded(page.form, make)
        return response

    as_kind = Query("json", alias="as", description="json, or the files that the command line writes: csv, pdf.")

    @app.post(
        "/api/analyze", tags=["samples"], summary="Measure one choice", responses=FILES,
        openapi_extra=documented(CALCULATOR.form),
    )  # fmt: skip
    async def analyze(request: Request, kind: Kind = as_kind) -> Response:
        """Metrics, samples, graphs and formulas of one choice of quantization on pasted samples."""
        return await from_json(request, CALCULATOR, kind)

    @app.post(
        "/api/analyze/form", tags=["samples"], summary="Measure one choice on a file", responses=FILES,
        openapi_extra=as_form(CALCULATOR.form),
    )  # fmt: skip
    async def analyze_form(request: Request, kind: Kind = as_kind) -> Response:
        """Like /api/analyze, as a browser's form, which may hold a file (.npy, .csv, .txt, .tsv) instead of values."""
        return await from_form(request, CALCULATOR, kind)

    @app.post(
        "/api/compare", tags=["samples"], summary="Measure many choices", responses=FILES,
        openapi_extra=documented(COMPARE.form),
    )  # fmt: skip
    async def compare(request: Request, kind: Kind = as_kind) -> Response:
        """Measure every combination of lists of settings, ranked."""
        return await from_json(request, COMPARE, kind)

    @app.post(
        "/api/compare/form", tags=["samples"], summary="Measure many choices on a file", responses=FILES,
        openapi_extra=as_form(COMPARE.form),
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
            _, file = parts_of(data)
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


def add_schemes(app: FastAPI, caps: Limits, shop: Workshop) -> None:
    """Add the addresses that count, explain and sweep schemes, and the one that says what this server is."""

    async def answered(
        request: Request, form: type[Form], make: Callable[[Any, Token], Answer], slow: bool
    ) -> Response:
        body = await request.body()

        def work(token: Token) -> Response:
            begun = time.perf_counter()
            read = form.of_json(body, caps.elements)
            return json_of(guarded(form, lambda: make(read, token)), begun)

        return await shop.run(request, work, shop.limiter(len(body), slow=slow))

    answers: dict[int | str, dict[str, Any]] = {200: {"model": Answer}, **REFUSALS}

    @app.post(
        "/api/explain", tags=["schemes"], summary="One accumulator, every scheme", responses=answers,
        openapi_extra=documented(Requantization),
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """Every step of every scheme, who runs it, and the staircase around the accumulator."""
        return await answered(request, Requantization, requantization.explained, False)

    @app.post(
        "/api/count", tags=["schemes"], summary="Count differing accumulators", responses=answers,
        openapi_extra=documented(Requantization),
    )  # fmt: skip
    async def count(request: Request) -> Response:
        """Count exactly, of all 2^32 accumulators, those on which two schemes differ."""
        return await answered(request, Requantization, requantization.counted, True)

    @app.post(
        "/api/sweep", tags=["schemes"], summary="Sweep pairs", openapi_extra=documented(Sweep), responses={
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
                answer = guarded(Sweep, lambda: sweeping.swept(form, caps, token, say))
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
