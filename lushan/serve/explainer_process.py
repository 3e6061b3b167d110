"""The process that explains, from within: it reads questions from a pipe, and answers them.

It has an interpreter, an engine and memory of its own and a low priority, so that it takes
from recognition only what that leaves. It ends when the pipe does.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from lushan.errors import LushanError
from lushan.models.zoo import Model
from lushan.recognizer import Recognizer
from lushan.serve.question import Question

_PRIORITY = 10  # to recognition it leaves nine tenths of a core that both want


class Load(NamedTuple):
    """Take this model, pickled with all of its weights, from now on."""

    name: str
    model: bytes
    engine: str
    threads: int


class Ask(NamedTuple):
    """Answer with an ``Answer`` or an exception."""

    model: str
    identity: str
    data: bytes
    question: Question


def main(pipe: Connection) -> None:
    """Answer until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which closes the pipe
    if hasattr(os, "nice"):
        os.nice(_PRIORITY)
    from lushan.serve.explanations import Explained  # after the priority: it imports a lot

    models: dict[str, Explained] = {}
    while True:
        try:
            message: Load | Ask = pipe.recv()
        except EOFError:
            return
        if isinstance(message, Load):
            model: Model = pickle.loads(message.model)
            recognizer = Recognizer(model, engine=message.engine, threads=message.threads)
            models[message.name] = Explained(recognizer)
            continue
        explained = models[message.model]
        pipe.send(_told(explained.answer, message.identity, message.data, message.question))


def _told(answer: Callable[..., object], *arguments: object) -> object:
    """Return the answer or the error; of an error that is no message, only what it is called."""
    try:
        return answer(*arguments)
    except (LushanError, MemoryError) as error:
        return error
    except Exception as error:
        return RuntimeError(f"{type(error).__name__} while explaining")
