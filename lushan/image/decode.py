"""Picture file → RGB pixels, by one input policy for every path into lushan.

The policy: the camera's orientation (EXIF) is applied; transparency is laid on white; grey,
palette, CMYK, 16-bit and other pixels become 8-bit RGB (``modes``); an embedded colour profile is
converted to sRGB; of several frames the first is taken; whatever was done is in the report.
A file that is damaged, cut short or no picture is an error that names it: nothing is guessed.

Formats are those that the installed Pillow reads, except EPS, which Pillow hands to Ghostscript:
a picture must not start another program. Pillow's own guard against oversized pictures works with
process-wide warnings and a process-wide limit; here the limit is an argument, checked against the
header before any pixel is decoded. What Pillow cannot tell, this module cannot either: a JPEG
whose damaged middle still decodes gives the damaged pixels.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from lushan.errors import LushanError, PictureError, PictureTooLargeError
from lushan.image.modes import bits_per_channel, to_rgb
from lushan.image.sources import open_source, source_name
from lushan.image.timed_file import TimedFile
from lushan.record import record

MAX_PIXELS = 178_000_000
"""Pictures with more pixels than this are refused unless the caller raises the limit."""

PictureSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
)

MAX_SCANS = 200
"""Where time is limited, a JPEG with more passes over its pixels than this is refused."""

_REFUSED_FORMATS = frozenset({"EPS"})
_ORIENTATION_TAG = 0x0112
# EXIF orientation → what brings the picture upright (EXIF 2.32, 4.6.4 A, Orientation).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@record
class InputReport:
    """What a picture was, and what was done to make it RGB pixels."""

    source: str  # path, file name, "<bytes>", "<array>" or "<image>"
    format: str | None  # Pillow's name of the file format; None for arrays and images in memory
    width: int  # pixels, upright
    height: int  # pixels, upright
    mode: str  # Pillow's name of the pixels before conversion: "RGB", "L", "CMYK", "I;16", …
    bits_per_channel: int  # in the file
    orientation: int  # the EXIF orientation that was undone, 1 to 8; 1: stored upright
    alpha_composited: bool  # there was transparency; it was laid on white
    frames: int  # frames or pages in the file
    frame: int  # the one that was used, counted from 0
    color_profile: str | None  # what the embedded ICC profile calls itself
    color_converted: bool  # its colours were converted to sRGB (sRGB profiles need no conversion)
    ignored: tuple[str, ...]  # parts of the file that could not be used, with the reason

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values, ready for JSON."""
        return {**vars(self), "ignored": list(self.ignored)}


@record
class Picture:
    """A decoded picture: upright 8-bit RGB, and the report of how it came about."""

    image: Image.Image  # mode RGB
    report: InputReport

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels as a new contiguous uint8 array [H, W, 3]."""
        return np.array(self.image)


def decode(
    source: PictureSource,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    seconds: float | None = None,
) -> Picture:
    """Return the picture in ``source`` as upright 8-bit RGB, with a report of what was done.

    ``source`` is a path, the bytes of a file, a binary file object (read to its end, from its
    start where it can be rewound; it stays open), a PIL image, or a uint8 array [H, W, 3],
    [H, W], [H, W, 1] or [H, W, 4] (the fourth channel is alpha). A PIL image is taken at the
    frame it shows. ``name`` stands for the source in messages and in the report. ``seconds`` is for
    the files of strangers: one that is still being read after that long is given up, and so is, at
    once, a JPEG that asks for more than ``MAX_SCANS`` passes over its pixels. What happens between
    two reads is bounded by the number of pixels alone.

    Raises ``PictureError``, which names the source and the reason, when there is no such file,
    it is no picture, is damaged, takes too long, or (``PictureTooLargeError``) has more than
    ``max_pixels`` pixels; ``UsageError`` when ``source`` is none of the above. Threads may decode
    at the same time.
    """
    if isinstance(source, np.ndarray):
        name = name or "<array>"
        return _finish(_image_from_array(source, name, max_pixels), name, frames=1)
    if isinstance(source, Image.Image):
        name = name or "<image>"
        _check_size(source.size, name, max_pixels)
        with _damage_named(name, source.format):
            return _finish(source, name, frames=1)
    name = name or source_name(source)
    with open_source(source, name) as opened:
        file = opened if seconds is None else TimedFile(opened.read(), name, seconds)
        image = _identify(file, name)
        if isinstance(file, TimedFile) and image.format in ("JPEG", "MPO"):
            _check_scans(file, name)
        with _damage_named(name, image.format), image:
            _check_size(image.size, name, max_pixels)
            return _finish(image, name, frames=getattr(image, "n_frames", 1), ours=True)


def _identify(file: BinaryIO, source: str) -> ImageFile.ImageFile:
    """Return the picture in ``file`` with its header read and its pixels not yet decoded.

    This is the core of ``Image.open`` without its guard against oversized pictures, which warns
    or raises by process-wide settings; the caller checks the size. The file's name is withheld
    from Pillow, so that it does not map a file into memory that may shrink meanwhile.
    """
    prefix = file.read(16)
    failure = ""
    tried = set(_REFUSED_FORMATS)
    for load_plugins in (Image.preinit, Image.init):  # the common formats first
        load_plugins()
        for format_name in tuple(Image.ID):
            if format_name in tried:
                continue
            tried.add(format_name)
            factory, accept = Image.OPEN[format_name]
            accepted: bool | str = False
            try:
                accepted = accept(prefix) if accept else True
                if isinstance(accepted, str):  # a known format whose support is not installed
                    failure = failure or accepted
                elif accepted:
                    file.seek(0)
                    return factory(file, "")
            except LushanError:
                raise
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accepted and accept:  # a plug-in that accepts anything says nothing by failing
                    failure = failure or f"{format_name}: {_reason(error)}"
            except Exception as error:
                raise _damaged(source, format_name, error) from error
    if failure:
        raise PictureError(
            "{source}: not a readable picture ({reason})", source=source, reason=failure
        )
    raise PictureError(
        "{source}: not a picture in a known format (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, …)",
        source=source,
    )


def _finish(image: Image.Image, source: str, *, frames: int, ours: bool = False) -> Picture:
    """Decode the pixels of ``image``, convert them to RGB, turn them upright, and report.

    ``ours`` says that nobody else has ``image``, so that it may become the picture.
    """
    mode, bits = image.mode, bits_per_channel(image)
    orientation, problem = _orientation(image)
    _load(image)
    # Some plug-ins (TIFF) turn the picture themselves while loading: then nothing is left to do.
    left_to_do, _ = _orientation(image)
    converted = to_rgb(image, bits, source)
    upright = converted.image
    if left_to_do in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[left_to_do])
    if upright is image:  # the pixels alone, without the file and its EXIF
        upright = image._new(image.im) if ours else image.copy()
    upright.info = {}  # profile and EXIF describe the file, no longer these pixels
    report = InputReport(
        source=source,
        format=image.format,
        width=upright.width,
        height=upright.height,
        mode=mode,
        bits_per_channel=bits,
        orientation=orientation,
        alpha_composited=converted.alpha_composited,
        frames=frames,
        frame=0,
        color_profile=converted.color_profile,
        color_converted=converted.color_converted,
        ignored=problem + converted.ignored,
    )
    return Picture(upright, report)


def _load(image: Image.Image) -> None:
    """Decode the pixels, where they still lie in a file."""
    tile_size = getattr(image, "_tile_size", None)
    if tile_size is not None and getattr(image, "tile", None):
        # Where TIFF allocates its pixels, it asks Pillow's process-wide guard; allocated here,
        # it does not ask.
        image.im = Image.new(image.mode, tile_size).im
    image.load()


def _orientation(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """Return the EXIF orientation (1 where there is none), and why EXIF could not be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Warning:
        raise  # warnings were made errors: a half-read EXIF is not to decide the rotation
    except Exception as error:  # EXIF is a file format of its own, damaged in its own ways
        return 1, (f"EXIF: {_reason(error)}",)
    return (value, ()) if value in _UPRIGHT else (1, ())


def _image_from_array(array: NDArray[np.uint8], source: str, max_pixels: int) -> Image.Image:
    """Return a uint8 array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as an image."""
    if array.dtype != np.uint8:
        raise PictureError(
            "{source}: pixels must be uint8 (0 to 255), these are {dtype}",
            source=source,
            dtype=array.dtype.name,
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise PictureError(
            "{source}: the shape must be [H, W, 3], [H, W], [H, W, 1] or [H, W, 4], "
            "without empty sides; it is {shape}",
            source=source,
            shape=list(array.shape),
        )
    height, width = array.shape[:2]
    _check_size((width, height), source, max_pixels)
    if channels == 1:
        array = array.reshape(height, width)
    return Image.fromarray(np.ascontiguousarray(array))


def _check_size(size: tuple[int, int], source: str, max_pixels: int) -> None:
    width, height = size
    if width <= 0 or height <= 0:
        raise PictureError(
            "{source}: {width}×{height} is a picture without pixels",
            source=source,
            width=width,
            height=height,
        )
    if width * height > max_pixels:
        raise PictureTooLargeError(
            "{source}: {width}×{height} is more than {limit} pixels; make it smaller",
            source=source,
            width=width,
            height=height,
            limit=max_pixels,
        )


def _check_scans(file: TimedFile, source: str) -> None:
    """Refuse a JPEG that visits all its pixels again and again: ten bytes ask for each visit."""
    # Within the data of a scan a byte of 255 is followed by 0 or by the number of a restart.
    scans = file.getvalue().count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise PictureError(
            "{source}: a JPEG of {scans} scans, more than {most}; save it anew",
            source=source,
            scans=scans,
            most=MAX_SCANS,
        )


@contextmanager
def _damage_named(source: str, format_name: str | None) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged or hostile file into a PictureError."""
    try:
        yield
    except LushanError:
        raise
    except Exception as error:
        raise _damaged(source, format_name, error) from error


def _damaged(source: str, format_name: str | None, error: Exception) -> PictureError:
    return PictureError(
        "{source}: damaged or unreadable {format} picture ({reason})",
        source=source,
        format=format_name or "",
        reason=_reason(error),
    )


def _reason(error: Exception) -> str | LushanError:
    if isinstance(error, MemoryError):
        return PictureError("not enough memory")
    return str(error).strip() or type(error).__name__
