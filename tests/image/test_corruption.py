"""Corrupted files: an answer or an error that names the file, every time, and nothing else."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from lushan.errors import PictureError
from lushan.image.decode import decode
from lushan.image.preprocess import Preprocessing
from support.fuzzing import corruptions

FORMATS = ("PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")


def answer_or_error(content: bytes) -> bool:
    """Return True for an answer, False for an error with the name; anything else raises."""
    try:
        seen = Preprocessing(32, 32).pixels(decode(content, name="some.picture"))
    except PictureError as error:
        assert str(error).startswith("some.picture: ")
        return False
    assert seen.shape == (32, 32, 3)
    return True


def variants(photo: Image.Image) -> list[bytes]:
    """Return a small photo in every format, with animation, alpha and EXIF among them."""
    small = photo.convert("RGB").resize((48, 36))
    exif = Image.Exif()
    exif[0x0112] = 6
    options: list[tuple[str, Image.Image, dict[str, object]]] = [
        *((name, small, {}) for name in FORMATS),
        ("PNG", small.convert("P"), {"transparency": 3}),
        ("PNG", small.convert("RGBA"), {"exif": exif}),
        ("JPEG", small.convert("CMYK"), {"exif": exif}),
        ("GIF", small, {"save_all": True, "append_images": [small.rotate(90)], "disposal": 2}),
        ("TIFF", small, {"compression": "tiff_adobe_deflate", "exif": exif}),
    ]
    contents = []
    for name, image, extra in options:
        file = io.BytesIO()
        image.save(file, name, **extra)
        contents.append(file.getvalue())
    return contents


@pytest.mark.shared
def test_corrupted_photos(photos):
    contents = [path.read_bytes() for path in photos]
    for path in photos[:3]:
        with Image.open(path) as image:
            contents += variants(image)
    answers = [
        answer_or_error(damaged)
        for seed, content in enumerate(contents)
        for damaged in corruptions(content, count=7, seed=seed)
    ]
    assert len(answers) // 10 < sum(answers) < 9 * len(answers) // 10


@pytest.mark.parametrize("name", [*FORMATS, "JPEG"])
def test_the_first_bytes_of_a_file(name):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, name)
    for length in range(1, 20):
        assert not answer_or_error(file.getvalue()[:length])
