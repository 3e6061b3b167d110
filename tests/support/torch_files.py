"""Writes torch checkpoints by hand, honest and hostile ones, without torch.

``pickled`` spells out protocol 2, so that a test says exactly which names a file asks for.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


@dataclass(frozen=True)
class Name:
    """GLOBAL: module and name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """REDUCE: call ``function`` with ``arguments``."""

    function: Name
    arguments: tuple


@dataclass(frozen=True)
class Stored:
    """BINPERSID: what lies outside the pickle."""

    identity: tuple


@dataclass(frozen=True)
class Raw:
    """Instructions that are written as they are."""

    code: bytes


def pickled(value: object) -> bytes:
    return b"\x80\x02" + _encoded(value) + b"."


def _encoded(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(_encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_encoded, value)) + b"e"
        case dict():
            items = b"".join(_encoded(key) + _encoded(item) for key, item in value.items())
            return b"}(" + items + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return _encoded(value.function) + _encoded(value.arguments) + b"R"
        case Stored():
            return _encoded(value.identity) + b"Q"
        case Raw():
            return value.code
    raise TypeError(type(value))


def storage(key: str, dtype: str, count: int, *view: object) -> Stored:
    kind = Name("torch", STORAGES.get(dtype, dtype))
    return Stored(("storage", kind, key, "cpu", count, *view))


def tensor(store: Stored, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    function = Name("torch._utils", "_rebuild_tensor_v2")
    hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(function, (store, offset, shape, stride, False, hooks))


class Checkpoint:
    """Collects storages and gives out the tensors that describe them."""

    def __init__(self, views: bool = False) -> None:
        self.views = views  # the older format names a view, mostly None, with every storage
        self.storages: dict[str, np.ndarray] = {}

    def tensor(self, array: np.ndarray) -> Call:
        key = str(len(self.storages))
        self.storages[key] = array
        stride = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        store = storage(key, array.dtype.name, array.size, *([None] if self.views else []))
        return tensor(store, array.shape, stride)


def zip_file(content: object, storages: dict[str, np.ndarray], **changes: bytes | None) -> bytes:
    """Return a zip checkpoint; ``changes`` adds members (``__`` for a dot) or drops them."""
    members = {"data.pkl": pickled(content), "byteorder": b"little", "version": b"3\n"}
    members.update({f"data/{key}": array.tobytes() for key, array in storages.items()})
    members.update({name.replace("__", "."): data for name, data in changes.items()})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(f"archive/{name}", data)
    return file.getvalue()


def sequential_file(
    content: object, storages: dict[str, np.ndarray], *, little_endian: bool = True
) -> bytes:
    """Return a checkpoint of the older format."""
    machine = {"protocol_version": 1001, "little_endian": little_endian}
    head = [MAGIC_NUMBER, 1001, machine, content, list(storages)]
    raw = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join(map(pickled, head)) + b"".join(raw)


def state_dict_files(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Return the same state dict in both formats, by the name of the format."""
    files = {}
    for name, write in (("zip", zip_file), ("sequential", sequential_file)):
        checkpoint = Checkpoint(views=name == "sequential")
        content = {key: checkpoint.tensor(array) for key, array in arrays.items()}
        files[name] = write(content, checkpoint.storages)
    return files
