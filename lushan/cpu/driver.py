"""The native loop that runs a whole program: one call per thread and inference, no Python inside.

It walks a table of tasks. Each thread has a share of a task's chunks, those that follow each other,
so that what a layer wrote the next one finds near the same core. Chunks are claimed from counters,
and who is done with its own share goes on with those of others, because a stolen core would stall a
static split. Threads wait where a task needs what came before it: until all chunks
before it are done, whoever did them. So nobody waits for a thread that has no chunk: one that comes
late, or never, only leaves more to the others. Waiting threads spin briefly with a pause, then let
others run, so that more threads than cores are slow, not stuck.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from llvmlite import ir

from lushan.cpu.emit import I8, I32, I64, SIGNATURE
from lushan.cpu.target import Target
from lushan.record import record

KERNEL, ARGUMENTS, CHUNKS, WAITS = range(4)  # the columns of the table of tasks
COLUMNS = 4
_SPINS = 2000  # about 30 µs with the pause: longer than threads of a balanced step are apart

PROTOTYPE = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,  # bases of this thread
    ctypes.c_void_p,  # table of tasks, int64 [count, 4]
    ctypes.c_int64,  # count
    ctypes.c_int64,  # this thread's number
    ctypes.c_int64,  # threads
    ctypes.c_void_p,  # counters, int64 [count, threads], zero before the first thread starts
    ctypes.c_void_p,  # chunks done, int64 [1], likewise
    ctypes.c_void_p,  # the system's yield function, or 0
    ctypes.c_void_p,  # stamps of this thread, int64 [count, 2]; read by the timed loop alone
)


@record
class Driver:
    """The specification of the loop: it depends on little but the target.

    ``timed`` asks for two stamps of the processor's clock for each task: when this thread began
    it, after any waiting, and when it found no chunk left.
    """

    timed: bool = False

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the loop as a function called ``name``."""
        module = ir.Module(name)
        pointer, numbers = I8.as_pointer(), I64.as_pointer()
        arguments = [pointer.as_pointer(), numbers, *[I64] * 3, numbers, numbers, pointer, numbers]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        _emit(function, target, timed=self.timed)
        return str(module)


def _emit(function: ir.Function, target: Target, *, timed: bool) -> None:
    bases, table, count, thread, threads, counters, finished, yielding, stamps = function.args
    entry, task, waiting, begin, following, last = (
        function.append_basic_block(name)
        for name in ("entry", "task", "waiting", "begin", "following", "last")
    )
    builder = ir.IRBuilder(entry)
    builder.cbranch(builder.icmp_signed("<", I64(0), count), task, last)

    builder.position_at_end(task)
    index = builder.phi(I64, "index")
    before = builder.phi(I64, "before")  # chunks of all tasks before this one
    unreported = builder.phi(I64, "unreported")  # chunks this thread did since it last told
    row = builder.gep(table, [builder.mul(index, I64(COLUMNS))])
    fields = [builder.load(builder.gep(row, [I64(column)])) for column in range(COLUMNS)]
    kernel = builder.inttoptr(fields[KERNEL], SIGNATURE.as_pointer())
    values = builder.inttoptr(fields[ARGUMENTS], I64.as_pointer())
    builder.cbranch(builder.icmp_signed("!=", fields[WAITS], I64(0)), waiting, begin)

    builder.position_at_end(waiting)
    wait_end = _wait(builder, finished, unreported, before, yielding, target)
    builder.branch(begin)

    builder.position_at_end(begin)
    untold = builder.phi(I64, "untold")
    untold.add_incoming(unreported, task)
    untold.add_incoming(I64(0), wait_end)
    if timed:
        _stamp(builder, stamps, index, 0, target)

    def work(chunk: ir.Value) -> None:
        builder.call(kernel, [bases, values, chunk])

    of_task = builder.gep(counters, [builder.mul(index, threads)])
    own = _do_chunks(builder, work, fields[CHUNKS], of_task, (thread, threads), untold)
    builder.branch(following)

    builder.position_at_end(following)
    if timed:
        _stamp(builder, stamps, index, 1, target)
    next_index = builder.add(index, I64(1))
    next_before = builder.add(before, fields[CHUNKS])
    for phi, value in ((index, next_index), (before, next_before), (unreported, own)):
        phi.add_incoming(I64(0), entry)
        phi.add_incoming(value, following)
    builder.cbranch(builder.icmp_signed("<", next_index, count), task, last)

    builder.position_at_end(last)
    # No thread returns before everything is done: the caller reads the results right away.
    total, rest = builder.phi(I64, "total"), builder.phi(I64, "rest")
    for phi, value in ((total, next_before), (rest, own)):
        phi.add_incoming(I64(0), entry)
        phi.add_incoming(value, following)
    _wait(builder, finished, rest, total, yielding, target)
    builder.ret_void()


def _do_chunks(
    builder: ir.IRBuilder,
    work: Callable[[ir.Value], None],
    chunks: ir.Value,
    counters: ir.Value,
    team: tuple[ir.Value, ir.Value],
    before: ir.Value,
) -> ir.Value:
    """Claim chunks of a task until none is left; return ``before`` and how many it were.

    ``team`` is this thread's number, and of how many; ``counters`` has one for each share.
    """
    thread, threads = team
    begin = builder.block
    share, claim, claimed, other, end = (
        builder.function.append_basic_block(name)
        for name in ("share", "claim", "claimed", "other", "end")
    )
    builder.branch(share)

    builder.position_at_end(share)
    own = builder.phi(I64, "own")
    turn = builder.phi(I64, "turn")  # shares that this thread has seen the end of
    whose = builder.urem(builder.add(thread, turn), threads)
    first = builder.udiv(builder.mul(whose, chunks), threads)
    after = builder.udiv(builder.mul(builder.add(whose, I64(1)), chunks), threads)
    counter = builder.gep(counters, [whose])
    # Looking comes first: many threads that only look do not take the counter from each other.
    seen = builder.add(first, builder.load_atomic(counter, "monotonic", 8))
    builder.cbranch(builder.icmp_signed("<", seen, after), claim, other)

    builder.position_at_end(claim)
    chunk = builder.add(first, builder.atomic_rmw("add", counter, I64(1), "monotonic"))
    builder.cbranch(builder.icmp_signed("<", chunk, after), claimed, other)

    builder.position_at_end(claimed)
    work(chunk)
    more = builder.add(own, I64(1))
    builder.branch(share)

    builder.position_at_end(other)
    next_turn = builder.add(turn, I64(1))
    builder.cbranch(builder.icmp_signed("<", next_turn, threads), share, end)

    for phi, values in ((own, (before, more, own)), (turn, (I64(0), turn, next_turn))):
        for value, block in zip(values, (begin, claimed, other), strict=True):
            phi.add_incoming(value, block)
    builder.position_at_end(end)
    return own


def _wait(
    builder: ir.IRBuilder,
    finished: ir.Value,
    unreported: ir.Value,
    wanted: ir.Value,
    yielding: ir.Value,
    target: Target,
) -> ir.Block:
    """Report chunks as done, then wait until ``wanted`` are; return the block after it."""
    function = builder.function
    look, spin, patience, give, end = (
        function.append_basic_block(name) for name in ("look", "spin", "patience", "give", "end")
    )
    builder.atomic_rmw("add", finished, unreported, "acq_rel")
    before = builder.block
    builder.branch(look)

    builder.position_at_end(look)
    turns = builder.phi(I64, "turns")
    here = builder.load_atomic(finished, "acquire", 8)
    builder.cbranch(builder.icmp_signed(">=", here, wanted), end, spin)

    builder.position_at_end(spin)
    _pause(builder, target)
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


def _stamp(
    builder: ir.IRBuilder, stamps: ir.Value, task: ir.Value, which: int, target: Target
) -> None:
    """Store the processor's clock as one of a task's two stamps."""
    name, operands = "llvm.readcyclecounter", []
    if target.is_aarch64:  # whose counter of cycles is the system's alone
        name, operands = (
            "llvm.read_volatile_register.i64",
            [builder.module.add_metadata(["cntvct_el0"])],
        )
    signature = ir.FunctionType(I64, [operand.type for operand in operands])
    place = builder.gep(stamps, [builder.add(builder.mul(task, I64(2)), I64(which))])
    builder.store(builder.call(_function(builder, name, signature), operands), place)


def _pause(builder: ir.IRBuilder, target: Target) -> None:
    """Tell the processor that this is a waiting loop, where it has a word for that."""
    if target.is_x86:
        name, operands = "llvm.x86.sse2.pause", []
    elif target.is_aarch64:
        name, operands = "llvm.aarch64.hint", [I32(1)]  # YIELD
    else:
        return
    signature = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    builder.call(_function(builder, name, signature), operands)


def _function(builder: ir.IRBuilder, name: str, signature: ir.FunctionType) -> ir.Function:
    """Return the function ``name`` of the module, declared when first asked for."""
    known = builder.module.globals
    return known[name] if name in known else ir.Function(builder.module, signature, name)
