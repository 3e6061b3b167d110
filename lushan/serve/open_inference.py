"""The Open Inference Protocol, version 2, with its extension for binary tensors.

What other servers' clients speak: a request names tensors, as JSON or, after a JSON header of a
given length, as bytes. A model here takes one of two inputs and gives one or two outputs:

===============  ========  =================  ================================================
``input``        FP32      [N, H, W, 3]       pictures preprocessed already, as ``scores`` takes
``image``        BYTES     [N]                files of pictures, as they are
``scores``       FP32      [N, classes]       before softmax
``probabilities``  FP32    [N, classes]       after it
===============  ========  =================  ================================================

An output asked for with ``classification: k`` is [N, k] texts ``value:index:label`` instead. In
JSON, BYTES are base64, which the protocol leaves open. Left out: sequences, shared memory, other
types of numbers. Everything here is arithmetic on bytes in memory; ``app`` has the routes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lushan import __version__
from lushan.errors import UsageError
from lushan.reference.softmax import softmax, top_k
from lushan.serve.batching import Array
from lushan.serve.limits import Limits
from lushan.serve.pipeline import Pipeline
from lushan.text import printable

TENSOR, IMAGE = "input", "image"
SCORES, PROBABILITIES = "scores", "probabilities"
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Output:
    """One output that a client asks for."""

    name: str
    binary: bool
    classes: int  # texts of so many best classes; 0 for all numbers


@dataclass(frozen=True)
class InferRequest:
    """What a client asks for: either ``tensor`` or ``images``."""

    id: str | None
    tensor: Array | None  # [N, H, W, 3]
    images: tuple[bytes, ...]
    outputs: tuple[Output, ...]
    seconds: float = field(default=math.inf)  # the client's own limit


def server_metadata() -> dict[str, object]:
    """Return what the server says of itself."""
    return {
        "name": "lushan",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification"],
    }


def model_metadata(pipeline: Pipeline) -> dict[str, object]:
    """Return the inputs, of which a request has one, and the outputs of a model."""
    classes = len(pipeline.recognizer.labels)
    return {
        "name": pipeline.name,
        "versions": ["1"],
        "platform": "lushan",
        "inputs": [
            {"name": TENSOR, "datatype": "FP32", "shape": [-1, *pipeline.shape]},
            {"name": IMAGE, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [-1, classes]}
            for name in (SCORES, PROBABILITIES)
        ],
    }


def parse(
    body: bytes, header_length: str | None, pipeline: Pipeline, limits: Limits
) -> InferRequest:
    """Return what ``body`` asks for; raises UsageError that says what is wrong with it."""
    header, binary = _split(body, header_length)
    if len(header) > limits.max_json:
        raise UsageError(
            "the JSON part has {size} bytes, more than {most}: send tensors in binary form",
            size=len(header),
            most=limits.max_json,
        )
    request = _mapping(_json(header), "request")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise UsageError("inputs should be a list of one tensor, input or image")
    parameters = _mapping(request.get("parameters", {}), "parameters")
    tensor, images = _input(_mapping(inputs[0], "inputs[0]"), binary, pipeline.shape)
    classes = len(pipeline.recognizer.labels)
    name = request.get("id")
    timeout = parameters.get("timeout")  # microseconds
    return InferRequest(
        id=name if isinstance(name, str) else None,
        tensor=tensor,
        images=images,
        outputs=_outputs(request.get("outputs"), parameters, classes),
        seconds=timeout / 1e6 if type(timeout) is int and timeout > 0 else math.inf,
    )


def respond(
    request: InferRequest, pipeline: Pipeline, scores: Sequence[Array]
) -> tuple[bytes, int | None]:
    """Return the body that answers, and the length of its JSON where binary tensors follow."""
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in request.outputs:
        values = np.stack([one if output.name == SCORES else softmax(one) for one in scores])
        if output.classes:
            texts = [_best(row, output.classes, pipeline) for row in values]
            tensor: dict[str, Any] = {"datatype": "BYTES", "shape": [len(texts), output.classes]}
            flat: list[Any] = [text for row in texts for text in row]
            packed = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in flat)
        else:
            tensor = {"datatype": "FP32", "shape": list(values.shape)}
            flat = values.ravel().tolist() if not output.binary else []
            packed = values.astype("<f4").tobytes()
        if output.binary:
            tensor["parameters"] = {"binary_data_size": len(packed)}
            binary.append(packed)
        else:
            tensor["data"] = flat
        described.append({"name": output.name, **tensor})
    answer: dict[str, Any] = {"model_name": pipeline.name, "model_version": "1"}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = described
    header = json.dumps(answer, allow_nan=False).encode()
    return b"".join((header, *binary)), len(header) if binary else None


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Return the JSON and the bytes after it."""
    if header_length is None:
        return body, memoryview(b"")
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 12
    length = int(header_length) if digits else -1
    if not 0 < length <= len(body):
        raise UsageError(
            "{header} should be the length of the JSON, 1 to {size}; received {value}",
            header=HEADER_LENGTH,
            size=len(body),
            value=printable(header_length),
        )
    return body[:length], memoryview(body)[length:]


def _json(text: bytes) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no text, endless digits
        raise UsageError(
            "the request is no JSON that can be read ({reason})",
            reason=printable(str(error)),
        ) from None
    return value


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("{what} should be a JSON object", what=what)
    return value


def _input(
    tensor: Mapping[str, Any], binary: memoryview, shape: tuple[int, ...]
) -> tuple[Array | None, tuple[bytes, ...]]:
    """Return the tensor or the images of the one input."""
    name, datatype = tensor.get("name"), tensor.get("datatype")
    wanted = {TENSOR: "FP32", IMAGE: "BYTES"}.get(name) if isinstance(name, str) else None
    if wanted is None or datatype != wanted:
        raise UsageError(
            "an input should be {tensor} of type FP32 or {image} of type BYTES; received {name} of "
            "type {datatype}",
            tensor=TENSOR,
            image=IMAGE,
            name=printable(str(name)),
            datatype=printable(str(datatype)),
        )
    dims = _shape(tensor.get("shape"), str(name), shape if name == TENSOR else ())
    size = _mapping(tensor.get("parameters", {}), "parameters").get("binary_data_size")
    if size is None:
        if len(binary):
            raise UsageError("bytes follow the JSON, but the input has no binary_data_size")
        data = tensor.get("data")
        return (_numbers(data, dims), ()) if name == TENSOR else (None, _base64(data, dims[0]))
    if size != len(binary) or "data" in tensor:
        raise UsageError(
            "binary_data_size should be {size}, the bytes after the JSON, and data left out; "
            "received {value}",
            size=len(binary),
            value=printable(str(size)),
        )
    if name == IMAGE:
        return None, _length_prefixed(binary, dims[0])
    if size != 4 * math.prod(dims):
        raise UsageError(
            "a tensor of shape {shape} has {wanted} bytes; received {size}",
            shape=printable(str(dims)),
            wanted=4 * math.prod(dims),
            size=size,
        )
    return _finite(np.frombuffer(binary, "<f4").reshape(dims).astype(np.float32)), ()


def _shape(received: object, name: str, rest: tuple[int, ...]) -> list[int]:
    """Return [N, *rest], if that is what was received."""
    if isinstance(received, list) and received and type(received[0]) is int and received[0] > 0:
        shape = [received[0], *rest]
        if received == shape:
            return shape
    raise UsageError(
        "the shape of {name} should be {wanted}, with N at least 1; received {received}",
        name=name,
        wanted=str(["N", *rest]).replace("'", ""),
        received=printable(str(received)),
    )


def _numbers(data: object, shape: list[int]) -> Array:
    """Return JSON numbers, flat or nested, as a tensor."""
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "iuf" or array.size != math.prod(shape):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise UsageError(
            "data should be {count} numbers, flat or nested as the shape says",
            count=math.prod(shape),
        ) from None
    with np.errstate(over="ignore"):  # then they are infinite, and refused
        return _finite(array.astype(np.float32).reshape(shape))


def _finite(array: Array) -> Array:
    if not np.isfinite(array).all():
        raise UsageError("the tensor has values that are no finite float32 numbers")
    return array


def _base64(data: object, count: int) -> tuple[bytes, ...]:
    try:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError
        return tuple(base64.b64decode(text, validate=True) for text in data)
    except (ValueError, TypeError, binascii.Error):
        raise UsageError(
            "data should be {count} texts, the pictures' files in base64", count=count
        ) from None


def _length_prefixed(binary: memoryview, count: int) -> tuple[bytes, ...]:
    """Return elements that each follow their length, four bytes, the lowest first."""
    elements: list[bytes] = []
    start = 0
    while start + 4 <= len(binary):
        (length,) = struct.unpack_from("<I", binary, start)
        elements.append(bytes(binary[start + 4 : start + 4 + length]))
        start += 4 + length
    if start != len(binary) or len(elements) != count:
        raise UsageError(
            "the bytes of {name} should be {count} elements, each after its length in four bytes",
            name=IMAGE,
            count=count,
        )
    return tuple(elements)


def _outputs(asked: object, parameters: Mapping[str, Any], classes: int) -> tuple[Output, ...]:
    """Return the outputs to send; both, where none is asked for."""
    default = parameters.get("binary_data_output") is True
    if asked is None or asked == []:
        return tuple(Output(name, default, 0) for name in (SCORES, PROBABILITIES))
    if not isinstance(asked, list) or len(asked) > 2:
        raise UsageError("outputs should be a list of one or two: scores, probabilities")
    outputs = []
    for entry in asked:
        output = _mapping(entry, "outputs[]")
        name = output.get("name")
        own = _mapping(output.get("parameters", {}), "parameters")
        best = own.get("classification", 0)
        if name not in (SCORES, PROBABILITIES):
            raise UsageError(
                "an output should be scores or probabilities; received {name}",
                name=printable(str(name)),
            )
        if type(best) is not int or not 0 <= best <= classes:
            raise UsageError(
                "classification should be 0 to {classes}; received {value}",
                classes=classes,
                value=printable(str(best)),
            )
        outputs.append(Output(name, own.get("binary_data", default) is True, best))
    return tuple(outputs)


def _best(row: Array, count: int, pipeline: Pipeline) -> list[str]:
    names = pipeline.recognizer.labels.names
    return [f"{float(row[index])!r}:{index}:{names[index]}" for index in top_k(row, count)]
