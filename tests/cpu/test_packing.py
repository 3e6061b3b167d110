"""Packing equals its definition, for weights as files and as graphs hold them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from lushan.cpu.code import code_store
from lushan.cpu.packing import Packer, PanelWriter
from lushan.cpu.target import Target, detect
from lushan.cpu.team import Team
from lushan.cpu.weight_cache import WeightCache
from lushan.graph.weights import Factors


@pytest.mark.parametrize("as_in_files", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(
    "shape", [(64, 1, 1, 32), (70, 3, 3, 16), (5, 3, 3, 16), (32, 7, 7, 3), (1000, 1, 1, 64)]
)
@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_panels(
    target: Target,
    shape: tuple[int, int, int, int],
    vectors: int,
    scaled: bool,
    as_in_files: bool,
) -> None:
    oc, kh, kw, ic = shape
    random = np.random.default_rng(0)
    if as_in_files:
        stored = random.standard_normal((oc, ic, kh, kw), np.float32)
        weight = stored.transpose(0, 2, 3, 1)
    else:
        weight = random.standard_normal(shape, np.float32)
    factors = Factors(weight, random.standard_normal(oc, np.float32) if scaled else None)
    writer = PanelWriter(target, code_store(target))
    packed, biases = writer.reserve(shape, vectors, lambda size: np.full(size, np.nan, np.float32))
    writer.write(factors, packed)
    nr = vectors * target.lanes
    expected = np.zeros((-(-oc // nr) * nr, kh, kw, ic), np.float32)
    expected[:oc] = factors.product()
    assert np.array_equal(packed, np.moveaxis(expected.reshape(-1, nr, kh, kw, ic), 1, -1))
    assert biases.shape == packed.shape[:1] + packed.shape[-1:]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_of_weights_are_converted(dtype: type) -> None:
    target = detect()
    weight = np.random.default_rng(0).standard_normal((32, 1, 1, 32)).astype(dtype)
    packed = np.empty((1, 1, 1, 32, 32), np.float32)
    PanelWriter(target, code_store(target)).write(Factors(weight, None), packed)
    assert np.array_equal(packed[0, 0, 0], weight[:, 0, 0].T.astype(np.float32))


class Kept(WeightCache):
    """A cache that has nothing, and puts what is to be kept into a list."""

    def __init__(self, kept: list[object]) -> None:
        self.kept = kept

    def read(self) -> dict[str, list[np.ndarray]]:
        return {}

    def write(self, arrays: object) -> None:
        self.kept.append(arrays)


def packer_of(
    jobs: dict[str, Callable[[list[str]], None]], kept: list[object] | None = None
) -> tuple[Packer, list[list[str]]]:
    target = detect()
    packer = Packer({}, target, code_store(target), None if kept is None else Kept(kept))
    return packer, [packer.once(name, lambda _: [], job) for name, job in jobs.items()]


@pytest.mark.parametrize("threads", [1, 3])
def test_everything_reserved_is_written_once(threads: int) -> None:
    names = [str(number) for number in range(50)]
    kept: list[object] = []
    jobs = {name: lambda p, name=name: p.append(name) for name in names}
    packer, packed = packer_of(jobs, kept)
    assert not any(packed)
    team = Team(threads)
    packer.finish(team.run)
    packer.finish(team.run)
    assert [list(arrays) for arrays in kept] == [[repr(name) for name in names]]
    assert packed == [[name] for name in names]
    assert packer.once("7", lambda _: ["anew"], lambda p: None) is packed[7]
    team.close()


def test_finish_waits_for_other_threads() -> None:
    helper_is_in, caller_is_in = threading.Event(), threading.Event()

    def write(packed: list[str]) -> None:
        (caller_is_in if threading.current_thread() is caller else helper_is_in).set()
        helper_is_in.wait(10)
        caller_is_in.wait(10)
        if threading.current_thread() is not caller:
            gone.wait(0.1)  # the caller has nothing left to do by now
        packed.append("written")

    caller, gone = threading.current_thread(), threading.Event()
    packer, packed = packer_of({"a": write, "b": write})
    team = Team(2)
    packer.finish(team.run)
    assert packed == [["written"], ["written"]]
    team.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_is_raised_again_until_it_is_mended(threads: int) -> None:
    broken = {"b": True, "d": True}

    def write(name: str, packed: list[str]) -> None:
        if broken.get(name):
            raise ValueError(name)
        packed[:] = [name]

    kept: list[object] = []
    jobs = {n: lambda p, n=n: write(n, p) for n in "abcde"}
    packer, packed = packer_of(jobs, kept)
    team = Team(threads)
    for _ in range(2):
        with pytest.raises(ValueError, match="b"):
            packer.finish(team.run)
    assert not kept
    broken.clear()
    packer.finish(team.run)
    assert packed == [["a"], ["b"], ["c"], ["d"], ["e"]]
    team.close()
