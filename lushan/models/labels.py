"""What the classes of a model are called: an id for programs, English and Chinese for people.

A network answers with numbers; this module turns the number of a class into words. Two lists
ship with lushan, as tables of their own in ``data/``, and are read when they are first asked for:

- ``imagenet1k.tsv``: the 1000 classes of ILSVRC-2012 in their standard order, which is the sorted
  order of their WordNet 3.0 ids. Names that would coincide or mislead are told apart: "crane
  (bird)", "crane (machine)". Where the pictures of a class are known to show something else than
  its WordNet gloss ("cup", "hot pot", "sunglass"), the name follows the pictures, because it is
  read next to a picture.
- ``cifar10.tsv``: the 10 classes of CIFAR-10.

Left out on purpose: families of classes, synonyms, other languages, and guessing names from
folders. A model that brings names keeps them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lushan.errors import ModelError, UsageError
from lushan.record import record
from lushan.text import first_few, nearest, printable

# An id's description in a config.json: one text, or one text per language ("en", "zh").
Description = str | Mapping[str, str]


@record
class Labels:
    """The names of a model's classes, in the order of its scores.

    ``names`` are the ids (``n02123045``, ``cat``), each once; ``english`` and ``chinese`` are what
    a person reads. All three have one entry per class, else ``UsageError``.
    """

    names: tuple[str, ...]
    english: tuple[str, ...]
    chinese: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.english) == len(self.chinese):
            raise UsageError(
                "labels: {names} ids, {english} English and {chinese} Chinese names: give each "
                "class one of each",
                names=len(self.names),
                english=len(self.english),
                chinese=len(self.chinese),
            )
        repeated = _repeated(self.names)
        if repeated:
            raise UsageError(
                "labels: these ids stand there more than once: {repeated}; give each class an id "
                "of its own",
                repeated=first_few(repeated, 5),
            )

    def __len__(self) -> int:
        return len(self.names)

    def description(self, index: int, language: str) -> str:
        """Return the name a person reads for class ``index``, in ``"en"`` or ``"zh"``.

        Raises ``UsageError`` for another language, and for an index outside 0 … len − 1.
        """
        if language not in ("en", "zh"):
            raise UsageError(
                "language {language!r}: labels exist in 'en' (English) and 'zh' (Chinese)",
                language=language,
            )
        if not 0 <= index < len(self):
            raise UsageError(
                "class {index}: the classes are numbered 0 to {last}",
                index=index,
                last=len(self) - 1,
            )
        return (self.chinese if language == "zh" else self.english)[index]

    def index(self, name: str) -> int:
        """Return the number of the class whose id is ``name``; ``UsageError`` if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UsageError(
                "no class has the id {name!r}; the {count} ids are {ids}",
                name=name,
                count=len(self),
                ids=first_few(self.names, 5),
            ) from None

    def find(self, word: str) -> int:
        """Return the number of the class that a person calls ``word``.

        That is its id, its number, or its name in either language, whatever the case. Raises
        ``UsageError`` with the nearest names if there is none.
        """
        if word in self.names:
            return self.names.index(word)
        if word.removeprefix("-").isdecimal():
            self.description(int(word[:20]), "en")  # refuses what there is not
            return int(word)
        wanted = word.strip().casefold()
        for index, known in enumerate(zip(self.names, self.english, self.chinese, strict=True)):
            if wanted in [name.casefold() for name in known]:
                return index
        raise UsageError(
            "no class is called {word!r}; the nearest are: {nearest}",
            word=printable(word),
            nearest=nearest(word, (*self.english, *self.names, *self.chinese)),
        )


@cache
def imagenet1k() -> Labels:
    """Return the 1000 classes of ILSVRC-2012, ids are wnids: 0 n01440764 … 999 n15075141."""
    return _read("imagenet1k.tsv")


@cache
def cifar10() -> Labels:
    """Return the 10 classes of CIFAR-10, ids are its own names: 0 airplane … 9 truck."""
    return _read("cifar10.tsv")


def labels_for(
    label_names: Sequence[str] | None,
    label_descriptions: Mapping[str, Description] | None,
    num_classes: int,
    *,
    source: str = "config",
) -> Labels:
    """Return the labels of a model with ``num_classes`` classes, from what its config.json says.

    ``label_names`` are used as they are. Without them 1000 classes are ImageNet-1k, and any other
    count has the ids "0", "1", …: ten classes are not always CIFAR-10, so a caller who knows that
    they are passes ``cifar10().names``.

    ``label_descriptions`` maps an id to one text or to ``{"en": …, "zh": …}``; ids that the model
    does not have are passed over. One text is English to us. A language that is missing comes from
    the shipped lists (a wnid's ImageNet name; a CIFAR-10 name's Chinese only if the ids are exactly
    those of CIFAR-10), else from the other language, else it is the id.

    Raises ``ModelError``, which names ``source``, if the names are not ``num_classes`` different
    ones. That they are texts at all is checked where they are read (``config``).
    """
    if num_classes < 1:
        raise ModelError(
            "{source}: num_classes is {count}: a model has at least one class",
            source=source,
            count=num_classes,
        )
    given = {name: _by_language(text) for name, text in (label_descriptions or {}).items()}
    if label_names is not None:
        names = tuple(label_names)
        _check_names(names, num_classes, source)
        shipped = _shipped(names)
    elif num_classes == len(imagenet1k()):
        names = imagenet1k().names
        shipped = _texts(imagenet1k())
    else:
        names = tuple(str(index) for index in range(num_classes))
        shipped = {name: (f"class {name}", f"类别 {name}") for name in names}

    english, chinese = [], []
    for name in names:
        given_english, given_chinese = given.get(name, ("", ""))
        shipped_english, shipped_chinese = shipped.get(name, ("", ""))
        english.append(given_english or shipped_english or given_chinese or name)
        chinese.append(given_chinese or shipped_chinese or given_english or name)
    return Labels(names, tuple(english), tuple(chinese))


def _shipped(names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return what the shipped lists know about given ids: id → (English, Chinese).

    "cat" or "ship" may mean anything in a model that somebody trained on their own folders; only
    the complete set of CIFAR-10's names, in any order, says that CIFAR-10 is meant. A wnid always
    means its synset.
    """
    if set(names) == set(cifar10().names):
        return _texts(cifar10())
    return _texts(imagenet1k())


def _texts(labels: Labels) -> dict[str, tuple[str, str]]:
    texts = zip(labels.english, labels.chinese, strict=True)
    return dict(zip(labels.names, texts, strict=True))


def _check_names(names: tuple[str, ...], num_classes: int, source: str) -> None:
    if len(names) != num_classes:
        raise ModelError(
            "{source}: label_names has {names} ids, but the model has {classes} classes: give one "
            "per class",
            source=source,
            names=len(names),
            classes=num_classes,
        )
    repeated = _repeated(names)
    if repeated:
        raise ModelError(
            "{source}: label_names has {names} ids, of which only {different} differ: {repeated} "
            "stand there more than once; give each class an id of its own",
            source=source,
            names=len(names),
            different=len(set(names)),
            repeated=first_few(repeated, 5),
        )


def _by_language(text: Description) -> tuple[str, str]:
    """Return one description as (English, Chinese), with "" for what is missing."""
    languages = {"en": text} if isinstance(text, str) else text
    return languages.get("en", ""), languages.get("zh", "")


def _repeated(names: Sequence[str]) -> list[str]:
    """Return the names that occur more than once, in order."""
    seen: set[str] = set()
    again: dict[str, None] = {}
    for name in names:
        if name in seen:
            again[name] = None
        seen.add(name)
    return list(again)


def _read(file: str) -> Labels:
    """Read one table of ``data/``: a header, then index, id, English, Chinese, tab-separated."""
    text = (Path(__file__).parent / "data" / file).read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    _, names, english, chinese = zip(*rows, strict=True)
    return Labels(names, english, chinese)
