"""The shipped class lists are right, and a model's own names are kept as they are."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

from lushan.errors import ModelError, UsageError
from lushan.models.labels import Labels, cifar10, imagenet1k, labels_for

HAN = re.compile("[\u3400-\u9fff]")


def both(labels: Labels, name: str) -> tuple[str, str]:
    """Return the English and the Chinese description of one id."""
    index = labels.index(name)
    return labels.description(index, "en"), labels.description(index, "zh")


# The shipped lists


def test_imagenet_is_in_the_order_of_its_wordnet_ids() -> None:
    names = imagenet1k().names
    assert len(imagenet1k()) == len(names) == 1000
    assert all(re.fullmatch(r"n\d{8}", name) for name in names)
    assert list(names) == sorted(set(names))
    # SHA-256 of the published list of ILSVRC-2012 synsets, one per line: no id is mistyped.
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert digest == "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


@pytest.mark.parametrize(
    ("index", "wnid", "english", "chinese"),
    [
        (0, "n01440764", "tench", "丁鱥"),
        (1, "n01443537", "goldfish", "金鱼"),
        (97, "n01847000", "drake", "公鸭"),
        (145, "n02056570", "king penguin", "王企鹅"),
        (207, "n02099601", "golden retriever", "金毛寻回犬"),
        # mission.md, chapter 11: the article's cats, big and small.
        (281, "n02123045", "tabby cat", "虎斑猫"),
        (282, "n02123159", "tiger cat", "虎纹猫"),
        (283, "n02123394", "Persian cat", "波斯猫"),
        (284, "n02123597", "Siamese cat", "暹罗猫"),
        (285, "n02124075", "Egyptian cat", "埃及猫"),
        (286, "n02125311", "cougar", "美洲狮"),
        (287, "n02127052", "lynx", "猞猁"),
        (339, "n02389026", "sorrel (horse)", "栗色马"),
        (400, "n02669723", "academic gown", "学位袍"),
        (500, "n03042490", "cliff dwelling", "崖居"),
        (600, "n03532672", "hook", "钩子"),
        (714, "n03929660", "pick (plectrum)", "拨片"),
        (800, "n04243546", "slot machine", "老虎机"),
        (900, "n04562935", "water tower", "水塔"),
        (954, "n07753592", "banana", "香蕉"),
        (999, "n15075141", "toilet paper", "卫生纸"),
    ],
)
def test_imagenet_class(index: int, wnid: str, english: str, chinese: str) -> None:
    labels = imagenet1k()
    assert labels.names[index] == wnid
    assert labels.index(wnid) == index
    assert labels.description(index, "en") == english
    assert labels.description(index, "zh") == chinese


@pytest.mark.parametrize(
    ("wnids", "english", "chinese"),
    [
        (
            ("n02012849", "n03126707"),
            ("crane (bird)", "crane (machine)"),
            ("鹤", "起重机"),
        ),
        (
            ("n03710637", "n03710721"),
            ("maillot (tights)", "maillot (swimsuit)"),
            ("体操紧身衣", "连体泳衣"),
        ),
        (
            ("n02113186", "n02963159"),
            ("Cardigan Welsh corgi", "cardigan (sweater)"),
            ("卡迪根威尔士柯基犬", "开襟毛衣"),
        ),
        (("n03773504", "n04008634"), ("missile", "projectile"), ("导弹", "射弹")),
        (("n04355933", "n04356056"), ("sunglass", "sunglasses"), ("墨镜", "太阳镜")),
    ],
)
def test_classes_that_share_a_word_are_told_apart(
    wnids: tuple[str, str], english: tuple[str, str], chinese: tuple[str, str]
) -> None:
    first, second = (both(imagenet1k(), wnid) for wnid in wnids)
    assert (first, second) == tuple(zip(english, chinese, strict=True))


@pytest.mark.parametrize("labels", [imagenet1k(), cifar10()], ids=["imagenet1k", "cifar10"])
def test_every_description_is_its_own_and_in_its_language(labels: Labels) -> None:
    for texts in (labels.names, labels.english, labels.chinese):
        assert all(text and text == text.strip() for text in texts)
        assert len({text.lower() for text in texts}) == len(labels)
    assert [text for text in labels.english if not text.isascii()] == []
    assert [text for text in labels.chinese if not HAN.search(text)] == []
    # Latin letters stand in a Chinese name only where Chinese uses them.
    latin = [text for text in labels.chinese if re.search("[A-Za-z]", text)]
    assert set(latin) <= {"CD播放机", "iPod播放器", "T恤衫", "福特T型车"}


@pytest.mark.parametrize("file", ["imagenet1k.tsv", "cifar10.tsv"])
def test_tables_count_their_rows_from_zero(file: str) -> None:
    text = (files("lushan.models") / "data" / file).read_text(encoding="utf-8")
    header, *rows = text.splitlines()
    name = "wnid" if file == "imagenet1k.tsv" else "name"
    assert header.split("\t") == ["index", name, "english", "chinese"]
    assert [row.split("\t")[0] for row in rows] == [str(index) for index in range(len(rows))]
    assert {row.count("\t") for row in rows} == {3}


def test_cifar10() -> None:
    labels = cifar10()
    order = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(labels.names) == " ".join(labels.english) == order
    assert " ".join(labels.chinese) == "飞机 汽车 鸟 猫 鹿 狗 青蛙 马 船 卡车"


def test_lists_are_read_once() -> None:
    assert imagenet1k() is imagenet1k()
    assert cifar10() is cifar10()


@pytest.mark.shared
def test_shared_photos_have_the_names_of_their_classes(photos: list[Path]) -> None:
    assert len(photos) == 12
    for photo in photos:
        wnid, name = photo.stem.split("_", 1)
        assert name.replace("_", " ") in both(imagenet1k(), wnid)[0]


@pytest.mark.shared
def test_english_agrees_with_another_list_of_the_same_synsets(shared: Path) -> None:
    """Each name shares a word with the synonyms that Tiny ImageNet lists for its wnid."""
    # The table is the first file of the archive: a stream need not unpack the rest.
    with tarfile.open(shared / "data" / "tiny-imagenet.tar.xz", "r|xz") as archive:
        member = next(member for member in archive if member.name.endswith("classes.tsv"))
        stream = archive.extractfile(member)
        assert stream is not None
        listed = dict(
            line.split("\t", 1) for line in stream.read().decode("utf-8").splitlines() if line
        )
    assert len(listed) == 200
    known = {wnid: text for wnid, text in listed.items() if wnid in imagenet1k().names}
    assert len(known) > 150
    for wnid, synonyms in known.items():
        english = both(imagenet1k(), wnid)[0].lower()
        words = set(re.findall(r"[a-z]+", english))
        assert words & set(re.findall(r"[a-z]+", synonyms.lower())), (wnid, english, synonyms)


# The Labels object


def test_labels_are_frozen_and_have_a_length() -> None:
    labels = Labels(("a", "b"), ("one", "two"), ("一", "二"))
    assert len(labels) == 2
    assert labels.index("b") == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        labels.names = ("x", "y")  # type: ignore[misc]


@pytest.mark.parametrize("language", ["de", "EN", "", "zh_CN"])
def test_description_refuses_other_languages(language: str) -> None:
    with pytest.raises(UsageError) as error:
        cifar10().description(3, language)
    assert str(error.value) == (
        f"language {language!r}: labels exist in 'en' (English) and 'zh' (Chinese)"
    )


@pytest.mark.parametrize("index", [-1, 10, 1000])
def test_description_refuses_an_index_outside(index: int) -> None:
    with pytest.raises(UsageError) as error:
        cifar10().description(index, "en")
    assert str(error.value) == f"class {index}: the classes are numbered 0 to 9"


def test_index_of_an_unknown_id_says_what_there_is() -> None:
    with pytest.raises(UsageError) as error:
        cifar10().index("plane")
    assert str(error.value) == (
        "no class has the id 'plane'; the 10 ids are airplane, automobile, bird, cat, deer, … (+5)"
    )


def test_labels_refuse_unequal_lengths() -> None:
    with pytest.raises(UsageError, match="2 ids, 1 English and 3 Chinese names"):
        Labels(("a", "b"), ("one",), ("一", "二", "三"))


def test_labels_refuse_an_id_given_twice() -> None:
    with pytest.raises(UsageError, match="more than once: b; give each class an id of its own"):
        Labels(("a", "b", "b"), ("one", "two", "three"), ("一", "二", "三"))


# labels_for: what a config.json says


def test_thousand_classes_without_names_are_imagenet() -> None:
    assert labels_for(None, None, 1000) == imagenet1k()


def test_ten_classes_without_names_are_not_taken_for_cifar10() -> None:
    labels = labels_for(None, None, 10)
    assert labels.names == tuple("0123456789")
    assert labels.description(7, "en") == "class 7"
    assert labels.description(7, "zh") == "类别 7"


@pytest.mark.parametrize("count", [1, 2, 100, 999, 1001])
def test_other_counts_without_names_are_numbered(count: int) -> None:
    labels = labels_for(None, None, count)
    assert len(labels) == count
    assert labels.names[-1] == str(count - 1)
    assert both(labels, "0") == ("class 0", "类别 0")


def test_cifar10_names_in_any_order_are_cifar10() -> None:
    assert labels_for(cifar10().names, None, 10) == cifar10()
    backwards = labels_for(list(reversed(cifar10().names)), None, 10)
    assert backwards.names[0] == "truck"
    assert backwards.chinese == tuple(reversed(cifar10().chinese))


def test_some_of_the_cifar10_names_mean_nothing_in_particular() -> None:
    # Somebody's own "ship" and "truck" may be boxes and a toy: nothing is guessed.
    assert both(labels_for(["ship", "truck"], None, 2), "ship") == ("ship", "ship")
    eleven = [*cifar10().names, "plane"]
    assert both(labels_for(eleven, None, 11), "cat") == ("cat", "cat")


def test_wnids_are_described_from_imagenet_whatever_their_number_and_order() -> None:
    labels = labels_for(["n02127052", "mine", "n02123045"], None, 3)
    assert labels.names == ("n02127052", "mine", "n02123045")
    assert labels.english == ("lynx", "mine", "tabby cat")
    assert labels.chinese == ("猞猁", "mine", "虎斑猫")


def test_thousand_own_names_are_kept() -> None:
    names = [f"part-{index}" for index in range(1000)]
    labels = labels_for(names, None, 1000)
    assert labels.names == labels.english == labels.chinese == tuple(names)


def test_numbers_as_given_names_are_ids_like_others() -> None:
    assert both(labels_for(["0", "1"], None, 2), "1") == ("1", "1")


def test_given_descriptions_come_first() -> None:
    descriptions = {
        "n02123045": {"en": "my cat", "zh": "我的猫"},
        "rose": {"en": "rose", "zh": "玫瑰"},
        "tulip": "garden tulip",
    }
    labels = labels_for(["n02123045", "rose", "tulip", "lily"], descriptions, 4)
    assert labels.english == ("my cat", "rose", "garden tulip", "lily")
    assert labels.chinese == ("我的猫", "玫瑰", "garden tulip", "lily")


def test_a_missing_language_comes_from_the_shipped_list_then_from_the_other_one() -> None:
    descriptions = {
        "n02123045": "tabby, tabby cat",
        "n02123394": {"zh": "长毛猫"},
        "rose": {"zh": "玫瑰"},
        "tulip": {"en": "garden tulip", "de": "Tulpe"},
        "lily": {},
    }
    labels = labels_for(list(descriptions), descriptions, 5)
    assert labels.english == ("tabby, tabby cat", "Persian cat", "玫瑰", "garden tulip", "lily")
    assert labels.chinese == ("虎斑猫", "长毛猫", "玫瑰", "garden tulip", "lily")


def test_descriptions_also_serve_ids_that_were_not_given() -> None:
    labels = labels_for(None, {"0": "good", "1": {"zh": "次品"}, "7": "nobody's"}, 3)
    assert labels.names == ("0", "1", "2")
    assert labels.english == ("good", "class 1", "class 2")
    assert labels.chinese == ("类别 0", "次品", "类别 2")
    renamed = labels_for(None, {"n01440764": "doctor fish"}, 1000)
    assert both(renamed, "n01440764") == ("doctor fish", "丁鱥")
    assert renamed.english[1:] == imagenet1k().english[1:]


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (
            ["a", "b"],
            3,
            "m.json: label_names has 2 ids, but the model has 3 classes: give one per class",
        ),
        (
            ["a", "b", "c", "d"],
            3,
            "m.json: label_names has 4 ids, but the model has 3 classes: give one per class",
        ),
        ([], 3, "m.json: label_names has 0 ids, but the model has 3 classes: give one per class"),
        (
            ["a", "b", "a", "a"],
            4,
            "m.json: label_names has 4 ids, of which only 2 differ: a stand there more than once; "
            "give each class an id of its own",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(names: list[str], count: int, message: str) -> None:
    with pytest.raises(ModelError) as error:
        labels_for(names, None, count, source="m.json")
    assert str(error.value) == message


@pytest.mark.parametrize("count", [0, -1])
def test_a_model_without_classes_is_refused(count: int) -> None:
    with pytest.raises(ModelError) as error:
        labels_for(None, None, count, source="m.json")
    assert str(error.value) == f"m.json: num_classes is {count}: a model has at least one class"


def test_a_name_that_stands_there_twice_is_found_among_many() -> None:
    names = [str(index) for index in range(200_000)]  # comparing each with each would take minutes
    with pytest.raises(ModelError, match="199999 stand there more than once"):
        labels_for([*names, "199999"], None, 200_001)


def test_a_class_is_found_by_what_people_call_it() -> None:
    for word in ("n02123045", "281", "tabby cat", "Tabby Cat", "虎斑猫"):
        assert imagenet1k().find(word) == 281
    own = Labels(("7", "0"), ("seven", "zero"), ("七", "零"))
    assert own.find("7") == 0  # an id before a number
    assert own.find("1") == 1
    with pytest.raises(UsageError, match=r"no class is called 'taby cat'; .* tabby cat"):
        imagenet1k().find("taby cat")
    for number in ("1000", "-1", "9" * 5000):
        with pytest.raises(UsageError, match="the classes are numbered 0 to 999"):
            imagenet1k().find(number)
