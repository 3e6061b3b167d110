"""HTTP/1.1 as uvicorn speaks it, and time limits for clients that speak too slowly.

uvicorn waits for ever for the head of a first request, for a client that does not take its answer,
and for the rest of a body that nobody wants. Here each of them has a timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lushan.serve.limits import Limits

_LINGER = 2.0  # seconds to read on after an early answer, so that its sender gets to see it
_READ_ON = 8 << 20  # bytes, at most: a flood is not worth the processor time
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def protocol_with(limits: Limits) -> type[H11Protocol]:
    """Return the protocol for ``uvicorn.Config(http=…)`` with these limits."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _lingers = False  # answered already, and reading on
        _read_on = 0  # bytes, since then

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            full = len(self.connections) >= limits.connections
            super().connection_made(cast(Any, transport))
            if full:
                self.transport.write(_FULL)
                self.transport.close()
            self._give(limits.head_timeout)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._lingers:
                if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
                    self._read_on += len(data)
                    if self._read_on > _READ_ON:
                        self.transport.pause_reading()
                    return
                self._lingers = False  # all of it came: the connection is as good as any
                self._give(None)
                if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
                    return
            if self.conn.their_state is not h11.IDLE:
                if self.cycle is None or not self.cycle.response_complete:
                    self._give(None)
            elif self._timer is None:  # the head of another request has begun
                self._give(limits.head_timeout)

        def on_response_complete(self) -> None:
            unread = self.conn.their_state is h11.SEND_BODY
            super().on_response_complete()
            if self.transport.is_closing():
                self._give(limits.send_timeout)
            elif unread:
                self._lingers, self._read_on = True, 0
                self._give(_LINGER)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._give(limits.send_timeout)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._give(None)

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._give(limits.send_timeout)

        def connection_lost(self, exc: Exception | None) -> None:
            self._give(None)
            super().connection_lost(exc)

        def _give(self, seconds: float | None) -> None:
            """Give the client so much time, None for as long as others see to it."""
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if seconds is not None:
                self._timer = self.loop.call_later(seconds, self.transport.abort)

    return Protocol
