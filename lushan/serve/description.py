"""The service described: OpenAPI 3.1 for programs, a page without scripts for people."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from lushan import __version__
from lushan.recognizer import LANGUAGES
from lushan.serve import open_inference, uploads
from lushan.serve.limits import Limits
from lushan.serve.question import FORMATS, METHODS

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_BINARY = {"type": "string", "format": "binary"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
    "code{font-family:ui-monospace,monospace}table{border-collapse:collapse}"
    "td{padding:.1em 1em .1em 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


def openapi(models: Sequence[str], limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI description of a service with these models."""
    refusals = {
        "400": "The request or the picture cannot be used.",
        "401": "A key is needed.",
        "403": "Asked from a page of another origin, or under a foreign name.",
        "404": "There is no such model or page.",
        "408": f"The body did not arrive within {limits.receive_timeout:g} s.",
        "413": f"More than {limits.max_body} bytes, {limits.max_pixels} pixels or "
        f"{limits.queue} pictures.",
        "415": "The body is compressed.",
        "503": "Too much to do, or too late: try again, Retry-After says when.",
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lushan",
            "version": __version__,
            "description": "Names what is in pictures.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/classify": {"post": _classify(models, refusals)},
            "/v1/explain": {"get": _explain(refusals)},
            "/v1/models": {"get": _get("The models, and the limits on pictures", refusals)},
            "/v1/labels": {"get": _labels(models, refusals)},
            **_open_inference(models, refusals),
            "/metrics": {"get": _get("Metrics in Prometheus' text format", refusals, "text/plain")},
        },
        "components": {
            "schemas": {"Error": _error(), "Record": _record()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def page(models: Sequence[str], limits: Limits) -> str:
    """Return the same as a page."""
    described = openapi(models, limits)
    parts = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            rows = "".join(
                f"<tr><td><code>{html.escape(one['name'])}</code><td>"
                f"{html.escape(one.get('description', ''))}"
                for one in operation.get("parameters", ())
            )
            rows += "".join(
                f"<tr><td>{status}<td>{html.escape(answer['description'])}"
                for status, answer in operation["responses"].items()
            )
            parts.append(
                f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
                f"<p>{html.escape(operation['summary'])}<table>{rows}</table>"
            )
    names = ", ".join(f"<code>{html.escape(name)}</code>" for name in models)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>lushan</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>lushan {__version__}</h1><p>Models: {names}. For programs: "
        f'<a href="openapi.json">openapi.json</a>.{"".join(parts)}</html>'
    )


def _classify(models: Sequence[str], refusals: dict[str, str]) -> dict[str, Any]:
    answer = {
        "type": "object",
        "required": ["model", "results", "timing"],
        "properties": {
            "model": {"type": "string"},
            "results": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}},
            "timing": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    }
    form = {
        "type": "object",
        "required": [uploads.FIELD],
        "properties": {uploads.FIELD: {"type": "array", "items": _BINARY}},
    }
    return {
        "summary": "Name what is in one picture, or in each of a form's. Where some of several "
        "fail, their records have an error and the status is 200.",
        "operationId": "classify",
        "parameters": [
            _query("model", "One of the models; the first if not given.", {"enum": list(models)}),
            _query(
                "top", "Answers per picture; 5 if not given.", {"type": "integer", "minimum": 1}
            ),
            _query("lang", "Language of names and messages.", {"enum": list(LANGUAGES)}),
            _query(
                "keep",
                "1: keep each picture in memory for some minutes, and give the id by which "
                "/v1/explain finds it.",
                {"type": "integer", "minimum": 0, "maximum": 1},
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": _responses("The answers, in order", answer, refusals),
    }


def _explain(refusals: dict[str, str]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0}
    return {
        "summary": "Where an answer came from, for a picture just sent with keep=1: maps, patterns "
        "and arithmetic as JSON, maps and patterns as a drawing, the tour as a page. An id needs "
        "no key, and opens this picture alone.",
        "operationId": "explain",
        "security": [{}],
        "parameters": [
            {**_query("id", "What classify gave.", {"type": "string"}), "required": True},
            _query("method", "What to ask; cam if not given.", {"enum": list(METHODS)}),
            _query("lang", "Language of names and messages.", {"enum": list(LANGUAGES)}),
            _query("class", "A class; the first answer if not given.", number),
            _query("layer", "A layer; method=layers lists them.", {"type": "string"}),
            _query("channel", "A channel of the layer; the strongest if not given.", number),
            _query("row", "A place on the layer's maps, with column.", number),
            _query("column", "See row.", number),
            _query("format", "Numbers or a drawing.", {"enum": list(FORMATS)}),
        ],
        "responses": {
            "200": {
                "description": "The explanation",
                "content": {"application/json": {}, "image/png": {}, "text/html": {}},
            },
            **_refusals({s: refusals[s] for s in ("400", "403", "503")}),
            **_refusals({"404": "This picture is not kept, or not any more."}),
        },
    }


def _labels(models: Sequence[str], refusals: dict[str, str]) -> dict[str, Any]:
    got = _get("The names of a model's classes, in the order of the scores", refusals)
    responses = {**got["responses"], **_refusals({"400": refusals["400"]})}
    parameters = [
        _query("model", "One of the models; the first if not given.", {"enum": list(models)}),
        _query("lang", "Language of the names.", {"enum": list(LANGUAGES)}),
    ]
    return {**got, "responses": responses, "parameters": parameters}


def _open_inference(models: Sequence[str], refusals: dict[str, str]) -> dict[str, Any]:
    model = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"enum": list(models)},
        "description": "One of the models.",
    }
    length = {
        "name": open_inference.HEADER_LENGTH,
        "in": "header",
        "schema": {"type": "integer"},
        "description": "The length of the JSON where binary tensors follow it.",
    }
    infer = {
        "summary": "Open Inference Protocol 2: scores of preprocessed tensors or of pictures",
        "operationId": "infer",
        "parameters": [model, length],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object", "required": ["inputs"]}},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": _responses("The outputs", {"type": "object"}, refusals),
    }
    in_path = {"parameters": [model]}
    of_model = "/v2/models/{model}"
    return {
        "/v2": {"get": _get("What the server is", refusals)},
        "/v2/health/live": {"get": _get("Whether it runs", {}, None)},
        "/v2/health/ready": {"get": _get("Whether it takes requests", {}, None)},
        of_model: {"get": {**_get("Inputs and outputs of a model", refusals), **in_path}},
        of_model + "/ready": {"get": {**_get("Whether it is here", refusals, None), **in_path}},
        of_model + "/infer": {"post": infer},
    }


def _get(
    summary: str, refusals: dict[str, str], kind: str | None = "application/json"
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Yes" if kind is None else summary}
    if kind is not None:
        answer["content"] = {kind: {"schema": {}}}
    possible = {
        status: text for status, text in refusals.items() if status in ("401", "403", "404")
    }
    return {"summary": summary, "responses": {"200": answer, **_refusals(possible)}}


def _responses(
    description: str, schema: dict[str, Any], refusals: dict[str, str]
) -> dict[str, Any]:
    good = {"description": description, "content": {"application/json": {"schema": schema}}}
    return {"200": good, **_refusals(refusals)}


def _refusals(refusals: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in refusals.items()}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _error() -> dict[str, Any]:
    texts = {"error": {"type": "string"}, "kind": {"type": "string"}}
    return {"type": "object", "required": ["error"], "properties": texts}


def _record() -> dict[str, Any]:
    prediction = {
        "type": "object",
        "properties": {
            "rank": {"type": "integer"},
            "index": {"type": "integer"},
            "label": {"type": "string"},
            "description": {"type": "string"},
            "probability": {"type": "number"},
        },
    }
    return {
        "type": "object",
        "required": ["source"],
        "properties": {
            "source": {"type": "string"},
            "predictions": {"type": "array", "items": prediction},
            "input": {"type": "object"},
            "error": {"type": "string"},
            "id": {"type": ["string", "null"]},
        },
    }
