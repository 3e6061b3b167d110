"""Picture in, named probabilities out: the object that the API, the CLI and the server share.

Every picture takes the same way: decode → preprocess → engine → softmax → labels. There is no other
preprocessing anywhere, so an answer does not depend on which door the picture came in by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.cores import thread_count
from lushan.engines import (
    DEFAULT_ENGINE,
    ENGINES,
    FRAME_READERS,
    PICTURE_READERS,
    FrameReader,
    PictureReader,
)
from lushan.errors import LushanError, ModelError, UsageError
from lushan.graph.executor import ProfilingProgram
from lushan.image.sources import source_name
from lushan.models.labels import Labels
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import DEFAULT, Model, load_model
from lushan.record import record
from lushan.reference.softmax import softmax, top_k

if TYPE_CHECKING:  # loaded with the first picture: scoring needs none
    from concurrent.futures import Future

    from lushan.image.decode import InputReport, Picture, PictureSource
    from lushan.image.raw_frame import Frame

PRECISIONS = ("float32", "int8")
LANGUAGES = ("en", "zh")

# Numbers that go out of range on the way show in the scores, which are looked at.
_UNTIL_THE_SCORES: Mapping[str, Any] = {"divide": "ignore", "over": "ignore", "invalid": "ignore"}

# A picture or frame, or a function that gets it when its turn comes.
Source: TypeAlias = "PictureSource | Frame | Callable[[], PictureSource | Frame]"
Prepared: TypeAlias = "tuple[npt.NDArray[np.float32], InputReport]"


@record
class Prediction:
    """One named probability; ``rank`` starts at 1, ``index`` is the class's place in the scores.

    ``label`` is the class's id (``n02123045``, ``cat``), ``description`` its name for people.
    """

    rank: int
    index: int
    label: str
    description: str
    probability: float


class Predictions(list[Prediction]):
    """The best predictions for one picture, best first, with the report of how it was read."""

    def __init__(self, predictions: Iterable[Prediction], report: InputReport) -> None:
        super().__init__(predictions)
        self.report = report

    def to_dict(self) -> dict[str, object]:
        """Return predictions and report as plain values, ready for JSON."""
        # A prediction has plain values only, so a copy of its fields is what asdict() would give.
        return {"predictions": [{**vars(one)} for one in self], "input": self.report.to_dict()}


def load(
    name: str | Path = DEFAULT,
    *,
    threads: int | None = None,
    engine: str = DEFAULT_ENGINE,
    precision: str | None = None,
) -> Recognizer:
    """Return a recognizer for a model: bundled name, hub name, model folder or weights file.

    ``threads`` is how many threads it may use, None for every core the process may use.
    ``precision`` says what the model must compute on, "float32" or "int8"; None takes either.
    Raises ModelError when the model cannot be had or used, UsageError for a wrong argument.
    """
    return Recognizer(load_model(name), threads=threads, engine=engine, precision=precision)


class Recognizer:
    """A model that is ready to recognise pictures; safe to call from several threads.

    Use it as a context manager, or ``close`` it, to give its memory back early.
    """

    def __init__(
        self,
        model: Model,
        *,
        threads: int | None = None,
        engine: str = DEFAULT_ENGINE,
        precision: str | None = None,
    ) -> None:
        _choose("engine", engine, tuple(ENGINES))
        if precision is not None:
            _choose("precision", precision, PRECISIONS)
            if precision != model.precision:
                raise UsageError(
                    "{model} computes on {received}, not on {wanted}: lushan quantize makes an "
                    "int8 model of a float32 one",
                    model=model.name,
                    received=model.precision,
                    wanted=precision,
                )
        self.model = model
        self.engine = engine
        self.threads = thread_count(threads)
        self._closed = False
        self._frames: FrameReader | None = None  # made with the first frame
        self._pictures: PictureReader | None = None  # … and picture
        self._output = model.graph.outputs[0]
        self._program = ENGINES[engine](model.graph, model.weights, threads=self.threads)
        size = model.preprocessing
        self._program.prepare({INPUT: (1, size.height, size.width, 3)})

    @property
    def labels(self) -> Labels:
        """The names of the classes, in the order of the scores."""
        return self.model.labels

    def classify(self, source: Source, *, top: int | None = None, lang: str = "en") -> Predictions:
        """Return the ``top`` most probable classes of one picture, best first.

        ``source`` is a path, bytes, a binary file object, a PIL image, a uint8 array [H, W, 3], a
        ``Frame``, or a function that gives one of these. ``top`` None means five, or all classes
        if there are fewer. Raises PictureError for a picture that cannot be read, UsageError for a
        ``top`` or ``lang`` that cannot be, ModelError for weights so broken that the scores are no
        numbers.
        """
        top = self.check_top(top, lang)
        pixels, report = self.prepare(source)
        return self.answer(self.scores(pixels[None])[0], report, top, lang)

    def classify_many(
        self,
        sources: Iterable[Source],
        *,
        top: int | None = None,
        lang: str = "en",
        batch: int | None = None,
    ) -> Iterator[Predictions | LushanError]:
        """Yield the answer for each picture, in order; a picture that fails yields its error.

        Pictures are decoded by ``threads`` threads and run ``batch`` at a time, as soon as so many
        are there, while the next batch is read and decoded; None lets the size of the network's
        input decide. For a live source, whose next picture takes its time, choose 1. ``sources``
        may be endless: no more than two batches are read ahead, in a thread of their own, which
        closing the iterator waits for. Where a source is a function, a decoding thread calls it,
        and a LushanError it raises is yielded in its place. Raises as ``classify`` does.
        """
        if _is_single(sources):
            raise UsageError(
                "classify_many takes several pictures; received the single {value!r}",
                value=_name(sources),
            )
        if batch is not None and (type(batch) is not int or batch < 1):
            raise UsageError("batch should be 1 or more; received {value!r}", value=batch)
        return self._stream(iter(sources), self.check_top(top, lang), lang, batch or self._batch())

    def check_top(self, top: int | None, lang: str) -> int:
        """Return how many classes ``top`` asks for; raises UsageError for what cannot be."""
        _choose("lang", lang, LANGUAGES)
        if top is None:
            return min(5, len(self.labels))
        if type(top) is not int or not 1 <= top <= len(self.labels):
            raise UsageError(
                "top should be between 1 and {classes}, the model's number of classes; "
                "received {value!r}",
                classes=len(self.labels),
                value=top,
            )
        return top

    def prepare(
        self,
        source: Source,
        *,
        max_pixels: int | None = None,
        name: str | None = None,
        seconds: float | None = None,
    ) -> Prepared:
        """Decode and preprocess one picture → float32 [H, W, 3] for ``scores``, and the report.

        The limits are those of ``lushan.image.decode.decode``; raises as it does. A ``Frame`` has
        its own name and limit, and nothing to decode: ``lushan.image.frame_input``.
        """
        from lushan.image.decode import MAX_PIXELS, decode
        from lushan.image.raw_frame import Frame

        if callable(source):
            source = source()
        if isinstance(source, Frame):
            return self._read_frame(source), source.report()
        picture = decode(
            source,
            max_pixels=max_pixels or MAX_PIXELS,
            name=name,
            seconds=seconds,
        )
        return self._read_picture(picture), picture.report

    def _read_picture(self, picture: Picture) -> npt.NDArray[np.float32]:
        if self._pictures is None:
            self._pictures = PICTURE_READERS[self.engine](self.model.preprocessing)
        pixels: npt.NDArray[np.float32] = self._pictures(picture)
        return pixels

    def _read_frame(self, frame: Frame) -> npt.NDArray[np.float32]:
        if self._frames is None:
            self._frames = FRAME_READERS[self.engine](self.model.preprocessing)
        pixels: npt.NDArray[np.float32] = self._frames(frame)
        return pixels

    def answer(
        self, scores: npt.NDArray[np.float32], report: InputReport, top: int, lang: str
    ) -> Predictions:
        """Name the ``top`` best classes of one picture: scores [classes] → its answer.

        ``classify`` is ``prepare``, ``scores`` and this. Raises ModelError for scores that are no
        numbers.
        """
        self.check_scores(scores, report.source)
        probabilities = softmax(scores)
        predictions = (
            Prediction(
                rank=rank,
                index=int(index),
                label=self.labels.names[index],
                description=self.labels.description(int(index), lang),
                probability=float(probabilities[index]),
            )
            for rank, index in enumerate(top_k(scores, top), 1)
        )
        return Predictions(predictions, report)

    def check_scores(self, scores: npt.NDArray[np.float32], source: str) -> None:
        """Raise ModelError, which names ``source``, for scores that are no finite numbers."""
        if not np.isfinite(scores).all():
            raise ModelError(
                "{source}: {model} gives it scores that are not finite numbers: its weights are "
                "damaged, or not for this network",
                source=source,
                model=self.model.name,
            )

    def scores(
        self, batch: npt.ArrayLike, *, threads: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the scores before softmax, float32 [N, classes].

        ``batch`` is [N, H, W, 3], already preprocessed, of any height and width that the network
        can take; other float types are converted to float32. ``threads`` bounds how many threads
        this one batch uses, None is all that the recognizer may use; the scores are the same to
        the bit. Raises UsageError for another rank, type or number of channels, and once the
        recognizer is closed. Scores beyond float32 are infinite or NaN: look before you use them.
        """
        inputs = self._inputs(batch)
        threads = self.threads if threads is None else thread_count(threads)
        with np.errstate(**_UNTIL_THE_SCORES):
            scores: npt.NDArray[np.float32] = self._program(inputs, threads=threads)[self._output]
        return scores

    def profile(self, batch: npt.ArrayLike) -> list[tuple[str, float]]:
        """Run ``batch`` as ``scores`` does, and return the seconds that each step took, in order.

        See ``lushan.graph.executor.ProfilingProgram``. Raises UsageError where the engine cannot
        tell.
        """
        if not isinstance(self._program, ProfilingProgram):
            raise UsageError(
                "the engine {engine!r} does not tell the time of each layer", engine=self.engine
            )
        return self._program.profile(self._inputs(batch))

    def close(self) -> None:
        """Give back the engine's memory and threads; a closed recognizer refuses to run."""
        self._closed = True
        self._program.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _inputs(self, batch: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Return a preprocessed batch as the program takes it; raises UsageError if it is none."""
        if self._closed:
            raise UsageError("the recognizer is closed: load it again")
        array = np.asarray(batch)
        if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
            raise UsageError(
                "a batch should have shape [N, H, W, 3]; received {shape}", shape=list(array.shape)
            )
        if not np.issubdtype(array.dtype, np.floating):
            raise UsageError(
                "a batch should be float32, already preprocessed; received {dtype}",
                dtype=str(array.dtype),
            )
        return {INPUT: np.ascontiguousarray(array, np.float32)}

    def _batch(self) -> int:
        """Return as many pictures as sixteen of 224×224 have pixels, at most 128."""
        shape = self.model.preprocessing
        return max(1, min(128, 16 * 224 * 224 // (shape.height * shape.width)))

    def _stream(
        self, sources: Iterator[Source], top: int, lang: str, batch: int
    ) -> Iterator[Predictions | LushanError]:
        from concurrent.futures import ThreadPoolExecutor

        decoders = ThreadPoolExecutor(self.threads, thread_name_prefix="lushan-decode")
        reader = ThreadPoolExecutor(1, thread_name_prefix="lushan-read")
        stopped = Event()
        wait = True

        def read() -> list[Future[Prepared]]:
            """Take one batch of sources and have them decoded."""
            futures = []
            for source in islice(sources, batch):
                futures.append(decoders.submit(self.prepare, source))
                if stopped.is_set():
                    break
            return futures

        try:
            ahead = reader.submit(read)
            while ready := ahead.result():
                ahead = reader.submit(read)
                yield from self._finish(ready, top, lang)
        except KeyboardInterrupt:
            wait = False  # a thread may be reading a pipe that nobody writes to
            raise
        finally:
            stopped.set()
            reader.shutdown(wait=wait, cancel_futures=True)
            decoders.shutdown(wait=wait, cancel_futures=True)

    def _finish(
        self, ready: list[Future[Prepared]], top: int, lang: str
    ) -> list[Predictions | LushanError]:
        """Run the pictures of one batch that could be read; errors keep their places."""
        answers: list[Predictions | LushanError | None] = []
        good: list[Prepared] = []
        for future in ready:
            try:
                good.append(future.result())
                answers.append(None)
            except LushanError as error:
                answers.append(error)
        named = iter(self._name_all(good, top, lang))
        return [next(named) if answer is None else answer for answer in answers]

    def _name_all(
        self, prepared: list[Prepared], top: int, lang: str
    ) -> Iterator[Predictions | LushanError]:
        """Run one batch and yield the answer to each of its pictures, or why there is none."""
        if not prepared:
            return
        scores = self.scores(np.stack([pixels for pixels, _ in prepared]))
        for row, (_, report) in zip(scores, prepared, strict=True):
            try:
                yield self.answer(row, report, top, lang)
            except LushanError as error:
                yield error


def _choose(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name=name,
            accepted=", ".join(accepted),
            value=value,
        )


def _is_single(sources: object) -> bool:
    """Return whether ``sources`` is one picture, also where that can be iterated over."""
    if isinstance(sources, np.ndarray):
        return sources.ndim < 4
    if isinstance(sources, (str, bytes, bytearray, memoryview, os.PathLike)):
        return True
    return callable(getattr(sources, "read", None)) or not isinstance(sources, Iterable)


def _name(source: object) -> str:
    if isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike)):
        return source_name(source)
    return f"<{type(source).__name__}>"
