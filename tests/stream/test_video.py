"""Videos: planes, colours, times, turns, and everything that can be wrong with a file."""

from __future__ import annotations

import io
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from lushan.errors import PictureError
from lushan.image.color import BT601, BT709
from support.clips import RATE, on_screen, turn, write_clip

pytest.importorskip("av")

from lushan.stream.sources import open_source
from lushan.stream.stills import StillSource
from lushan.stream.video import VideoSource

RANDOM = np.random.default_rng(8)


def colours(width: int = 64, height: int = 48, count: int = 6) -> list[np.ndarray]:
    """Return pictures of one colour each, with a mark at the upper left."""
    pictures = []
    for colour in RANDOM.integers(30, 226, (count, 3), dtype=np.uint8):
        picture = np.full((height, width, 3), colour)
        picture[: height // 4, : width // 4] = 255
        pictures.append(picture)
    return pictures


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [
        ("libx264", "yuv420p", "I420"),
        ("libx264", "yuv422p", "I422"),
        ("libx264", "yuv444p", "I444"),
        ("libx264", "nv12", "I420"),
        ("mpeg4", "yuv420p", "I420"),
        ("mjpeg", "yuvj420p", "I420"),
        ("ffv1", "yuv420p10le", "I420"),
        ("ffv1", "gray", "GREY"),
        ("rawvideo", "yuyv422", "YUYV"),
        ("rawvideo", "rgb24", "RGB24"),
    ],
)
def test_frames_show_the_pictures(tmp_path: Path, codec: str, pixel_format: str, name: str) -> None:
    pictures = colours()
    path = write_clip(tmp_path / "clip.nut", pictures, codec=codec, pixel_format=pixel_format)
    frames = list(VideoSource(str(path)).frames())
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.seconds for frame in frames] == pytest.approx(
        [i / RATE for i in range(6)], abs=2e-3
    )
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.picture.format == name
        seen, shown = frame.picture.to_rgb(), frame.pixels()
        if pixel_format == "gray":
            picture = np.repeat((picture @ [0.299, 0.587, 0.114])[..., None], 3, axis=-1)  # noqa: PLW2901
        for pixels in (seen, shown):
            assert pixels.shape == picture.shape
            inside = np.s_[20:40, 24:56]  # away from the mark's edge
            assert np.abs(pixels[inside].astype(int) - picture[inside]).mean() < 6
            assert pixels[4:8, 4:8].mean() > 235


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (1919, 1079), (2, 1081)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    pictures = [np.full((height, width, 3), value, np.uint8) for value in (40, 200)]
    path = write_clip(tmp_path / "odd.mkv", pictures, codec="rawvideo", pixel_format="yuv420p")
    frames = list(VideoSource(str(path)).frames())
    assert [(one.picture.width, one.picture.height) for one in frames] == [(width, height)] * 2
    for frame, value in zip(frames, (40, 200), strict=True):
        assert np.abs(frame.picture.to_rgb().astype(int) - value).max() <= 2


def test_the_standard_is_what_the_file_says_or_else_its_size(tmp_path: Path) -> None:
    def standard(height: int, **options: str):
        path = tmp_path / "clip.mp4"
        write_clip(path, colours(64, height, 1), **options)
        [frame] = VideoSource(str(path)).frames()
        return frame.picture.standard, frame.picture.value_range

    assert standard(480) == (BT601, "limited")
    assert standard(720) == (BT709, "limited")
    told = {"x264-params": "colormatrix=bt709:fullrange=on"}
    assert standard(480, **told) == (BT709, "full")


@pytest.mark.parametrize(("ending", "codec"), [("h264", "libx264"), ("mjpeg", "mjpeg")])
def test_a_file_that_tells_no_length_is_not_live(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"clip.{ending}"
    write_clip(path, colours(), codec=codec, pixel_format="yuvj420p")
    source = VideoSource(str(path))
    assert not source.live
    seconds = [frame.seconds for frame in source.frames()]
    assert seconds == pytest.approx([i / RATE for i in range(6)], abs=2e-3)


def test_the_times_of_a_web_camera_are_the_clocks() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "JPEG")
    data = file.getvalue()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=next")
            self.end_headers()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            for _ in range(6):
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.2)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        source = VideoSource(f"http://127.0.0.1:{server.server_port}/")
        frames = source.frames()
        seconds = [next(frames).seconds for _ in range(5)]
        frames.close()
        server.shutdown()
    assert source.live
    assert seconds[-1] > 0.25  # two came at once; at 25 a second: 0.16


def test_a_telephone_held_upright(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", colours(64, 48, 2))
    turn(path)
    for frame in VideoSource(str(path)).frames():
        assert (frame.picture.width, frame.picture.height) == (48, 64)
        for pixels in (frame.picture.to_rgb(), frame.pixels()):
            assert pixels.shape == (64, 48, 3)
            bright = pixels.astype(int).sum(axis=-1) > 700
            assert bright[:12, -9:].all()  # the mark has gone to the upper right
            assert not bright[20:].any()


def test_a_live_source_can_be_opened_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", colours(), codec="mpeg4")
    source = VideoSource(str(path))
    assert [one.index for one in source.frames()] == [one.index for one in source.frames()]
    assert not source.live


def test_a_picture_is_read_by_its_own_decoder(photos: list[Path]) -> None:
    assert isinstance(open_source(str(photos[0])), StillSource)


def test_a_file_cut_short(tmp_path: Path) -> None:
    noise = list(RANDOM.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8))
    whole = write_clip(tmp_path / "clip.mp4", noise, movflags="faststart")
    data = whole.read_bytes()
    # Where the table of contents comes first, what is there is shown, and then the end is told.
    import av

    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "first.mp4"), "w", options={"movflags": "faststart"}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    first = (tmp_path / "first.mp4").read_bytes()
    (tmp_path / "first.mp4").write_bytes(first[: len(first) // 2])
    source = VideoSource(str(tmp_path / "first.mp4"))
    seen = 0
    with pytest.raises(PictureError, match=r"first\.mp4: it ends after \d+ of 20 frames"):
        for _ in source.frames():
            seen += 1
    assert 0 < seen < 20
    # Where it comes last, nothing can be read at all.
    (tmp_path / "last.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError, match=r"last\.mp4: "):
        VideoSource(str(tmp_path / "last.mp4"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("noise.mp4", bytes(range(256)) * 40, "Invalid data|no frame"),
        ("missing.mp4", None, "No such file"),
    ],
)
def test_what_is_no_video(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(PictureError, match=message) as caught:
        list(open_source(str(tmp_path / name)).frames())
    assert name in str(caught.value)


def test_a_folder_and_a_sound(tmp_path: Path) -> None:
    import av

    with pytest.raises(PictureError, match="a folder is no video"):
        open_source(str(tmp_path))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = np.zeros((1, 800), np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(PictureError, match="there is no video in it"):
        open_source(str(tmp_path / "sound.wav"))


def test_damaged_frames_are_counted(tmp_path: Path) -> None:
    noise = list(RANDOM.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8))
    path = write_clip(tmp_path / "clip.mkv", noise, codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 3000):
        data[place] ^= 0x5A
    path.write_bytes(data)
    source = VideoSource(str(path))
    try:
        seen = len(list(source.frames()))
    except PictureError:
        return  # the container itself broke: told, too
    assert source.damaged or seen < 12


def test_nobody_at_the_address() -> None:
    with pytest.raises(PictureError, match=r"http://127\.0\.0\.1:9/camera"):
        open_source("http://127.0.0.1:9/camera")


def test_the_scripted_order_of_answers(photos: list[Path], tmp_path: Path) -> None:
    """A 1080p H.264 clip of the photographs: each is seen, in order, as it is seen alone."""
    import lushan
    from lushan.stream.watch import Watch

    with lushan.load() as recognizer:
        screens, expected = [], []
        for screen in map(on_screen, photos):
            first, second = recognizer.classify(screen, top=2)
            if first.probability > 1.5 * second.probability:  # else the codec may decide it
                screens.append(screen)
                expected.append(first.label)
        assert len(set(expected)) > 5
        path = write_clip(tmp_path / "clip.mp4", screens, each=2, preset="ultrafast")
        with Watch(recognizer, open_source(str(path)), top=1) as watch:
            seen = [answer.predictions[0].label for answer in watch]
    assert seen == [label for label in expected for _ in range(2)]
