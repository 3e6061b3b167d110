"""Writing kernels on bytes: sums of products in 32-bit integers, and the way back to bytes.

What the float32 steps of ``lushan.reference.requantization`` are in instructions is here, once for
all kernels: every multiply, add, minimum and maximum rounds by itself, on every instruction set.
"""

from __future__ import annotations

from llvmlite import ir

from lushan.cpu.emit import I8, I16, I32, KernelEmitter, Value
from lushan.cpu.target import Target

QUAD = 4  # bytes of the input that one step of a sum takes
_ROUNDING = 1.5 * 2**23  # a float32 near it is a whole number, rounded half to even


def weight_bytes(target: Target) -> int:
    """Return how many bytes a packed weight takes: two where products are summed in pairs."""
    return 1 if target.has_vnni else 2


class ByteEmitter(KernelEmitter):
    """Emits one kernel on bytes. Vectors have as many numbers as those of float32 have."""

    def __init__(self, name: str, target: Target) -> None:
        super().__init__(name, target)
        self.integers = ir.VectorType(I32, target.lanes)

    def zero_sums(self) -> Value:
        """Return a vector of sums of nothing."""
        return ir.Constant(self.integers, [0] * self.target.lanes)

    # --- memory -------------------------------------------------------------------------------

    def load_bytes(
        self, pointer: Value, elements: Value = 0, *, count: int = 0, used: int | None = None
    ) -> Value:
        """Load ``count`` bytes, else as many as a vector has lanes; only the first ``used``."""
        count = count or self.target.lanes
        vector = ir.VectorType(I8, count)
        if used is None or used >= count:
            place = self.builder.bitcast(self.offset(pointer, elements), vector.as_pointer())
            return self.builder.load(place, align=1)
        result = ir.Constant(vector, [0] * count)
        for lane in range(used):
            byte = self.builder.load(self.offset(pointer, self.add(elements, lane)), align=1)
            result = self.builder.insert_element(result, byte, I32(lane))
        return result

    def store_bytes(
        self, vector: Value, pointer: Value, elements: Value = 0, *, used: int | None = None
    ) -> None:
        """Store a vector of bytes; with ``used``, only the first of them."""
        if used is None or used >= vector.type.count:
            at = self.builder.bitcast(self.offset(pointer, elements), vector.type.as_pointer())
            self.builder.store(vector, at, align=1)
            return
        for lane in range(used):
            byte = self.builder.extract_element(vector, I32(lane))
            self.builder.store(byte, self.offset(pointer, self.add(elements, lane)), align=1)

    def pieces(self, length: int) -> list[tuple[int, int]]:
        """Return (start, bytes) of vectors that cover a line of ``length`` bytes.

        All are as long as fits: four bytes for each lane, or less. The last may lie over others.
        """
        count = 1 << (min(4 * self.target.lanes, length).bit_length() - 1)
        return [(min(start, length - count), count) for start in range(0, length, count)]

    def maximum_bytes(self, a: Value, b: Value) -> Value:
        """Return the greater of two vectors of bytes, lane by lane."""
        return self.builder.select(self.builder.icmp_unsigned(">", a, b), a, b)

    # --- float32 and back -----------------------------------------------------------------------

    def bytes_to_floats(self, vector: Value) -> Value:
        """Return a vector of bytes as float32."""
        wide = self.builder.zext(vector, self.integers)
        return self.builder.sitofp(wide, self.vector)

    def integers_to_floats(self, vector: Value) -> Value:
        """Return a vector of 32-bit integers as float32, rounded half to even."""
        return self.builder.sitofp(vector, self.vector)

    def floats_to_bytes(self, v: Value, low: Value) -> Value:
        """Return v clamped to ``low`` … 255 and rounded half to even, as bytes.

        ``low`` is a vector of whole numbers. A NaN becomes 255. See ``reference.round_to_bytes``.
        """
        b, highest = self.builder, self.splat(255.0)
        v = b.select(b.fcmp_ordered("<", v, highest), v, highest)
        v = b.select(b.fcmp_ordered(">", v, low), v, low)
        # The sum rounds to a whole number, which the last bits of it show.
        whole = b.bitcast(b.fadd(v, self.splat(_ROUNDING)), self.integers)
        return b.trunc(whole, ir.VectorType(I8, self.target.lanes))

    # --- sums of products -------------------------------------------------------------------------

    def broadcast_quad(self, pointer: Value, elements: Value = 0) -> Value:
        """Return a vector of integers that all hold the four bytes at ``pointer``."""
        place = self.builder.bitcast(self.offset(pointer, elements), I32.as_pointer())
        undefined = ir.Constant(self.integers, ir.Undefined)
        single = self.builder.insert_element(undefined, self.builder.load(place, align=1), I32(0))
        mask = ir.Constant(self.integers, [I32(0)] * self.target.lanes)
        return self.builder.shuffle_vector(single, undefined, mask)

    def load_weights(self, pointer: Value, elements: Value) -> list[Value]:
        """Return the packed weights of one vector of channels for a step of the sum.

        Those are the four int8 of each channel, or the first two and the last two as int16.
        """
        lanes = self.target.lanes
        if self.target.has_vnni:
            place = self.builder.bitcast(self.offset(pointer, elements), self.integers.as_pointer())
            return [self.builder.load(place, align=1)]
        pairs = ir.VectorType(I16, 2 * lanes)
        return [
            self.builder.load(
                self.builder.bitcast(
                    self.offset(pointer, self.add(elements, half * QUAD * lanes)),
                    pairs.as_pointer(),
                ),
                align=1,
            )
            for half in range(2)
        ]

    def split_quad(self, quads: Value) -> list[Value]:
        """Return what ``add_products`` wants of quads of bytes: themselves, or pairs of int16."""
        if self.target.has_vnni:
            return [quads]
        lanes = self.target.lanes
        spread = self.builder.bitcast(quads, ir.VectorType(I8, QUAD * lanes))
        zero = ir.Constant(spread.type, [0] * (QUAD * lanes))
        halves = []
        for first in (0, 2):
            # Bytes first and first + 1 of each quad, each followed by a byte of zero.
            picks = [first, QUAD * lanes, first + 1, QUAD * lanes]
            places = [
                pick + QUAD * lane if pick < QUAD else pick
                for lane in range(lanes)
                for pick in picks
            ]
            mask = ir.Constant(ir.VectorType(I32, QUAD * lanes), [I32(p) for p in places])
            bytes_ = self.builder.shuffle_vector(spread, zero, mask)
            halves.append(self.builder.bitcast(bytes_, ir.VectorType(I16, 2 * lanes)))
        return halves

    def add_products(self, total: Value, x: list[Value], weights: list[Value]) -> Value:
        """Return ``total`` plus the four products of each lane, exact in 32 bits."""
        if self.target.has_vnni:
            return self._vnni(total, x[0], weights[0])
        for pair, weight in zip(x, weights, strict=True):
            total = self.builder.add(total, self._pair_products(pair, weight))
        return total

    def _vnni(self, total: Value, x: Value, weights: Value) -> Value:
        """Unsigned bytes times signed ones: vpdpbusd, which does not saturate.

        As inline assembly: the operands of LLVM's intrinsic are of other types since LLVM 22.
        """
        signature = ir.FunctionType(self.integers, [self.integers] * 3)
        code = ir.InlineAsm(signature, "vpdpbusd $3, $2, $0", "=v,0,v,v", side_effect=False)
        return self.builder.call(code, [total, x, weights])

    def _pair_products(self, a: Value, b: Value) -> Value:
        """Return the sum of the products of each pair of int16, 32 bits each."""
        lanes, builder = self.target.lanes, self.builder
        name = _PAIR_PRODUCTS.get(lanes) if self.target.is_x86 else None
        if name is not None:
            if name not in self.module.globals:
                signature = ir.FunctionType(self.integers, [a.type, b.type])
                ir.Function(self.module, signature, name)
            return builder.call(self.module.globals[name], [a, b])
        a, b = (builder.bitcast(vector, self.integers) for vector in (a, b))
        half = ir.Constant(self.integers, [I32(16)] * lanes)
        high = builder.mul(builder.ashr(a, half), builder.ashr(b, half))
        a, b = (builder.ashr(builder.shl(vector, half), half) for vector in (a, b))
        return builder.add(high, builder.mul(a, b))


_PAIR_PRODUCTS = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
