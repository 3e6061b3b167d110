"""What docs/serve.md tells people to type works."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from serve.conftest import serving

TEXT = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
BLOCKS = [
    (language, code)
    for language, code in re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
    if "URL" in code
]


def test_every_client_has_its_example() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "python", "python", "sh"]


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_example(
    language: str, code: str, model_folder: Path, files: list[bytes], tmp_path: Path
) -> None:
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(files[1])
    command = ["bash", "-ec"] if language == "sh" else [sys.executable, "-c"]
    with serving(("flowers", model_folder)) as client:
        result = subprocess.run(
            [*command, code.replace("curl ", "curl -sSf ")],
            cwd=tmp_path,
            env={**os.environ, "URL": f"http://127.0.0.1:{client.port}"},
            capture_output=True,
            check=False,
            text=True,
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def example(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(code)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one(tmp_path: Path) -> None:
    program = shutil.which("true")
    unit = example("ini").replace("/opt/lushan/bin/lushan", str(program))
    path = tmp_path / "lushan.service"
    path.write_text(f"[Unit]\nDescription=lushan\n{unit}")
    result = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, check=False, text=True
    )
    about_ours = [line for line in result.stderr.splitlines() if "lushan" in line]
    assert (result.returncode, about_ours) == (0, [])


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_behind_nginx(model_folder: Path, files: list[bytes], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(("flowers", model_folder)) as client:
        places = "\n".join(
            f"{name}_temp_path {tmp_path};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        location = example("nginx").replace("127.0.0.1:8000", f"127.0.0.1:{client.port}")
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off; {places}\n"
            f"server {{ listen 127.0.0.1:{port};\n{location} }} }}\n"
        )
        assert NGINX is not None
        command = [NGINX, "-c", str(configuration), "-p", str(tmp_path), "-e", "stderr"]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                proxy = replace(client, port=port)
                end = time.monotonic() + 20
                while True:
                    try:
                        origin = {"Origin": f"http://127.0.0.1:{port}"}  # the page's, there
                        answer = proxy.ask("POST", "/v1/classify", files[0], **origin)
                        break
                    except OSError:
                        assert time.monotonic() < end
                        time.sleep(0.05)
                assert answer.status == 200
                direct = client.ask("POST", "/v1/classify", files[0])
                assert answer.json["results"] == direct.json["results"]
            finally:
                process.terminate()
