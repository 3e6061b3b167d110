"""How much is let in: pictures by number, bodies by bytes."""

from __future__ import annotations

import threading

from lushan.serve.refusal import busy


class Allowance:
    """A bounded sum of what is in use; threads may give back."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether not even one more would be let in."""
        return self.used >= self.most

    def take(self, amount: int) -> None:
        """Let ``amount`` in; raises RefusalError, a 503, where that is over the bound."""
        with self._lock:
            if self.used + amount > self.most:
                raise busy()
            self.used += amount

    def give_back(self, amount: int) -> None:
        """Let ``amount`` out."""
        with self._lock:
            self.used -= amount
