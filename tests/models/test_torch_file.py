"""Both containers of torch: what torch itself wrote, and files that lie about themselves."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lushan.errors import ModelError
from lushan.models.torch_file import TorchFile
from support.torch_files import (
    Call,
    Checkpoint,
    Name,
    pickled,
    sequential_file,
    state_dict_files,
    storage,
    tensor,
    zip_file,
)

DATA = Path(__file__).parent / "data"
FORMATS = {"zip": zip_file, "sequential": sequential_file}


def read(data: bytes) -> dict[str, np.ndarray]:
    file = TorchFile(io.BytesIO(data), source="x.pth")
    assert isinstance(file.content, dict)
    return dict(file.read(file.content))


@pytest.mark.parametrize("file_name", ["zip.pt", "sequential.pt"])
def test_reads_what_torch_wrote(file_name: str) -> None:
    with (DATA / file_name).open("rb") as opened:
        file = TorchFile(opened, source=file_name)
        content = file.content
        tensors = dict(file.read(content.pop("state_dict")))
        momentum = content.pop("optimizer")["state"][0]["momentum"]
        assert dict(file.read({"m": momentum}))["m"].tolist() == [1, 1]
    assert content == {
        "epoch": 3,
        "best": 71.25,
        "top1": 2.5,
        "milestones": {30: 1, 60: 1},
        "size": (1, 2),
        "bytes": b"abc\xff",
        "set": {1, 2},
        "big": 10**30,
        "history": [1.5, None, True, ("a", "b")],
    }
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3) / 8,
        "parameter": np.arange(4, dtype=np.float32),
        "window": base[1:3, 2:5],
        "transposed": base.T,
        "half": np.arange(5).astype(np.float16) / np.float16(4),
        "bfloat16": np.arange(5, dtype=np.float32) * 3,
        "double": np.arange(3, dtype=np.float64) / 7,
        "long": np.array(5),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "channels_last": np.arange(48, dtype=np.float32).reshape(2, 3, 2, 4),
        "bn.num_batches_tracked": np.array(7),
    }
    assert set(tensors) == {f"module.{name}" for name in expected}
    for name, array in expected.items():
        read_array = tensors[f"module.{name}"]
        np.testing.assert_array_equal(read_array, array, strict=True)
        assert read_array.flags.c_contiguous
        assert read_array.flags.owndata or read_array.base.flags.owndata
        assert read_array.flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_pickle_protocol_of_torch(protocol: int) -> None:
    tensors = read((DATA / f"protocol{protocol}.pt").read_bytes())
    np.testing.assert_array_equal(tensors["fc.weight"], np.full((3, 2), 0.5, np.float32))
    np.testing.assert_array_equal(tensors["fc.bias"], np.full(3, -1.0, np.float32))


def test_reads_the_shared_weights(shared: Path) -> None:
    with (shared / "weights/resnet20-cifar10/model.th").open("rb") as opened:
        file = TorchFile(opened, source="model.th")
        assert file.content["best_prec1"] == pytest.approx(91.78)
        tensors = dict(file.read(file.content["state_dict"]))
    assert tensors["module.conv1.weight"].shape == (16, 3, 3, 3)
    assert all(np.isfinite(array).all() for array in tensors.values())


def test_bfloat16_keeps_every_bit() -> None:
    bits = np.array([0x0000, 0x8000, 0x3F80, 0x7F80, 0xFF80, 0x0001, 0x7F7F], np.uint16)
    content = {"w": tensor(storage("0", "BFloat16Storage", bits.size), bits.shape, (1,))}
    expected = np.array(
        [0.0, -0.0, 1.0, np.inf, -np.inf, 2.0**-133, (2 - 2**-7) * 2.0**127], np.float32
    )
    array = read(zip_file(content, {"0": bits}))["w"]
    assert array.view(np.uint32).tolist() == expected.view(np.uint32).tolist()


def test_tensors_may_share_a_storage() -> None:
    numbers = np.arange(10, dtype=np.float32)
    store = storage("0", "float32", 10)
    content = {"head": tensor(store, (4,), (1,)), "odd": tensor(store, (5,), (2,), 1)}
    tensors = read(zip_file(content, {"0": numbers}))
    assert tensors["odd"].tolist() == [1, 3, 5, 7, 9]
    tensors["head"][:] = 0  # each has numbers of its own
    assert tensors["odd"].tolist() == [1, 3, 5, 7, 9]


def test_older_files_have_views_of_storages() -> None:
    content = {
        "w": tensor(storage("0", "float32", 10, ("1", 4, 3)), (3,), (1,)),
        "beyond": tensor(storage("0", "float32", 10, ("1", 4, 3)), (3,), (1,), 1),
    }
    data = sequential_file(content, {"0": np.arange(10, dtype=np.float32)})
    file = TorchFile(io.BytesIO(data), source="x.pth")
    assert dict(file.read({"w": file.content["w"]}))["w"].tolist() == [4, 5, 6]
    with pytest.raises(ModelError, match="tensor beyond of shape \\[3\\] reaches beyond the 3"):
        dict(file.read(file.content))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((13,), (1,), 0),
        ((12,), (1,), 1),
        ((3, 4), (5, 1), 0),
        ((2,), (12,), 0),
        ((1,), (1,), 12),
        ((1000, 1000), (0, 0), 0),  # twelve numbers shown as a million
        ((13, 1), (0, 0), 0),
        ((2**40, 2**40), (0, 0), 0),
        ((0, 2**40), (1, 1), 0),
    ],
)
def test_a_tensor_may_not_reach_beyond_its_storage(form, shape, stride, offset) -> None:
    content = {"w": tensor(storage("0", "float32", 12), shape, stride, offset)}
    with pytest.raises(ModelError, match=r"x\.pth: .*(reaches beyond|times the size)"):
        read(FORMATS[form](content, {"0": np.zeros(12, np.float32)}))


def test_strides_of_sides_of_one_do_not_matter() -> None:
    content = {"w": tensor(storage("0", "float32", 2), (1, 2), (2**47, 1))}
    assert read(zip_file(content, {"0": np.ones(2, np.float32)}))["w"].tolist() == [[1, 1]]


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_numbers_may_not_be_asked_for_without_end(form: str) -> None:
    store = storage("0", "float32", 1000)
    content = {str(i): tensor(store, (1000,), (1,)) for i in range(2000)}
    with pytest.raises(ModelError, match="over 4 times the size of the file"):
        read(FORMATS[form](content, {"0": np.zeros(1000, np.float32)}))


@pytest.mark.parametrize("form", FORMATS)
def test_storages_of_another_size_or_none(form: str) -> None:
    content = {"w": tensor(storage("0", "float32", 12), (12,), (1,))}
    for storages in ({"0": np.zeros(11, np.float32)}, {"1": np.zeros(12, np.float32)}, {}):
        with pytest.raises(ModelError, match=r"x\.pth: the file is damaged"):
            read(FORMATS[form](content, storages))


@pytest.mark.parametrize("form", FORMATS)
def test_a_pickle_that_calls_a_command_is_refused(form: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = {"state_dict": {}, "x": Call(Name("os", "system"), (f"touch {trace}",))}
    with pytest.raises(ModelError, match=r"x\.pth: the pickle asks for os\.system"):
        read(FORMATS[form](content, {}))
    assert not trace.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_big_endian_files_are_refused(form: str) -> None:
    files = {
        "zip": zip_file({}, {}, byteorder=b"big"),
        "sequential": sequential_file({}, {}, little_endian=False),
    }
    with pytest.raises(ModelError, match="big-endian"):
        read(files[form])


def test_other_files_of_torch_are_named() -> None:
    with pytest.raises(ModelError, match="TorchScript program"):
        read(zip_file({}, {}, code__x=b"pass", **{"code/__torch__.py": b"pass"}))
    with pytest.raises(ModelError, match="TorchScript program"):
        read(zip_file({}, {}, constants__pkl=pickled(())))
    with pytest.raises(ModelError, match="not one that torch wrote"):
        read(zip_file({}, {}, data__pkl=None))
    with pytest.raises(ModelError, match=r"torch 0\.1"):
        read(b"\0" * 257 + b"ustar" + bytes(300))
    with pytest.raises(ModelError, match="not a checkpoint that torch wrote"):
        read(pickled({"w": 1}))
    with pytest.raises(ModelError, match="unknown version"):
        read(pickled(0x1950A86A20F9469CFC6C) + pickled(1002) + pickled({}))


def rewritten(data: bytes, change, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return the archive with ``change(name, data)`` applied to every member."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)), compression)
    return result.getvalue()


def test_compressed_members_are_refused() -> None:
    data = state_dict_files({"w": np.zeros(1000, np.float32)})["zip"]
    with pytest.raises(ModelError, match="compressed or encrypted"):
        read(rewritten(data, lambda name, content: content, zipfile.ZIP_DEFLATED))


def test_two_members_of_one_name_are_refused() -> None:
    result = io.BytesIO(zip_file({}, {}))
    with (
        zipfile.ZipFile(result, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("archive/data.pkl", pickled({}))
    with pytest.raises(ModelError, match="two members of the same name"):
        read(result.getvalue())


def test_huge_directories_are_not_parsed() -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 8, 7, *[0] * 6)
    entries = b"".join(entry + b"%07d" % i for i in range(100_000))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(entries), 30, 0)
    with pytest.raises(ModelError, match="zip directory cannot be read"):
        read(b"PK\3\4" + bytes(26) + entries + end)


def test_a_flipped_bit_in_the_numbers_is_found() -> None:
    numbers = np.full(100, 1.5, np.float32)
    data = bytearray(state_dict_files({"w": numbers})["zip"])
    data[data.index(numbers.tobytes()) + 7] ^= 1
    with pytest.raises(ModelError, match="checksum is wrong"):
        read(bytes(data))


def test_archives_without_checksums_are_read() -> None:
    """``torch.serialization.set_crc32_options(False)`` writes zeros in their place."""
    numbers = np.full(100, 1.5, np.float32)
    data = bytearray(state_dict_files({"w": numbers})["zip"])
    position = data.find(b"PK\x01\x02")
    while position >= 0:
        data[position + 16 : position + 20] = bytes(4)
        position = data.find(b"PK\x01\x02", position + 1)
    np.testing.assert_array_equal(read(bytes(data))["w"], numbers)


@pytest.mark.parametrize(("field", "value"), [(20, 2**31), (24, 2**31), (42, 2**31), (42, 7)])
def test_lying_sizes_and_positions(field: int, value: int) -> None:
    """In the zip directory: compressed size, size, position of the member."""
    data = bytearray(state_dict_files({"w": np.zeros(100, np.float32)})["zip"])
    position = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    for entry in (data.index(b"PK\x01\x02"), position):
        data[entry + field : entry + field + 4] = struct.pack("<I", value)
    with pytest.raises(ModelError, match=r"x\.pth: .*damaged"):
        read(bytes(data))


def test_truncated_files_are_errors() -> None:
    for data in state_dict_files({"w": np.arange(20, dtype=np.float32)}).values():
        for length in range(0, len(data) - 1, 7):
            with pytest.raises(ModelError):
                read(data[:length])


def test_storages_are_read_once_each() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            Counting.taken += len(data)
            return data

    checkpoint = Checkpoint()
    content = {}
    for key in ("a", "b"):
        whole = checkpoint.tensor(np.zeros(10_000, np.float32))
        store = whole.arguments[0]
        content.update({f"{i}{key}": tensor(store, (50,), (1,), i * 50) for i in range(200)})
    data = zip_file(content, checkpoint.storages)
    file = TorchFile(Counting(data), source="x")
    assert len(dict(file.read(file.content))) == 400
    assert Counting.taken < 1.5 * len(data)
