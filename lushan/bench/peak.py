"""The limit of the processor: how many operations per second multiply-adds alone reach.

They are of float32, or of bytes as quantised networks use them. The kernel has as many independent
multiply-adds in flight as there are registers, and touches no memory. One thread runs it; the limit
of several threads is taken to be so many times as much, which is too much where two threads share
one core, or where the clock falls under full load.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import llvm
from lushan.cpu.byte_arithmetic import STEP, ByteArithmetic, registers_of_a_step
from lushan.cpu.emit import I8, KernelEmitter, Value
from lushan.cpu.target import Target, detect
from lushan.cpu.task import Kernel

STEPS = 50_000  # of the loop in one run: about half a millisecond
RUNS = 5


class Argument(IntEnum):
    """The kernel's arguments, by place."""

    STEPS = 0
    NUMBERS = 1  # and NUMBERS + 1: base and offset of the factor and the addend
    RESULT = 3  # and RESULT + 1: base and offset of one vector


@dataclass(frozen=True)
class MultiplyAddKernel:
    """A loop of ``accumulators`` multiply-adds that do not wait for each other."""

    accumulators: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        emitter = KernelEmitter(name, target)
        numbers = emitter.pointer(Argument.NUMBERS)
        a, b = emitter.broadcast(numbers, 0), emitter.broadcast(numbers, 1)

        def step(_: Value, *sums: Value) -> list[Value]:
            # Each needs the one before it, so that no part of it can be moved out of the loop.
            return [emitter.fma(total, a, b) for total in sums]

        start = [emitter.splat(float(index)) for index in range(self.accumulators)]
        sums = emitter.loop(0, emitter.argument(Argument.STEPS), step, carried=start)
        total = sums[0]
        for other in sums[1:]:
            total = emitter.builder.fadd(total, other)
        emitter.store(total, emitter.pointer(Argument.RESULT))
        return emitter.text()


@dataclass(frozen=True)
class ByteMultiplyAddKernel:
    """The same with sums of four products of bytes: a quad of the input, a vector of weights."""

    accumulators: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        emitter = KernelEmitter(name, target)
        arithmetic = ByteArithmetic(emitter)
        memory = emitter.pointer(Argument.NUMBERS, I8)
        numbers, weights = arithmetic.numbers(memory, 0), arithmetic.weights(memory, STEP)

        def step(_: Value, *sums: Value) -> list[Value]:
            return [arithmetic.add_products(total, numbers, weights) for total in sums]

        start = [arithmetic.zero()] * self.accumulators
        sums = emitter.loop(0, emitter.argument(Argument.STEPS), step, carried=start)
        total = sums[0]
        for other in sums[1:]:
            total = emitter.builder.add(total, other)
        result = emitter.builder.bitcast(total, emitter.vector)
        emitter.store(result, emitter.pointer(Argument.RESULT))
        return emitter.text()


class Peak:
    """The kernel, compiled for this machine; each call measures the limit of one thread anew.

    ``precision`` is "float32" or "int8".
    """

    def __init__(self, precision: str = "float32") -> None:
        target = detect()
        lanes, accumulators = target.lanes, target.registers - 4
        # A factor below 1 keeps the sums finite, an addend above 0 keeps them from vanishing.
        numbers = np.full(2, 1e-3, np.float32)
        self._operations = 2 * STEPS * accumulators * lanes
        kernel: Kernel = MultiplyAddKernel(accumulators)
        if precision == "int8":
            # A number and a weight of float32 take two of the four registers that are left.
            accumulators -= max(0, 2 * registers_of_a_step(target) - 3)
            numbers = np.ones(STEP + STEP * lanes, np.uint8).view(np.float32)
            self._operations = 2 * STEPS * accumulators * lanes * STEP
            kernel = ByteMultiplyAddKernel(accumulators)
        text = kernel.emit("multiply_add", target)
        self._code = llvm.Code(target, {"": llvm.compile_object(text, target)})
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function = signature(self._code.address("multiply_add"))
        self._memory = np.concatenate([numbers, np.zeros(lanes, np.float32)])
        self._result = len(numbers)
        self._bases = np.array([self._memory.ctypes.data], np.int64)
        self._arguments = np.zeros(5, np.int64)  # everything lies in the one base, 0
        self._arguments[Argument.STEPS] = STEPS
        self._arguments[Argument.RESULT + 1] = self._result * self._memory.itemsize

    def __call__(self) -> float:
        """Return operations per second, the best of a few runs."""
        least = float("inf")
        for _ in range(RUNS):
            start = time.perf_counter()
            self._function(self._bases.ctypes.data, self._arguments.ctypes.data, 0)
            least = min(least, time.perf_counter() - start)
        return self._operations / least

    def result(self) -> NDArray[np.float32]:
        """Return what the last run computed: the sum of all accumulators, in every lane.

        Of bytes it is an integer: ``result().view(numpy.int32)``.
        """
        lanes: NDArray[np.float32] = self._memory[self._result :].copy()
        return lanes
