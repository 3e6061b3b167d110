"""The stock client of the Open Inference Protocol gets the engine's scores, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lushan
from serve.conftest import Client

http = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def triton(client: Client) -> Iterator[Any]:
    with http.InferenceServerClient(f"127.0.0.1:{client.port}") as found:
        yield found


def test_metadata(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("small")
    assert triton.is_model_ready("small", "1")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data", "classification"]
    inputs = triton.get_model_metadata("small")["inputs"]
    assert [entry["shape"] for entry in inputs] == [[-1, 32, 32, 3], [-1]]


@pytest.mark.parametrize("binary", [True, False])
def test_tensors(triton: Any, model_folder: Path, binary: bool) -> None:
    batch = np.random.default_rng(1).standard_normal((3, 32, 32, 3), np.float32)
    tensor = http.InferInput("input", batch.shape, "FP32")
    tensor.set_data_from_numpy(batch, binary_data=binary)
    outputs = [http.InferRequestedOutput("scores", binary_data=binary)]
    result = triton.infer("small", [tensor], outputs=outputs, request_id="7")
    with lushan.load(model_folder) as recognizer:
        assert np.array_equal(result.as_numpy("scores"), recognizer.scores(batch))
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("binary", [True, False])
def test_pictures(triton: Any, model_folder: Path, files: list[bytes], binary: bool) -> None:
    import base64

    sent = files if binary else [base64.b64encode(data) for data in files]
    tensor = http.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(sent, np.object_), binary_data=binary)
    result = triton.infer("small", [tensor])
    probabilities = result.as_numpy("probabilities")
    with lushan.load(model_folder) as recognizer:
        for row, data in zip(probabilities, files, strict=True):
            for prediction in recognizer.classify(data):
                assert float(row[prediction.index]) == prediction.probability


def test_classification(triton: Any, model_folder: Path, files: list[bytes]) -> None:
    tensor = http.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array(files[:1], np.object_))
    outputs = [http.InferRequestedOutput("probabilities", class_count=2)]
    texts = triton.infer("small", [tensor], outputs=outputs).as_numpy("probabilities")
    with lushan.load(model_folder) as recognizer:
        best = recognizer.classify(files[0], top=2)
    assert [text.decode() for text in texts[0]] == [
        f"{one.probability!r}:{one.index}:{one.label}" for one in best
    ]


SHAPE = {"name": "input", "datatype": "FP32", "shape": [1, 32, 32, 3]}
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "JSON object"),
        ({}, "inputs should be"),
        ({"inputs": [1]}, "JSON object"),
        ({"inputs": [SHAPE, IMAGE]}, "inputs should be"),
        ({"inputs": [{**SHAPE, "datatype": "INT8"}]}, "FP32"),
        ({"inputs": [{**SHAPE, "name": []}]}, "an input should be"),
        ({"inputs": [{**SHAPE, "shape": [1, 3, 32, 32]}]}, "the shape of input"),
        ({"inputs": [{**SHAPE, "shape": [0, 32, 32, 3]}]}, "the shape of input"),
        ({"inputs": [{**SHAPE, "shape": [True, 32, 32, 3]}]}, "the shape of input"),
        ({"inputs": [{**SHAPE, "data": [1, 2]}]}, "3072 numbers"),
        ({"inputs": [{**SHAPE, "data": ["1"] * 3072}]}, "3072 numbers"),
        ({"inputs": [{**SHAPE, "data": [[1], [2, 3]]}]}, "3072 numbers"),
        ({"inputs": [{**SHAPE, "data": [1e39] * 3072}]}, "no finite"),
        ({"inputs": [{**SHAPE, "data": [float("nan")] * 3072}]}, "no finite"),
        ({"inputs": [{**SHAPE, "parameters": {"binary_data_size": 4}}]}, "binary_data_size"),
        ({"inputs": [{**IMAGE, "data": ["%"]}]}, "base64"),
        ({"inputs": [{**IMAGE, "data": ["AAAA"]}]}, "not a picture"),
        ({"inputs": [{**SHAPE, "data": [0] * 3072}], "outputs": [{"name": "x"}]}, "an output"),
        (
            {
                "inputs": [{**SHAPE, "data": [0] * 3072}],
                "outputs": [{"name": "scores", "parameters": {"classification": 9}}],
            },
            "classification",
        ),
    ],
)
def test_wrong_requests_get_a_reason(client: Client, request_: Any, reason: str) -> None:
    body = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
    answer = client.ask("POST", "/v2/models/small/infer", body)
    assert (answer.status, reason in answer.json["error"]) == (400, True), answer


@pytest.mark.parametrize("length", ["-1", "0", "x", "9999999", "١"])
def test_wrong_header_lengths(client: Client, length: str) -> None:
    headers = {"Inference_Header_Content_Length": length.encode().decode("latin-1")}
    answer = client.ask("POST", "/v2/models/small/infer", b"{}", **headers)
    assert (answer.status, "length of the JSON" in answer.json["error"]) == (400, True)


def test_unknown_model(client: Client) -> None:
    answer = client.ask("POST", "/v2/models/other/infer", b"{}")
    assert (answer.status, answer.json["kind"]) == (404, "unknown_model")
