"""Pictures that were just sent, kept in memory for a while so that their answers can be explained.

Whoever has the id of a picture gets it explained: ids cannot be guessed, and name nothing else.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lushan.serve.limits import Limits

_ID_BYTES = 18  # 144 random bits


@dataclass(frozen=True)
class Kept:
    """The file of a picture, and the model that answered."""

    model: str
    data: bytes
    until: float  # on the store's clock


class Store:
    """Bounded in number, bytes and time; for the event loop alone."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._pictures: OrderedDict[str, Kept] = OrderedDict()  # oldest first
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def put(self, model: str, data: bytes) -> str | None:
        """Keep a picture, and return its id; None for one that is larger than all the room."""
        self.expire()
        if len(data) > self._limits.kept_bytes or not self._limits.kept_pictures:
            return None
        while (
            len(self._pictures) >= self._limits.kept_pictures
            or self.bytes + len(data) > self._limits.kept_bytes
        ):
            self._drop_oldest()
        identity = secrets.token_urlsafe(_ID_BYTES)
        until = self._clock() + self._limits.kept_seconds
        self._pictures[identity] = Kept(model, data, until)
        self.bytes += len(data)
        return identity

    def get(self, identity: str) -> Kept | None:
        """Return the picture with this id, if it is still here."""
        self.expire()
        return self._pictures.get(identity)

    def expire(self) -> None:
        """Let those go whose time is over."""
        while self._pictures:
            if next(iter(self._pictures.values())).until > self._clock():
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, kept = self._pictures.popitem(last=False)
        self.bytes -= len(kept.data)
