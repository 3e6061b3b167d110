"""From any weights file to the parameters of a network, and back."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lushan.errors import ModelError
from lushan.models.checkpoint import from_parameters, read_tensors, to_parameters
from support.torch_files import (
    Call,
    Checkpoint,
    Name,
    pickled,
    sequential_file,
    state_dict_files,
    zip_file,
)

RNG = np.random.default_rng(5)
ARRAYS = {
    "conv1.weight": RNG.standard_normal((4, 3, 5, 2)).astype(np.float32),
    "bn1.weight": RNG.standard_normal(4).astype(np.float32),
    "fc.weight": RNG.standard_normal((7, 4)).astype(np.float32),
}
SHAPES = {"conv1.weight": (4, 5, 2, 3), "bn1.weight": (4,), "fc.weight": (7, 4)}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["zip", "sequential", "safetensors"])
@pytest.mark.parametrize("suffix", [".safetensors", ".th", ".bin", ""])
def test_reads_every_format_whatever_the_suffix(tmp_path: Path, form: str, suffix: str) -> None:
    files = {**state_dict_files(ARRAYS), "safetensors": save(ARRAYS)}
    tensors = read_tensors(write(tmp_path / f"model{suffix}", files[form]))
    assert list(tensors) == sorted(ARRAYS) if form == "safetensors" else list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(tensors[name], array, strict=True)


def test_safetensors_headers_of_every_length_are_recognised(tmp_path: Path) -> None:
    """Also of 128 and 0x80 bytes, which begin as a pickle does."""
    for length in range(0, 600, 8):
        arrays = {"x" * (length + 1): np.ones(1, np.float32)}
        assert read_tensors(write(tmp_path / "m", save(arrays))).keys() == arrays.keys()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_element_types_are_kept(tmp_path: Path, dtype: str) -> None:
    arrays = {"w": np.arange(6).reshape(2, 3).astype(dtype)}
    for data in (*state_dict_files(arrays).values(), save(arrays)):
        tensors = read_tensors(write(tmp_path / "m", data))
        np.testing.assert_array_equal(tensors["w"], arrays["w"], strict=True)


def raw_safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_bfloat16_of_safetensors(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    numbers = struct.pack("<4H", 0x3F80, 0xC000, 0x7F80, 0x0001) + struct.pack("<f", 2.5)
    tensors = read_tensors(write(tmp_path / "m", raw_safetensors(header, numbers)))
    assert tensors["a"].dtype == np.float32
    assert tensors["a"].tolist() == [[1.0, -2.0], [np.inf, 2.0**-133]]
    assert tensors["b"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (raw_safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}), "cannot"),
        (raw_safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}), "cannot"),
        (struct.pack("<Q", 2**31) + b"{}", "cannot be read"),
        (raw_safetensors(b"{]"), "cannot be read"),
        (raw_safetensors(b'{"a":' * 50_000), "cannot be read"),
        (
            raw_safetensors(
                {"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"x"
            ),
            "tensor a has elements of type F8_E4M3",
        ),
    ],
)
def test_broken_safetensors(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path / "m.safetensors", data)
    with pytest.raises(ModelError, match=reason) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, this is a text", "neither safetensors nor a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "neither safetensors nor a checkpoint"),
        (pickled([1, 2]), "not a checkpoint that torch wrote"),
        (pickled(Call(Name("os", "system"), ("id",))), r"asks for os\.system"),
        (bytes(600), "neither safetensors nor a checkpoint"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path / "m.pth", data)
    with pytest.raises(ModelError, match=reason) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.pth: cannot be read: No such file"):
        read_tensors(tmp_path / "nothing.pth")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "model_ema"])
@pytest.mark.parametrize("form", [zip_file, sequential_file])
def test_finds_the_weights_in_a_training_checkpoint(tmp_path: Path, key: str, form) -> None:
    checkpoint = Checkpoint(views=form is sequential_file)
    weights = {name: checkpoint.tensor(array) for name, array in ARRAYS.items()}
    momentum = {"state": {0: {"momentum": checkpoint.tensor(np.ones(3, np.float32))}}}
    content = {"epoch": 3, "optimizer": momentum, key: weights, "best": 0.5}
    data = form(content, checkpoint.storages)
    assert read_tensors(write(tmp_path / "m", data)).keys() == ARRAYS.keys()


def choose(tmp_path: Path, build) -> dict[str, np.ndarray]:
    checkpoint = Checkpoint()
    content = build(lambda number: checkpoint.tensor(np.full(1, number, np.float32)))
    return read_tensors(write(tmp_path / "m", zip_file(content, checkpoint.storages)))


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    tensors = choose(tmp_path, lambda t: {"model": {"w": t(1)}, "model_ema": {"w": t(2)}})
    assert tensors["w"].tolist() == [2]


def test_containers_may_be_nested_and_of_other_kinds(tmp_path: Path) -> None:
    tensors = choose(tmp_path, lambda t: {"model": {"state_dict": {"w": t(1)}}, "lr": t(9)})
    assert tensors["w"].tolist() == [1]
    tensors = choose(tmp_path, lambda t: {"model": "resnet18", "w": t(3), "epoch": 4})
    assert tensors["w"].tolist() == [3]
    assert tensors.keys() == {"w"}


def test_a_checkpoint_without_weights_names_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no named tensors .* it holds: epoch, model, 3"):
        choose(tmp_path, lambda t: {"epoch": 1, "model": "resnet18", 3: t(1)})
    with pytest.raises(ModelError, match=r"no named tensors .* it holds: list"):
        choose(tmp_path, lambda t: [t(1)])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["_orig_mod.module.module.a"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module.a", "a"], ["module.a", "a"]),
        (["module.a", "module.bn.num_batches_tracked", "n_averaged"], ["a"]),
        (["module.module"], ["module"]),
    ],
)
def test_prefixes_are_taken_off_when_every_name_has_them(tmp_path, names, expected) -> None:
    tensors = choose(tmp_path, lambda t: {name: t(1) for name in names})
    assert list(tensors) == expected


def test_reads_the_shared_weights(shared: Path) -> None:
    tensors = read_tensors(shared / "weights/resnet56-cifar10/model.th")
    assert tensors["linear.weight"].shape == (10, 64)
    assert tensors["layer3.8.bn2.running_var"].shape == (64,)
    # 57 layers of weights and 55 batch norms of four tensors each, and the bias of the last.
    assert len(tensors) == 56 + 55 * 4 + 1


# Parameters.


def test_convolution_weights_change_their_order() -> None:
    parameters = to_parameters(ARRAYS, SHAPES, source="x")
    assert list(parameters) == list(SHAPES)
    weight = parameters["conv1.weight"]
    assert weight[1, 2, 1, 0] == ARRAYS["conv1.weight"][1, 0, 2, 1]
    for name, array in parameters.items():
        assert array.shape == SHAPES[name]
        assert array.dtype == np.float32


def test_parameters_go_back_to_what_was_read() -> None:
    tensors = from_parameters(to_parameters(ARRAYS, SHAPES, source="x"))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(tensors[name], array, strict=True)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floating_types_become_float32(dtype: str) -> None:
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    parameters = to_parameters(arrays, SHAPES, source="x")
    np.testing.assert_array_equal(
        parameters["fc.weight"], arrays["fc.weight"].astype(np.float32), strict=True
    )


def test_a_classifier_may_be_stored_as_a_convolution() -> None:
    arrays = {**ARRAYS, "fc.weight": ARRAYS["fc.weight"][:, :, None, None]}
    parameters = to_parameters(arrays, SHAPES, source="x")
    np.testing.assert_array_equal(parameters["fc.weight"], ARRAYS["fc.weight"], strict=True)


def test_one_error_lists_everything_that_does_not_fit() -> None:
    shapes = {
        **SHAPES,
        "conv2.weight": (8, 3, 3, 4),
        "late.weight": (1,),
        "count": (1,),
        "bn1.running_var": (2,),
        "nan": (2,),
        "infinite": (2,),
        "beyond": (1,),
    }
    tensors = {
        **ARRAYS,
        "conv2.weight": np.ones((8, 4, 1, 1), np.float32),
        "bn1.weight": np.ones(5, np.float32),
        "count": np.ones(1, np.int64),
        "bn1.running_var": np.array([1, -1e-3], np.float32),
        "nan": np.array([0, np.nan], np.float32),
        "infinite": np.array([np.inf, 0], np.float16),
        "beyond": np.array([1e300]),
        "extra": np.ones(1, np.float32),
    }
    with pytest.raises(ModelError) as caught:
        to_parameters(tensors, shapes, source="w.pth")
    assert str(caught.value) == (
        "w.pth: the weights do not fit the network: missing tensors (1): late.weight; "
        "unexpected tensors (1): extra; "
        "wrong shapes (2): bn1.weight is [5], expected [4], "
        "conv2.weight is [8, 4, 1, 1], expected [8, 4, 3, 3]; "
        "not floating-point numbers (1): count is int64; "
        "NaN or infinity in (3): nan, infinite, beyond; "
        "variances below 0 in (1): bn1.running_var"
    )
    told = caught.value.message("zh")
    assert "expected" not in told
    assert "bn1.weight" in told


def test_long_lists_are_cut() -> None:
    shapes = {f"layer{i}": (1,) for i in range(1000)}
    with pytest.raises(ModelError) as caught:
        to_parameters({"\x1b[2J": np.ones(1, np.float32)}, shapes, source="w")
    message = str(caught.value)
    assert "missing tensors (1000): layer0, layer1," in message
    assert "layer19, … (+980); unexpected tensors (1): \\x1b[2J" in message
    assert "layer20" not in message


def test_names_with_braces_do_not_break_the_message() -> None:
    with pytest.raises(ModelError, match=r"\{0\} \{x\}"):
        to_parameters({"{0} {x}": np.ones(1, np.float32)}, {}, source="w{}")
