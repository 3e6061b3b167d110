"""Folders as data: layouts, what is named when something is wrong, and the split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lushan.errors import UsageError
from lushan.train.dataset import Sample, check_outside, open_image_folder, read_class_names, split
from support.training_data import COLOURS, write_pictures


def test_class_folders(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "d", 2)
    (root / ".git").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "red" / "deeper").mkdir()
    (root / "red" / "000.png").rename(root / "red" / "deeper" / "000.png")
    folder = open_image_folder(root)
    assert folder.classes == tuple(sorted(COLOURS))
    assert folder.val is None
    assert Counter(sample.label for sample in folder.train) == {0: 2, 1: 2, 2: 2}
    assert all(folder.classes[s.label] in s.path.parts for s in folder.train)


def test_train_and_val(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 3)
    write_pictures(tmp_path / "val", 1)
    folder = open_image_folder(tmp_path)
    assert (len(folder.train), len(folder.val or ())) == (9, 3)
    other = write_pictures(tmp_path / "other", 2)
    assert len(open_image_folder(tmp_path, val=other).val or ()) == 6
    assert open_image_folder(tmp_path / "train").val is None
    for name in ("valid", "validation"):
        (tmp_path / ("val" if name == "valid" else "valid")).rename(tmp_path / name)
        assert len(open_image_folder(tmp_path).val or ()) == 3, name


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "vehicles", 2)
    (root / "red").rename(root / "train")
    folder = open_image_folder(root)
    assert folder.classes == ("blue", "green", "train")
    assert len(folder.train) == 6


def test_parts_are_no_classes(tmp_path: Path) -> None:
    for name in ("Training", "Test"):
        write_pictures(tmp_path / name, 2)
    with pytest.raises(UsageError, match="Test, Training are parts of a data set, not classes"):
        open_image_folder(tmp_path)


def test_a_run_is_no_class(tmp_path: Path) -> None:
    """Else the folder that a run makes would be a class without pictures when it is resumed."""
    root = write_pictures(tmp_path / "d", 2)
    other = write_pictures(tmp_path / "v", 2)
    (tmp_path / "link").symlink_to(root)
    for inside in (root / "run", root / "deep" / "er", tmp_path / "link" / "run", root):
        with pytest.raises(UsageError, match="where every folder is a class"):
            check_outside(inside, root)
    with pytest.raises(UsageError, match="where every folder is a class"):
        check_outside(other / "run", root, val=other)
    check_outside(other / "run", root)
    check_outside(tmp_path / "d2", root)
    parts = tmp_path / "parts"
    parts.mkdir()
    root.rename(parts / "train")
    other.rename(parts / "val")
    check_outside(parts / "run", parts)
    for name in ("train", "val"):
        with pytest.raises(UsageError, match="where every folder is a class"):
            check_outside(parts / name / "run", parts)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "d", 1)
    val = write_pictures(tmp_path / "v", 1)
    (val / "red").rename(val / "rouge")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (tmp_path / "nowhere", None, "nowhere: no such folder"),
        (root / "red" / "000.png", None, "000.png: a file; name the folder that has a folder"),
        (root, root / "red" / "000.png", "000.png: a file; name the folder that has a folder"),
        (empty, None, "two classes or more, one folder of pictures for each; there are 0: –"),
        (root, tmp_path / "nowhere", "nowhere: no such folder"),
        (root, val, "1 of its folders are no classes of the training pictures: rouge; there are"),
        (root, empty, "no pictures in it"),
    ]
    for folder, other, message in cases:
        with pytest.raises(UsageError, match=message):
            open_image_folder(folder, val=other)
    (root / "void").mkdir()
    with pytest.raises(UsageError, match="can be read in 1 of its classes: void; put"):
        open_image_folder(root)
    one = tmp_path / "one"
    (one / "only").mkdir(parents=True)
    with pytest.raises(UsageError, match="there are 1: only"):
        open_image_folder(one)


def samples(*counts: int) -> list[Sample]:
    return [
        Sample(Path(f"{label}/{index}"), label)
        for label, count in enumerate(counts)
        for index in range(count)
    ]


def keys(of: list[Sample]) -> list[bytes]:
    return [str(sample.path).encode() for sample in of]


def test_the_split_is_stratified_and_the_same_for_the_same_seed() -> None:
    pictures = samples(100, 20, 3, 1)
    train, val = split(pictures, keys(pictures), fraction=0.1, seed=5)
    assert Counter(sample.label for sample in val) == {0: 10, 1: 2, 2: 1}
    assert sorted(train + val, key=pictures.index) == pictures
    assert (train, val) == split(pictures, keys(pictures), fraction=0.1, seed=5)
    assert val != split(pictures, keys(pictures), fraction=0.1, seed=6)[1]


def test_a_class_is_split_as_it_would_be_alone() -> None:
    """What is held back of one class does not depend on the others."""
    few, many = samples(50), samples(50, 70)
    alone = split(few, keys(few), fraction=0.2, seed=0)[1]
    among = split(many, keys(many), fraction=0.2, seed=0)[1]
    assert [sample for sample in among if sample.label == 0] == alone


def test_copies_of_a_picture_stay_together() -> None:
    pictures = samples(60, 60)
    groups = [b"%d" % (number // 3) for number in range(120)]
    train, val = split(pictures, groups, fraction=0.3, seed=2)
    kept, held = ({groups[pictures.index(s)] for s in part} for part in (train, val))
    assert not kept & held
    assert len(val) == 36


def test_nothing_to_validate_on() -> None:
    pictures = samples(1, 1)
    with pytest.raises(UsageError, match="2 pictures of 2 classes leave none to validate on"):
        split(pictures, keys(pictures), fraction=0.5, seed=0)
    copies = samples(3)
    with pytest.raises(UsageError, match="leave none to validate on"):
        split(copies, [b"same"] * 3, fraction=0.5, seed=0)


def test_class_names(tmp_path: Path) -> None:
    assert read_class_names(tmp_path, ["a"]) == {}
    table = tmp_path / "classes.tsv"
    table.write_text("\ufeffa\tApple\t苹果\nb\tBanana\nc\tx\nd\n\n", encoding="utf-8")
    assert read_class_names(tmp_path, ["a", "b", "d"]) == {
        "a": {"en": "Apple", "zh": "苹果"},
        "b": {"en": "Banana"},
    }
    table.write_bytes(b"a\t\xff\xfe")
    with pytest.raises(UsageError, match=r"classes\.tsv: not a text of class names in UTF-8"):
        read_class_names(tmp_path, ["a"])
