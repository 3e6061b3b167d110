"""A client that asks a service on this machine for answers, and costs it little.

It shares the cores with what it measures, so it is one loop over plain sockets: a request is one
form with a photo, sent in one go, and a connection has one request at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_CHUNK = 1 << 16


class _Connection:
    """One connection, opened when it is first needed, and anew where the service has closed it."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._port = port
        self._selector = selector
        self._socket: socket.socket | None = None
        self._unsent = memoryview(b"")
        self._received = b""
        self.busy = False
        self.due = 0.0  # when its request was to be sent

    def ask(self, request: bytes, due: float) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setblocking(False)
            self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._unsent, self._received = memoryview(request), b""
        self.busy, self.due = True, due
        self._send()

    def progress(self, events: int) -> tuple[int, bytes] | None:
        """Go on; return the status and body once the answer is here. Raises OSError without one."""
        assert self._socket is not None
        if events & selectors.EVENT_WRITE:
            self._send()
        if not events & selectors.EVENT_READ:
            return None
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("closed by the service")
        self._received += data
        head, end, body = self._received.partition(_HEAD_END)
        if not end:
            return None
        length = _LENGTH.search(head)
        assert length is not None, head
        if len(body) < int(length[1]):
            return None
        self.busy = False
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
        self._socket, self.busy = None, False

    def _send(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if events != self._selector.get_key(self._socket).events:
            self._selector.modify(self._socket, events, self)


class _Hurry:
    """A request whenever a connection is free."""

    def __init__(self, end: float) -> None:
        self._end = end

    def due(self, now: float) -> float | None:
        return None if self.over(now) else now

    def over(self, now: float) -> bool:
        return now >= self._end

    def wait(self, now: float) -> float | None:
        return None


class _Clock:
    """Requests at moments that do not depend on the answers, the same ones every time."""

    def __init__(self, rate: float, end: float, evenly: bool) -> None:
        self._rate, self._end, self._evenly = rate, end, evenly
        self._generator = random.Random(0)
        self._next = time.perf_counter() + self._gap()

    def due(self, now: float) -> float | None:
        if self.over(now) or self._next > now:
            return None
        due, self._next = self._next, self._next + self._gap()
        return due

    def over(self, now: float) -> bool:
        """Return whether there is no request left; it does not depend on ``now``."""
        return self._next >= self._end

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next request, None where there is none."""
        return None if self.over(now) else max(0.0, self._next - now)

    def _gap(self) -> float:
        return 1 / self._rate if self._evenly else self._generator.expovariate(self._rate)


class Client:
    """Requests to ``path``, each with the next of ``photos``, over connections that stay open.

    After each of its methods, ``answers`` counts the answers by status, 0 for none, and
    ``latencies`` has the seconds that each took.
    """

    def __init__(self, port: int, path: str, photos: Sequence[Path]) -> None:
        self._port = port
        self._requests = [_form(path, photo) for photo in photos]
        self.answers: Counter[int] = Counter()
        self.latencies: list[float] = []

    def flood(self, connections: int, seconds: float) -> float:
        """Ask on each connection again and again; return the answers of 200 per second."""
        start = time.perf_counter()
        self._run(_Hurry(start + seconds), connections)
        return self.answers[200] / (time.perf_counter() - start)

    def by_the_clock(
        self, rate: float, seconds: float, connections: int, *, evenly: bool = False
    ) -> None:
        """Send ``rate`` requests per second, whether answers are there or not.

        They are due ``evenly`` apart, or at random times, as from many people who know nothing of
        each other (a Poisson process). Latencies count from when a request was due: one that finds
        no free connection waits for one.
        """
        self._run(_Clock(rate, time.perf_counter() + seconds, evenly), connections)

    def _run(self, schedule: _Hurry | _Clock, connections: int) -> None:
        self.answers.clear()
        self.latencies.clear()
        requests = itertools.cycle(self._requests)
        # Not epoll, which counts its time in milliseconds.
        with selectors.SelectSelector() as selector:
            everyone = [_Connection(self._port, selector) for _ in range(connections)]
            free = deque(everyone)
            while True:
                while free and (due := schedule.due(time.perf_counter())) is not None:
                    if not self._ask(connection := free.popleft(), next(requests), due):
                        free.append(connection)
                now = time.perf_counter()
                if schedule.over(now) and len(free) == connections:
                    break
                for key, events in selector.select(schedule.wait(now) if free else None):
                    if self._progress(key.data, events):
                        free.append(key.data)
            for connection in everyone:
                connection.close()

    def _ask(self, connection: _Connection, request: bytes, due: float) -> bool:
        try:
            connection.ask(request, due)
        except ConnectionRefusedError:
            raise SystemExit(
                f"nobody listens at port {self._port}: the service has ended"
            ) from None
        except OSError as error:
            self._lose(connection, error)
            return False
        return True

    def _progress(self, connection: _Connection, events: int) -> bool:
        """Go on with one connection; return whether it has just become free."""
        was_busy = connection.busy
        try:
            answer = connection.progress(events)
        except OSError as error:
            if was_busy:
                self._lose(connection, error)
            else:
                connection.close()  # it lay idle: any client opens a new one
            return was_busy
        if answer is None:
            return False
        status, body = answer
        if status not in (200, 503):
            print(f"{status}: {body[:300]!r}", flush=True)
        self.answers[status] += 1
        self.latencies.append(time.perf_counter() - connection.due)
        return True

    def _lose(self, connection: _Connection, error: OSError) -> None:
        seconds = time.perf_counter() - connection.due
        print(f"no answer: {error!r} after {seconds:.1f} s", flush=True)
        self.answers[0] += 1
        self.latencies.append(seconds)
        connection.close()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of ``values`` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def _form(path: str, photo: Path) -> bytes:
    body = (
        b'--limit\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + photo.read_bytes() + b"\r\n--limit--\r\n"
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
    )
    return head.encode() + body
