"""Watching: which frames are recognised, averaged, told; on a source that a test plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lushan
from lushan.errors import LushanError, PictureError, UsageError
from lushan.recognizer import Predictions, Recognizer
from lushan.stream.stills import StillSource
from lushan.stream.timed_frame import TimedFrame
from lushan.stream.watch import Watch

RANDOM = np.random.default_rng(3)
COLOURS = ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255))  # of three frames each
NOISE = RANDOM.integers(0, 256, (12, 40, 48, 3))
PICTURES = [
    ((noise + 3 * np.array(COLOURS[index // 3])) // 4).astype(np.uint8)
    for index, noise in enumerate(NOISE)
]


class Film:
    """PICTURES, ten a second."""

    name = "film"
    live = False
    damaged = 2

    def __init__(self, breaks: bool = False) -> None:
        self._breaks = breaks
        self.closed = False

    def frames(self) -> Iterator[TimedFrame]:
        for index, picture in enumerate(PICTURES):
            yield TimedFrame(index, index / 10, picture, lambda picture=picture: picture)
        if self._breaks:
            raise PictureError("{source}: torn", source=self.name)

    def close(self) -> None:
        self.closed = True


class Drawn:
    """Remembers what it was given to draw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None]] = []

    def draw(self, frame: TimedFrame, predictions: Predictions | None) -> None:
        self.seen.append((frame.index, predictions[0].index if predictions else None))


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with lushan.load("resnet20-cifar10") as recognizer:
        yield recognizer


def test_every_frame_has_the_answer_of_its_picture(recognizer: Recognizer) -> None:
    film = Film()
    with Watch(recognizer, film, top=2) as watch:
        answers = list(watch)
    assert film.closed
    assert [answer.frame for answer in answers] == list(range(12))
    assert [answer.seconds for answer in answers] == [index / 10 for index in range(12)]
    for answer, picture in zip(answers, PICTURES, strict=True):
        assert list(answer.predictions) == list(recognizer.classify(picture, top=2))
    assert watch.totals() == {
        "frames": 12,
        "answered": 12,
        "told": 12,
        "reopened": 0,
        "dropped": 0,
        "damaged": 2,
    }
    assert watch.rate() > 0


def test_every_nth_frame(recognizer: Recognizer) -> None:
    drawn = Drawn()
    with Watch(recognizer, Film(), every=5, canvas=drawn) as watch:
        answers = list(watch)
    assert [answer.frame for answer in answers] == [0, 5, 10]
    best = [answer.predictions[0].index for answer in answers]
    assert drawn.seen == [(index, best[index // 5]) for index in range(12)]
    assert (watch.totals()["frames"], watch.totals()["answered"]) == (12, 3)


def test_scores_are_averaged_and_not_probabilities(recognizer: Recognizer) -> None:
    with Watch(recognizer, Film(), smooth=0.4, top=3) as watch:
        answers = list(watch)
    scores = [recognizer.scores(recognizer.prepare(picture)[0][None])[0] for picture in PICTURES]
    average = scores[0].astype(np.float64)
    for one in scores[1:]:
        average = np.exp(-0.1 / 0.4) * average + (1 - np.exp(-0.1 / 0.4)) * one
    expected = np.exp(average - average.max())
    expected /= expected.sum()
    last = {one.index: one.probability for one in answers[-1].predictions}
    for index, probability in last.items():
        assert probability == pytest.approx(expected[index], rel=1e-5)


def test_a_line_when_the_answer_has_changed(recognizer: Recognizer) -> None:
    best = [recognizer.classify(picture)[0].index for picture in PICTURES]
    changes = [index for index in range(12) if index == 0 or best[index] != best[index - 1]]
    assert len(changes) > 2, "the pictures should differ"
    with Watch(recognizer, Film(), on_change=True, settle=0.0) as watch:
        assert [answer.frame for answer in watch] == changes
    with Watch(recognizer, Film(), on_change=True, settle=60.0) as watch:
        assert list(watch) == []
    assert watch.totals()["answered"] == 12


def test_answers_before_a_break_are_told(recognizer: Recognizer) -> None:
    told = []
    with Watch(recognizer, Film(breaks=True)) as watch, pytest.raises(PictureError, match="torn"):
        for answer in watch:
            told.append(answer.frame)
    assert told == list(range(12))


def test_stopping(recognizer: Recognizer) -> None:
    with Watch(recognizer, Film()) as watch:
        for answer in watch:
            if answer.frame == 3:
                watch.stop()
    assert watch.totals()["told"] == 4


class Camera(Film):
    """A live film that breaks after every showing."""

    live = True


def test_a_camera_that_breaks_is_told_and_opened_again(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lushan.stream.reopening.FIRST_WAIT", 0.001)
    told: list[LushanError] = []
    with Watch(recognizer, Camera(breaks=True), told=told.append) as watch:
        for answer in watch:
            assert answer.clock is not None
            if watch.totals()["reopened"] >= 2:
                watch.stop()
    totals = watch.totals()
    assert str(told[0]).startswith("film: torn; opening it again in ")
    assert totals["reopened"] >= 2
    assert totals["frames"] == totals["answered"] <= 36


def test_a_still_takes_the_way_of_every_picture(recognizer: Recognizer, photos: list[Path]) -> None:
    for photo in photos:
        with Watch(recognizer, StillSource(photo)) as watch:
            [answer] = watch
        expected = recognizer.classify(photo)
        assert list(answer.predictions) == list(expected)  # to the last bit
        record = answer.to_dict()
        assert json.loads(json.dumps(record)) == record
        assert record == {"source": str(photo), "frame": 0, "seconds": 0.0, **expected.to_dict()}


def test_a_still_that_is_none(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with (
        Watch(recognizer, StillSource(tmp_path / "no.jpg")) as watch,
        pytest.raises(PictureError, match=r"no\.jpg"),
    ):
        list(watch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every should be 1 or more; received 0"),
        ({"smooth": -1.0}, "smooth should be 0 seconds or more"),
        ({"on_change": True, "settle": float("nan")}, "settle should be 0 seconds or more"),
        ({"top": 99}, "top should be between 1 and 10"),
        ({"lang": "fr"}, "lang should be one of en, zh"),
    ],
)
def test_settings_that_cannot_be(recognizer: Recognizer, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Watch(recognizer, Film(), **settings)
