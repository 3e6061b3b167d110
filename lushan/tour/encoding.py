"""Arrays and pictures as text that travels inside the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_TYPES = {"float32": "f4", "uint8": "u1", "int32": "i4"}
_LOSSLESS = 96 * 96  # pixels up to which a picture is kept as it is: its pixels are looked at
_QUALITY = 86  # of larger ones: patterns and thumbnails, which are only looked at


def blob(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Return an array as {"type", "shape", "data"}: little-endian bytes in base64."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "type": _TYPES[array.dtype.name],
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def picture_url(pixels: Pixels | Image.Image) -> str:
    """Return a picture [H, W, 3] or [H, W] as a data address: PNG if it is small, else JPEG."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    file = io.BytesIO()
    if image.width * image.height <= _LOSSLESS:
        image.save(file, "PNG")
        kind = "png"
    else:
        image.save(file, "JPEG", quality=_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
