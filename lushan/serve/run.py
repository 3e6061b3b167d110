"""Listening, and ending well: told to stop, the service answers what it has begun."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import closing

import uvicorn

from lushan.errors import UsageError
from lushan.serve.app import Service
from lushan.serve.guard import log_error
from lushan.serve.limits import Limits
from lushan.serve.protocol import protocol_with


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at ``host`` and ``port``, 0 for any free one, that does not listen yet.

    Raises UsageError where that cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            "cannot listen at {host}, port {port} ({reason}): choose others with --host and --port",
            host=host,
            port=port,
            reason=getattr(error, "strerror", None) or str(error),
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Return where a client on this machine finds the service, as in "http://127.0.0.1:8000"."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its log, and with our limits; SIGTERM and SIGINT end it well."""

    def __init__(self, service: Service, limits: Limits, started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                service,
                http=protocol_with(limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=max(1, round(limits.keep_alive)),
                timeout_graceful_shutdown=max(1, round(limits.drain)),
            )
        )
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        asyncio.get_running_loop().set_exception_handler(_log)
        await super().startup(sockets)
        self._announce()


def run(
    service: Service, limits: Limits, listener: socket.socket, started: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in progress; closes both.

    ``started`` is called once the service listens.
    """
    # What uvicorn logs holds addresses and, of errors, everything.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
    server = Server(service, limits, started)
    # When all is answered uvicorn raises the signal again, for whoever handled it before.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with closing(listener), closing(service):
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException):
        log_error(error)
