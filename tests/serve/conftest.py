"""A real service on a free port, in a thread of this process, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lushan.models.zoo import load_model
from lushan.recognizer import Recognizer
from lushan.serve.app import Service
from lushan.serve.guard import LOCAL, ApiKeys
from lushan.serve.limits import Limits
from lushan.serve.run import Server, bind

FAST = Limits(head_timeout=0.5, receive_timeout=0.5, send_timeout=0.5, timeout=5.0, drain=1.0)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    port: int
    service: Service

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        answer = Answer(
            response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        )
        connection.close()
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def serving(
    *folders: tuple[str, Path], limits: Limits = FAST, keys: ApiKeys | None = None
) -> Iterator[Client]:
    """Serve models called (name, folder) until the block ends."""
    recognizers = [
        Recognizer(replace(load_model(folder), name=name), threads=2) for name, folder in folders
    ]
    service = Service(recognizers, limits=limits, keys=keys, hosts=LOCAL)
    listener = bind("127.0.0.1", 0)
    started = threading.Event()
    server = Server(service, limits, started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert started.wait(30)
    try:
        yield Client(listener.getsockname()[1], service)
    finally:
        server.should_exit = True
        thread.join(30)
        service.close()
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(model_folder: Path) -> Iterator[Client]:
    with serving(("small", model_folder)) as running:
        yield running


@pytest.fixture(scope="session")
def files() -> list[bytes]:
    """Return the files of eight pictures of several sizes and formats."""
    random = np.random.default_rng(3)
    made = []
    for index in range(8):
        pixels = random.integers(0, 256, (20 + 9 * index, 50, 3), dtype=np.uint8)
        made.append(encoded(Image.fromarray(pixels), ("PNG", "JPEG")[index % 2]))
    return made


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def form(files: list[tuple[str, bytes]], field: str = "file") -> tuple[bytes, str]:
    """Return a form with these files, and its content type."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"'
        "\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--limit--\r\n", "multipart/form-data; boundary=limit"


Check = Callable[[], bool]
