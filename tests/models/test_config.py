"""config.json: what is read, what is kept, and what is refused in which words."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import ModelError
from lushan.models.config import MAXIMUM_BYTES, ModelConfig

# The layout of timm's files on the hub.
TIMM: dict[str, Any] = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "num_features": 2048,
    "global_pool": "avg",
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
    },
}
SMALL: dict[str, Any] = {"architecture": "resnet18", "num_classes": 2}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_file_of_timm_is_read_and_written_back(tmp_path: Path) -> None:
    config = ModelConfig.from_json_file(write(tmp_path / "c", json.dumps(TIMM).encode()))
    assert (config.architecture, config.num_classes, config.num_features) == (
        "resnet50",
        1000,
        2048,
    )
    assert config.label_names is None
    assert config.extra == {"global_pool": "avg"}
    assert config.pretrained_cfg["interpolation"] == "bicubic"
    assert config.to_dict() == TIMM


def test_reads_the_shared_configuration(shared: Path) -> None:
    path = shared / "weights/resnet20-cifar10/config.json"
    config = ModelConfig.from_json_file(path)
    assert config.label_names is not None
    assert config.label_names[3] == "cat"
    assert config.to_dict() == json.loads(path.read_text())


def test_label_names_may_stand_in_two_places() -> None:
    labels = {"label_names": ["a", "b"], "label_descriptions": {"a": "first", "b": "second"}}
    for values in ({**SMALL, **labels}, {**SMALL, "pretrained_cfg": labels}):
        config = ModelConfig.from_dict(values)
        assert config.label_names == ("a", "b")
        assert config.label_descriptions == {"a": "first", "b": "second"}
        assert ModelConfig.from_dict(config.to_dict()) == config


def test_descriptions_may_be_in_two_languages() -> None:
    labels = {"label_names": ["a", "b"], "label_descriptions": {"a": {"en": "x", "zh": "某"}}}
    config = ModelConfig.from_dict({**SMALL, **labels})
    assert config.label_descriptions == {"a": {"en": "x", "zh": "某"}}
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_descriptions_may_be_a_list() -> None:
    values = {**SMALL, "label_names": ["a", "b"], "label_descriptions": ["x", "y"]}
    assert ModelConfig.from_dict(values).label_descriptions == {"a": "x", "b": "y"}


def test_descriptions_per_language() -> None:
    values = {**SMALL, "label_names": ["a", "b"], "label_descriptions": {"a": {"zh": "甲"}}}
    config = ModelConfig.from_dict(values)
    assert config.label_descriptions == {"a": {"zh": "甲"}}
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_the_number_of_classes_may_follow_from_elsewhere() -> None:
    values = {"architecture": "resnet18", "label_names": ["a", "b", "c"]}
    assert ModelConfig.from_dict(values).num_classes == 3
    values = {"architecture": "resnet18", "pretrained_cfg": {"num_classes": 7}}
    assert ModelConfig.from_dict(values).num_classes == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=3))
def test_nothing_is_lost_on_rewriting(extra: dict[str, Any], arguments: dict[str, Any]) -> None:
    values = {**extra, **SMALL}
    if arguments:
        values["model_args"] = arguments
    try:
        config = ModelConfig.from_dict(values)
    except ModelError:  # a known key by chance
        return
    written = {"pretrained_cfg": {}, **values}
    optional = ("num_features", "model_args", "label_names", "label_descriptions")
    kept = {key: v for key, v in written.items() if not (key in optional and not v)}
    assert config.to_dict() == kept
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, "architecture is None; expected a text"),
        ({"architecture": 50}, "architecture is 50; expected a text"),
        ({"architecture": "a\ud800"}, "architecture is 'a\\ud800'; expected a text"),
        ({"num_classes": 0}, "num_classes is 0; expected a whole number from 1"),
        ({"num_classes": "2"}, "num_classes is '2'; expected a whole number"),
        ({"num_classes": True}, "num_classes is True; expected a whole number"),
        ({"num_classes": 10**12}, "num_classes is 1000000000000; expected"),
        ({"num_classes": None}, "num_classes is None; expected a whole number"),
        ({"num_features": -1}, "num_features is -1; expected a whole number"),
        ({"model_args": []}, "model_args is []; expected an object"),
        ({"pretrained_cfg": 3}, "pretrained_cfg is 3; expected an object"),
        ({"label_names": {"a": 1}}, "label_names is {'a': 1}; expected a list of texts"),
        ({"label_names": ["a", 2]}, "label_names[1] is 2; expected a text"),
        ({"label_descriptions": ["x", "y"]}, "expected an object from label to text"),
        ({"label_descriptions": {"a": 1}}, "label_descriptions['a'] is 1; expected a text, or"),
        ({"label_descriptions": {"a": {"zh": None}}}, "label_descriptions['a']['zh'] is None"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_dict({**SMALL, **changes}, source="c.json")
    assert str(caught.value).startswith("c.json: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b"\xff\xfe{}", "not valid JSON in UTF-8"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b'{"num_classes": ' + b"9" * 10_000 + b"}", "not valid JSON|expected"),
        (b"[1]", "must hold a JSON object, not list"),
        (b"null", "must hold a JSON object, not NoneType"),
        (b" " * (MAXIMUM_BYTES + 1), "over 16 MB"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path / "config.json", data)
    with pytest.raises(ModelError, match=reason) as caught:
        ModelConfig.from_json_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        ModelConfig.from_json_file(tmp_path / "config.json")


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + json.dumps(SMALL).encode()
    assert ModelConfig.from_json_file(write(tmp_path / "c", data)).num_classes == 2


def test_what_was_expected_is_told_in_chinese_too() -> None:
    for changes in ({"architecture": 1}, {"num_classes": 0}, {"label_names": 1}, {"model_args": 1}):
        with pytest.raises(ModelError) as caught:
            ModelConfig.from_dict({**SMALL, **changes})
        told = caught.value.message("zh").partition("，")[2]
        assert told and not any(word in told for word in ("text", "number", "object", "list"))


def test_messages_stay_short() -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_dict({**SMALL, "model_args": ["x" * 100_000]})
    assert len(str(caught.value)) < 200
