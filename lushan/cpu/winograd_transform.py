"""The numbers of Winograd's convolution F(4×4, 3×3), and of the smaller F(2×2, 3×3).

In one dimension, four outputs of a 3-tap filter are six products (Winograd 1980; Lavin & Gray
2016). Six numbers d and three taps g are read as polynomials and evaluated at six points; there,
their product is number by number; four outputs are interpolated from it:

    y = A·[(G·g) ⊙ (B·d)]        A is 4×6, G is 6×3, B is 6×6

In two dimensions each transform is applied to the columns and then to the rows: 16 outputs from 36
products instead of 144. A point p makes numbers as large as p⁵, and rounding errors grow with them.
The usual points {0, ±1, ±2, ∞} are replaced by {0, ±1, ½, −2, ∞}: ½ and −2 take the largest numbers
from each other, and the error falls to between a half and a quarter. Two outputs are four products,
at {0, ±1, ∞}: 4 outputs from 16 products instead of 36, and half as many weights.

The products are linear in each of their factors. So the gradient of a sum by the taps goes the same
way back: Aᵀ·(gradient of y), times the same B·d, summed over all tiles, and Gᵀ of the sums.

``matrices`` derives A, B and G exactly. ``transform_input``, ``transform_output`` and
``transform_gradient`` are the same B, A and Aᵀ as straight lines of few operations, written over
any arithmetic: the kernels run them on vectors of channels, the tests on fractions. How many
numbers they are given says which scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

TAPS = 3
# A tile makes so many outputs in each direction, with these points beside ∞.
FINITE = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2)),
}

Matrix = list[list[Fraction]]
Number = TypeVar("Number")


class Arithmetic(Protocol[Number]):
    """What the straight lines need: sums, differences, and a multiple added."""

    def add(self, a: Number, b: Number, /) -> Number:
        """Return a + b."""

    def sub(self, a: Number, b: Number, /) -> Number:
        """Return a − b."""

    def fma(self, factor: float, b: Number, c: Number, /) -> Number:
        """Return factor · b + c; every factor here is exact in float32."""


def points(outputs: int) -> int:
    """Return the points of a scheme, which are the inputs of so many outputs too."""
    return outputs + TAPS - 1


def polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of Π (x − root), that of x⁰ first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [-root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


@cache
def matrices(outputs: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return A [4, 6], B [6, 6] and G [6, 3] for 4 outputs, exactly; for 2 likewise.

    By Lagrange: the polynomial that is 1 at one point and 0 at the other finite ones is
    Π (x − other) / Π (point − other). B has the numerators, G the powers of the points over the
    denominators, A the powers of the points. The last row of each is the point ∞: the leading
    coefficient.
    """
    finite = FINITE[outputs]
    A = [[point**power for point in finite] + [Fraction(0)] for power in range(outputs)]
    A[-1][-1] = Fraction(1)
    B, G = [], []
    for point in finite:
        others = [other for other in finite if other != point]
        denominator = Fraction(1)
        for other in others:
            denominator *= point - other
        B.append([*polynomial(others), Fraction(0)])
        G.append([point**power / denominator for power in range(TAPS)])
    B.append(polynomial(finite))
    G.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    return A, B, G


def transform_input(d: Sequence[Number], of: Arithmetic[Number]) -> list[Number]:
    """Return B·d: six numbers from six in 14 operations, or four from four in 4.

    B's rows for 1 and −1 are sum and difference of the same two halves; those for ½ and −2 are
    made of the differences d4 − d2 and d3 − d1, which the other four rows want too.
    """
    if len(d) == 4:
        return [of.sub(d[2], d[0]), of.add(d[1], d[2]), of.sub(d[2], d[1]), of.sub(d[3], d[1])]
    t, u = of.sub(d[4], d[2]), of.sub(d[3], d[1])
    even, odd = of.fma(1.5, d[3], t), of.fma(1.5, d[2], u)
    return [
        of.add(of.fma(1.5, u, of.sub(d[0], d[2])), t),  # 0
        of.add(even, odd),  # 1
        of.sub(even, odd),  # −1
        of.fma(2.0, u, t),  # ½
        of.fma(-0.5, u, t),  # −2
        of.sub(of.fma(1.5, t, of.sub(d[5], d[3])), u),  # ∞
    ]


def transform_output(m: Sequence[Number], of: Arithmetic[Number]) -> list[Number]:
    """Return A·m: four numbers from six in 12 operations, or two from four in 4.

    The points 1 and −1 share sum and difference.
    """
    even, odd = of.add(m[1], m[2]), of.sub(m[1], m[2])
    if len(m) == 4:
        return [of.add(m[0], even), of.add(odd, m[3])]
    return [
        of.add(of.add(of.add(m[0], even), m[3]), m[4]),
        of.fma(-2.0, m[4], of.fma(0.5, m[3], odd)),
        of.fma(4.0, m[4], of.fma(0.25, m[3], even)),
        of.fma(-8.0, m[4], of.fma(0.125, m[3], of.add(odd, m[5]))),
    ]


def transform_gradient(y: Sequence[Number], of: Arithmetic[Number]) -> list[Number]:
    """Return Aᵀ·y: six numbers from four in 10 operations, or four from two in 2.

    That is what outputs send back to the products: the gradient of ``transform_output``.
    """
    if len(y) == 2:
        return [y[0], of.add(y[0], y[1]), of.sub(y[0], y[1]), y[1]]
    even, odd = of.add(y[0], y[2]), of.add(y[1], y[3])
    return [
        y[0],
        of.add(even, odd),
        of.sub(even, odd),
        of.fma(0.125, y[3], of.fma(0.25, y[2], of.fma(0.5, y[1], y[0]))),
        of.fma(-8.0, y[3], of.fma(4.0, y[2], of.fma(-2.0, y[1], y[0]))),
        y[3],
    ]


def transform_weight(weight: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
    """Return G·w·Gᵀ of weight [3, 3, …] as float64 [6, 6, …] for 4 outputs, [4, 4, …] for 2.

    The order of the sums is fixed.
    """
    G = np.array(matrices(outputs)[2], np.float64)
    columns = _multiply_weight(G, weight.astype(np.float64))
    return np.moveaxis(_multiply_weight(G, np.moveaxis(columns, 1, 0)), 1, 0)


def _multiply_weight(G: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return G·w over the first axis, without a BLAS, whose order of sums is its own business."""
    lines: list[NDArray[np.float64]] = [
        g[0] * weight[0] + g[1] * weight[1] + g[2] * weight[2] for g in G
    ]
    return np.stack(lines)
