"""What ``lushan serve`` says before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

from cli.conftest import Run


def test_a_port_that_is_taken(run: Run, model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--model", model_folder, "--port", taken.getsockname()[1])
    assert result.status == 2
    assert "cannot listen at 127.0.0.1" in result.err


def test_two_models_of_one_name(run: Run, model_folder: Path) -> None:
    result = run("serve", "-m", model_folder, "-m", f"small={model_folder}", "--port", 0)
    assert (result.status, "two models are called small" in result.err) == (2, True)


def test_a_name_that_no_address_can_have(run: Run, model_folder: Path) -> None:
    result = run("serve", "-m", f"a b={model_folder}", "--port", 0, "--lang", "zh")
    assert (result.status, "不能作为地址中的模型名" in result.err) == (2, True)


def test_a_file_without_keys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    result = run("serve", "--api-key-file", tmp_path / "keys", "--port", 0)
    assert (result.status, "there is no key in it" in result.err) == (2, True)
