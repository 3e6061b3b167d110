"""The routes of the service: recognition, the Open Inference Protocol, metrics, description.

``Service`` is an ASGI application, and the owner of what stands behind it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from lushan.errors import UsageError
from lushan.recognizer import LANGUAGES, Recognizer
from lushan.serve import description, documents, open_inference, uploads, web
from lushan.serve.admission import Allowance
from lushan.serve.explainer import Explainer
from lushan.serve.guard import ApiKeys, Guard, language_of, log_error
from lushan.serve.kept import Store
from lushan.serve.limits import Limits
from lushan.serve.metrics import CONTENT_TYPE, Metrics
from lushan.serve.pipeline import Job, Pipeline, Scored
from lushan.serve.question import Question, whole_number
from lushan.serve.receiving import body_of, until, watching
from lushan.serve.refusal import RefusalError, busy, refusal_of
from lushan.text import printable

T = TypeVar("T")
_SMALL = 1 << 18  # bytes that are parsed at once: a millisecond's work, less than a thread's detour


class Service:
    """Several models behind one address; the first recognizer is the one that asks by no name.

    ``close`` it when no request is left: it closes the recognizers.
    """

    def __init__(
        self,
        recognizers: Sequence[Recognizer],
        *,
        limits: Limits,
        keys: ApiKeys | None = None,
        hosts: Collection[str] | None = None,
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self._queue = Allowance(limits.queue)
        self._held = Allowance(limits.held)
        pipelines = [Pipeline(one, limits, self._queue, self.metrics) for one in recognizers]
        self._pipelines = {pipeline.name: pipeline for pipeline in pipelines}
        self._default = pipelines[0]
        self._parser = ThreadPoolExecutor(1, "lushan-parse")
        self._kept = Store(limits)
        self._explainer = Explainer({one.name: one.recognizer for one in pipelines}, limits)
        self.metrics.watch(
            queue=lambda: self._queue.used,
            held=lambda: self._held.used,
            kept=lambda: self._kept.bytes,
            explanations=lambda: self._explainer.queue.used,
        )
        model = "/v2/models/{model}"
        routes = [
            *web.routes(),
            Route("/v1/classify", self._classify, methods=["POST"]),
            Route("/v1/explain", self._explain),
            Route("/v1/models", self._models),
            Route("/v1/labels", self._labels),
            Route("/v2", self._server),
            Route("/v2/health/live", self._health),
            Route("/v2/health/ready", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
        ]
        for path in (model, model + "/versions/1"):
            routes += [
                Route(path, self._model),
                Route(path + "/ready", self._model_ready),
                Route(path + "/infer", self._infer, methods=["POST"]),
            ]
        router = Router(routes, redirect_slashes=False)
        self._guarded = Guard(router, self.metrics, keys, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        await self._guarded(scope, receive, send)

    def close(self) -> None:
        """Give back threads and memory."""
        self._explainer.close()
        self._parser.shutdown(cancel_futures=True)
        for pipeline in self._pipelines.values():
            pipeline.close()

    async def _classify(self, request: Request) -> Response:
        start = time.perf_counter()
        query = request.query_params
        pipeline = self._pipeline(query.get("model"))
        language = query.get("lang", LANGUAGES[0])
        top = pipeline.recognizer.check_top(whole_number("top", query.get("top")), language)
        keep = whole_number("keep", query.get("keep"))
        self._check_room()
        async with body_of(request, self.limits, self._held) as body:
            received = time.perf_counter()
            self.metrics.phase(pipeline.name, "receive", received - start)
            kind = request.headers.get("content-type")
            files = await self._parse(len(body), lambda: uploads.pictures(body, kind))
            self._check_number(len(files))
            job = pipeline.pictures(files, self.limits.timeout)
            results = await _results(job, request)
        records: list[dict[str, object]] = []
        refusals: list[RefusalError] = []
        for (name, data), result in zip(files, results, strict=True):
            answer = _name(pipeline.recognizer, result, top, language)
            if isinstance(answer, RefusalError):
                refusals.append(answer)
                records.append({"source": name, "error": answer.error.message(language)})
            else:
                records.append({"source": name, **answer})
                if keep:
                    records[-1]["id"] = self._kept.put(pipeline.name, data)
                    self._explainer.warm_up()
            await asyncio.sleep(0)  # a thousand names take a while: others get their turn
        if len(refusals) == len(records) == 1:
            raise refusals[0]
        for refusal in refusals:
            self.metrics.error(refusal.kind)
        timing = {
            "receive_ms": round(1e3 * (received - start), 3),
            "recognize_ms": round(1e3 * (time.perf_counter() - received), 3),
        }
        failed = len(refusals) == len(records)
        return _json(
            {"model": pipeline.name, "results": records, "timing": timing},
            refusals[0].status if failed else 200,
            refusals[0].headers if failed else None,
        )

    async def _explain(self, request: Request) -> Response:
        start = time.perf_counter()
        is_page = request.query_params.get("method") == "tour"
        try:
            question = Question.from_query(request.query_params)
            identity = request.query_params.get("id", "")
            kept = self._kept.get(identity)
            if kept is None:
                raise RefusalError(404, "forgotten", _forgotten(self.limits))
            async with watching(request.receive) as gone:
                answer = await until(self._explainer.ask(identity, kept, question), gone)
        except Exception as error:
            if not is_page:
                raise
            refusal = refusal_of(error)
            self.metrics.error(refusal.kind)
            return documents.refused(refusal, language_of(request.scope))
        self.metrics.phase(kept.model, "explain", time.perf_counter() - start)
        if is_page:
            return documents.sandboxed(answer.content)
        return Response(answer.content, media_type=answer.media_type)

    async def _models(self, request: Request) -> Response:
        models = [
            {
                "name": name,
                "classes": len(pipeline.recognizer.labels),
                "explains": pipeline.recognizer.model.precision == "float32",
            }
            for name, pipeline in self._pipelines.items()
        ]
        limits = {
            "body_bytes": self.limits.max_body,
            "pixels": self.limits.max_pixels,
            "pictures": self.limits.queue,
            "kept_seconds": self.limits.kept_seconds,
        }
        return _json({"models": models, "limits": limits})

    async def _labels(self, request: Request) -> Response:
        pipeline = self._pipeline(request.query_params.get("model"))
        language = request.query_params.get("lang", LANGUAGES[0])
        labels = pipeline.recognizer.labels
        pipeline.recognizer.check_top(None, language)
        names = [labels.description(index, language) for index in range(len(labels))]
        return _json({"model": pipeline.name, "labels": labels.names, "descriptions": names})

    async def _infer(self, request: Request) -> Response:
        start = time.perf_counter()
        pipeline = self._pipeline(request.path_params["model"])
        self._check_room()
        async with body_of(request, self.limits, self._held) as body:
            self.metrics.phase(pipeline.name, "receive", time.perf_counter() - start)
            length = request.headers.get(open_inference.HEADER_LENGTH)
            json_size = len(body) if length is None else 0
            asked = await self._parse(
                json_size, lambda: open_inference.parse(body, length, pipeline, self.limits)
            )
            if asked.tensor is not None:
                self._check_number(len(asked.tensor))
                job = pipeline.tensor(asked.tensor, asked.seconds)
            else:
                self._check_number(len(asked.images))
                job = pipeline.pictures([("<bytes>", one) for one in asked.images], asked.seconds)
            results = await _results(job, request)
        scores = []
        for result in results:
            if isinstance(result, Exception):
                raise result
            pipeline.recognizer.check_scores(result.scores, "<bytes>")
            scores.append(result.scores)
        content, header = open_inference.respond(asked, pipeline, scores)
        if header is None:
            return Response(content, media_type="application/json")
        headers = {open_inference.HEADER_LENGTH: str(header)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def _server(self, request: Request) -> Response:
        return _json(open_inference.server_metadata())

    async def _health(self, request: Request) -> Response:
        return Response()

    async def _model(self, request: Request) -> Response:
        pipeline = self._pipeline(request.path_params["model"])
        return _json(open_inference.model_metadata(pipeline))

    async def _model_ready(self, request: Request) -> Response:
        self._pipeline(request.path_params["model"])
        return Response()

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        return _json(description.openapi(list(self._pipelines), self.limits))

    async def _docs(self, request: Request) -> Response:
        page = description.page(list(self._pipelines), self.limits)
        return HTMLResponse(page, headers={"Content-Security-Policy": description.PAGE_POLICY})

    def _pipeline(self, name: str | None) -> Pipeline:
        if name is None:
            return self._default
        if name not in self._pipelines:
            error = UsageError(
                "there is no model {name!r} here; there are: {known}",
                name=printable(name),
                known=", ".join(self._pipelines),
            )
            raise RefusalError(404, "unknown_model", error)
        return self._pipelines[name]

    def _check_room(self) -> None:
        """Refuse at once, before a body is read, where it could not be used."""
        if self._queue.full:
            raise busy()

    def _check_number(self, pictures: int) -> None:
        if pictures > self.limits.queue:
            error = UsageError(
                "{count} pictures are more than this service takes at once, {most}",
                count=pictures,
                most=self.limits.queue,
            )
            raise RefusalError(413, "too_large", error)

    async def _parse(self, size: int, parse: Callable[[], T]) -> T:
        """Run ``parse``, off the event loop where there is much to parse."""
        if size <= _SMALL:
            return parse()
        return await asyncio.get_running_loop().run_in_executor(self._parser, parse)


async def _results(job: Job, request: Request) -> list[Scored | Exception]:
    async with watching(request.receive) as gone:
        return await job.wait(gone)


def _forgotten(limits: Limits) -> UsageError:
    return UsageError(
        "this picture is not kept here any more, or never was: send it again to have it explained "
        "(pictures are kept for {minutes} minutes at most, and new ones push out old ones)",
        minutes=f"{limits.kept_seconds / 60:g}",
    )


def _name(
    recognizer: Recognizer, result: Scored | Exception, top: int, language: str
) -> dict[str, object] | RefusalError:
    """Return the record of one picture, or why there is none."""
    try:
        if isinstance(result, Exception):
            raise result
        assert result.report is not None
        return recognizer.answer(result.scores, result.report, top, language).to_dict()
    except Exception as error:
        refusal = refusal_of(error)
        if refusal.status == 500:
            log_error(error)
        return refusal


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return ``value`` as it is: characters of all scripts, no NaN."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")
