"""Programs and threads: idle, forked, closed, forgotten, interrupted."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from lushan.cpu import executor
from lushan.cpu.executor import CpuProgram
from lushan.errors import GraphError
from lushan.models.resnet_graph import INPUT, build
from support.random_graphs import random_weights
from support.small_models import NETWORK

PICTURE = np.random.default_rng(1).standard_normal((2, 24, 24, 3)).astype(np.float32)


def small_program(threads: int) -> CpuProgram:
    graph = build(NETWORK)
    return executor.compile(graph, random_weights(graph, seed=3), threads=threads)


def answer(program: CpuProgram, picture: np.ndarray = PICTURE) -> bytes:
    (scores,) = program({INPUT: picture}).values()
    return scores.tobytes()


def in_a_new_process(body: str, timeout: float = 60) -> None:
    """Run ``body`` with this module's names in a fresh process, which must succeed."""
    here = Path(__file__).resolve()
    search = [str(here.parents[2]), str(here.parents[1]), str(here.parent)]
    source = f"import sys\nsys.path[:0] = {search}\nfrom test_threads import *\n"
    done = subprocess.run(
        [sys.executable, "-c", source + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_more_threads_than_cores_finish() -> None:
    expected = answer(small_program(1))
    program = small_program(8 * (os.cpu_count() or 1))
    assert {answer(program) for _ in range(20)} == {expected}
    program.close()


def test_an_idle_program_uses_no_processor_time() -> None:
    program = small_program(4)
    answer(program)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1
    program.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_loading_works() -> None:
    in_a_new_process(
        """
        import warnings
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork with threads
        program = small_program(3)
        expected = answer(program)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                other = PICTURE[:, :17]  # a shape that the parent never ran
                right = answer(program) == expected and answer(program, other)
                right = right and threading.active_count() == 3
                os._exit(0 if right else 1)
            children.append(child)
            assert answer(program) == expected
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("busy", ["compiles", "plans", "runs"])
def test_a_fork_while_another_thread_is_at_work(busy: str) -> None:
    """The child compiles, plans and runs, whatever the parent's threads held; it has 20 seconds."""
    in_a_new_process(
        f"""
        import itertools, signal, warnings
        from lushan.cpu.code import code_store
        from lushan.cpu.softmax import SoftmaxKernel
        from lushan.cpu.target import detect
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork with threads
        program = small_program(2)
        expected = answer(program)
        store, numbers = code_store(detect()), itertools.count(1)

        def work():
            for number in numbers:
                if {busy!r} == "compiles":
                    store.addresses([SoftmaxKernel(number)])
                elif {busy!r} == "plans":
                    answer(program, np.zeros((1, 20 + number, 21, 3), np.float32))
                else:
                    assert answer(program) == expected

        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        children = []
        for turn in range(40):
            time.sleep(0.001 * (turn % 7))
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                store.addresses([SoftmaxKernel(100_000 + turn)])
                other = answer(program, PICTURE[:1, :17])
                os._exit(0 if answer(program) == expected else 1)
            children.append(child)
            if len(children) == 4:
                assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
                children.clear()
        os._exit(0)
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_parent_and_child_read_the_same_weights_at_once(tmp_path: Path) -> None:
    """Both read them from a file that was opened before the fork, for a new kind of packing."""
    in_a_new_process(
        f"""
        import warnings
        import lushan
        from pathlib import Path
        from lushan.models.resnet import ARCHITECTURES
        from support.small_models import write_small_model
        warnings.simplefilter("ignore")
        config = {{"input_size": [3, 64, 64], "interpolation": "bilinear", "crop_pct": 1.0}}
        folder = Path({str(tmp_path)!r}) / "model"
        write_small_model(folder, ARCHITECTURES["resnet18"], pretrained_cfg=config)
        large = np.random.default_rng(0).standard_normal((1, 288, 288, 3)).astype(np.float32)
        with lushan.load(folder, threads=1) as recognizer:
            expected = recognizer.scores(large).tobytes()
        for _ in range(5):
            with lushan.load(folder, threads=1) as recognizer:
                child = os.fork()
                same = recognizer.scores(large).tobytes() == expected
                if child == 0:
                    os._exit(0 if same else 1)
                assert os.waitpid(child, 0)[1] == 0
                assert same
        """
    )


def _call_until_closed(program: CpuProgram, expected: bytes, ends: list[str]) -> None:
    """Run one shape again and again, and between them one never seen before."""
    size = PICTURE.shape[1]
    try:
        while answer(program) == expected:
            size += 1
            answer(program, np.zeros((1, size, size, 3), np.float32))
        ends.append("another answer")
    except GraphError as error:
        ends.append(str(error))


@pytest.mark.parametrize("threads", [1, 3])
def test_close_while_others_run(threads: int) -> None:
    for delay in (0, 0.001, 0.003, 0.01):
        program = small_program(threads)
        ends: list[str] = []
        arguments = (program, answer(program), ends)
        callers = [threading.Thread(target=_call_until_closed, args=arguments) for _ in range(3)]
        for caller in callers:
            caller.start()
        time.sleep(delay)
        program.close()
        for caller in callers:
            caller.join(60)
            assert not caller.is_alive()
        assert ends == ["the program is closed"] * 3
        assert (program._plans, program._arenas, program._packer) == ({}, [], None)


def test_a_forgotten_program_frees_threads_and_memory() -> None:
    others = set(threading.enumerate())
    program = small_program(3)
    answer(program)
    own = set(threading.enumerate()) - others
    assert len(own) == 2
    freed = [weakref.ref(thing) for thing in (program, *program._plans.values(), program._packer)]
    del program
    gc.collect()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()
    assert [thing() for thing in freed] == [None] * len(freed)


def test_an_interrupted_run_leaves_a_program_that_works() -> None:
    in_a_new_process(
        """
        import random, signal
        program = small_program(3)
        expected = answer(program)
        chance = random.Random(1)
        armed, interrupts = False, 0

        def handler(*_):
            global armed, interrupts
            if armed:  # so that it strikes in a run only
                armed, interrupts = False, interrupts + 1
                raise KeyboardInterrupt

        def interrupt():
            while True:
                time.sleep(chance.random() / 500)
                os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, handler)
        threading.Thread(target=interrupt, daemon=True).start()
        while interrupts < 300:
            try:
                armed = True
                while armed:
                    assert answer(program) == expected
            except KeyboardInterrupt:
                pass
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert answer(program) == expected
        assert program._team._running() is None  # the next run has its threads
        program.close()
        """
    )
