"""The hub's loading code, against a small server here that answers as the hub does."""

import hashlib
import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lushan.errors import MissingExtraError, ModelError
from lushan.models.checkpoint import read_model_folder, read_tensors
from lushan.models.hub import download_model, is_hub_name
from support.torch_files import state_dict_files

pytest.importorskip("huggingface_hub")
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENSORS = {"fc.bias": np.arange(5, dtype=np.float32)}
CONFIG = json.dumps({"architecture": "resnet18", "num_classes": 5}).encode()
WEIGHTS = save(TENSORS)


class Hub(ThreadingHTTPServer):
    """Serves ``files`` (path -> contents) and counts what it is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.error: tuple[int, str] | None = None
        self.requests: list[str] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """Closes every connection, so that nothing is answered after ``Hub.shutdown``."""

    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        repository, _, rest = self.path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        data = self.server.files.get(f"{repository}/{name}")
        if self.server.error is not None:
            self.refuse(*self.server.error)
        elif not any(path.startswith(repository + "/") for path in self.server.files):
            self.refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif data is None:
            self.refuse(404, "EntryNotFound")
        else:
            large = not name.endswith(".json")
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            etag = hashlib.sha256(data).hexdigest() if large else git
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                broken = self.path.rpartition("/")[2] in self.server.damaged
                self.wfile.write(data[:-1] + bytes([data[-1] ^ 1]) if broken else data)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits before retrying
    server = Hub()
    server.files = {"timm/net/config.json": CONFIG, "timm/net/model.safetensors": WEIGHTS}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def download(hub: Hub, cache: Path, name: str = "timm/net", revision: str | None = None) -> Path:
    return download_model(name, revision=revision, endpoint=hub.endpoint, cache=cache)


@pytest.mark.parametrize("name", ["timm/net", "hf-hub:timm/net", "hf_hub:timm/net"])
def test_downloads_a_model_folder(hub: Hub, tmp_path: Path, name: str) -> None:
    config, weights = read_model_folder(download(hub, tmp_path, name))
    assert config.num_classes == 5
    assert read_tensors(weights)["fc.bias"].tolist() == [0, 1, 2, 3, 4]


def test_the_weights_are_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path)
    hub.requests.clear()
    assert download(hub, tmp_path) == first
    assert not [request for request in hub.requests if request.startswith("GET")]


def test_without_network_the_cache_answers(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path)
    hub.shutdown()
    hub.server_close()
    assert download(hub, tmp_path) == first
    # Some versions of the library (1.13) trip over their own second attempt.
    reason = "(the hub cannot be reached|config.json could not be downloaded)"
    with pytest.raises(ModelError, match=rf"timm/other: {reason}.* folder"):
        download(hub, tmp_path, "timm/other")


def test_older_repositories_have_pytorch_weights(hub: Hub, tmp_path: Path) -> None:
    del hub.files["timm/net/model.safetensors"]
    hub.files["timm/net/pytorch_model.bin"] = state_dict_files(TENSORS)["zip"]
    folder = download(hub, tmp_path)
    assert read_tensors(read_model_folder(folder)[1]).keys() == TENSORS.keys()
    hub.shutdown()
    hub.server_close()
    assert download(hub, tmp_path) == folder


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_download_is_refused_and_not_kept(hub: Hub, tmp_path: Path, file: str) -> None:
    hub.damaged.add(file)
    with pytest.raises(ModelError, match=rf"timm/net: {file} was damaged .* try again"):
        download(hub, tmp_path)
    hub.damaged.clear()
    _, weights = read_model_folder(download(hub, tmp_path))
    assert weights.read_bytes() == WEIGHTS


def test_damage_in_the_cache_is_found(hub: Hub, tmp_path: Path) -> None:
    weights = download(hub, tmp_path) / "model.safetensors"
    weights.resolve().write_bytes(WEIGHTS[:-1] + b"\xff")
    with pytest.raises(ModelError, match="its hash is wrong"):
        download(hub, tmp_path)
    assert (download(hub, tmp_path) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_branch_and_a_commit(hub: Hub, tmp_path: Path) -> None:
    assert download(hub, tmp_path, revision=COMMIT) == download(hub, tmp_path, revision="main")
    with pytest.raises(ModelError, match="timm/net: there is no revision v9"):
        download(hub, tmp_path, revision="v9")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", "asks for consent first"),
        (401, "RepoNotFound", "no such model on the hub, or a private one"),
        (500, "", "config.json could not be downloaded|cannot be reached"),
        (429, "", "config.json could not be downloaded|cannot be reached"),
        (418, "", "config.json could not be downloaded|cannot be reached"),
    ],
)
def test_refusals_of_the_hub(
    hub: Hub, tmp_path: Path, status: int, code: str, message: str
) -> None:
    hub.error = (status, code)
    with pytest.raises(ModelError, match=message) as caught:
        download(hub, tmp_path)
    assert str(caught.value).startswith("timm/net: ")
    # An answer is an answer: nobody waits for another one.
    assert len(hub.requests) <= 2


def test_a_hub_that_is_out_of_order_leaves_the_cache(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path)
    hub.error = (503, "")
    assert download(hub, tmp_path) == first


def test_the_librarys_own_lines_stay_off_the_terminal(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[logging.LogRecord] = []
    bars: list[bool] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    def asked(address: str, **options: object) -> None:
        logging.getLogger("huggingface_hub.file_download").warning("Retrying in 1s")
        bars.append(are_progress_bars_disabled())

    logger, listener = logging.getLogger("huggingface_hub"), Listener()
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", asked)
    logger.addHandler(listener)
    try:
        download(hub, tmp_path)
        assert (seen, bars) == ([], [True])
        logger.warning("afterwards")
        assert len(seen) == 1
        assert not are_progress_bars_disabled()
    finally:
        logger.removeHandler(listener)


def test_what_a_repository_lacks_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="timm/none: no such model"):
        download(hub, tmp_path, "timm/none")
    del hub.files["timm/net/model.safetensors"]
    with pytest.raises(ModelError, match=r"no pytorch_model\.bin; lushan needs config\.json and"):
        download(hub, tmp_path)
    hub.files = {"timm/bare/README.md": b"x"}
    with pytest.raises(ModelError, match=r"timm/bare: the repository has no config\.json"):
        download(hub, tmp_path, "timm/bare")


@pytest.mark.parametrize(
    "name", ["resnet50", "a/b/c", "../x", "./x", "/etc", "a b/c", "owner/", "hf-hub:x", "a--b/x"]
)
def test_other_names_are_not_asked_for(name: str) -> None:
    with pytest.raises(ModelError, match=r"not a name on the hub|could not be downloaded"):
        download_model(name, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("name", "is_one", "is_prefixed"),
    [
        ("timm/resnet50.a1_in1k", True, False),
        ("hf-hub:timm/net", True, True),
        ("hf_hub:timm/net", True, True),
        ("./net", False, False),
        ("models/a/b", False, False),
        ("模型/net", False, False),
    ],
)
def test_names_of_the_hub(name: str, is_one: bool, is_prefixed: bool) -> None:
    assert is_hub_name(name) is is_one
    assert is_hub_name(name, prefixed=True) is is_prefixed


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lushan\[hub\]"'):
        download_model("timm/net")
