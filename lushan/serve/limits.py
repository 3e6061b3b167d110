"""What the service takes at most, so that nobody can take all of it."""

from __future__ import annotations

from dataclasses import dataclass

from lushan.errors import UsageError

MIB = 1 << 20
GOOD_FOR_ANY = 12_000_000
"""Pixels: larger pictures are decoded one at a time, and never hold up those of ordinary size."""


@dataclass(frozen=True)
class Limits:
    """Bounds on work, memory and time; seconds and bytes where not said otherwise.

    Raises UsageError for values that leave no room for a single picture.
    """

    max_batch: int = 16  # pictures that the engine runs at once
    max_delay: float = 0.002  # that a picture waits for others, too few to fill a batch
    queue: int = 128  # pictures admitted and not yet answered; then 503
    timeout: float = 10.0  # from a request's last byte to its answer
    max_body: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_json: int = 8 * MIB  # JSON takes many times its size in memory
    held: int = 256 * MIB  # bodies of all requests together
    receive_timeout: float = 30.0  # from a request's head to the last byte of its body
    head_timeout: float = 10.0  # from the connection, or the first byte, to the end of the head
    keep_alive: float = 65.0  # between two requests; longer than proxies keep theirs
    send_timeout: float = 10.0  # for a client to take its answer
    connections: int = 512
    kept_pictures: int = 64  # sent with the wish to have them explained
    kept_bytes: int = 64 * MIB  # of those, together; the oldest go first
    kept_seconds: float = 600.0
    explanations: int = 8  # asked for and not yet given; one is worked on at a time; then 503
    explain_timeout: float = 120.0  # for one explanation, once its turn has come
    explain_idle: float = 300.0  # after which the process that explains, and its memory, go
    drain: float = 20.0  # for requests in progress, once told to stop

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue", "timeout", "max_body", "max_pixels"):
            if getattr(self, name) <= 0:
                raise UsageError(
                    "{name} should be above 0; received {value}",
                    name=name,
                    value=getattr(self, name),
                )
        if self.max_delay < 0:
            raise UsageError(
                "max_delay should be 0 or more; received {value}", value=self.max_delay
            )

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes that the engine runs, largest first: each needs a plan of its own."""
        powers = [1 << n for n in range(self.max_batch.bit_length())]
        return tuple(sorted({self.max_batch, *powers}, reverse=True))
