"""Arithmetic on bytes: products of u8 and s8 summed in 32 bits, and the way back to bytes.

A step of a sum takes four neighbouring bytes of the input and, for each output channel, four
weights: 32 bits each, so that a vector of weights is L channels × 4. Every sum is an exact integer,
and every step of float32 rounds by itself, so all instruction sets give the same bits. They differ
in how a step is made:

* AVX-512 VNNI and AVX-VNNI have an instruction for it (``vpdpbusd``);
* other x86 multiplies 16-bit numbers in pairs (``pmaddwd``): even and odd bytes are widened apart.
  (``pmaddubsw`` takes bytes, but its 16-bit sums saturate.)
* any other processor multiplies 32-bit numbers, one byte of the four after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from llvmlite import ir

from lushan.cpu.emit import I8, I32, KernelEmitter, Value
from lushan.cpu.target import Target

STEP = 4  # bytes of one step of a sum
I16 = ir.IntType(16)

# The numbers of one step as a processor wants them: one vector, or one for each part of the bytes.
Parts: TypeAlias = "list[Value]"

_PAIRS = {
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}
_PACKS = {
    16: "llvm.x86.avx512.packssdw.512",
    8: "llvm.x86.avx2.packssdw",
    4: "llvm.x86.sse2.packssdw.128",
}


def has_vnni(target: Target) -> bool:
    """Return whether the target multiplies bytes, and sums four products, in one instruction."""
    name = {"avx512": "+avx512vnni", "avx2": "+avxvnni"}.get(target.level)
    return name in target.features.split(",")


def registers_of_a_step(target: Target) -> int:
    """Return the vectors that the numbers of one step are taken apart into."""
    if has_vnni(target):
        return 1
    return 2 if target.is_x86 else STEP


class ByteArithmetic:
    """Emits arithmetic on vectors of bytes with a kernel's emitter."""

    def __init__(self, e: KernelEmitter) -> None:
        self.e = e
        self.target = target = e.target
        self.integers = ir.VectorType(I32, target.lanes)
        self.words = ir.VectorType(I16, 2 * target.lanes)

    # --- sums ---------------------------------------------------------------------------------

    def zero(self) -> Value:
        """Return a sum of nothing: 32-bit integers."""
        return ir.Constant(self.integers, None)

    def numbers(self, x: Value, elements: Value) -> Parts:
        """Return four bytes of the input, at ``x`` + ``elements``, in every lane."""
        place = self.e.builder.bitcast(self.e.offset(x, elements), I32.as_pointer())
        return self.as_numbers(self.e.spread(self.e.builder.load(place, align=1)))

    def as_numbers(self, four: Value) -> Parts:
        """Return four bytes in each lane, 32 bits, as numbers of a step."""
        b = self.e.builder
        if has_vnni(self.target):
            return [four]
        if self.target.is_x86:
            words = b.bitcast(four, self.words)
            low_bytes = ir.Constant(self.words, [255] * self.words.count)
            return [b.and_(words, low_bytes), b.lshr(words, self._of(self.words, 8))]
        last = self._of(self.integers, 255)
        return [b.and_(b.lshr(four, self._of(self.integers, 8 * i)), last) for i in range(STEP)]

    def weights(self, weights: Value, elements: Value) -> Parts:
        """Return a vector of four int8 weights for each channel, at ``weights`` + ``elements``."""
        place = self.e.offset(weights, elements)
        place = self.e.builder.bitcast(place, self.integers.as_pointer())
        return self.as_weights(self.e.builder.load(place, align=4))

    def as_weights(self, four: Value) -> Parts:
        """Return four int8 in each lane, 32 bits, as weights of a step."""
        b = self.e.builder
        if has_vnni(self.target):
            return [four]
        if self.target.is_x86:
            words, eight = b.bitcast(four, self.words), self._of(self.words, 8)
            return [b.ashr(b.shl(words, eight), eight), b.ashr(words, eight)]
        top = self._of(self.integers, 24)
        shifted = [b.shl(four, self._of(self.integers, 24 - 8 * i)) for i in range(STEP)]
        return [b.ashr(part, top) for part in shifted]

    def add_products(self, total: Value, numbers: Parts, weights: Parts) -> Value:
        """Return a sum with the four products of each lane added."""
        b = self.e.builder
        if has_vnni(self.target):
            # As assembly, because the types of LLVM's intrinsic differ between its versions.
            kind = ir.FunctionType(self.integers, [self.integers] * 3)
            short = "" if self.target.level == "avx512" else "{vex} "
            instruction = ir.InlineAsm(kind, f"{short}vpdpbusd $3, $2, $0", "=v,0,v,v")
            return b.call(instruction, [total, *numbers, *weights])
        for number, weight in zip(numbers, weights, strict=True):
            if self.target.is_x86:
                multiply = self._function(
                    _PAIRS[self.target.lanes], self.integers, [self.words] * 2
                )
                total = b.add(total, b.call(multiply, [number, weight]))
            else:
                total = b.add(total, b.mul(number, weight))
        return total

    def quads_of_rows(self, rows: Sequence[Value]) -> list[Value]:
        """Return 4 L bytes of each of four rows as lanes of four: those of one column.

        The four vectors have columns by fours: of each sixteen, the first has 0 to 3, the second
        4 to 7, and so on.
        """
        b = self.e.builder
        quads = []
        for half in (0, 1):
            a, c = (
                b.bitcast(self._interleave(rows[i], rows[i + 1], half, 16), self.words)
                for i in (0, 2)
            )
            quads += [self._interleave(a, c, part, 8) for part in (0, 1)]
        return [b.bitcast(quad, self.integers) for quad in quads]

    def _interleave(self, a: Value, c: Value, half: int, group: int) -> Value:
        """Return a and c in turns, from one half of each group of so many elements (16 bytes)."""
        count = a.type.count
        order = []
        for start in range(0, count, group):
            for place in range(start + half * group // 2, start + (half + 1) * group // 2):
                order += [place, count + place]
        return self.e.shuffle(a, c, order)

    # --- pairs of 16-bit numbers --------------------------------------------------------------

    def add_pairs(self, total: Value, numbers: Value, weights: Value) -> Value:
        """Return 32-bit sums with two products added, of the two 16-bit numbers in each lane."""
        b = self.e.builder
        if self.target.is_x86:
            multiply = self._function(_PAIRS[self.target.lanes], self.integers, [self.words] * 2)
            operands = [b.bitcast(numbers, self.words), b.bitcast(weights, self.words)]
            return b.add(total, b.call(multiply, operands))
        half = self._of(self.integers, 16)
        low = b.mul(*(b.ashr(b.shl(value, half), half) for value in (numbers, weights)))
        return b.add(total, b.add(low, b.mul(b.ashr(numbers, half), b.ashr(weights, half))))

    def pack_pairs(self, first: Value, second: Value) -> Value:
        """Return two vectors of 32-bit integers as 16-bit numbers, two to a lane.

        Groups of four lanes alternate: four numbers of ``first``, four of ``second``, and so on.
        The numbers must fit 16 bits.
        """
        b, lanes = self.e.builder, self.target.lanes
        if self.target.is_x86:
            pack = self._function(_PACKS[lanes], self.words, [self.integers] * 2)
            return b.bitcast(b.call(pack, [first, second]), self.integers)
        order = [
            lane + source * lanes
            for group in range(0, lanes, 4)
            for source in (0, 1)
            for lane in range(group, group + 4)
        ]
        narrow = ir.VectorType(I16, lanes)
        mask = ir.Constant(ir.VectorType(I32, 2 * lanes), [I32(place) for place in order])
        packed = b.shuffle_vector(b.trunc(first, narrow), b.trunc(second, narrow), mask)
        return b.bitcast(packed, self.integers)

    # --- floats and bytes ---------------------------------------------------------------------

    def sums_as_floats(self, total: Value) -> Value:
        """Return integers as float32, rounded to even."""
        return self.e.builder.sitofp(total, self.e.vector)

    def bytes_as_floats(self, numbers: Value) -> Value:
        """Return a vector of bytes as float32, exactly."""
        return self.sums_as_floats(self.e.builder.zext(numbers, self.integers))

    def as_bytes(self, v: Value, low: int) -> Value:
        """Return float32 as bytes from ``low`` to 255: clamped, then rounded half to even.

        A NaN becomes 255. It is ``lushan.reference.quantization.round_to_bytes``.
        """
        e, b = self.e, self.e.builder
        least = e.splat(float(low))
        if self.target.level == "avx512":
            # What is beyond 32 bits, and a NaN, turns into 2³¹: the greatest byte, as it should.
            v = b.select(b.fcmp_ordered("<", v, least), least, v)
            rounded = self._rounded(v)
            most = self._of(self.integers, 255)
            rounded = b.select(b.icmp_unsigned("<", rounded, most), rounded, most)
        else:
            most = e.splat(255.0)
            v = b.select(b.fcmp_ordered("<", v, most), v, most)
            rounded = self._rounded(b.select(b.fcmp_ordered(">", v, least), v, least))
        return b.trunc(rounded, ir.VectorType(I8, self.target.lanes))

    def _rounded(self, v: Value) -> Value:
        """Return float32 as 32-bit integers, rounded half to even."""
        e, b, lanes = self.e, self.e.builder, self.target.lanes
        if not self.target.is_x86:
            nearest = self._function(f"llvm.nearbyint.v{lanes}f32", e.vector, [e.vector])
            return b.fptosi(b.call(nearest, [v]), self.integers)
        if lanes == 16:
            mask = ir.IntType(16)
            function = self._function(
                "llvm.x86.avx512.mask.cvtps2dq.512",
                self.integers,
                [e.vector, self.integers, mask, I32],
            )
            return b.call(function, [v, self.zero(), mask(0xFFFF), I32(4)])
        name = {8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}[lanes]
        return b.call(self._function(name, self.integers, [e.vector]), [v])

    def _of(self, vector: ir.VectorType, number: int) -> Value:
        return ir.Constant(vector, [number] * vector.count)

    def _function(self, name: str, result: ir.Type, operands: list[ir.Type]) -> Value:
        module = self.e.module
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(result, operands), name)
        return module.globals[name]
