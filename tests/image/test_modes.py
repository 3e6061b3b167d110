"""Every kind of pixel becomes 8-bit RGB: each row of the input policy, with numbers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lushan.errors import PictureError
from lushan.image.decode import Picture, decode

WHITE = [255, 255, 255]


def png(depth: int, color_type: int, width: int, rows: list[bytes], **chunks: bytes) -> bytes:
    """Return a PNG file; Pillow cannot write every kind that the standard has.

    ``color_type``: 0 grey, 2 RGB, 3 palette, 4 grey and alpha. Chunks stand before the pixels.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    extra = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: np.ndarray, *, bits: int = 16, white_is_zero: bool = False) -> bytes:
    """Return an uncompressed little-endian grey TIFF of one row; ``values`` are its bytes."""
    content = values.tobytes()
    width = len(content) * 8 // bits
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, 1),
        (258, 3, 1, bits),
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, 0 if white_is_zero else 1),
        (273, 4, 1, 8),  # the pixels follow the header
        (277, 3, 1, 1),
        (278, 3, 1, 1),
        (279, 4, 1, len(content)),
    ]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


def saved(image: Image.Image, format_name: str, **options: object) -> Picture:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return decode(file.getvalue())


def row(picture: Picture) -> list[list[int]]:
    return picture.pixels[0].tolist()


def greys(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


# Transparency


def test_alpha_is_laid_on_white():
    image = Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], "u1"))
    picture = saved(image, "PNG")
    assert row(picture) == [[10, 20, 30], WHITE, [127, 127, 127]]
    assert picture.report.alpha_composited and picture.report.mode == "RGBA"


def test_grey_with_alpha():
    picture = decode(png(8, 4, 2, [b"\x40\xff\x40\x00"]))
    assert row(picture) == greys(64, 255)
    assert picture.report.alpha_composited and picture.report.mode == "LA"


@pytest.mark.parametrize("transparency", [b"\xff\x00", b"\x00"], ids=["per entry", "one entry"])
def test_palette_transparency(transparency):
    palette = bytes([10, 20, 30, 40, 50, 60])
    picture = decode(png(8, 3, 2, [b"\x00\x01"], PLTE=palette, tRNS=transparency))
    expected = [[10, 20, 30], WHITE] if len(transparency) == 2 else [WHITE, [40, 50, 60]]
    assert row(picture) == expected
    assert picture.report.alpha_composited and picture.report.mode == "P"


def test_gif_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert row(saved(image, "GIF", transparency=1)) == [[10, 20, 30], WHITE]


@pytest.mark.parametrize(
    ("depth", "pixels", "key", "expected"),
    [
        (1, b"\x40", 0, greys(255, 255, 255, 255, 255, 255, 255, 255)),
        (1, b"\x40", 1, greys(0, 255, 0, 0, 0, 0, 0, 0)),
        (2, b"\x1b", 1, greys(0, 255, 170, 255)),
        (4, b"\x3f", 3, greys(255, 255)),
        (4, b"\x3f", 2, greys(51, 255)),
        (8, b"\x09\x0a", 9, greys(255, 10)),
        (16, b"\x12\x34\x12\x35", 0x1234, greys(255, 18)),
    ],
)
def test_a_transparent_grey_of_any_depth(depth, pixels, key, expected):
    """Pillow hands the key over unscaled for 2 and 4 bits, and takes its low byte for 16."""
    width = len(pixels) * 8 // depth
    picture = decode(png(depth, 0, width, [pixels], tRNS=struct.pack(">H", key)))
    assert row(picture) == expected
    assert picture.report.alpha_composited and picture.report.bits_per_channel == depth


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour(depth):
    keyed, other = ((1, 2, 3), (1, 2, 4)) if depth == 8 else ((0x1234, 0x5678, 1), (0x1334, 0, 0))
    code = ">3B" if depth == 8 else ">3H"
    pixels = struct.pack(code, *keyed) + struct.pack(code, *other)
    picture = decode(png(depth, 2, 2, [pixels], tRNS=struct.pack(">3H", *keyed)))
    assert row(picture) == [WHITE, [value >> (depth - 8) for value in other]]
    assert picture.report.bits_per_channel == depth


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA", "LA", "RGBA"])
def test_images_in_memory_with_alpha(mode):
    half = Image.new("RGBA", (1, 1), (100, 100, 100, 128))
    if mode == "PA":
        colors = Image.new("P", (1, 1))
        colors.putpalette([100, 100, 100])
        half = Image.merge("PA", (colors, half.getchannel("A")))
        half.putpalette([100, 100, 100])
    else:
        for step in ("LA", "La") if mode == "La" else (mode,):
            half = half.convert(step)
    picture = decode(half)
    assert np.abs(picture.pixels.astype(int) - 177).max() <= 1  # (100·128 + 255·127) / 255
    assert picture.report.alpha_composited and picture.report.mode == mode


# Grey, palette and few bits


def test_one_bit_grey_and_palette():
    assert row(decode(png(1, 0, 8, [b"\x40"]))) == greys(0, 255, 0, 0, 0, 0, 0, 0)
    assert row(decode(png(4, 0, 2, [b"\x3f"]))) == greys(51, 255)
    assert row(decode(png(8, 0, 2, [b"\x09\x0a"]))) == greys(9, 10)
    palette = bytes([10, 20, 30, 40, 50, 60])
    picture = decode(png(1, 3, 2, [b"\x40"], PLTE=palette))
    assert row(picture) == [[10, 20, 30], [40, 50, 60]]
    assert not picture.report.alpha_composited and picture.report.bits_per_channel == 8


# 16 bits


def test_16_bit_grey_is_divided_by_257():
    values = np.array([0, 128, 129, 255, 256, 385, 386, 32896, 65406, 65407, 65535])
    expected = greys(*(round(value / 257) for value in values.tolist()))
    big, little = values.astype(">u2"), values.astype("<u2")
    for content in (png(16, 0, values.size, [big.tobytes()]), tiff(little)):
        picture = decode(content)
        assert row(picture) == expected
        assert picture.report.bits_per_channel == 16 and picture.report.mode in ("I;16", "I")
    pgm = b"P5 %d 1 65535\n" % values.size + big.tobytes()
    assert row(decode(pgm)) == expected


def test_16_bit_grey_whose_zero_is_white():
    values = np.array([0, 257, 65535], dtype="<u2")
    assert row(decode(tiff(values, white_is_zero=True))) == greys(255, 254, 0)


def test_12_bit_grey_has_a_white_of_4095():
    packed = np.array([0xFF, 0xF8, 0x00], dtype=np.uint8)  # 4095, 2048
    picture = decode(tiff(packed, bits=12))
    assert row(picture) == greys(255, 128)
    assert picture.report.bits_per_channel == 12


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
def test_16_bit_images_in_memory(mode):
    image = Image.new("I", (2, 1))
    image.putpixel((0, 0), 257 * 7)
    image.putpixel((1, 0), 65535)
    assert row(decode(image if mode == "I" else image.convert(mode))) == greys(7, 255)


def test_32_bit_numbers_beyond_16_bits_are_refused():
    for value in (-1, 65536, 2**31 - 1):
        with pytest.raises(PictureError, match=f"run from .*{value}.*beyond 0 to 65535"):
            decode(Image.new("I", (2, 2), value), name="depth.tif")


def test_floating_point_pixels_are_refused():
    with pytest.raises(PictureError, match=r"depth\.tif: floating-point pixels have no agreed"):
        decode(Image.new("F", (2, 2), 0.5), name="depth.tif")


def test_16_bit_rgb_keeps_the_upper_8_bits():
    pixels = struct.pack(">3H", 0x12FF, 0x5600, 0xFFFF)
    picture = decode(png(16, 2, 1, [pixels]))
    assert row(picture) == [[0x12, 0x56, 0xFF]]
    assert picture.report.bits_per_channel == 16


# Other colour models


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF"])
def test_cmyk(format_name):
    """JPEG stores ink inverted, as Adobe does: full ink must come out dark, not bright."""
    inks = {(0, 0, 0, 0): WHITE, (0, 0, 0, 255): [0, 0, 0], (0, 255, 255, 0): [255, 0, 0]}
    for ink, expected in inks.items():
        picture = saved(Image.new("CMYK", (16, 16), ink), format_name)
        assert np.abs(picture.pixels.astype(int) - expected).max() <= 2
        assert picture.report.mode == "CMYK"


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "CMYK"])
def test_images_in_memory_of_other_colour_models(mode):
    from PIL import ImageCms

    rgb = Image.new("RGB", (3, 3), (200, 100, 50))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        other = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    else:
        other = rgb.convert(mode)
    picture = decode(other)
    assert np.abs(picture.pixels.astype(int) - (200, 100, 50)).max() <= 3
    assert picture.report.mode == mode and not picture.report.alpha_composited
