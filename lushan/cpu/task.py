"""What lowering produces: tasks for generated kernels, over values that lie in memory as planes.

A ``Task`` is one kernel with its row of integers, cut into chunks that any thread may take in any
order. A ``Plane`` says how a value lies in memory: NHWC, with a halo of extra rows and columns
around each picture where a convolution wants its padding. Where planes lie is planned later, so a
task names places (``Place``), which become a base and an offset in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from lushan.cpu.target import Target
from lushan.record import record, replace

FLOAT = 4  # bytes
UNLIMITED = 1 << 60


class Kernel(Protocol):
    """A specification of generated code: frozen, and equal when the code would be equal."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel as a function called ``name``."""


@record
class Plane:
    """A value of shape [N, H, W, C] in memory; [N, C] is a plane of height and width 1.

    ``halo`` is (top, bottom, left, right), in pixels; an element has ``itemsize`` bytes. Strides
    and offsets are in elements.
    """

    value: str
    shape: tuple[int, int, int, int]
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    itemsize: int = FLOAT

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        _, _, w, c = self.shape
        return (self.halo[2] + w + self.halo[3]) * c

    @property
    def image(self) -> int:
        """Elements from one picture to the next."""
        return (self.halo[0] + self.shape[1] + self.halo[1]) * self.row

    @property
    def origin(self) -> int:
        """Element of the first real pixel of the first picture."""
        return self.halo[0] * self.row + self.halo[2] * self.shape[3]

    @property
    def bytes(self) -> int:
        """Bytes of the whole plane, halo included.

        Kernels read bytes by fours: what lies behind the last one must be somebody's memory.
        """
        slack = FLOAT - self.itemsize
        return self.itemsize * self.shape[0] * self.image + slack

    @property
    def is_dense(self) -> bool:
        """Whether there is no halo: all pixels of all pictures follow each other."""
        return not any(self.halo)

    def of_pictures(self, count: int) -> Plane:
        """Return the plane of so many pictures that lie like these."""
        return replace(self, shape=(count, *self.shape[1:]))

    def at(self, element: int | None = None) -> Place:
        """Return the place of an element; of the first real pixel without one."""
        return Place(self.value, self.itemsize * (self.origin if element is None else element))


@record
class Place:
    """A byte of a planned value: two integers among a task's arguments, base and offset."""

    value: str
    offset: int


Argument: TypeAlias = "int | Place | NDArray[Any]"


@record(eq=False)
class Task:
    """One kernel over one step's data.

    ``arguments`` maps the kernel's argument numbers to integers, places (which take two numbers)
    or arrays of packed weights (their address). The chunks 0 … ``chunks`` − 1 are independent of
    each other. ``waits`` says whether the tasks before it in the same step must be done first;
    that steps wait for each other is planned later. ``scratch`` is how many bytes each thread
    needs for itself while in it.
    """

    kernel: Kernel
    arguments: Mapping[IntEnum, Argument]
    chunks: int
    waits: bool = False
    scratch: int = 0
