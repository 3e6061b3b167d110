"""The limit of the processor: how many operations per second multiply-adds alone reach.

The kernel has as many independent multiply-adds in flight as there are registers, of float32 or of
bytes, and touches no memory. One thread runs it; the limit of several threads is taken to be so
many times as much, which is too much where two threads share one core, or where the clock falls
under full load.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import llvm
from lushan.cpu.byte_arithmetic import STEP, ByteArithmetic, registers_of_a_step
from lushan.cpu.emit import I8, I32, KernelEmitter, Value
from lushan.cpu.target import Target, detect

STEPS_OF_A_RUN = 50_000  # of the loop in one run: about half a millisecond
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

    @property
    def operations(self) -> int:
        """The operations of one step in each lane."""
        return 2 * self.accumulators

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
        emitter.store(reduce(emitter.builder.fadd, sums), emitter.pointer(Argument.RESULT))
        return emitter.text()


@dataclass(frozen=True)
class ByteMultiplyAddKernel:
    """The same on bytes: to each of ``accumulators`` four products of bytes are added in a step."""

    accumulators: int

    @property
    def operations(self) -> int:
        """The operations of one step in each lane."""
        return 2 * STEP * self.accumulators

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        emitter = KernelEmitter(name, target)
        arithmetic, parts = ByteArithmetic(emitter), range(registers_of_a_step(target))
        numbers = arithmetic.numbers(emitter.pointer(Argument.NUMBERS, I8), 0)

        def step(_: Value, *carried: Value) -> list[Value]:
            # The weights are other sums: they change, so no product can be moved out of the loop.
            sums = list(carried)
            for index, total in enumerate(sums):
                others = [sums[(index + 1 + part) % len(sums)] for part in parts]
                weights = [emitter.builder.bitcast(other, numbers[0].type) for other in others]
                sums[index] = arithmetic.add_products(total, numbers, weights)
            return sums

        start = [emitter.spread(I32(index + 1)) for index in range(self.accumulators)]
        sums = emitter.loop(0, emitter.argument(Argument.STEPS), step, carried=start)
        emitter.store(reduce(emitter.builder.add, sums), emitter.pointer(Argument.RESULT, I32))
        return emitter.text()


def peak_kernel(precision: str, target: Target) -> MultiplyAddKernel | ByteMultiplyAddKernel:
    """Return the loop of a precision, "float32" or "int8", that keeps all registers busy."""
    if precision == "float32":
        return MultiplyAddKernel(target.registers - 4)
    return ByteMultiplyAddKernel(target.registers - 2 - 2 * registers_of_a_step(target))


class Peak:
    """The kernel, compiled for this machine; each call measures the limit of one thread anew."""

    def __init__(self, precision: str = "float32", *, steps: int = STEPS_OF_A_RUN) -> None:
        target = detect()
        kernel = peak_kernel(precision, target)
        text = kernel.emit("multiply_add", target)
        self._code = llvm.Code(target, {"": llvm.compile_object(text, target)})
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function = signature(self._code.address("multiply_add"))
        self._operations = kernel.operations * steps * target.lanes
        # A factor below 1 keeps the sums finite, an addend above 0 keeps them from vanishing. As
        # bytes any numbers will do.
        self._memory = np.full(2 + target.lanes, 1e-3, np.float32)
        self._bases = np.array([self._memory.ctypes.data], np.int64)
        self._arguments = np.zeros(5, np.int64)  # everything lies in the one base, 0
        self._arguments[Argument.STEPS] = steps
        self._arguments[Argument.RESULT + 1] = 2 * self._memory.itemsize

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

        Of bytes they are integers, in the same 32 bits.
        """
        lanes: NDArray[np.float32] = self._memory[2:].copy()
        return lanes
