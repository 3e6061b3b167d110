"""Occlusion: each score is that of the covered picture, and the heat is what covering costs."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import SIZE, Inspect
from lushan.errors import UsageError
from lushan.explain import occlusion
from lushan.reference.softmax import softmax


@pytest.mark.parametrize(("size", "stride"), [(None, None), (10, 7), (37, 37), (1, 1), (20, 3)])
def test_every_score_is_that_of_a_covered_picture(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch, size: int | None, stride: int | None
) -> None:
    monkeypatch.setattr("lushan.explain.occlusions._PIXELS", 10 * 37 * 42)  # several batches
    inspection = inspect("basic")
    found = occlusion(inspection, 1, size=size, stride=stride)
    side, step = size or SIZE[0] // 7, stride or (size or SIZE[0] // 7) // 2
    assert found.size == (side, side)
    assert found.scores.shape == (len(found.rows), len(found.columns))
    assert max(np.diff(found.rows), default=0) <= step
    assert (found.rows[0], found.rows[-1] + side) == (0, SIZE[0])
    assert (found.columns[0], found.columns[-1] + side) == (0, SIZE[1])
    assert found.score == inspection.scores[1]
    cost, count = np.zeros(SIZE), np.zeros(SIZE)
    places = list(np.ndindex(found.scores.shape))
    for row, column in places[:: max(1, len(places) // 20)]:
        picture = inspection.input.copy()
        top, left, bottom, right = found.box(row, column)
        picture[:, top:bottom, left:right] = 0
        scores = inspection.recognizer.scores(picture)[0]
        assert found.scores[row, column] == scores[1]
        assert found.probabilities[row, column] == pytest.approx(softmax(scores)[1])
    for row, column in places:
        top, left, bottom, right = found.box(row, column)
        cost[top:bottom, left:right] += found.score - found.scores[row, column]
        count[top:bottom, left:right] += 1
    assert count.min() >= 1
    assert np.allclose(found.heat(), cost / count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 38}, "should be 1 to 37 pixels wide; received 38"),
        ({"size": 0}, "received 0"),
        ({"size": 5, "stride": 6}, "stride should be 1 to 5, the size of the square; received 6"),
        ({"stride": 0}, "received 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(inspect: Inspect, options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        occlusion(inspect("basic"), 0, **options)
    with pytest.raises(UsageError, match="class 9"):
        occlusion(inspect("basic"), 9)
