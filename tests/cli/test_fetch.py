"""Addresses that do not behave: endless, slow, cut short, leading elsewhere."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from lushan.cli import fetch as module
from lushan.cli.fetch import fetch
from lushan.errors import PictureError


class Hostile(http.server.BaseHTTPRequestHandler):
    stop = threading.Event()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        kind = self.path[1:]
        self.send_response(302 if kind in ("file", "ftp", "loop", "good") else 200)
        headers = {
            "file": ("Location", "file:///etc/hostname"),
            "ftp": ("Location", "ftp://127.0.0.1:1/a.jpg"),
            "loop": ("Location", "/loop"),
            "good": ("Location", "/picture"),
            "picture": ("Content-Length", "5"),
            "short": ("Content-Length", "1000"),
        }
        if kind in headers:
            self.send_header(*headers[kind])
        self.end_headers()
        if kind in ("picture", "short"):
            self.wfile.write(b"12345")
        try:
            while kind in ("endless", "drip") and not self.stop.is_set():
                self.wfile.write(b"x" * (2**16 if kind == "endless" else 1))
                if kind == "drip":
                    self.stop.wait(0.05)
        except OSError:
            pass  # the reader has had enough


@pytest.fixture
def address() -> Iterator[str]:
    Hostile.stop.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Hostile.stop.set()
        server.shutdown()
        thread.join()


def test_the_bytes_behind_an_address_also_through_a_redirection(address: str) -> None:
    assert fetch(f"{address}/picture") == fetch(f"{address}/good") == b"12345"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("short", "only 5 of 1000 bytes arrived; try again"),
        ("file", "Redirection to url 'file:///etc/hostname' is not allowed"),
        ("ftp", "redirection to ftp://127.0.0.1:1/a.jpg is not followed"),
        ("loop", "cannot be fetched: .* infinite loop"),
        ("endless", "more than 1 MiB"),
        ("drip", "not all there after 0.5 seconds"),
    ],
)
def test_what_does_not_behave_is_an_error(
    address: str, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.setattr(module, "URL_BYTES", 2**20)
    if kind == "drip":
        monkeypatch.setattr(module, "URL_TOTAL_SECONDS", 0.5)
    with pytest.raises(PictureError, match=message) as caught:
        fetch(f"{address}/{kind}")
    assert str(caught.value).startswith(f"{address}/{kind}: ")
    assert "\n" not in str(caught.value)
