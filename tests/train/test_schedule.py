"""Schedules: the numbers of the recipe, PyTorch's one cycle, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.train.schedule import KINDS, Kind, Schedule

CYCLE = Schedule("one_cycle", warmup=0.2, start=1 / 25, end=4e-6)


def course(schedule: Schedule, steps: int, peak: float = 0.4) -> list[tuple[float, float]]:
    return [schedule.at(step, steps, learning_rate=peak, momentum=0.9) for step in range(steps)]


def test_one_cycle_has_the_numbers_of_the_recipe() -> None:
    steps = 20 * 390
    rates, momenta = zip(*course(CYCLE, steps), strict=True)
    assert rates[0] == pytest.approx(0.016)
    assert momenta[0] == pytest.approx(0.95)
    top = round(0.2 * steps) - 1
    assert rates[top] == max(rates) == pytest.approx(0.4)
    assert momenta[top] == min(momenta) == pytest.approx(0.85)
    assert rates[-1] == pytest.approx(1.6e-6)
    assert momenta[-1] == pytest.approx(0.95)


@pytest.mark.parametrize("steps", [7, 100, 101, 7800])
def test_one_cycle_is_that_of_pytorch(steps: int) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=steps, pct_start=0.2
    )
    for rate, momentum in course(CYCLE, steps):
        group = optimizer.param_groups[0]
        assert rate == pytest.approx(group["lr"], rel=1e-9)
        assert momentum == pytest.approx(group["momentum"], rel=1e-9)
        optimizer.step()
        if theirs.last_epoch + 1 < steps:
            theirs.step()


def test_cosine_rises_in_a_line_and_falls_along_half_a_wave() -> None:
    rates = [rate for rate, _ in course(Schedule("cosine", 0.1, start=0.1, end=0.01), 101, peak=1)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.55)
    assert rates[10] == max(rates) == 1
    assert rates[55] == pytest.approx((1 + 0.01) / 2)
    assert rates[-1] == pytest.approx(0.01)


def test_steps_multiply() -> None:
    schedule = Schedule("step", 0, milestones=(0.5, 0.75), factor=0.1)
    rates = [rate for rate, _ in course(schedule, 100, peak=1)]
    assert rates[:50] == [1] * 50
    assert rates[50:75] == pytest.approx([0.1] * 25)
    assert rates[75:] == pytest.approx([0.01] * 25)


@given(st.sampled_from(KINDS), st.floats(0, 0.95), st.integers(1, 300), st.floats(1e-3, 10))
def test_rates_stay_between_0_and_the_peak(
    kind: Kind, warmup: float, steps: int, peak: float
) -> None:
    schedule = Schedule(kind, warmup)
    for rate, momentum in course(schedule, steps, peak):
        assert 0 <= rate <= peak * (1 + 1e-12)
        assert 0.85 - 1e-12 <= momentum <= 0.95 + 1e-12


def test_numbers_that_cannot_be() -> None:
    for values, message in (
        ({"kind": "wave"}, "schedule.kind should be one of cosine, step, one_cycle, constant"),
        ({"warmup": 1.5}, "schedule.warmup should be a number from 0 to 0.95; received 1.5"),
        ({"end": float("nan")}, "schedule.end should be a number"),
        ({"milestones": (0.7, 0.3)}, "schedule.milestones should be a number from 0.7 to 1"),
        ({"momentum_range": (0.9,)}, "schedule.momentum_range should be two numbers"),
    ):
        with pytest.raises(UsageError, match=message):
            Schedule(**values)
