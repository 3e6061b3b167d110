"""What strangers wrote, made fit for a message."""

from __future__ import annotations

from lushan.text import first_few, nearest, printable


def test_control_codes_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert printable("x" * 1000, 5) == "xxxxx..."


def test_a_list_is_cut_and_says_so() -> None:
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c", "d"], 2) == "a, b, … (+2)"
    assert first_few([]) == ""


def test_the_nearest_come_first_whatever_their_case() -> None:
    words = ["layer1.0.relu1", "layer1.0.relu2", "Maxpool", "fc"]
    assert nearest("layer1.0.relu", words, 2) == "layer1.0.relu2, layer1.0.relu1"
    assert nearest("MAXPOL", words, 1) == "Maxpool"
    assert nearest("x" * 100_000, words).count(",") == 2
    assert nearest("x", []) == ""
