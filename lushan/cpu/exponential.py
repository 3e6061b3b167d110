"""exp of a vector, out of additions, multiplications and bit patterns.

    exp(x) = 2**n * exp(r),   n = round(x / log 2),   r = x - n * log 2,   |r| <= log(2) / 2

exp(r) is a polynomial, 1 + r + r²·q(r), with the coefficients of q chosen for the least greatest
relative error (3e-9; 8.4e-8 with float32 rounding). 2**n is put together as bits, in two
factors, because n goes beyond the exponents of float32 where results are subnormal or infinite.
No library is called, so the result is the same wherever the instruction set is.
"""

from __future__ import annotations

from llvmlite import ir

from lushan.cpu.emit import I32, KernelEmitter, Value

# Where results are infinite or round to 0, whatever lies beyond.
_GREATEST, _LEAST = 89.0, -104.0
_PER_LOG_2 = 1.4426950408889634
# log 2 in two parts: the first has 9 bits, so that n times it is exact.
_LOG_2_HIGH, _LOG_2_LOW = 0.693359375, -2.12194440054690583e-4
_POLYNOMIAL = (  # q, from the highest power down
    0.001381459878757596,
    0.008368716575205326,
    0.04166838899254799,
    0.1666652113199234,
    0.4999999403953552,
)
# Adding 1.5 * 2**23 leaves no room for a fraction: the sum is rounded, its low bits are n.
_ROUNDER = 12582912.0


def exponential(e: KernelEmitter, x: Value) -> Value:
    """Return exp(x), with a relative error below 1e-7; 0, ∞ and NaN where they belong."""
    b = e.builder
    integers = ir.VectorType(I32, e.target.lanes)

    def splat(value: int) -> Value:
        return ir.Constant(integers, [I32(value)] * e.target.lanes)

    # Comparisons with NaN are false: it stays.
    x = b.select(b.fcmp_ordered(">", x, e.splat(_GREATEST)), e.splat(_GREATEST), x)
    x = b.select(b.fcmp_ordered("<", x, e.splat(_LEAST)), e.splat(_LEAST), x)
    rounded = e.fma(x, e.splat(_PER_LOG_2), e.splat(_ROUNDER))
    n = b.sub(b.bitcast(rounded, integers), b.bitcast(e.splat(_ROUNDER), integers))
    count = b.fsub(rounded, e.splat(_ROUNDER))
    r = e.fma(count, e.splat(-_LOG_2_HIGH), x)
    r = e.fma(count, e.splat(-_LOG_2_LOW), r)
    q = e.splat(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        q = e.fma(q, r, e.splat(coefficient))
    result = b.fadd(e.fma(q, b.fmul(r, r), r), e.splat(1.0))
    half = b.ashr(n, splat(1))
    for part in (half, b.sub(n, half)):
        bits = b.shl(b.add(part, splat(127)), splat(23))
        result = b.fmul(result, b.bitcast(bits, e.vector))
    return result
