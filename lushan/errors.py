"""The errors a user can meet, and the language they are told in.

Every error is raised with an English template and the values that go into it. The values stay
apart from the words, so that the same error can be told in Chinese (``lushan.translations``).
Subclasses say what the caller can do about it. A message names the thing, the value that was
received and the remedy. Errors survive pickling, because other processes report them too.
"""

from __future__ import annotations

from lushan.translations import chinese


class LushanError(Exception):
    """Base class of all errors that lushan raises on purpose.

    ``template`` is an English ``str.format`` template, ``values`` its fields::

        raise PictureError("{source}: the file is empty", source=path)
    """

    def __init__(self, template: str, /, **values: object) -> None:
        super().__init__(template)
        self.template = template
        self.values = values

    def __str__(self) -> str:
        return self.message("en")

    def message(self, language: str) -> str:
        """Return the message in ``"en"`` or ``"zh"``; untranslated templates stay English."""
        template = self.template
        if language == "zh":
            template = chinese().get(template, template)
        values = {
            name: value.message(language) if isinstance(value, LushanError) else value
            for name, value in self.values.items()
        }
        return template.format(**values)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.template, self.values))


def _rebuild(kind: type[LushanError], template: str, values: dict[str, object]) -> LushanError:
    return kind(template, **values)


class PictureError(LushanError):
    """A picture cannot be read or used: give another picture, or mend this one."""


class PictureTooLargeError(PictureError):
    """A picture has more pixels than the caller takes: make it smaller, or raise the limit."""


class ModelError(LushanError):
    """A model, its weights or its configuration cannot be used: get or name another one."""


class UsageError(LushanError, ValueError):
    """The call itself is wrong: change its arguments."""


class GraphError(LushanError):
    """A graph breaks a rule of the intermediate representation: mend what built or rewrote it."""


class TrainingError(LushanError):
    """A training cannot go on: mend what the message names, and resume or begin again."""


class BenchmarkError(LushanError):
    """A measurement would not mean what it says: do without what the message names."""


class ClusterError(LushanError):
    """Machines that work together fail: mend what the message names, and resume."""


class MissingExtraError(LushanError, ImportError):
    """An optional dependency is not installed: install the extra that the message names."""
