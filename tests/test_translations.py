"""Every message exists in English and in Chinese, with the same fields."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import lushan
from lushan import errors
from lushan.translations import chinese

CHINESE = chinese()
ROOT = Path(lushan.__file__).parent
ERRORS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.LushanError)
}


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Yield every construction of one of our errors in the source, with where it stands."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = getattr(function, "id", getattr(function, "attr", None))
                if name in ERRORS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def fields(template: str) -> set[str]:
    return {name.split(".")[0] for _, name, _, _ in string.Formatter().parse(template) if name}


TEMPLATES = {
    where: node.args[0].value
    for where, node in raised()
    if node.args and isinstance(node.args[0], ast.Constant)
}


def test_every_template_is_a_literal() -> None:
    computed = [
        where
        for where, node in raised()
        if not (node.args and isinstance(node.args[0], ast.Constant))
    ]
    assert computed == []


def test_every_template_gets_its_values() -> None:
    wrong = []
    for where, node in raised():
        given = {keyword.arg for keyword in node.keywords}
        if where in TEMPLATES and None not in given and fields(TEMPLATES[where]) != given:
            wrong.append((where, fields(TEMPLATES[where]) ^ given))
    assert wrong == []


@pytest.mark.parametrize("template", sorted(set(TEMPLATES.values())))
def test_every_message_has_its_chinese(template: str) -> None:
    assert template in CHINESE
    assert fields(CHINESE[template]) == fields(template)
    words = "".join(text for text, *_ in string.Formatter().parse(template))
    if any(character.isalpha() for character in words):
        assert any("\u4e00" <= character <= "\u9fff" for character in CHINESE[template])


def test_no_translation_is_left_over() -> None:
    assert set(CHINESE) - set(TEMPLATES.values()) == set()
