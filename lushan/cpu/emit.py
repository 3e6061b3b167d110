"""Writing a kernel: loops, addresses and vectors over ``llvmlite.ir``.

Every kernel has one signature::

    void kernel(i8** bases, i64* arguments, i64 chunk)

It does the part of its task called ``chunk``. ``arguments`` is the task's row of 64-bit integers:
sizes, strides, and addresses. An address is either absolute (weights), or a pair (base, offset in
bytes): ``bases`` holds what changes from call to call: the arena, this thread's scratch memory,
the inputs. Loops carry their values as phi nodes, so no optimisation pass is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llvmlite import ir

from lushan.cpu.target import Target

Value: TypeAlias = Any  # a value of llvmlite.ir, which has no types of its own

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32 = ir.FloatType()
ARENA, SCRATCH, FIRST_INPUT = 0, 1, 2  # what ``bases`` holds, in this order

SIGNATURE = ir.FunctionType(ir.VoidType(), [I8.as_pointer().as_pointer(), I64.as_pointer(), I64])


def size_of(element: ir.Type) -> int:
    """Return the bytes of a number in memory."""
    if isinstance(element, ir.DoubleType):
        return 8
    return 4 if element == F32 else int(element.width) // 8


class KernelEmitter:
    """Emits one kernel; ``text`` ends it. Sizes are in elements, of float32 unless said."""

    def __init__(self, name: str, target: Target) -> None:
        self.target = target
        self.module = ir.Module(name)
        self.vector = ir.VectorType(F32, target.lanes)
        self.function = ir.Function(self.module, SIGNATURE, name)
        self._bases, self._arguments, self.chunk = self.function.args
        for pointer in (self._bases, self._arguments):
            pointer.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def text(self) -> str:
        """End the kernel and return its LLVM IR."""
        self.builder.ret_void()
        return str(self.module)

    # --- integers -----------------------------------------------------------------------------

    def integer(self, value: Value) -> Value:
        """Return a 64-bit constant; a value passes through."""
        return I64(int(value)) if isinstance(value, int) else value

    def argument(self, index: int) -> Value:
        """Return the integer at ``index`` of the task's arguments."""
        return self.builder.load(self.builder.gep(self._arguments, [I32(int(index))]))

    def add(self, first: Value, *others: Value) -> Value:
        """Return the sum of 64-bit integers."""
        total = self.integer(first)
        for other in others:
            total = self.builder.add(total, self.integer(other))
        return total

    def sub(self, a: Value, b: Value) -> Value:
        """Return a − b."""
        return self.builder.sub(self.integer(a), self.integer(b))

    def mul(self, a: Value, b: Value) -> Value:
        """Return a · b."""
        return self.builder.mul(self.integer(a), self.integer(b))

    def divide(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Return quotient and remainder of two integers that are not negative."""
        a, b = self.integer(a), self.integer(b)
        return self.builder.udiv(a, b), self.builder.urem(a, b)

    def lesser(self, a: Value, b: Value) -> Value:
        """Return the lesser of two signed integers."""
        a, b = self.integer(a), self.integer(b)
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def greater(self, a: Value, b: Value) -> Value:
        """Return the greater of two signed integers."""
        a, b = self.integer(a), self.integer(b)
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    # --- control ------------------------------------------------------------------------------

    def loop(
        self,
        start: Value,
        stop: Value,
        body: Callable[..., Sequence[Value] | None],
        *,
        step: int = 1,
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """Emit ``for i in range(start, stop, step)`` and return the carried values after it.

        ``body(i, *carried)`` emits one turn and returns the new carried values. A loop whose
        bounds are Python numbers is entered without a test, or left out.
        """
        builder = self.builder
        known = isinstance(start, int) and isinstance(stop, int)
        if known and start >= stop:
            return list(carried)
        start, stop = self.integer(start), self.integer(stop)
        before = builder.block
        inside = self.function.append_basic_block("loop")
        after = self.function.append_basic_block("after")
        if known:
            builder.branch(inside)
        else:
            builder.cbranch(builder.icmp_signed("<", start, stop), inside, after)
        builder.position_at_end(inside)
        index = builder.phi(I64)
        index.add_incoming(start, before)
        values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(values, carried, strict=True):
            phi.add_incoming(value, before)
        results = list(body(index, *values) or ())
        last = builder.block
        following = builder.add(index, I64(step))
        builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
        index.add_incoming(following, last)
        for phi, result in zip(values, results, strict=True):
            phi.add_incoming(result, last)
        builder.position_at_end(after)
        if known:
            return results
        merged = [builder.phi(value.type) for value in carried]
        for phi, value, result in zip(merged, carried, results, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(result, last)
        return merged

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """Emit ``if condition: body()``."""
        with self.builder.if_then(condition):
            body()

    def choose(self, condition: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Emit ``if condition: yes() else: no()``."""
        with self.builder.if_else(condition) as (then, otherwise):
            with then:
                yes()
            with otherwise:
                no()

    # --- addresses ----------------------------------------------------------------------------

    def absolute(self, index: int, element: ir.Type = F32) -> Value:
        """Return the pointer whose address is the argument at ``index``."""
        return self.builder.inttoptr(self.argument(index), element.as_pointer())

    def pointer(self, index: int, element: ir.Type = F32) -> Value:
        """Return the pointer that the arguments (base, bytes) at ``index`` and after it name."""
        base = self.builder.load(self.builder.gep(self._bases, [self.argument(index)]))
        moved = self.builder.gep(base, [self.argument(index + 1)])
        return self.builder.bitcast(moved, element.as_pointer())

    def scratch(self, element: ir.Type) -> Value:
        """Return the pointer to this thread's scratch memory."""
        base = self.builder.load(self.builder.gep(self._bases, [I64(SCRATCH)]))
        return self.builder.bitcast(base, element.as_pointer())

    def offset(self, pointer: Value, elements: Value) -> Value:
        """Return ``pointer`` moved by a number of elements."""
        return self.builder.gep(pointer, [self.integer(elements)])

    # --- vectors ------------------------------------------------------------------------------

    def splat(self, scalar: Value) -> Value:
        """Return a vector of one number: a Python float or a scalar value."""
        lanes = self.target.lanes
        if isinstance(scalar, int | float):
            return ir.Constant(self.vector, [ir.Constant(F32, float(scalar))] * lanes)
        return self.spread(scalar)

    def spread(self, scalar: Value) -> Value:
        """Return a vector of one scalar value, of any type."""
        lanes = self.target.lanes
        undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, I32(0))
        mask = ir.Constant(ir.VectorType(I32, lanes), [I32(0)] * lanes)
        return self.builder.shuffle_vector(single, undefined, mask)

    def shuffle(self, a: Value, b: Value, order: Sequence[int]) -> Value:
        """Return the elements of two vectors that ``order`` names; those of b come after a's."""
        mask = ir.Constant(ir.VectorType(I32, len(order)), [I32(place) for place in order])
        return self.builder.shuffle_vector(a, b, mask)

    def broadcast(self, pointer: Value, elements: Value = 0) -> Value:
        """Return a vector of the number at ``pointer`` + ``elements``."""
        return self.splat(self.builder.load(self.offset(pointer, elements), align=4))

    def load(self, pointer: Value, elements: Value = 0, *, lanes: int | None = None) -> Value:
        """Load a vector of what a pointer points to.

        With ``lanes``, only so many numbers, and the rest is 0.
        """
        full, element = self.target.lanes, pointer.type.pointee
        vector, align = ir.VectorType(element, full), size_of(element)
        if lanes is None or lanes >= full:
            place = self.builder.bitcast(self.offset(pointer, elements), vector.as_pointer())
            return self.builder.load(place, align=align)
        result = ir.Constant(vector, None)
        for lane in range(lanes):
            number = self.builder.load(self.offset(pointer, self.add(elements, lane)), align=align)
            result = self.builder.insert_element(result, number, I32(lane))
        return result

    def store(
        self, vector: Value, pointer: Value, elements: Value = 0, *, lanes: int | None = None
    ) -> None:
        """Store a vector; with ``lanes``, only its first numbers."""
        full, align = self.target.lanes, size_of(pointer.type.pointee)
        if lanes is None or lanes >= full:
            place = self.offset(pointer, elements)
            place = self.builder.bitcast(place, vector.type.as_pointer())
            self.builder.store(vector, place, align=align)
            return
        for lane in range(lanes):
            number = self.builder.extract_element(vector, I32(lane))
            self.builder.store(number, self.offset(pointer, self.add(elements, lane)), align=align)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a · b + c, rounded once where the target has FMA, twice where it has not."""
        if not self.target.fma:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        return self.builder.call(self.intrinsic("llvm.fma", 3), [a, b, c])

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the greater of two vectors, lane by lane; b where either is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def fold(self, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
        """Return a vector of all lanes joined, halves onto each other."""
        lanes = self.target.lanes
        half = lanes // 2
        while half:
            order = [I32(lane ^ half) for lane in range(lanes)]
            mask = ir.Constant(ir.VectorType(I32, lanes), order)
            vector = join(vector, self.builder.shuffle_vector(vector, vector, mask))
            half //= 2
        return vector

    def intrinsic(self, name: str, operands: int) -> Value:
        """Return the vector intrinsic ``name``, which takes ``operands`` vectors."""
        full = f"{name}.v{self.target.lanes}f32"
        if full in self.module.globals:
            return self.module.globals[full]
        signature = ir.FunctionType(self.vector, [self.vector] * operands)
        return ir.Function(self.module, signature, full)

    def prefetch(
        self, pointer: Value, elements: Value = 0, *, level: int = 2, write: bool = False
    ) -> None:
        """Ask for the line at ``pointer`` + ``elements`` to be brought into a cache.

        ``level`` is 1 or 2; ``write`` asks for it as one that will be written.
        """
        name = "llvm.prefetch.p0"
        if name in self.module.globals:
            function = self.module.globals[name]
        else:
            signature = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
            function = ir.Function(self.module, signature, name)
        place = self.builder.bitcast(self.offset(pointer, elements), I8.as_pointer())
        self.builder.call(function, [place, I32(int(write)), I32(4 - level), I32(1)])
