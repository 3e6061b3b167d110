"""Embedded colour profiles: converted to sRGB where they fit, set aside where they do not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from lushan.image.decode import Picture, decode

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# ICC.1:2001-04 (version 2): a header of 128 bytes, a table of tags, the tags.


def profile(space: bytes, connection: bytes, kind: bytes, **tags: bytes) -> bytes:
    """Return an ICC profile of pixels in ``space``, described in ``connection`` colours."""
    contents = {"desc": description("Test " + space.decode().strip()), **tags}
    table, body = struct.pack(">I", len(contents)), b""
    start = 128 + 4 + 12 * len(contents)
    for name, content in contents.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4s4s4s4s4s", start + len(body), b"", b"\2\x20\0\0", kind, space, connection
    )
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + table + body


def description(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(raw)) + raw + bytes(78)


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


WHITE_POINT = xyz(0.9642, 1.0, 0.8249)


def rgb_profile(red_gamma: float = 2.2) -> bytes:
    """Return a profile with the primaries of Adobe RGB (1998), adapted to D50."""
    return profile(
        b"RGB ",
        b"XYZ ",
        b"mntr",
        wtpt=WHITE_POINT,
        rXYZ=xyz(0.60974, 0.31111, 0.01947),
        gXYZ=xyz(0.20528, 0.62567, 0.06087),
        bXYZ=xyz(0.14919, 0.06322, 0.74457),
        rTRC=gamma(red_gamma),
        gTRC=gamma(2.2),
        bTRC=gamma(2.2),
    )


def grey_profile(value: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", b"mntr", wtpt=WHITE_POINT, kTRC=gamma(value))


def cmyk_profile() -> bytes:
    """Return a profile whose cyan ink is middle grey, unlike any; magenta, yellow: no effect."""
    ramp = bytes(range(256))
    lightness = [0 if ink & 1 else 136 if ink & 8 else 255 for ink in range(16)]  # CMYK bits
    grid = b"".join(bytes([value, 128, 128]) for value in lightness)
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    return profile(b"CMYK", b"Lab ", b"prtr", wtpt=WHITE_POINT, A2B0=table)


def saved(image: Image.Image, content: bytes, format_name: str = "PNG") -> Picture:
    file = io.BytesIO()
    image.save(file, format_name, icc_profile=content)
    return decode(file.getvalue())


def test_the_srgb_profile_changes_nothing():
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = saved(Image.fromarray(values), SRGB)
    assert np.array_equal(picture.pixels, values)
    assert "sRGB" in picture.report.color_profile
    assert not picture.report.color_converted and picture.report.ignored == ()


def test_a_wider_profile_is_converted():
    picture = saved(Image.new("RGB", (2, 2), (100, 150, 100)), rgb_profile())
    # Adobe RGB is wider in green: the same green has less red and more green in sRGB.
    red, green, blue = picture.pixels[0, 0].tolist()
    assert red < 85 and 149 <= green <= 153 and 94 <= blue <= 100
    assert picture.report.color_profile == "Test RGB" and picture.report.color_converted
    assert picture.image.info == {}  # the profile no longer describes the pixels


def test_alpha_survives_a_profile():
    image = Image.new("RGBA", (2, 1), (100, 150, 100, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    picture = saved(image, rgb_profile())
    assert picture.pixels[0, 0].tolist() != [100, 150, 100]
    assert picture.pixels[0, 1].tolist() == [255, 255, 255]
    assert picture.report.color_converted and picture.report.alpha_composited


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_of_a_grey_picture(mode):
    picture = saved(Image.new(mode, (2, 2), 128 if mode == "L" else (128, 255)), grey_profile(1.0))
    # Linear grey 128 is 50 % of the light, 188 in sRGB.
    assert np.abs(picture.pixels.astype(int) - 188).max() <= 1
    assert picture.report.color_profile == "Test GRAY" and picture.report.color_converted


def test_a_cmyk_picture_is_converted_by_its_profile():
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert (decode(image).pixels == (0, 255, 255)).all()
    picture = saved(image, cmyk_profile(), "TIFF")
    # L* of 100·136/255 = 53.3 is grey 127 in sRGB.
    assert np.abs(picture.pixels.astype(int) - 127).max() <= 3
    assert picture.report.color_profile == "Test CMYK" and picture.report.color_converted


@pytest.mark.parametrize(
    ("mode", "content"),
    [("RGB", grey_profile(1.0)), ("RGB", cmyk_profile()), ("L", cmyk_profile())],
    ids=["grey for RGB", "CMYK for RGB", "CMYK for grey"],
)
def test_a_profile_of_other_pixels_is_set_aside(mode, content):
    picture = saved(Image.new(mode, (2, 2), 128 if mode == "L" else (128, 128, 128)), content)
    assert (picture.pixels == 128).all()
    assert not picture.report.color_converted
    assert f"the picture has {mode}" in picture.report.ignored[0]


def test_an_rgb_profile_does_not_turn_cmyk_into_rgb():
    picture = saved(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), rgb_profile(), "TIFF")
    assert picture.pixels.max() == 0
    assert picture.report.ignored == (
        "colour profile: it describes RGB pixels, the picture has CMYK",
    )


def test_an_rgb_profile_of_a_grey_picture_is_used():
    picture = saved(Image.new("L", (2, 2), 128), rgb_profile(red_gamma=1.0))
    assert picture.pixels[0, 0, 0] > 170 and picture.report.color_converted


@pytest.mark.parametrize("content", [b"not a profile", SRGB[:200], b"\0" * 4096, SRGB[:-500]])
def test_a_broken_profile_does_not_cost_the_picture(content):
    picture = saved(Image.new("RGB", (2, 2), (1, 2, 3)), content)
    assert (picture.pixels == (1, 2, 3)).all()
    assert not picture.report.color_converted
    assert picture.report.ignored and picture.report.ignored[0].startswith("colour profile: ")
