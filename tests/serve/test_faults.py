"""What strangers do: none of it stops the service, and others are still answered."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lushan.serve.guard import ApiKeys
from serve.conftest import FAST, Client, encoded, form, serving

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"


def eventually(check: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def healthy(client: Client, data: bytes) -> bool:
    return client.ask("POST", "/v1/classify", data).status == 200


def test_slow_heads_and_bodies_are_cut_off(client: Client, files: list[bytes]) -> None:
    nothing, heads, bodies = ([client.connect() for _ in range(20)] for _ in range(3))
    for connection in heads:
        connection.sendall(HEAD[:20])
    for connection in bodies:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
    assert healthy(client, files[0])
    for connection in nothing + heads:
        assert connection.recv(100) == b""
    for connection in bodies:
        assert connection.recv(12) == b"HTTP/1.1 408"
    for connection in nothing + heads + bodies:
        connection.close()
    assert healthy(client, files[0])
    assert client.metric("lushan_held_bytes") == 0


def test_clients_that_vanish(client: Client, files: list[bytes]) -> None:
    for cut in (10, len(HEAD) + 30, -1, None):
        for _ in range(5):
            connection = client.connect()
            length = f"Content-Length: {len(files[0])}\r\n\r\n".encode()
            connection.sendall((HEAD + length + files[0])[:cut])
            connection.close()
    assert healthy(client, files[0])
    eventually(lambda: client.metric("lushan_queue_pictures") == 0)
    eventually(lambda: client.metric("lushan_held_bytes") == 0)


def test_large_bodies_are_refused_unread(client: Client, files: list[bytes]) -> None:
    connection = client.connect()
    connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n" + bytes(1 << 16))
    assert connection.recv(12) == b"HTTP/1.1 413"
    try:  # it is read on for a moment, and no longer
        for _ in range(100):
            connection.sendall(bytes(1 << 16))
            time.sleep(0.1)
    except OSError:
        pass
    else:
        raise AssertionError("the connection stays open")
    connection.close()
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    connection = client.connect()
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 33)
    assert connection.recv(12) == b"HTTP/1.1 413"
    connection.close()
    assert healthy(client, files[0])


def test_a_connection_outlives_an_answer_that_came_before_the_body(model_folder: Path) -> None:
    def status(connection: socket.socket) -> int:
        """Read one answer, whole, in however many pieces it comes."""
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            answer.read()
            return answer.status

    body = bytes(1 << 19)
    with (
        serving(("small", model_folder), keys=ApiKeys(["0123456789abcdef"])) as client,
        client.connect() as connection,
    ):
        for wait in (2.5, 0):  # longer than an unread body is waited for
            connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert status(connection) == 401
            time.sleep(wait)
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(connection) == 200


def test_bombs(client: Client, files: list[bytes]) -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)))
    assert len(bomb) < 1 << 20
    body, kind = form([("bomb.png", bomb)] * 10)
    answer = client.ask("POST", "/v1/classify", body, Content_Type=kind)
    assert answer.status == 413
    assert all("more than 50000000 pixels" in one["error"] for one in answer.json["results"])
    assert healthy(client, files[0])


def test_random_bytes_on_every_route(client: Client, files: list[bytes]) -> None:
    random = np.random.default_rng(7)
    for size in (1, 30, 3000):
        for path in (
            "/v1/classify",
            "/v2/models/small/infer",
            "/metrics",
            "/%00",
            "/v2/models/%ff",
        ):
            assert 400 <= client.ask("POST", path, random.bytes(size)).status < 500
        connection = client.connect()
        connection.sendall(random.bytes(size) + b"\r\n\r\n")
        assert connection.recv(12) in (b"HTTP/1.1 400", b"")
        connection.close()
    assert healthy(client, files[0])


def test_too_many_connections_are_told(model_folder: Path) -> None:
    limits = type(FAST)(connections=4, head_timeout=5)
    with serving(("small", model_folder), limits=limits) as client:
        some = [client.connect() for _ in range(4)]
        time.sleep(0.2)
        over = client.connect()
        assert over.recv(12) == b"HTTP/1.1 503"
        for connection in (*some, over):
            connection.close()
        eventually(lambda: client.ask("GET", "/v2/health/live").status == 200)


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    code = "from lushan.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--model", f"small={folder}", "--port", "0"]
    process = subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "serving small at http://127.0.0.1:" in line, line + process.stderr.read()
    return process, int(line.rsplit(":", 1)[1])


def test_sigterm_answers_what_is_in_progress_and_exits_with_0(
    model_folder: Path, files: list[bytes]
) -> None:
    process, port = start(model_folder)
    client = Client(port, None)  # type: ignore[arg-type]
    connection = client.connect()
    length = f"Content-Length: {len(files[0])}\r\n\r\n".encode()
    connection.sendall(HEAD + length + files[0][:10])
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    threading.Timer(0.5, connection.sendall, (files[0][10:],)).start()
    assert connection.recv(12) == b"HTTP/1.1 200"
    connection.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
