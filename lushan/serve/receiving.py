"""Reading a request's body: no larger, no slower and no more of them than the limits say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from lushan.errors import UsageError
from lushan.serve.admission import Allowance
from lushan.serve.limits import Limits
from lushan.serve.refusal import RefusalError

T = TypeVar("T")


class ClientGoneError(Exception):
    """There is nobody left to answer."""


@asynccontextmanager
async def body_of(request: Request, limits: Limits, held: Allowance) -> AsyncIterator[bytes]:
    """Yield the whole body; its bytes count as ``held`` until the block ends.

    Raises RefusalError for one that is too large, too slow or compressed, and where too much is
    held already.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        error = UsageError("the body is compressed: send it as it is")
        raise RefusalError(415, "request", error)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > limits.max_body:
        raise _too_large(limits)
    taken = 0

    async def read() -> bytes:
        nonlocal taken
        chunks: list[bytes] = []
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk: bytes = message.get("body", b"")
            if taken + len(chunk) > limits.max_body:
                raise _too_large(limits)
            held.take(len(chunk))
            taken += len(chunk)
            chunks.append(chunk)
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    try:
        try:
            body = await asyncio.wait_for(read(), limits.receive_timeout)
        except asyncio.TimeoutError:
            error = UsageError(
                "the body did not arrive within {seconds} s", seconds=limits.receive_timeout
            )
            raise RefusalError(408, "slow", error) from None
        yield body
    finally:
        held.give_back(taken)


@asynccontextmanager
async def watching(receive: Receive) -> AsyncIterator[asyncio.Future[None]]:
    """Yield a future that is done when the client leaves; for after its body."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(left())
    try:
        yield gone
    finally:
        gone.cancel()


async def until(work: Coroutine[Any, Any, T], gone: asyncio.Future[None]) -> T:
    """Return what ``work`` gives; raises ClientGoneError as soon as the client has left."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()


def _too_large(limits: Limits) -> RefusalError:
    error = UsageError("the body has more than {most} bytes: send less", most=limits.max_body)
    return RefusalError(413, "too_large", error)
