"""The Python API: sources, errors as values, order, threads, what is refused."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import lushan
from lushan.errors import LushanError, ModelError, PictureError, UsageError
from lushan.models.zoo import load_model
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model
from support.frames import frame_of, random_frame
from support.small_models import write_small_model


@pytest.fixture(scope="module")
def recognizer(model_folder: Path) -> Iterator[lushan.Recognizer]:
    with lushan.load(model_folder) as loaded:
        yield loaded


def pixels(seed: int = 0, height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_kind_of_source_gives_the_same_answer(
    recognizer: lushan.Recognizer, tmp_path: Path
) -> None:
    array = pixels()
    path = tmp_path / "a.png"
    path.write_bytes(png(array))
    sources = [
        path,
        str(path),
        png(array),
        io.BytesIO(png(array)),
        Image.fromarray(array),
        array,
        lambda: path,
    ]
    answers = [recognizer.classify(source) for source in sources]
    assert all(answer == answers[0] for answer in answers)
    assert [prediction.rank for prediction in answers[0]] == [1, 2, 3]
    assert sum(prediction.probability for prediction in answers[0]) == pytest.approx(1)
    assert answers[0].report.width == 48


def test_scores_are_what_probabilities_come_from(recognizer: lushan.Recognizer) -> None:
    batch = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    scores = recognizer.scores(batch)
    assert scores.shape == (2, 3)
    assert scores.dtype == np.float32
    picture = recognizer.model.preprocessing(lushan.image.decode.decode(pixels()))
    expected = np.exp(recognizer.scores(picture[None])[0])
    answer = recognizer.classify(pixels())
    for prediction in answer:
        share = expected[prediction.index] / expected.sum()
        assert prediction.probability == pytest.approx(share, rel=1e-5)


def test_other_float_types_are_converted(recognizer: lushan.Recognizer) -> None:
    batch = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float16)
    expected = recognizer.scores(batch.astype(np.float32))
    for dtype in (np.float16, np.float64):
        scores = recognizer.scores(batch.astype(dtype))
        assert scores.dtype == np.float32
        assert np.array_equal(scores, expected)


def test_a_bound_on_threads_changes_no_bit(model_folder: Path) -> None:
    batch = np.random.default_rng(8).standard_normal((5, 32, 32, 3), np.float32)
    with lushan.load(model_folder, threads=3) as recognizer:
        whole = recognizer.scores(batch)
        for threads in (1, 2, 3, 4):
            np.testing.assert_array_equal(recognizer.scores(batch, threads=threads), whole)
        for nonsense in (0, -1, 1.5):
            with pytest.raises(UsageError, match="threads should be 1 or more"):
                recognizer.scores(batch, threads=nonsense)  # type: ignore[arg-type]


def test_other_picture_sizes_run(recognizer: lushan.Recognizer) -> None:
    assert recognizer.scores(np.zeros((1, 50, 33, 3), np.float32)).shape == (1, 3)


def test_many_keeps_order_and_yields_errors_as_values(recognizer: lushan.Recognizer) -> None:
    sources = [pixels(seed) for seed in range(25)]
    mixed = [*sources[:10], b"not a picture", *sources[10:], "/nowhere/b.png"]
    answers = list(recognizer.classify_many(mixed, batch=4))
    assert isinstance(answers[10], PictureError)
    assert isinstance(answers[26], PictureError)
    assert "/nowhere/b.png" in str(answers[26])
    good = [answer for answer in answers if not isinstance(answer, LushanError)]
    for source, answer in zip(sources, good, strict=True):
        alone = recognizer.classify(source)
        assert [p.index for p in answer] == [p.index for p in alone]
        for one, other in zip(answer, alone, strict=True):
            assert one.probability == pytest.approx(other.probability, rel=1e-4)


def test_many_reads_ahead_no_further_than_two_batches(recognizer: lushan.Recognizer) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield pixels(taken % 3)

    answers = recognizer.classify_many(endless(), batch=4)
    next(answers)
    assert taken <= 8
    answers.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("lushan-decode")]


def test_a_batch_is_answered_before_the_next_is_there(recognizer: lushan.Recognizer) -> None:
    """A live source: its fifth picture comes when the first has been answered."""
    answered = threading.Event()

    def live() -> Iterator[np.ndarray]:
        for index in range(8):
            if index >= 4:
                assert answered.wait(30)
            yield pixels(index)

    answers = recognizer.classify_many(live(), batch=4)
    first = next(answers)
    answered.set()
    labels = [answer[0].label for answer in (first, *answers)]
    assert labels == [recognizer.classify(pixels(index))[0].label for index in range(8)]


def test_the_next_batch_is_read_while_one_is_computed(
    recognizer: lushan.Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Event()

    def sources() -> Iterator[np.ndarray]:
        yield pixels(0)
        second.set()
        yield pixels(1)

    def scores(self: lushan.Recognizer, batch: np.ndarray) -> np.ndarray:
        assert second.wait(30)
        return np.zeros((len(batch), 3), np.float32)

    monkeypatch.setattr(lushan.Recognizer, "scores", scores)
    assert len(list(recognizer.classify_many(sources(), batch=1))) == 2


def test_what_the_sources_raise_reaches_the_caller(recognizer: lushan.Recognizer) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from [pixels(0), pixels(1)]
        raise KeyError("camera")

    answers = recognizer.classify_many(broken(), batch=1)
    assert next(answers) == recognizer.classify(pixels(0))
    with pytest.raises(KeyError, match="camera"):
        list(answers)
    assert not [
        t for t in threading.enumerate() if t.name.startswith(("lushan-decode", "lushan-read"))
    ]


def test_pictures_are_decoded_by_as_many_threads_as_told(model_folder: Path) -> None:
    together = threading.Barrier(3)

    def source() -> np.ndarray:
        together.wait(30)  # breaks unless three threads are here at once
        return pixels()

    with lushan.load(model_folder, threads=3) as recognizer:
        assert recognizer.threads == 3
        answers = list(recognizer.classify_many([source] * 3))
    assert not any(isinstance(answer, LushanError) for answer in answers)


def test_every_usable_core_decodes_unless_told(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lushan.cores.usable_cores", lambda: 5)
    with lushan.load(model_folder) as recognizer:
        assert recognizer.threads == 5


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("a.png", "'a.png'"),
        (Path("a.png"), "'a.png'"),
        (b"\x89PNG", "'<bytes>'"),
        (bytearray(b"\x89PNG"), "'<bytes>'"),
        (memoryview(b"\x89PNG"), "'<bytes>'"),
        (pixels(), "'<ndarray>'"),
        (pixels()[..., 0], "'<ndarray>'"),
        (io.BytesIO(png(pixels())), "'<BytesIO>'"),
        (Image.fromarray(pixels()), "'<Image>'"),
        (pixels, "'<function>'"),
    ],
)
def test_one_picture_is_not_many(
    recognizer: lushan.Recognizer, sources: object, named: str
) -> None:
    with pytest.raises(UsageError, match="takes several pictures; received the single") as caught:
        recognizer.classify_many(sources)
    assert str(caught.value).endswith(named)


def test_an_array_of_pictures_is_many(recognizer: lushan.Recognizer) -> None:
    batch = np.stack([pixels(0), pixels(1)])
    expected = [recognizer.classify(picture) for picture in batch]
    assert list(recognizer.classify_many(batch, batch=1)) == expected


def test_many_of_nothing(recognizer: lushan.Recognizer) -> None:
    assert list(recognizer.classify_many([])) == []


def test_calls_from_many_threads(recognizer: lushan.Recognizer) -> None:
    expected = [recognizer.classify(pixels(seed)) for seed in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(5):
            if recognizer.classify(pixels(seed)) != expected[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(index % 4,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top": 0}, "top should be between 1 and 3, the model's number of classes; received 0"),
        ({"top": 4}, "received 4"),
        ({"top": True}, "received True"),
        ({"lang": "fr"}, "lang should be one of en, zh; received 'fr'"),
    ],
)
def test_wrong_arguments(
    recognizer: lushan.Recognizer, arguments: dict[str, object], message: str
) -> None:
    for call in (recognizer.classify, lambda *a, **k: recognizer.classify_many([a[0]], **k)):
        with pytest.raises(UsageError) as caught:
            call(pixels(), **arguments)
        assert message in str(caught.value)


def test_wrong_batches(recognizer: lushan.Recognizer) -> None:
    for shape in ((32, 32, 3), (1, 32, 32, 4), (0, 32, 32, 3)):
        with pytest.raises(UsageError, match=r"should have shape \[N, H, W, 3\]"):
            recognizer.scores(np.zeros(shape, np.float32))
    with pytest.raises(UsageError, match="received uint8"):
        recognizer.scores(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="batch should be 1 or more"):
        recognizer.classify_many([], batch=0)


def test_wrong_loads(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="engine should be one of cpu, reference; received 'gpu'"):
        lushan.load(model_folder, engine="gpu")
    with pytest.raises(UsageError, match="precision should be one of float32"):
        lushan.load(model_folder, precision="int4")
    with pytest.raises(UsageError, match="threads should be 1 or more; received 0"):
        lushan.load(model_folder, threads=0)
    with pytest.raises(ModelError, match="resnet50 is an architecture"):
        lushan.load("resnet50")


@pytest.mark.parametrize("weight", [np.inf, -np.inf, np.nan, 3e38])
def test_scores_that_are_not_finite_are_no_answer(model_folder: Path, weight: float) -> None:
    model = load_model(model_folder)
    broken = {**model.weights, "fc.weight": np.full((3, 16), weight, np.float32)}
    with lushan.Recognizer(dataclasses.replace(model, weights=broken)) as recognizer:
        with pytest.raises(ModelError, match=r"<array>: .*small gives it scores that are not"):
            recognizer.classify(pixels())
        answers = list(recognizer.classify_many([pixels(), b""], batch=2))
    assert [type(answer) for answer in answers] == [ModelError, PictureError]


def test_a_closed_recognizer_refuses(tmp_path: Path) -> None:
    recognizer = lushan.load(write_small_model(tmp_path / "model"))
    recognizer.close()
    for call in (recognizer.classify, lambda source: list(recognizer.classify_many([source]))):
        with pytest.raises(UsageError, match="the recognizer is closed: load it again"):
            call(pixels())
    recognizer.close()


def test_bare_weights_are_recognised_by_their_tensors(shared: Path) -> None:
    folder = shared / "weights/resnet20-cifar10"
    bare = lushan.load(folder / "model.th")
    assert bare.labels.names[3] == "cat"
    assert bare.classify(pixels()) == lushan.load(folder).classify(pixels())


def test_a_frame_has_one_answer_by_every_way(
    recognizer: lushan.Recognizer, model_folder: Path
) -> None:
    frames = [random_frame("NV12", 90, 70, seed=seed) for seed in range(5)]
    alone = [recognizer.classify(frame) for frame in frames]
    assert len({answer[0].probability for answer in alone}) == 5
    for batch in (1, 2, 5):
        assert list(recognizer.classify_many(iter(frames), batch=batch)) == alone
    assert recognizer.classify(lambda: frames[0]) == alone[0]
    inputs = np.stack([recognizer.prepare(frame)[0] for frame in frames])
    for scores, frame, answer in zip(recognizer.scores(inputs), frames, alone, strict=True):
        assert recognizer.answer(scores, frame.report(), 3, "en") == answer
    with lushan.load(model_folder, engine="reference") as reference:
        np.testing.assert_array_equal(reference.prepare(frames[0])[0], inputs[0])
    with pytest.raises(UsageError, match="received the single '<Frame>'"):
        recognizer.classify_many(frames[0])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_photographs_as_frames_have_the_best_answer_of_their_pictures(
    precision: str, photos: list[Path]
) -> None:
    model = load_model("default")
    if precision == "int8":
        model = quantize_model(model, calibrate(model, photos), "mse")
    with lushan.Recognizer(model) as recognizer:
        for path in photos:
            with Image.open(path) as opened:
                picture = ImageOps.fit(opened.convert("RGB"), (1920, 1080))
            frame = frame_of(np.array(picture), "NV12", value_range="limited")
            assert recognizer.classify(frame)[0].label == recognizer.classify(picture)[0].label
