"""The native loop that runs a whole program: one call per thread and inference, no Python inside.

It walks a table of tasks. Threads claim chunks of a task from a counter, because a stolen core
would stall a static split, and meet at a barrier where a task needs what came before it. The
barrier counts arrivals and never resets: thread t may pass the k-th when k·threads have arrived.
Waiting threads spin briefly with a pause, then let others run, so that more threads than cores are
slow, not stuck.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from llvmlite import ir

from lushan.cpu.emit import I8, I64, SIGNATURE
from lushan.cpu.target import Target

KERNEL, ARGUMENTS, CHUNKS, WAITS = range(4)  # the columns of the table of tasks
COLUMNS = 4
_SPINS = 2000  # about 30 µs with the pause: longer than threads of a balanced step are apart

PROTOTYPE = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,  # bases of this thread
    ctypes.c_void_p,  # table of tasks, int64 [count, 4]
    ctypes.c_int64,  # count
    ctypes.c_void_p,  # counters, int64 [count], zero before the first thread starts
    ctypes.c_void_p,  # arrivals, int64 [1], likewise
    ctypes.c_int64,  # threads
    ctypes.c_void_p,  # the system's yield function, or 0
)


@dataclass(frozen=True)
class Driver:
    """The specification of the loop: it depends on nothing but the target."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the loop as a function called ``name``."""
        module = ir.Module(name)
        pointer, numbers = I8.as_pointer(), I64.as_pointer()
        arguments = [pointer.as_pointer(), numbers, I64, numbers, numbers, I64, pointer]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        _emit(function, pauses=target.cpu.startswith("x86") or target.level != "generic")
        return str(module)


def _emit(function: ir.Function, *, pauses: bool) -> None:
    bases, table, count, counters, arrivals, threads, yielding = function.args
    entry, task, waiting, claim, work, following, last = (
        function.append_basic_block(name)
        for name in ("entry", "task", "waiting", "claim", "work", "following", "last")
    )
    builder = ir.IRBuilder(entry)
    builder.cbranch(builder.icmp_signed("<", I64(0), count), task, last)

    builder.position_at_end(task)
    index = builder.phi(I64, "index")
    passed = builder.phi(I64, "passed")  # arrivals that must be there before going on
    row = builder.gep(table, [builder.mul(index, I64(COLUMNS))])
    fields = [builder.load(builder.gep(row, [I64(column)])) for column in range(COLUMNS)]
    kernel = builder.inttoptr(fields[KERNEL], SIGNATURE.as_pointer())
    values = builder.inttoptr(fields[ARGUMENTS], I64.as_pointer())
    counter = builder.gep(counters, [index])
    wanted = builder.add(passed, threads)
    builder.cbranch(builder.icmp_signed("!=", fields[WAITS], I64(0)), waiting, claim)

    builder.position_at_end(waiting)
    barrier_end = _barrier(builder, function, arrivals, wanted, yielding, pauses=pauses)
    builder.branch(claim)

    builder.position_at_end(claim)
    reached = builder.phi(I64, "reached")
    reached.add_incoming(passed, task)
    reached.add_incoming(wanted, barrier_end)
    reached.add_incoming(reached, work)
    chunk = builder.atomic_rmw("add", counter, I64(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", chunk, fields[CHUNKS]), work, following)

    builder.position_at_end(work)
    builder.call(kernel, [bases, values, chunk])
    builder.branch(claim)

    builder.position_at_end(following)
    next_index = builder.add(index, I64(1))
    index.add_incoming(I64(0), entry)
    index.add_incoming(next_index, following)
    passed.add_incoming(I64(0), entry)
    passed.add_incoming(reached, following)
    builder.cbranch(builder.icmp_signed("<", next_index, count), task, last)

    builder.position_at_end(last)
    # No thread returns before all are done: the caller reads the results right away.
    total = builder.phi(I64, "total")
    total.add_incoming(I64(0), entry)
    total.add_incoming(reached, following)
    _barrier(builder, function, arrivals, builder.add(total, threads), yielding, pauses=pauses)
    builder.ret_void()


def _barrier(
    builder: ir.IRBuilder,
    function: ir.Function,
    arrivals: ir.Value,
    wanted: ir.Value,
    yielding: ir.Value,
    *,
    pauses: bool,
) -> ir.Block:
    """Arrive, then wait until ``wanted`` threads have; return the block after it."""
    look, spin, patience, give, end = (
        function.append_basic_block(name) for name in ("look", "spin", "patience", "give", "end")
    )
    builder.atomic_rmw("add", arrivals, I64(1), "acq_rel")
    before = builder.block
    builder.branch(look)

    builder.position_at_end(look)
    turns = builder.phi(I64, "turns")
    here = builder.load_atomic(arrivals, "acquire", 8)
    builder.cbranch(builder.icmp_signed(">=", here, wanted), end, spin)

    builder.position_at_end(spin)
    if pauses:
        builder.call(_pause(function.module), [])
    more = builder.add(turns, I64(1))
    builder.cbranch(builder.icmp_signed("<", more, I64(_SPINS)), look, patience)

    builder.position_at_end(patience)
    able = builder.icmp_unsigned("!=", builder.ptrtoint(yielding, I64), I64(0))
    builder.cbranch(able, give, look)

    builder.position_at_end(give)
    signature = ir.FunctionType(ir.IntType(32), [])
    builder.call(builder.bitcast(yielding, signature.as_pointer()), [])
    builder.branch(look)

    turns.add_incoming(I64(0), before)
    turns.add_incoming(more, spin)
    turns.add_incoming(more, patience)
    turns.add_incoming(more, give)
    builder.position_at_end(end)
    return end


def _pause(module: ir.Module) -> ir.Function:
    """Return x86's hint that this is a waiting loop."""
    name = "llvm.x86.sse2.pause"
    if name not in module.globals:
        ir.Function(module, ir.FunctionType(ir.VoidType(), []), name)
    return module.globals[name]
