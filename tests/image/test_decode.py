"""Decoding: every kind of source, the report, and every way a picture can be bad."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lushan.errors import PictureError, UsageError
from lushan.image.decode import decode
from lushan.image.sources import read_all

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def colorful(width: int = 7, height: int = 5) -> np.ndarray:
    """Return a picture no two pixels of which are alike, uint8 [height, width, 3]."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([across * 30, down * 40, across + down], axis=-1).astype(np.uint8)


def encoded(pixels: np.ndarray, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that announces a size and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "WEBP": {"lossless": True}}


# Sources


@pytest.mark.parametrize("format_name", LOSSLESS)
def test_lossless_formats_give_their_pixels(tmp_path, format_name):
    path = tmp_path / "picture"  # the content decides, not the name
    path.write_bytes(encoded(colorful(), format_name, **LOSSLESS[format_name]))
    picture = decode(path)
    assert np.array_equal(picture.pixels, colorful())
    assert picture.pixels.flags.c_contiguous and picture.image.mode == "RGB"
    assert picture.report.format == format_name
    assert (picture.report.width, picture.report.height) == (7, 5)
    assert picture.report.source == str(path)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    content = encoded(colorful(), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    readable, writable = os.pipe()
    os.write(writable, content)
    os.close(writable)
    with path.open("rb") as file, os.fdopen(readable, "rb") as pipe:
        file.seek(11)  # taken from its start all the same
        sources = {
            str(path): (str(path), path, file),
            "<bytes>": (content, bytearray(content), memoryview(content)),
            "<file>": (io.BytesIO(content), pipe),
            "<image>": (Image.open(path), Image.fromarray(colorful())),
            "<array>": (colorful(), colorful()[:, ::-1][:, ::-1]),
        }
        for name, alike in sources.items():
            for source in alike:
                picture = decode(source)
                assert np.array_equal(picture.pixels, colorful()), name
                assert picture.report.source == name
        assert not file.closed


def test_a_name_can_be_given():
    assert decode(colorful(), name="frame 7").report.source == "frame 7"
    with pytest.raises(PictureError, match=r"^upload\.jpg: the file is empty$"):
        decode(b"", name="upload.jpg")


def test_the_callers_image_stays_as_it_is():
    image = Image.fromarray(colorful())
    image.info["comment"] = "mine"
    picture = decode(image)
    picture.image.putpixel((0, 0), (9, 9, 9))
    assert np.array_equal(np.asarray(image), colorful()) and image.info == {"comment": "mine"}


def test_the_report_is_ready_for_json():
    report = decode(encoded(colorful(), "PNG")).report.to_dict()
    assert json.loads(json.dumps(report)) == {
        "source": "<bytes>",
        "format": "PNG",
        "width": 7,
        "height": 5,
        "mode": "RGB",
        "bits_per_channel": 8,
        "orientation": 1,
        "alpha_composited": False,
        "frames": 1,
        "frame": 0,
        "color_profile": None,
        "color_converted": False,
        "ignored": [],
    }


def test_arrays_of_one_and_four_channels():
    grey = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(decode(grey).pixels, expected)
    assert np.array_equal(decode(grey[:, :, None]).pixels, expected)
    picture = decode(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8))
    assert picture.pixels.tolist() == [[[255, 255, 255], [10, 20, 30]]]
    assert picture.report.alpha_composited


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((2, 2, 3), bool), np.zeros(4, "u2")])
def test_arrays_of_other_numbers_are_refused(array):
    with pytest.raises(PictureError, match=f"must be uint8.* these are {array.dtype.name}"):
        decode(array)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (0, 3, 3), (3, 0), (1, 2, 2, 3), (2, 2, 5)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(PictureError) as caught:
        decode(np.zeros(shape, np.uint8))
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("source", [None, 7, 1.5, ["a.jpg"], {"path": "a.jpg"}])
def test_what_is_no_source_is_a_usage_error(source):
    with pytest.raises(UsageError, match=f"cannot read a picture from {type(source).__name__}"):
        decode(source)


# Orientation and frames


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(format_name, orientation):
    upright = np.full((32, 48, 3), 255, dtype=np.uint8)
    upright[:16, :16], upright[:16, 32:], upright[16:, :16] = RED, GREEN, BLUE
    stored = {  # what EXIF says that row 0 and column 0 of the file show
        1: upright,
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: np.rot90(upright),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: np.rot90(upright, -1),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = LOSSLESS.get(format_name, {"quality": 95, "subsampling": 0})
    picture = decode(encoded(np.ascontiguousarray(stored), format_name, exif=exif, **options))
    assert picture.report.orientation == orientation
    assert (picture.report.width, picture.report.height) == (48, 32)
    assert np.abs(picture.pixels.astype(int) - upright).max() <= (8 if format_name == "JPEG" else 0)
    assert not picture.image.getexif()  # turned once, for whoever saves it


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode(encoded(colorful(), "PNG", exif=exif)).report.orientation == 1


def test_broken_exif_does_not_cost_the_picture():
    picture = decode(encoded(colorful(), "PNG", exif=b"Exif\0\0not EXIF at all"))
    assert np.array_equal(picture.pixels, colorful())
    assert picture.report.orientation == 1
    assert picture.report.ignored[0].startswith("EXIF: ")


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_taken_and_told(format_name):
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN, BLUE)]
    file = io.BytesIO()
    options = LOSSLESS.get(format_name, {})
    frames[0].save(file, format_name, save_all=True, append_images=frames[1:], **options)
    picture = decode(file.getvalue())
    assert (picture.pixels == RED).all()
    assert (picture.report.frames, picture.report.frame) == (3, 0)


# Bad input


def test_an_empty_path_is_no_folder():
    with pytest.raises(PictureError, match="the path of a picture is empty"):
        decode("")


def test_missing_path_folder_and_null_character(tmp_path):
    with pytest.raises(PictureError, match=r"cat\.jpg: there is no such file$"):
        decode(tmp_path / "cat.jpg")
    with pytest.raises(PictureError, match="this is a folder, not a picture"):
        decode(tmp_path)
    with pytest.raises(PictureError, match="cannot be read"):
        decode("a\0b.jpg")
    with pytest.raises(PictureError, match="cannot be read"):
        decode(tmp_path / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_no_permission(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(colorful(), "PNG"))
    path.chmod(0)
    with pytest.raises(PictureError, match="no permission to read this file"):
        decode(path)


def test_permission_is_named_whoever_asks(tmp_path, monkeypatch):
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PictureError, match=r"secret\.png: no permission to read this file"):
        decode(tmp_path / "secret.png")


def test_empty_file_and_text_file(tmp_path):
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.write_bytes(b"")
    text.write_text("This is a shopping list.\nName: none\n" * 40)
    with pytest.raises(PictureError, match=r"empty\.jpg: the file is empty$"):
        decode(empty)
    with pytest.raises(PictureError, match=r"text\.jpg: not a picture in a known format"):
        decode(text)


@pytest.mark.shared
def test_half_a_photo(photos):
    content = photos[0].read_bytes()
    with pytest.raises(PictureError, match=r"half\.jpg: damaged or unreadable JPEG.*truncated"):
        decode(content[: len(content) // 2], name="half.jpg")


@pytest.mark.parametrize("format_name", [*LOSSLESS, "JPEG", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_part_of_a_file_is_an_error_in_every_format(format_name, part):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    content = encoded(noise, format_name, **LOSSLESS.get(format_name, {}))
    with pytest.raises(PictureError, match=r"^part\.x: "):
        decode(content[: int(len(content) * part)], name="part.x")


def test_a_picture_that_would_start_another_program_is_refused():
    postscript = encoded(colorful(), "EPS")
    assert postscript.startswith(b"%!PS")
    with pytest.raises(PictureError, match="not a picture in a known format"):
        decode(postscript)


def test_a_closed_and_a_text_file_object(tmp_path):
    file = io.BytesIO(encoded(colorful(), "PNG"))
    file.close()
    with pytest.raises(PictureError, match="cannot be read"):
        decode(file)
    with pytest.raises(UsageError, match="reading gave str, not bytes"):
        decode(io.StringIO("text"))


def test_an_endless_stream_ends_at_the_limit():
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    with pytest.raises(PictureError, match="more than 3000000 bytes"):
        read_all(Endless(), "<file>", limit=3_000_000)


def test_a_pipe_with_a_path_is_read_to_its_end(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encoded(colorful(), "PNG"),))
    writer.start()
    picture = decode(path)
    writer.join()
    assert np.array_equal(picture.pixels, colorful())


def test_metadata_that_inflates_without_end_is_refused():
    content = encoded(colorful(), "PNG")
    bomb = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + struct.pack(">I", zlib.crc32(bomb))
    with pytest.raises(PictureError, match="damaged or unreadable PNG picture"):
        decode(content[:33] + chunk + content[33:])


# The limit on pixels


def test_more_pixels_than_the_limit_are_refused():
    with pytest.raises(PictureError, match=r"big\.png: 30000×30000 is more than 178000000 pixels"):
        decode(png_header(30_000, 30_000), name="big.png")
    content = encoded(colorful(), "PNG")
    assert decode(content, max_pixels=35).pixels.shape == (5, 7, 3)
    for source in (content, colorful(), Image.fromarray(colorful())):
        with pytest.raises(PictureError, match="7×5 is more than 34 pixels"):
            decode(source, max_pixels=34)


@pytest.mark.parametrize("format_name", [*LOSSLESS, "JPEG", "GIF"])
def test_pillows_own_guard_neither_warns_nor_refuses(monkeypatch, format_name):
    """In every thread, though warnings are errors here; Pillow's limit is set just below."""
    content = encoded(colorful(), format_name, **LOSSLESS.get(format_name, {}))
    expected = decode(content).pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 34)
    with ThreadPoolExecutor(4) as pool:
        for picture in pool.map(decode, [content] * 16):
            assert np.array_equal(picture.pixels, expected)
    assert Image.MAX_IMAGE_PIXELS == 34


def peak_memory(statements: str) -> int:
    """Return the peak memory, in bytes, of a fresh Python that runs ``statements``.

    On Linux, getrusage of a new program starts at the peak of the one that started it, which a
    long test run makes large; the kernel's own mark starts anew.
    """
    pytest.importorskip("resource")
    program = f"""
import io, resource, sys
from pathlib import Path
import numpy as np
from lushan.errors import PictureError
from lushan.image.decode import decode
from lushan.image.preprocess import Preprocessing
{statements}
if sys.platform == "linux":
    marks = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(marks["VmHWM"].split()[0]) * 1024)
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak if sys.platform == "darwin" else peak * 1024)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("size", [(1, 65535), (65535, 1)])
def test_the_longest_thin_picture_takes_under_200_mb(tmp_path, size):
    path = tmp_path / "thin.png"
    Image.new("RGB", size, (10, 20, 30)).save(path)
    peak = peak_memory(
        f"for mode in ('center', 'squash', 'border'):\n"
        f"    seen = Preprocessing(crop_mode=mode).pixels(decode({str(path)!r}))\n"
        f"    assert (seen == [10, 20, 30]).all(axis=-1).any()"
    )
    assert peak < 200_000_000


def test_a_refused_giant_takes_no_memory(tmp_path):
    path = tmp_path / "giant.png"
    path.write_bytes(png_header(30_000, 30_000))
    peak = peak_memory(
        f"try:\n    decode({str(path)!r})\nexcept PictureError as error:\n"
        f"    assert '30000×30000' in str(error)\nelse:\n    raise SystemExit('not refused')"
    )
    assert peak < 200_000_000


def test_one_pixel():
    picture = decode(encoded(np.array([[[1, 2, 3]]], dtype=np.uint8), "PNG"))
    assert picture.pixels.tolist() == [[[1, 2, 3]]]
