"""The CPU engine behind the executor seam: compile once, run at any batch, height and width."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from lushan import passes
from lushan.cores import thread_count
from lushan.cpu.cache import PrivateFolder, cache_folder, source_hash
from lushan.cpu.code import CodeStore, code_store
from lushan.cpu.driver import PROTOTYPE, Driver
from lushan.cpu.emit import ARENA, FIRST_INPUT, SCRATCH
from lushan.cpu.locks import Locked
from lushan.cpu.lower import is_training, lower
from lushan.cpu.lowering_context import Options
from lushan.cpu.memory import allocate_bytes
from lushan.cpu.packing import Packer
from lushan.cpu.program import NativeProgram, build_program
from lushan.cpu.target import Target, detect
from lushan.cpu.task import FLOAT
from lushan.cpu.team import Team, yield_function
from lushan.cpu.weight_cache import WeightCache
from lushan.errors import GraphError, UsageError
from lushan.graph.executor import Array, check_inputs, check_keep, check_weights
from lushan.graph.ir import Graph, Shape
from lushan.graph.verify import infer_types
from lushan.graph.weights import origin_of
from lushan.passes.plan_memory import ALIGNMENT

TIMED = Driver(timed=True)
PLANS_KEPT = 16  # input shapes whose plan is remembered, up to a few hundred kilobytes each
# The arenas of the pictures of one run, if each had its own: about a second's work. A larger batch
# takes several runs, so that who interrupts it need not wait for all of it.
RUN_BYTES = 400 * 2**20


def compile(
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
    target: Target | None = None,
    winograd: bool = True,
) -> CpuProgram:
    """Return a native program for ``graph``; see ``lushan.graph.executor.Engine``.

    The passes of ``lushan.passes`` are applied first, and leave what ``keep`` names. ``target``
    None is the best instruction set of this machine. ``winograd`` False computes every
    convolution directly: slower, with a third of the rounding error. Raises UsageError for a
    target that is another machine, and for ``threads`` below 1.
    """
    host = detect()
    target = target or host
    if target.triple != host.triple:
        raise UsageError(
            "code for {triple} does not run on this machine, {host}: leave out the target",
            triple=target.triple,
            host=host.triple,
        )
    check_weights(graph, weights)
    check_keep(graph, keep)
    parameters = _parameters(graph, weights)
    rewritten, folded = passes.apply(graph, parameters or weights, keep=keep)
    options = Options(thread_count(threads), winograd)
    # What changes with every run is packed in every run, and never kept.
    cache = None if keep or parameters else _cache(graph, weights, target, options)
    return CpuProgram(rewritten, folded, tuple(keep), target, options, cache, parameters)


def _parameters(graph: Graph, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of all parameters, for the program to own, if a node updates any of them."""
    if not any(node.updates for node in graph.nodes):
        return {}
    copies: dict[str, Array] = {}
    for value in graph.parameters:
        array = weights[value.name]
        bytes_ = allocate_bytes(FLOAT * array.size)
        copies[value.name] = bytes_.view(np.float32).reshape(array.shape)
        copies[value.name][...] = array
    return copies


def _cache(
    graph: Graph, weights: Mapping[str, Array], target: Target, options: Options
) -> WeightCache | None:
    """Return where packed weights are kept, if it is known what they come from.

    ``graph`` is the one before the passes: what they fold away decides the numbers too.
    """
    origin = origin_of(weights)
    if origin is None:
        return None
    code = source_hash("cpu", "graph", "models", "passes", "reference")
    parts = (origin, repr(graph), repr(target), str(options.winograd), code)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return WeightCache(PrivateFolder(cache_folder()), key[:40])


class CpuProgram(Locked):
    """A compiled network; it may be called from several threads at once.

    Where nodes update parameters, those belong to the program: ``parameters`` has them all, in
    their own shape, as the last run left them. Runs of such a program take turns, and one that an
    exception ends (a user's Ctrl-C) closes it: nobody knows which parameters it has updated.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        keep: tuple[str, ...],
        target: Target,
        options: Options,
        cache: WeightCache | None,
        parameters: Mapping[str, Array],
    ) -> None:
        super().__init__()
        self.parameters = parameters
        self._turn = threading.Lock()  # to update them
        self._graph = graph
        self._wanted = tuple(dict.fromkeys((*graph.outputs, *keep)))
        types = infer_types(graph)
        self._types = {name: types[name] for name in self._wanted}
        given = {value.name for value in graph.parameters}
        # What a batch teaches is a matter of the whole batch.
        self._is_divisible = not is_training(graph) and all(
            type_.shape[:1] == (None,) for name, type_ in types.items() if name not in given
        )
        self._computed = tuple(name for name in self._wanted if name not in given)
        self._given = {
            name: parameters[name] if name in parameters else np.array(weights[name])
            for name in self._wanted
            if name in given
        }
        self._target = target
        self._options = options
        self._store: CodeStore = code_store(target)
        updated = {name for node in graph.nodes for name in node.updates}
        self._packer: Packer | None = Packer(weights, target, self._store, cache, updated)
        self._team = Team(options.threads)
        self._plans: OrderedDict[tuple[Shape, ...], NativeProgram] = OrderedDict()
        self._arenas: list[Array] = []
        self._planning = threading.Lock()  # one plan at a time: they share packed weights
        self._yield = yield_function()
        self._closed = False

    def _renew(self) -> None:
        """Make the locks new ones, in a child after a fork."""
        super()._renew()
        self._planning = threading.Lock()
        self._turn = threading.Lock()

    def __call__(
        self, inputs: Mapping[str, Array], *, threads: int | None = None
    ) -> dict[str, Array]:
        """Run the network once; see ``lushan.graph.executor.Program``."""
        if self._closed:
            raise GraphError("the program is closed")
        check_inputs(self._graph, inputs)
        arrays = {
            value.name: np.asarray(inputs[value.name], np.float32, order="C")
            for value in self._graph.inputs
        }
        if self.parameters:
            with self._turn:
                results = self._run(arrays, threads)
        elif self._is_divisible:
            results = self._in_runs(arrays, threads)
        else:
            results = self._run(arrays, threads)
        results.update((name, array.copy()) for name, array in self._given.items())
        return {name: results[name] for name in self._wanted}

    def close(self) -> None:
        """Give back threads and memory; see ``lushan.graph.executor.Program``."""
        self._closed = True
        self._team.close()
        with self._lock:
            self._packer = None
            self._plans.clear()
            self._arenas.clear()

    def _in_runs(self, arrays: Mapping[str, Array], threads: int | None) -> dict[str, Array]:
        """Run a batch, a large one in several runs."""
        batches = {array.shape[0] for array in arrays.values()}
        batch = max(batches, default=0)
        if batch <= 1 or len(batches) > 1:  # inputs of different batches have nothing to share
            return self._run(arrays, threads)
        one = self._plan(tuple((1, *array.shape[1:]) for array in arrays.values()))
        most = max(1, RUN_BYTES // max(1, one.arena_bytes))
        if most >= batch:
            return self._run(arrays, threads)
        pictures = -(-batch // -(-batch // most))  # about equal runs
        results = [
            self._run({k: array[start : start + pictures] for k, array in arrays.items()}, threads)
            for start in range(0, batch, pictures)
        ]
        return {name: np.concatenate([r[name] for r in results]) for name in self._computed}

    def _plan(self, shapes: tuple[Shape, ...]) -> NativeProgram:
        plan = self._known(shapes)
        if plan is not None:
            return plan
        with self._planning:
            return self._known(shapes) or self._make_plan(shapes)

    def _known(self, shapes: tuple[Shape, ...]) -> NativeProgram | None:
        """Return the plan for these shapes, if there is one already."""
        with self._lock:
            plan = self._plans.get(shapes)
            if plan is not None:
                self._plans.move_to_end(shapes)
            return plan

    def _make_plan(self, shapes: tuple[Shape, ...]) -> NativeProgram:
        packer = self._packer
        if packer is None:  # closed by another thread since the call began
            raise GraphError("the program is closed")
        names = [value.name for value in self._graph.inputs]
        types = infer_types(self._graph, dict(zip(names, shapes, strict=True)))
        lowered = lower(
            self._graph,
            types,
            packer,
            self._target,
            self._options,
            self._computed,
            in_parts=self._is_divisible,
        )
        packer.finish(self._team.run)
        plan = build_program(lowered, self._store)
        with self._lock:
            if not self._closed:
                self._plans[shapes] = plan
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        return plan

    def _run(self, arrays: Mapping[str, Array], threads: int | None) -> dict[str, Array]:
        plan = self._plan(tuple(array.shape for array in arrays.values()))
        arena = self._borrow(plan.memory(self._team.size))
        try:
            self._enter(plan, arena, list(arrays.values()), plan.driver, threads=threads)
        except BaseException:
            if self.parameters:  # threads may still be writing there
                self.close()
            raise
        results = {name: self._read(plan, arena, name) for name in self._computed}
        self._give_back(arena)  # not after an exception: threads may still be writing there
        return results

    def prepare(self, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compile and pack for these shapes; see ``lushan.graph.executor.Program``."""
        self._plan(tuple(input_shapes[value.name] for value in self._graph.inputs))

    def profile(self, inputs: Mapping[str, Array]) -> list[tuple[str, float]]:
        """Run once, and return the seconds of each step; see ``ProfilingProgram``.

        They are the caller's, stamped by the native program itself: an ordinary run.
        """
        with self._turn:
            return self._profile(inputs)

    def _profile(self, inputs: Mapping[str, Array]) -> list[tuple[str, float]]:
        arrays = [np.asarray(inputs[v.name], np.float32, order="C") for v in self._graph.inputs]
        plan = self._plan(tuple(array.shape for array in arrays))
        arena = self._borrow(plan.memory(self._team.size))
        driver = self._store.addresses([TIMED])[TIMED]
        stamps = np.zeros((self._team.size, len(plan.table), 2), np.int64)
        start = time.perf_counter()
        self._enter(plan, arena, arrays, driver, stamps)
        seconds = time.perf_counter() - start
        self._give_back(arena)
        firsts = np.cumsum([0, *(tasks for _, tasks in plan.steps[:-1])])
        ticks = np.diff(stamps[0, firsts, 0], append=stamps[0, -1, 1])
        found: dict[str, float] = {}
        for (name, _), share in zip(plan.steps, ticks / ticks.sum(), strict=True):
            found[name] = found.get(name, 0.0) + seconds * float(share)
        return list(found.items())

    def _enter(
        self,
        plan: NativeProgram,
        arena: Array,
        arrays: list[Array],
        driver: int,
        stamps: Array | None = None,
        threads: int | None = None,
    ) -> None:
        """Run the plan on the team; the arena starts at a multiple of 64 bytes."""
        start = arena.ctypes.data
        bases = np.zeros((self._team.size, FIRST_INPUT + len(arrays)), np.int64)
        bases[:, ARENA] = start
        bases[:, SCRATCH] = start + plan.arena_bytes
        bases[:, SCRATCH] += plan.scratch_bytes * np.arange(self._team.size)
        bases[:, FIRST_INPUT:] = [array.ctypes.data for array in arrays]
        table = plan.table
        shares = len(table) * self._team.size
        counters = np.zeros(shares + 2 * ALIGNMENT // 8, np.int64)
        finished = counters.ctypes.data + counters.itemsize * (shares + ALIGNMENT // 8)
        memory = (plan, bases, arena, arrays, stamps)  # for threads that outlive an exception
        run = PROTOTYPE(driver)

        def work(index: int) -> None:
            run(
                memory[1][index].ctypes.data,
                table.ctypes.data,
                len(table),
                index,
                self._team.size,
                counters.ctypes.data,
                finished,
                self._yield,
                None if stamps is None else stamps[index].ctypes.data,
            )

        self._team.run(work, threads)

    def _borrow(self, size: int) -> Array:
        """Return an arena of at least ``size`` bytes that no other call uses."""
        with self._lock:
            for index, arena in enumerate(self._arenas):
                if arena.size >= size:
                    return self._arenas.pop(index)
            self._arenas.clear()  # too small for the present shape: make room for a larger one
        return allocate_bytes(size, huge=bool(self.parameters))

    def _give_back(self, arena: Array) -> None:
        with self._lock:
            if not self._closed:
                self._arenas.append(arena)

    def _read(self, plan: NativeProgram, arena: Array, name: str) -> Array:
        """Return a copy of a value without its halo, in its own shape."""
        plane = plan.planes[name]
        n, h, w, c = plane.shape
        start = plan.offsets[plane.value]
        size = plane.itemsize * n * plane.image
        whole = arena[start : start + size].view(np.float32 if plane.itemsize == 4 else np.uint8)
        rows = whole.reshape(n, plane.image // plane.row, plane.row // c, c)
        top, _, left, _ = plane.halo
        inner = rows[:, top : top + h, left : left + w].copy()
        declared = self._types[name]
        result: Array = inner.view(declared.dtype)
        rank = len(declared.shape)
        return result if rank == 4 else result.reshape((n, -1)[2 - rank :])
