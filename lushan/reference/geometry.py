"""Where a sliding window lies on a plane: kernel, stride, padding, dilation, and the sizes.

Convolution and pooling slide the same window; everything they must agree on is said here once.
Output row ho and kernel row kh meet at input row

    h = ho * stride - top + kh * dilation

and columns alike. A row outside 0 … H-1 is padding. Left out: ``ceil_mode`` (no network of the
family rounds up) and padding by name ("same"): it means different things to different tools.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TypeAlias, overload

from lushan.errors import UsageError
from lushan.record import record

Pair: TypeAlias = int | Sequence[int]  # one number for both, or (height, width)
Edges: TypeAlias = int | Sequence[int]  # one, (height, width), or (top, bottom, left, right)


@record
class Window:
    """A window as it slides: build it with ``window``, which checks the numbers."""

    kernel: tuple[int, int]  # KH, KW
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]

    @property
    def effective_kernel(self) -> tuple[int, int]:
        """Height and width from the first to the last pixel that the window touches."""
        (KH, KW), (down, across) = self.kernel, self.dilation
        return (KH - 1) * down + 1, (KW - 1) * across + 1

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel sees exactly the input pixel at its own place."""
        return self.kernel == self.stride == (1, 1) and not any(self.padding)

    @overload
    def output_size(self, H: int, W: int) -> tuple[int, int]: ...
    @overload
    def output_size(self, H: int | None, W: int | None) -> tuple[int | None, int | None]: ...

    def output_size(self, H: int | None, W: int | None) -> tuple[int | None, int | None]:
        """Return HO, WO = floor((size + padding - effective kernel) / stride) + 1 for an H×W input.

        A size that is None is not known yet; what follows from it is None too.
        """
        HO, WO = (
            None if size is None else (size + edges - kernel) // stride + 1
            for size, edges, kernel, stride in zip(
                (H, W), self._edges, self.effective_kernel, self.stride, strict=True
            )
        )
        if any(size is not None and size < 1 for size in (H, W, HO, WO)):
            raise UsageError(
                "a window of {height}×{width} pixels does not fit an input of {H}×{W} pixels "
                "with the padding {padding} (top, bottom, left, right)",
                height=self.effective_kernel[0],
                width=self.effective_kernel[1],
                H="?" if H is None else H,
                W="?" if W is None else W,
                padding=self.padding,
            )
        return HO, WO

    @overload
    def transposed_size(self, H: int, W: int, output_padding: Pair) -> tuple[int, int]: ...
    @overload
    def transposed_size(
        self, H: int | None, W: int | None, output_padding: Pair
    ) -> tuple[int | None, int | None]: ...

    def transposed_size(
        self, H: int | None, W: int | None, output_padding: Pair
    ) -> tuple[int | None, int | None]:
        """Return HO, WO = (size - 1) * stride - padding + effective kernel + output padding.

        It undoes ``output_size``: that maps ``stride`` different sizes to one, and
        ``output_padding`` (below the stride) says which of them is meant.
        """
        extra = pair("output_padding", output_padding, smallest=0)
        if extra[0] >= self.stride[0] or extra[1] >= self.stride[1]:
            raise UsageError(
                "output_padding {output_padding} must be below the stride {stride}",
                output_padding=output_padding,
                stride=self.stride,
            )
        HO, WO = (
            None if size is None else (size - 1) * stride - edges + kernel + more
            for size, edges, kernel, stride, more in zip(
                (H, W), self._edges, self.effective_kernel, self.stride, extra, strict=True
            )
        )
        self.output_size(HO, WO)  # raises where the padding leaves nothing
        return HO, WO

    @property
    def _edges(self) -> tuple[int, int]:
        """The padding of both sides together, in height and in width."""
        top, bottom, left, right = self.padding
        return top + bottom, left + right

    def taps(self, H: int, W: int, rows: range, WO: int) -> Iterator[Tap]:
        """Yield what each kernel position touches, in row-major order, leaving padding out.

        ``rows`` are the output rows to look at; the output slices count from its start.
        """
        top, _, left, _ = self.padding
        for kh in range(self.kernel[0]):
            h = _overlap(rows, H, self.stride[0], kh * self.dilation[0] - top)
            for kw in range(self.kernel[1]):
                w = _overlap(range(WO), W, self.stride[1], kw * self.dilation[1] - left)
                if h and w:
                    yield Tap(kh, kw, (slice(None), h[0], w[0]), (slice(None), h[1], w[1]))


@record
class Tap:
    """One kernel position and the pixels that it joins while the window slides.

    ``y[output]`` and ``x[input]`` of arrays [N, height, width, …] are the pixels that meet.
    """

    kh: int
    kw: int
    output: tuple[slice, slice, slice]
    input: tuple[slice, slice, slice]


def _overlap(outputs: range, size: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Return the outputs o with 0 <= o * stride + offset < size, and the inputs they meet."""
    first = max(outputs.start, -(offset // stride))  # -(a // b) is ceil(-a / b)
    last = min(outputs.stop - 1, (size - 1 - offset) // stride)
    if first > last:
        return None
    output = slice(first - outputs.start, last + 1 - outputs.start)
    return output, slice(first * stride + offset, last * stride + offset + 1, stride)


def window(kernel: Pair, *, stride: Pair = 1, padding: Edges = 0, dilation: Pair = 1) -> Window:
    """Check and complete the four numbers of a window.

    ``kernel``, ``stride`` and ``dilation`` are one positive integer or (height, width);
    ``padding`` is one integer, (height, width) or (top, bottom, left, right), none negative.
    Raises UsageError for anything else.
    """
    return Window(
        pair("kernel", kernel), pair("stride", stride), edges(padding), pair("dilation", dilation)
    )


def pair(name: str, value: Pair, *, smallest: int = 1) -> tuple[int, int]:
    """Return ``value`` as (height, width); each must be at least ``smallest``."""
    numbers = _integers(value)
    if len(numbers) == 1 and not isinstance(value, Sequence):
        numbers *= 2
    if len(numbers) != 2 or min(numbers) < smallest:
        raise UsageError(
            "{name} must be an integer or (height, width), at least {smallest}, got {value}",
            name=name,
            smallest=smallest,
            value=value,
        )
    return numbers[0], numbers[1]


def edges(padding: Edges) -> tuple[int, int, int, int]:
    """Return ``padding`` as (top, bottom, left, right)."""
    numbers = _integers(padding)
    if len(numbers) == 1 and not isinstance(padding, Sequence):
        numbers *= 2
    if len(numbers) == 2:
        numbers = (numbers[0], numbers[0], numbers[1], numbers[1])
    if len(numbers) != 4 or min(numbers) < 0:
        raise UsageError(
            "padding must be an integer, (height, width) or (top, bottom, left, right), "
            "none negative, got {value}",
            value=padding,
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _integers(value: int | Sequence[int]) -> tuple[int, ...]:
    """Return the integers in ``value``, or nothing when something else is among them."""
    values = value if isinstance(value, Sequence) else (value,)
    try:
        return tuple(operator.index(number) for number in values)
    except TypeError:
        return ()
