"""Who does which part, and what is done when a worker dies of it.

A worker that dies is replaced, and its piece of work is given out again: machines fail. A piece
that has killed two workers is cut in halves, which are given out on their own; so the one picture
that kills whoever reads it is found by halving, and becomes a row with an error, like any other
broken picture. A worker that fails but lives (out of memory, say) is treated alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from lushan.cluster.entries import each
from lushan.cluster.part import to_table
from lushan.errors import ClusterError, PictureError

_DEATHS_OF_A_PIECE = 2
_DEATHS_IN_A_ROW = 50  # for each worker, without a single answer between: then it is not a picture


class Failure(NamedTuple):
    """Why a piece was not done; ``died`` tells whether its worker had to be replaced."""

    reason: str
    died: bool


class Pool(Protocol):
    """Some workers, called by their numbers from 0, each of which does one thing at a time."""

    size: int

    def give(self, worker: int, entries: Any) -> None:
        """Give a worker that has nothing to do a table of entries to recognise."""

    def take(self) -> tuple[int, Any | Failure]:
        """Wait for any worker and return its number and its table of answers, or why not."""


@dataclass
class _Piece:
    part: int
    start: int  # in the part
    entries: Any
    deaths: int = 0


@dataclass
class _Unfinished:
    """What is there of a part: tables of answers by where they begin."""

    rows: int
    answers: dict[int, Any] = field(default_factory=dict)

    def whole(self) -> Any | None:
        if sum(map(len, self.answers.values())) < self.rows:
            return None
        return pa.concat_tables(table for _, table in sorted(self.answers.items()))


@dataclass
class Schedule:
    """Gives the parts to the workers of a pool until all are done."""

    pool: Pool
    finish: Callable[[int, Any], None]  # gets the number of a part and its table of answers
    progress: Callable[[int], None]  # gets the number of pictures just answered
    lang: str = "en"
    deaths: int = 0

    def run(self, parts: Iterable[tuple[int, Any]]) -> None:
        """Have all ``parts`` recognised: the number and the table of entries of each.

        Raises ClusterError when workers die one after the other and nothing gets done.
        """
        fresh = (_Piece(number, 0, entries) for number, entries in parts)
        again: deque[_Piece] = deque()
        unfinished: dict[int, _Unfinished] = {}
        at_work: dict[int, _Piece] = {}
        idle = list(range(self.pool.size))
        in_a_row = 0
        while True:
            while idle:
                piece = again.popleft() if again else next(fresh, None)
                if piece is None:
                    break
                unfinished.setdefault(piece.part, _Unfinished(len(piece.entries)))
                worker = idle.pop()
                at_work[worker] = piece
                self.pool.give(worker, piece.entries)
            if not at_work:
                return
            worker, answer = self.pool.take()
            idle.append(worker)
            piece = at_work.pop(worker)
            if isinstance(answer, Failure):
                in_a_row += 1
                self.deaths += answer.died
                if in_a_row > _DEATHS_IN_A_ROW * self.pool.size:
                    raise ClusterError(
                        "workers failed {count} times in a row and nothing gets done: {reason}",
                        count=in_a_row,
                        reason=answer.reason,
                    )
                answer = self._after(piece, answer, again)
                if answer is None:
                    continue
            else:
                in_a_row = 0
            self._store(piece, answer, unfinished)

    def _after(self, piece: _Piece, failure: Failure, again: deque[_Piece]) -> Any | None:
        """Give a piece that failed out again; return its answer where it is to be given up."""
        piece.deaths += 1
        size = len(piece.entries)
        if piece.deaths < _DEATHS_OF_A_PIECE:
            again.append(piece)
        elif size > 1:
            half = size // 2
            again.append(_Piece(piece.part, piece.start, piece.entries.slice(0, half)))
            rest = piece.entries.slice(half)
            again.append(_Piece(piece.part, piece.start + half, rest))
        else:
            (entry,) = each(piece.entries)
            error = PictureError(
                "{source}: the process that reads it fails ({reason})",
                source=entry.name,
                reason=failure.reason,
            )
            return to_table([entry], [error], self.lang)
        return None

    def _store(self, piece: _Piece, answers: Any, unfinished: dict[int, _Unfinished]) -> None:
        part = unfinished[piece.part]
        part.answers[piece.start] = answers
        self.progress(len(answers))
        whole = part.whole()
        if whole is not None:
            del unfinished[piece.part]
            self.finish(piece.part, whole)
