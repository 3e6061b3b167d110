"""The two containers of torch checkpoints: a zip archive, and the older sequential file.

Zip (torch 1.6 and later): ``NAME/data.pkl`` describes the tensors, ``NAME/data/KEY`` holds the
numbers of one storage each, stored without compression. Sequential: five pickles (magic number,
version, about the machine, the object, the storage keys), then every storage as an 8-byte count
and its numbers. Both describe tensors the same way (``torch_pickle``).

Every length is checked against the file before anything is read, storages are read one at a
time, and a tensor may not reach beyond its storage nor hold more elements than it. Checksums of
archives are verified. Left out on purpose: TorchScript programs, the tar files of torch 0.1,
big-endian files; each is refused in words.

Source: ``torch/serialization.py`` of PyTorch 2.13, for the formats.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from lushan.errors import ModelError
from lushan.models.bfloat16 import widen_bfloat16
from lushan.models.pickle_machine import MAXIMUM_BYTES
from lushan.models.torch_pickle import Storage, StoredTensor, read_pickle
from lushan.record import record
from lushan.text import printable

ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
# Tensors may share storages (views of one array), but not without end: a small hostile file
# could otherwise ask for the same numbers a million times.
MAXIMUM_EXPANSION = 4
# The directory of an archive: 10,000 tensors take about 1 MB, and ten times that once parsed.
MAXIMUM_DIRECTORY = 4 * 2**20


@record
class _Extent:
    """Where the bytes of a storage lie in the file, and their CRC-32 where the file has one."""

    position: int
    size: int
    checksum: int | None


class TorchFile:
    """An open checkpoint: ``content`` is what was saved, with ``StoredTensor`` for tensors."""

    def __init__(self, file: BinaryIO, *, source: str) -> None:
        """Read the description of the checkpoint in ``file``; ``source`` names it in messages."""
        self._file = file
        self._source = source
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(512)
        file.seek(0)
        if start.startswith(ZIP_SIGNATURES):
            self.content, self._extents = _read_archive(file, self._size, source)
        else:
            if start[257:262] == b"ustar":
                raise ModelError(
                    "{source}: a checkpoint of torch 0.1 (a tar file) is not supported; load it "
                    "with torch and save it again",
                    source=source,
                )
            self.content, self._extents = _read_sequential(file, self._size, source)

    def read(
        self, tensors: Mapping[str, StoredTensor]
    ) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """Yield name and numbers of each tensor, a fresh C-contiguous array, storage by storage.

        bfloat16 becomes float32. Only one storage is held besides what was yielded. Raises
        ``ModelError`` when a tensor does not lie within its storage or a storage within the file.
        """
        total = 0
        for tensor in tensors.values():
            total += math.prod(tensor.shape) * _item_size(tensor.storage.element)
            if total > MAXIMUM_EXPANSION * self._size:
                raise ModelError(
                    "{source}: its tensors claim over {times} times the size of the file",
                    source=self._source,
                    times=MAXIMUM_EXPANSION,
                )
        key, data = "", b""
        for name in sorted(tensors, key=lambda name: tensors[name].storage.key):
            tensor = tensors[name]
            if not data or tensor.storage.key != key:
                key, data = tensor.storage.key, b""  # let go of the previous storage first
                data = self._bytes(tensor.storage)
            yield name, self._numbers(name, tensor, data)

    def _bytes(self, storage: Storage) -> bytes:
        extent = self._extents.get(storage.key)
        if extent is None or extent.size != storage.total * _item_size(storage.element):
            raise ModelError(
                "{source}: the file is damaged: the numbers of storage {key} are not all there",
                source=self._source,
                key=printable(storage.key),
            )
        self._file.seek(extent.position)
        return _checked(self._file.read(extent.size), extent, storage.key, self._source)

    def _numbers(self, name: str, tensor: StoredTensor, data: bytes) -> NDArray[np.generic]:
        storage, shape = tensor.storage, tensor.shape
        count = math.prod(shape)
        # The last element that is addressed; a stride along a side of 1 is never used.
        last = tensor.offset + sum(
            (side - 1) * step for side, step in zip(shape, tensor.stride, strict=True)
        )
        inside = storage.start + storage.count <= storage.total and count <= storage.count
        inside = inside and (last < storage.count if count else max(shape) < 2**31)
        if not inside:
            raise ModelError(
                "{source}: the file is damaged: tensor {name} of shape {shape} reaches beyond the "
                "{count} numbers stored for it",
                source=self._source,
                name=printable(name),
                shape=list(shape),
                count=storage.count,
            )
        dtype = np.dtype("<u2" if storage.element == "bfloat16" else storage.element)
        if count == 0:
            array = np.zeros(shape, dtype)
        else:
            numbers = np.frombuffer(data, dtype.newbyteorder("<"))  # [storage.total]
            steps = zip(shape, tensor.stride, strict=True)
            strides = [step * dtype.itemsize if side > 1 else 0 for side, step in steps]
            window = numbers[storage.start + tensor.offset :]
            view = np.lib.stride_tricks.as_strided(window, shape, strides, writeable=False)
            array = view.astype(dtype, order="C", copy=True)
        return widen_bfloat16(array.view(np.uint16)) if storage.element == "bfloat16" else array


def _item_size(element: str) -> int:
    return 2 if element == "bfloat16" else np.dtype(element).itemsize


def _read_archive(file: BinaryIO, size: int, source: str) -> tuple[object, dict[str, _Extent]]:
    """Return what ``data.pkl`` describes and where the storages lie."""
    members = _members(file, source)
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ModelError(
            "{source}: a zip archive, but not one that torch wrote: it has no data.pkl",
            source=source,
        )
    root = pickles[0].removesuffix("data.pkl")
    if root + "constants.pkl" in members or any(
        name.startswith(root + "code/") for name in members
    ):
        raise ModelError(
            "{source}: a TorchScript program, not a checkpoint; save its weights with torch: "
            "torch.save(torch.jit.load(...).state_dict(), ...)",
            source=source,
        )

    def read(name: str) -> bytes:
        extent = _extent(file, members[name], size, source)
        if extent.size > MAXIMUM_BYTES:
            raise _damaged_archive(source, name)
        file.seek(extent.position)
        return _checked(file.read(extent.size), extent, name, source)

    if root + "byteorder" in members and read(root + "byteorder") != b"little":
        raise _big_endian(source)
    content, storages = read_pickle(io.BytesIO(read(pickles[0])), source=source)
    extents = {
        key: _extent(file, members[f"{root}data/{key}"], size, source)
        for key in storages
        if f"{root}data/{key}" in members
    }
    return content, extents


class _Bounded:
    """What ``zipfile`` needs of a file, except that it cannot ask for a huge directory."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek = file.seek
        self.tell = file.tell
        self._read = file.read

    def read(self, count: int = -1) -> bytes:
        if count > MAXIMUM_DIRECTORY:
            raise zipfile.BadZipFile("it is far larger than torch's")
        return self._read(count)


def _members(file: BinaryIO, source: str) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(cast(BinaryIO, _Bounded(file))) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as e:
        raise ModelError(
            "{source}: the file is damaged: its zip directory cannot be read ({reason})",
            source=source,
            reason=printable(str(e)),
        ) from None
    members = {entry.filename: entry for entry in entries}
    if len(members) != len(entries):
        raise ModelError(
            "{source}: the zip archive has two members of the same name", source=source
        )
    return members


def _extent(file: BinaryIO, entry: zipfile.ZipInfo, size: int, source: str) -> _Extent:
    """Return where the bytes of a member begin: behind its local header, of varying length."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ModelError(
            "{source}: member {name} is compressed or encrypted, which torch never does",
            source=source,
            name=printable(entry.filename),
        )
    try:
        file.seek(entry.header_offset)
    except (ValueError, OverflowError, OSError):  # a negative or absurd position
        raise _damaged_archive(source, entry.filename) from None
    header = file.read(30)
    if len(header) != 30 or not header.startswith(ZIP_SIGNATURES[0]):
        raise _damaged_archive(source, entry.filename)
    name_length, extra_length = struct.unpack("<HH", header[26:])
    position = entry.header_offset + 30 + name_length + extra_length
    if entry.file_size != entry.compress_size or position + entry.file_size > size:
        raise _damaged_archive(source, entry.filename)
    return _Extent(position, entry.file_size, entry.CRC or None)  # 0: written without checksums


def _checked(data: bytes, extent: _Extent, name: str, source: str) -> bytes:
    wrong = extent.checksum is not None and zlib.crc32(data) != extent.checksum
    if wrong or len(data) != extent.size:
        raise _damaged_archive(source, name)
    return data


def _damaged_archive(source: str, name: str) -> ModelError:
    return ModelError(
        "{source}: the file is damaged: {name} in it is incomplete or its checksum is wrong",
        source=source,
        name=printable(name),
    )


def _big_endian(source: str) -> ModelError:
    return ModelError(
        "{source}: written on a big-endian machine, which is not supported; save it again on a "
        "common one",
        source=source,
    )


def _read_sequential(file: BinaryIO, size: int, source: str) -> tuple[object, dict[str, _Extent]]:
    """Return what the fourth pickle describes and where the storages behind the fifth lie."""
    magic, _ = read_pickle(file, source=source)
    if magic != MAGIC_NUMBER:
        raise ModelError("{source}: a pickle, but not a checkpoint that torch wrote", source=source)
    version, _ = read_pickle(file, source=source)
    machine, _ = read_pickle(file, source=source)
    if version != PROTOCOL_VERSION or not isinstance(machine, dict):
        raise ModelError(
            "{source}: a torch checkpoint of an unknown version; load it with torch and save it "
            "again",
            source=source,
        )
    if machine.get("little_endian", True) is not True:
        raise _big_endian(source)
    content, storages = read_pickle(file, source=source)
    keys, _ = read_pickle(file, source=source)
    extents: dict[str, _Extent] = {}
    position = file.tell()
    for key in keys if isinstance(keys, list) else [None]:
        storage = storages.pop(key, None) if isinstance(key, str) else None
        file.seek(position)
        header = file.read(8)
        position += 8
        if storage is None or header != struct.pack("<q", storage.total):
            raise ModelError(
                "{source}: the file is damaged or incomplete: its list of storages is wrong",
                source=source,
            )
        size_of_storage = storage.total * _item_size(storage.element)
        extents[storage.key] = _Extent(position, size_of_storage, None)
        position += size_of_storage
    if position > size:
        raise ModelError(
            "{source}: the file ends too early: {size} of {expected} bytes; get it again",
            source=source,
            size=size,
            expected=position,
        )
    return content, extents
