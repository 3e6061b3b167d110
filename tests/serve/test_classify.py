"""The service's own interface: answers, batching, refusals."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import lushan
from lushan.errors import PictureError
from lushan.serve.guard import ApiKeys
from lushan.serve.limits import Limits
from lushan.serve.refusal import RefusalError
from serve.conftest import Client, encoded, form, serving


def expected(folder: Path, data: bytes, **options: object) -> list[dict[str, object]]:
    with lushan.load(folder) as recognizer:
        return recognizer.classify(data, **options).to_dict()["predictions"]  # type: ignore[arg-type,return-value]


def test_answers_are_those_of_classify_bit_for_bit(
    client: Client, files: list[bytes], model_folder: Path
) -> None:
    with lushan.load(model_folder) as recognizer:
        answers = [recognizer.classify(data, top=3).to_dict() for data in files]
    with ThreadPoolExecutor(16) as pool:  # together, so that they meet in batches
        asked = list(
            pool.map(lambda data: client.ask("POST", "/v1/classify?top=3", data), files * 8)
        )
    for index, answer in enumerate(asked):
        assert answer.status == 200
        (record,) = answer.json["results"]
        assert record == {"source": "<bytes>", **answers[index % len(files)]}
    runs = client.metric("lushan_batch_pictures_count")
    assert 0 < runs < client.metric("lushan_batch_pictures_sum")


def test_a_form_has_several_pictures_and_failures_keep_their_places(
    client: Client, files: list[bytes], model_folder: Path
) -> None:
    body, kind = form([("a.png", files[0]), ("no.txt", b"no picture"), ("猫.jpg", files[1])])
    answer = client.ask("POST", "/v1/classify?top=1&lang=zh", body, Content_Type=kind)
    assert answer.status == 200
    first, second, third = answer.json["results"]
    assert first["predictions"] == expected(model_folder, files[0], top=1, lang="zh")
    assert second.keys() == {"source", "error"}
    assert "不是已知格式的图片" in second["error"]
    assert third["source"] == third["input"]["source"] == "猫.jpg"
    assert answer.json["model"] == "small"
    assert answer.json["timing"].keys() == {"receive_ms", "recognize_ms"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("", b"", {}, 400, "no body"),
        ("", b"\x00\x01random", {}, 400, "not a picture"),
        ("?top=0", b"x", {}, 400, "top should be between"),
        ("?top=-1", b"x", {}, 400, "top should be a whole number"),
        ("?top=4", b"x", {}, 400, "between 1 and 3"),
        ("?lang=fr", b"x", {}, 400, "lang should be one of"),
        ("?model=other", b"x", {}, 404, "no model"),
        ("", b"x", {"Content_Type": "multipart/form-data"}, 400, "no boundary"),
        ("", b"x", {"Content_Type": "multipart/form-data; boundary=a"}, 400, "cannot be read"),
        ("", b"--a--\r\n", {"Content_Type": "multipart/form-data; boundary=a"}, 400, "no field"),
        ("", b"x", {"Content_Encoding": "gzip"}, 415, "compressed"),
        ("", b"x", {"Origin": "https://example.org"}, 403, "origins"),
        ("", b"x", {"Host": "example.org"}, 403, "--allow-host"),
    ],
)
def test_bad_requests_get_a_reason(
    client: Client, path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = client.ask("POST", "/v1/classify" + path, body, **headers)
    assert (answer.status, reason in answer.json["error"]) == (status, True), answer


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in ("/v2", "/nothing", "/docs", "/v1/classify"):
        headers = client.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert not {"server", "access-control-allow-origin"} & headers.keys()


def test_a_full_queue_refuses_at_once(model_folder: Path, files: list[bytes]) -> None:
    limits = Limits(queue=2, max_delay=0.0)
    with serving(("small", model_folder), limits=limits) as client:
        client.service._queue.take(2)
        start = time.monotonic()
        answer = client.ask("POST", "/v1/classify", files[0])
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - start < 1
        client.service._queue.give_back(2)
        assert client.ask("POST", "/v1/classify", files[0]).status == 200
        body, kind = form([("a", files[0])] * 3)
        assert client.ask("POST", "/v1/classify", body, Content_Type=kind).status == 413


def test_a_request_past_its_time_is_given_up(
    model_folder: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(("small", model_folder), limits=Limits(timeout=0.3)) as client:
        pipeline = client.service._default
        prepare = pipeline.recognizer.prepare

        def slow(*arguments: object, **options: object) -> object:
            time.sleep(0.6)
            return prepare(*arguments, **options)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(pipeline.recognizer, "prepare", slow)
            answer = client.ask("POST", "/v1/classify", files[0])
        assert (answer.status, answer.json["kind"]) == (503, "late")
        time.sleep(0.5)
        assert client.metric("lushan_queue_pictures") == 0
        assert client.ask("POST", "/v1/classify", files[0]).status == 200


def test_an_engine_that_fails_is_an_internal_error_that_tells_nothing(
    model_folder: Path,
    files: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(("small", model_folder)) as client:

        def fail(batch: object, threads: int) -> object:
            raise ValueError("/secret/path")

        with monkeypatch.context() as patched:
            patched.setattr(client.service._default._workers, "_run", fail)
            answer = client.ask("POST", "/v1/classify", files[0])
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert "internal error: ValueError in test_classify.py" in caplog.text
        assert "secret" not in caplog.text
        assert client.ask("POST", "/v1/classify", files[0]).status == 200


def test_large_pictures_take_a_way_of_their_own(model_folder: Path) -> None:
    bomb = encoded(Image.new("L", (4000, 3500)))
    with serving(("small", model_folder), limits=Limits(max_pixels=14_000_000)) as client:
        assert client.ask("POST", "/v1/classify", bomb).status == 200
        over = encoded(Image.new("L", (4000, 3501)))
        answer = client.ask("POST", "/v1/classify", over)
        assert (answer.status, "more than 14000000 pixels" in answer.json["error"]) == (413, True)
        assert client.service._default._large_allowance.used == 0


def test_keys(model_folder: Path, tmp_path: Path, files: list[bytes]) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\n\n0123456789abcdef\nfedcba9876543210\n")
    with serving(("small", model_folder), keys=ApiKeys.from_file(path)) as client:
        refused = client.ask("POST", "/v1/classify", files[0])
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        for headers in (
            {"Authorization": "Bearer fedcba9876543210"},
            {"X_API_Key": "0123456789abcdef"},
        ):
            assert client.ask("POST", "/v1/classify", files[0], **headers).status == 200
        assert client.ask("GET", "/metrics", X_API_Key="0123456789abcde").status == 401
        assert client.ask("GET", "/v2/health/ready").status == 200
    path.write_text("short\n")
    with pytest.raises(lushan.UsageError, match="fewer than 16"):
        ApiKeys.from_file(path)


def test_a_decoding_cut_short_by_a_machine_that_slept_is_late_not_broken(
    model_folder: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*arguments: object, **options: object) -> object:
        time.sleep(0.2)
        raise PictureError("decoding takes longer than {seconds} s", seconds=0.2)

    with serving(("small", model_folder)) as client:
        pipeline = client.service._default
        monkeypatch.setattr(pipeline.recognizer, "prepare", cut)

        async def ask() -> list[object]:
            job = pipeline.pictures([("a", files[0])], 0.1)
            time.sleep(0.5)  # the event loop slept too: it hears of the decoding first
            return list(await job.wait(asyncio.get_running_loop().create_future()))

        (refused,) = asyncio.run(ask())
        assert isinstance(refused, RefusalError)
        assert (refused.status, refused.kind) == (503, "late")
