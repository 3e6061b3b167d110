"""Why a request gets no answer: a status, a kind for programs, a reason for people."""

from __future__ import annotations

from lushan.errors import LushanError, ModelError, PictureError, PictureTooLargeError, UsageError

RETRY_SECONDS = 1


class RefusalError(Exception):
    """Ends a request with ``status``; ``kind`` is what metrics count it as."""

    def __init__(self, status: int, kind: str, error: LushanError) -> None:
        super().__init__(status, kind)
        self.status = status
        self.kind = kind
        self.error = error

    @property
    def headers(self) -> dict[str, str]:
        """What the client should know apart from the reason."""
        if self.status == 503:
            return {"Retry-After": str(RETRY_SECONDS)}
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {}


def refusal_of(error: Exception) -> RefusalError:
    """Return what becomes of an error that recognition ended with."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, PictureTooLargeError):
        return RefusalError(413, "too_large", error)
    if isinstance(error, PictureError):
        return RefusalError(400, "picture", error)
    if isinstance(error, UsageError):
        return RefusalError(400, "request", error)
    if isinstance(error, ModelError):
        return RefusalError(500, "model", error)
    if isinstance(error, MemoryError):
        return RefusalError(503, "memory", LushanError("not enough memory now: try again later"))
    return RefusalError(
        500, "internal", LushanError("internal error: the service's log says where")
    )


def busy() -> RefusalError:
    """Return the refusal of a service that has enough to do."""
    return RefusalError(503, "busy", LushanError("too much to do at once: try again in a moment"))


def late() -> RefusalError:
    """Return the refusal of a request whose time is over."""
    return RefusalError(
        503, "late", LushanError("this took too long and was given up: try again later")
    )
