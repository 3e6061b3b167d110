"""What one worker does: a recognizer of its own, which answers parts of the list.

It knows nothing of Ray, and has no way of reading, recognising or naming that is not the command
line's: entries become sources, and ``Recognizer.classify_many`` answers them.
"""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lushan.cluster.entries import each
from lushan.cluster.opening import open_all
from lushan.cluster.part import to_table
from lushan.models.zoo import Model
from lushan.recognizer import Recognizer


class Worker:
    """A process of a batch; it is made at once, and ready once it has been prepared."""

    def __init__(self) -> None:
        self._recognizer: Recognizer | None = None

    def prepare(self, model: Model, threads: int, top: int, lang: str, folder: str) -> None:
        """Load the model; paths are relative to ``folder``, where that exists on this machine."""
        warnings.filterwarnings("ignore", module="PIL")  # what it says is in the report
        with suppress(OSError):
            os.chdir(folder)
        self._recognizer = Recognizer(model, threads=threads)
        self._top, self._lang = top, lang

    def recognise(self, entries: Any) -> Any:
        """Return the table of the answers to a table of entries, in their order."""
        assert self._recognizer is not None, "prepare comes first"
        answers = self._recognizer.classify_many(open_all(entries), top=self._top, lang=self._lang)
        return to_table(list(each(entries)), list(answers), self._lang)


def portable(model: Model) -> Model:
    """Return a model whose weights are in memory, so that it can be sent to other machines."""
    return replace(model, weights=dict(model.weights))
