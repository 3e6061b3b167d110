"""Explanations over HTTP: the numbers of lushan.explain, bounded, and shut in."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lushan
from lushan.explain import Inspection, arithmetic, cam, deconvnet, gradcam, occlusion
from lushan.explain.drawing import heat_map
from lushan.serve.guard import ApiKeys
from lushan.serve.limits import Limits
from serve.conftest import Answer, Client, form, serving

LIMITS = Limits(timeout=20)


@pytest.fixture(scope="module")
def client(model_folder: Path) -> Iterator[Client]:
    with serving(("small", model_folder), limits=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def identity(client: Client, files: list[bytes]) -> str:
    return sent(client, files[0])


@pytest.fixture(scope="module")
def inspection(model_folder: Path, files: list[bytes]) -> Iterator[Inspection]:
    with lushan.load(model_folder) as recognizer:
        yield Inspection(recognizer, files[0])


def sent(client: Client, data: bytes) -> str:
    (record,) = client.ask("POST", "/v1/classify?keep=1", data).json["results"]
    identity: str = record["id"]
    return identity


def ask(client: Client, identity: str, query: str) -> Answer:
    return client.ask("GET", f"/v1/explain?id={identity}&{query}")


def test_only_who_wants_an_explanation_gets_an_id(client: Client, files: list[bytes]) -> None:
    for query in ("", "?keep=0"):
        (record,) = client.ask("POST", "/v1/classify" + query, files[0]).json["results"]
        assert "id" not in record
    body, kind = form([("a.png", files[0]), ("no.txt", b"no picture"), ("b.jpg", files[1])])
    answer = client.ask("POST", "/v1/classify?keep=1", body, Content_Type=kind)
    ids = [record.get("id") for record in answer.json["results"]]
    assert ids[1] is None and ids[0] and ids[2] and ids[0] != ids[2]


def test_maps_are_those_of_lushan_explain(
    client: Client, identity: str, inspection: Inspection
) -> None:
    best = inspection.predictions(top=1)[0].index
    for query, expected in (
        ("method=cam", cam(inspection, best).values),
        ("method=cam&class=1", cam(inspection, 1).values),
        ("method=gradcam&class=1", gradcam(inspection, 1).values),
        ("method=occlusion&class=2", occlusion(inspection, 2).heat()),
    ):
        answer = ask(client, identity, query)
        assert answer.status == 200, answer
        assert np.array_equal(np.float32(answer.json["values"]), np.float32(expected)), query
    record = ask(client, identity, "method=cam&class=1&lang=zh").json
    assert record["class"] == {
        "index": 1,
        "label": inspection.model.labels.names[1],
        "description": inspection.model.labels.description(1, "zh"),
    }
    assert len(record["seen"]) == 4
    drawing = ask(client, identity, "method=cam&class=1&format=png")
    assert drawing.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(BytesIO(drawing.body)))
    assert np.array_equal(pixels, heat_map(inspection.pixels, cam(inspection, 1).values))


def test_patterns(client: Client, identity: str, inspection: Inspection) -> None:
    layer = inspection.last_maps
    answer = ask(client, identity, f"method=deconvnet&layer={layer}&channel=1").json
    (expected,) = deconvnet(inspection, layer, [1])
    assert np.array_equal(np.float32(answer["pattern"]), expected.pattern)
    assert tuple(answer["box"]) == expected.box
    guided = ask(client, identity, "method=guided&format=png")
    assert (guided.status, guided.headers["content-type"]) == (200, "image/png")


def test_arithmetic_of_any_number(client: Client, identity: str, inspection: Inspection) -> None:
    layers = ask(client, identity, "method=layers").json["layers"]
    assert [layer["name"] for layer in layers] == list(inspection.nodes)
    for layer in layers:
        name, shape = layer["name"], layer["shape"]
        place = (0, shape[1] - 1) if len(shape) == 3 else None
        where = "" if place is None else f"&row={place[0]}&column={place[1]}"
        answer = ask(client, identity, f"method=arithmetic&layer={name}&channel=1{where}")
        assert answer.status == 200, answer
        cell = arithmetic(inspection, name, 1, place)
        record = answer.json
        assert record["displayed"] == cell.displayed
        assert record["value"] == cell.value
        assert record["sum_of_products"] == cell.sum_of_products
        assert np.array_equal(np.float32(record["window"]), cell.window)
        assert np.array_equal(record["products"], cell.products)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("method=x", "method should be one of"),
        ("method=cam&class=x", "class should be a whole number"),
        ("method=cam&class=99", "classes are numbered 0 to"),
        ("method=cam&layer=conv1", "cam takes no layer"),
        ("method=cam&lang=fr", "lang should be one of"),
        ("method=cam&format=gif", "format should be one of"),
        ("method=deconvnet", "deconvnet needs a layer"),
        ("method=deconvnet&layer=nope", "no layer"),
        ("method=arithmetic&layer=conv1", "needs a channel"),
        ("method=arithmetic&layer=conv1&channel=1&row=1", "row and column go together"),
        ("method=arithmetic&layer=conv1&channel=1&row=999&column=0", "row 999"),
        ("method=guided&layer=conv1&class=1", "guided starts at"),
        ("method=guided&channel=1", "a channel needs its layer"),
    ],
)
def test_bad_questions_get_a_reason(client: Client, identity: str, query: str, reason: str) -> None:
    answer = ask(client, identity, query)
    assert (answer.status, reason in answer.json["error"]) == (400, True), answer


def test_unknown_ids(client: Client) -> None:
    for query in ("", "?id=", "?id=" + "A" * 24):
        answer = client.ask("GET", "/v1/explain" + query)
        assert (answer.status, answer.json["kind"]) == (404, "forgotten")
    page = client.ask("GET", "/v1/explain?method=tour&lang=zh&id=x")
    assert page.status == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "请重新发送" in page.body.decode()


def test_the_tour_may_run_its_own_code_alone(client: Client, identity: str) -> None:
    answer = ask(client, identity, "method=tour&lang=zh")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    for rule in ("default-src 'none'", "form-action 'none'", "sandbox allow-scripts"):
        assert rule in policy
    assert "allow-same-origin" not in policy
    assert "unsafe-inline" not in policy.split("style-src-attr")[0]
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", answer.body.decode(), re.DOTALL)
    assert scripts
    for script in scripts:
        assert b64encode(sha256(script.encode()).digest()).decode() in policy


def test_an_id_needs_no_key(model_folder: Path, files: list[bytes]) -> None:
    keys = ApiKeys(["0123456789abcdef"])
    with serving(("small", model_folder), limits=LIMITS, keys=keys) as client:
        refused = client.ask("POST", "/v1/classify?keep=1", files[0])
        assert refused.status == 401
        answer = client.ask("POST", "/v1/classify?keep=1", files[0], X_API_Key="0123456789abcdef")
        identity = answer.json["results"][0]["id"]
        assert ask(client, identity, "method=cam").status == 200
        assert ask(client, "x", "method=cam").status == 404
        assert client.ask("GET", "/").status == 200
        assert client.ask("GET", "/v1/models").status == 401


def test_a_full_queue_refuses_at_once_and_recognition_goes_on(
    model_folder: Path, files: list[bytes]
) -> None:
    limits = Limits(explanations=1)
    with serving(("small", model_folder), limits=limits) as client:
        identity = sent(client, files[0])
        first = threading.Thread(target=ask, args=(client, identity, "method=occlusion"))
        first.start()
        while not client.metric("lushan_queue_explanations"):
            time.sleep(0.01)
        refused = ask(client, identity, "method=cam")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert client.ask("POST", "/v1/classify", files[1]).status == 200
        first.join()
        assert ask(client, identity, "method=cam").status == 200


def test_one_that_takes_too_long_is_ended_and_the_next_is_answered(
    model_folder: Path, files: list[bytes]
) -> None:
    with serving(("small", model_folder), limits=Limits(explain_timeout=0.0)) as client:
        identity = sent(client, files[0])
        refused = ask(client, identity, "method=tour")
        assert refused.status == 503
        assert "took too long" in refused.body.decode()
        assert client.service._explainer._process is None
        client.service._explainer._limits = Limits()
        assert ask(client, identity, "method=cam").status == 200


def test_the_process_goes_when_nobody_asks(model_folder: Path, files: list[bytes]) -> None:
    with serving(("small", model_folder), limits=Limits(explain_idle=0.2)) as client:
        identity = sent(client, files[0])
        assert ask(client, identity, "method=cam").status == 200
        end = time.monotonic() + 20
        while client.service._explainer._process is not None:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert ask(client, identity, "method=cam").status == 200


def test_a_process_that_dies_is_told_and_replaced(model_folder: Path, files: list[bytes]) -> None:
    with serving(("small", model_folder), limits=LIMITS) as client:
        identity = sent(client, files[0])
        assert ask(client, identity, "method=cam").status == 200
        process = client.service._explainer._process
        assert process is not None
        process._process.kill()
        process._process.join()
        assert ask(client, identity, "method=cam").status == 500
        assert ask(client, identity, "method=cam").status == 200


def test_models_and_labels(client: Client, model_folder: Path) -> None:
    answer = client.ask("GET", "/v1/models").json
    assert answer["models"] == [{"name": "small", "classes": 3, "explains": True}]
    assert answer["limits"]["body_bytes"] == LIMITS.max_body
    labels = client.ask("GET", "/v1/labels?lang=zh").json
    with lushan.load(model_folder) as recognizer:
        assert labels["labels"] == list(recognizer.labels.names)
        assert labels["descriptions"] == [recognizer.labels.description(i, "zh") for i in range(3)]
    assert client.ask("GET", "/v1/labels?lang=fr").status == 400
    assert client.ask("GET", "/v1/labels?model=x").status == 404
