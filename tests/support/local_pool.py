"""Workers of a batch in this process, which die on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lushan.cluster.entries import each
from lushan.cluster.schedule import Failure
from lushan.cluster.worker import Worker, portable
from lushan.models.zoo import load_model


class LocalPool:
    """Workers in this process, which take turns; ``kills`` says which piece kills its worker."""

    def __init__(
        self,
        size: int,
        model_folder: Path,
        kills: Callable[[list[str]], bool] = lambda names: False,
    ) -> None:
        self.size = size
        self.kills = kills
        self.given: list[list[str]] = []
        self._at_work: deque[tuple[int, Any]] = deque()
        self._worker = Worker()
        model = portable(load_model(model_folder))
        self._worker.prepare(model, 1, 3, "en", str(Path.cwd()))

    def give(self, worker: int, entries: Any) -> None:
        self._at_work.append((worker, entries))

    def take(self) -> tuple[int, Any]:
        worker, entries = self._at_work.pop()  # the last first: no order can be relied on
        names = [entry.name for entry in each(entries)]
        self.given.append(names)
        if self.kills(names):
            return worker, Failure("killed", died=True)
        return worker, self._worker.recognise(entries)
