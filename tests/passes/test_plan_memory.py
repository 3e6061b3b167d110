"""The memory plan: no two values that live at once overlap, and little is wasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lushan.passes.plan_memory import ALIGNMENT, Life, plan_memory


@st.composite
def lives(draw: st.DrawFn) -> list[Life]:
    found = []
    for index in range(draw(st.integers(0, 25))):
        spans, after = [], 0
        for _ in range(draw(st.integers(1, 3))):
            first = after + draw(st.integers(0, 20))
            after = first + draw(st.integers(1, 7))
            spans.append((first, after - 1))
        found.append(Life(f"v{index}", draw(st.integers(1, 5000)), tuple(spans)))
    return found


@given(lives())
def test_nothing_alive_overlaps(values: list[Life]) -> None:
    offsets, size = plan_memory(values)
    for index, a in enumerate(values):
        assert offsets[a.name] % ALIGNMENT == 0
        assert offsets[a.name] + a.size <= size
        for b in values[:index]:
            together = any(
                first <= last_2 and first_2 <= last
                for first, last in a.spans
                for first_2, last_2 in b.spans
            )
            assert a.meets(b) == b.meets(a) == together
            apart = (
                offsets[a.name] + a.size <= offsets[b.name]
                or offsets[b.name] + b.size <= offsets[a.name]
            )
            assert apart or not together, (a, b)


def test_a_chain_needs_two_buffers() -> None:
    chain = [Life(f"v{index}", 1024, ((index, index + 1),)) for index in range(10)]
    assert plan_memory(chain)[1] == 2048
