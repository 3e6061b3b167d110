"""Shapes as specifications: one check at the entry of every operator.

An operator states the shapes that it takes in the letters of ``lushan.reference``; a letter has
one size in all arrays of a call. Mixed float types are refused instead of promoted, because a
silent float64 halves the speed and a silent float32 costs digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
AnyArray: TypeAlias = npt.NDArray[Any]


def check_shapes(operator: str, **arrays: tuple[FloatArray | None, str]) -> dict[str, int]:
    """Check the arrays of one call against their specifications and return each letter's size.

    ``x=(x, "N H W IC")`` asks for four axes; ``"... C"`` allows any number of axes before C.
    An array that is None was not given and is skipped. Raises UsageError when an array is not of a
    float type, has another rank, has an empty axis, differs in float type, or when two arrays
    disagree about a letter.
    """
    first: tuple[str, np.dtype[Any]] | None = None
    for name, (array, _) in arrays.items():
        if array is not None:
            _check_type(operator, name, array, first)
            first = first or (name, array.dtype)
    return _check_sizes(operator, arrays)


def check_elements(operator: str, **arrays: tuple[AnyArray | None, str, str]) -> dict[str, int]:
    """Check the arrays of one call that have element types of their own, as ``check_shapes`` does.

    ``x=(x, "N H W IC", "uint8")`` asks for four axes of bytes; "" asks for a single number.
    """
    for name, (array, _, element) in arrays.items():
        if array is not None and not (isinstance(array, np.ndarray) and array.dtype == element):
            raise UsageError(
                "{operator}: {name} must be a NumPy array of {element}, got {received}",
                operator=operator,
                name=name,
                element=element,
                received=getattr(array, "dtype", type(array).__name__),
            )
    return _check_sizes(operator, {name: entry[:2] for name, entry in arrays.items()})


def _check_sizes(
    operator: str, arrays: Mapping[str, tuple[AnyArray | None, str]]
) -> dict[str, int]:
    """Check shapes against specifications and return each letter's size."""
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for name, (array, specification) in arrays.items():
        if array is None:
            continue
        letters = specification.split()
        leading = letters[:1] == ["..."]
        letters = letters[1:] if leading else letters
        if array.ndim < len(letters) or (array.ndim > len(letters) and not leading):
            raise UsageError(
                "{operator}: {name} has the shape {shape}; it must be [{specification}]",
                operator=operator,
                name=name,
                shape=array.shape,
                specification=", ".join(specification.split()),
            )
        if array.size == 0:
            raise UsageError(
                "{operator}: {name} is empty: its shape is {shape}",
                operator=operator,
                name=name,
                shape=array.shape,
            )
        for letter, size in zip(letters, array.shape[array.ndim - len(letters) :], strict=True):
            if sizes.setdefault(letter, size) != size:
                raise UsageError(
                    "{operator}: {name} has the shape {shape}, so {letter} is {size}, "
                    "but {other} has the shape {other_shape}, so {letter} is {other_size}",
                    operator=operator,
                    name=name,
                    shape=array.shape,
                    letter=letter,
                    size=size,
                    other=origin[letter],
                    other_shape=_shape(arrays[origin[letter]][0]),
                    other_size=sizes[letter],
                )
            origin.setdefault(letter, name)
    return sizes


def _check_type(
    operator: str, name: str, array: FloatArray, first: tuple[str, np.dtype[Any]] | None
) -> None:
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(
            "{operator}: {name} must be a NumPy array of floats, got {received}; "
            "convert it with numpy.asarray(…, dtype=numpy.float32)",
            operator=operator,
            name=name,
            received=getattr(array, "dtype", type(array).__name__),
        )
    if first is not None and array.dtype != first[1]:
        raise UsageError(
            "{operator}: {name} is {dtype}, but {other} is {other_dtype}; convert one of them",
            operator=operator,
            name=name,
            dtype=array.dtype,
            other=first[0],
            other_dtype=first[1],
        )


def check_same_shape(operator: str, **arrays: FloatArray) -> None:
    """Check that all arrays of a call have one shape and one float type, of any rank."""
    (first_name, first), *others = arrays.items()
    _check_type(operator, first_name, first, None)
    for name, array in others:
        _check_type(operator, name, array, (first_name, first.dtype))
        if array.shape != first.shape:
            raise UsageError(
                "{operator}: {name} has the shape {shape}, but {other} has {other_shape}; "
                "they must be the same",
                operator=operator,
                name=name,
                shape=array.shape,
                other=first_name,
                other_shape=first.shape,
            )


def check_gradient(
    operator: str, grad_y: FloatArray, y_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Check that a gradient has the shape of the output that it is the gradient of."""
    _check_type(operator, "grad_y", grad_y, ("x", dtype))
    if grad_y.shape != y_shape:
        raise UsageError(
            "{operator}: grad_y has the shape {shape}, but the output has {y_shape}",
            operator=operator,
            shape=grad_y.shape,
            y_shape=y_shape,
        )


def channel_sum(array: FloatArray) -> FloatArray:
    """Sum [..., C] over everything but the channels to [C].

    It is the gradient of a bias. The sum runs in float64: millions of pixels in a plain float32 sum
    would lose the small ones (mission, chapter 14).
    """
    check_shapes("channel_sum", x=(array, "... C"))
    axes = tuple(range(array.ndim - 1))
    total: FloatArray = array.sum(axis=axes, dtype=np.float64)
    return total.astype(array.dtype)


def _shape(array: AnyArray | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape
