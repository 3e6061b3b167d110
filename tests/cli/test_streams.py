"""Standard streams that are closed, full, of another encoding or unread; interruptions."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lushan.cli.streams import one_line, to_json

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
LUSHAN = shlex.join((sys.executable, "-c", "from lushan.cli import main; main()"))
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


def shell(line: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell; ``lushan`` in it is the command, "$@" are the arguments."""
    script = f'set -o pipefail; lushan() {{ {LUSHAN} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LANG": "C.UTF-8", **variables},
    )


@pytest.mark.parametrize("format_", ["text", "json", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (">&-", "lushan: standard output is closed: there is nowhere to write the answer to\n"),
        pytest.param(
            ">/dev/full",
            "lushan: the answer cannot be written: No space left on device\n",
            marks=FULL,
        ),
    ],
)
def test_an_answer_that_cannot_be_written_is_an_error(
    pictures: Path, model_folder: Path, format_: str, target: str, message: str
) -> None:
    line = f'lushan classify -m "$1" -f {format_} "$2" {target}'
    result = shell(line, model_folder, pictures / "a.png")
    assert (result.returncode, result.stderr) == (2, message)


@pytest.mark.parametrize("call", ["info --layers resnet152", "models", "--help"])
def test_a_reader_that_goes_away_is_no_error(call: str) -> None:
    result = shell(f"lushan {call} | true")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("target", ["2>&-", pytest.param("2>/dev/full", marks=FULL)])
def test_messages_that_cannot_be_written_leave_the_answers(
    pictures: Path, model_folder: Path, target: str
) -> None:
    line = f'lushan classify -m "$1" -f jsonl "$2" /nowhere.png {target}'
    result = shell(line, model_folder, pictures / "a.png")
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 2


def test_stdin_that_is_closed(model_folder: Path) -> None:
    result = shell('lushan classify -m "$1" - <&-', model_folder)
    assert (result.returncode, result.stderr) == (1, "lushan: -: standard input is closed\n")


def test_names_that_are_no_text_reach_every_format(pictures: Path, model_folder: Path) -> None:
    path = os.fsencode(pictures) + b"/\xff\n\x1b[31m.png"
    try:
        Path(os.fsdecode(path)).write_bytes((pictures / "a.png").read_bytes())
    except OSError:
        pytest.skip("the file system takes only text for names")
    for format_ in ("text", "json", "csv"):
        line = f'lushan classify -m "$1" -f {format_} "$2"'
        result = shell(line, model_folder, pictures, PYTHONIOENCODING="utf-8")
        assert (result.returncode, result.stderr) == (0, "")
        if format_ == "text":
            assert r"\udcff\n\x1b[31m.png" in result.stdout
        if format_ == "json":
            # Not every reader of JSON takes half a character: it is spelled out, and both agree.
            record = json.loads(result.stdout)[2]
            assert record["source"] == record["input"]["source"]
            assert record["source"].endswith("/\\udcff\n\x1b[31m.png")


def test_chinese_in_an_encoding_without_it(pictures: Path, model_folder: Path) -> None:
    line = 'lushan classify --lang zh -m "$1" -f "$3" "$2" /无.png; exit 0'
    for format_ in ("text", "json", "csv"):
        result = shell(line, model_folder, pictures / "a.png", format_, PYTHONIOENCODING="ascii")
        assert "Traceback" not in result.stderr
        assert r"\u91d1\u9c7c" in result.stdout  # 金鱼
        if format_ == "json":
            assert json.loads(result.stdout)[1]["source"] == "/无.png"


def test_an_interruption_ends_at_once_even_where_a_pipe_is_waited_for(
    tmp_path: Path, model_folder: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = (
        "import lushan.cli.classify as c; load = c.load\n"
        "def told(*a, **k):\n    print('loaded', flush=True); return load(*a, **k)\n"
        "c.load = told\nfrom lushan.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "classify", "-m", str(model_folder)]
    with subprocess.Popen(
        [*command, str(tmp_path / "pipe")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"")


def test_numbers_that_json_does_not_have_are_not_written() -> None:
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json({"probability": number})


def test_one_line_spells_out_what_would_move_the_cursor() -> None:
    assert one_line("a\nb\x1b[2J\x85\u2028虎斑猫　é") == r"a\nb\x1b[2J\x85\u2028虎斑猫　é"
