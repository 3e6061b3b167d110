"""What the pickles inside torch checkpoints may contain: tensors, plain containers, numbers.

The machine is in ``pickle_machine``; this is its vocabulary. Tensors stay descriptions here
(which storage, which shape): ``torch_file`` reads their numbers and checks their bounds.

Left out on purpose: whole modules, NumPy arrays, sparse, quantised and complex tensors. They are
refused by name, as everything else is that is not listed below.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from lushan.models.pickle_instructions import run
from lushan.models.pickle_machine import Machine, Name, Vocabulary

MAXIMUM_DIMENSIONS = 32

ELEMENTS = {
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}


@dataclass(frozen=True)
class Storage:
    """A run of ``total`` elements kept elsewhere in the file under ``key``.

    A tensor may address only the window ``[start, start + count)`` of it (older torch knew
    storages that are views of others).
    """

    key: str
    element: str
    total: int
    start: int
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle describes it; offset and strides count elements, unchecked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class _NumpyType:
    """The element type of a NumPy scalar, such as ``f8``, and its byte order."""

    code: str
    order: str = "<"


def read_pickle(file: BinaryIO, *, source: str) -> tuple[object, dict[str, Storage]]:
    """Read one pickle from ``file``, which is left just behind it.

    Returns the value (dictionaries, lists, tuples, sets, plain values, ``StoredTensor``) and
    every storage that was mentioned, by key. ``source`` names the file in messages. Raises
    ``ModelError`` when the pickle is damaged, too large, or asks for anything else.
    """
    storages: dict[str, Storage] = {}

    def persistent(machine: Machine, identity: object) -> Storage:
        storage = _storage(machine, identity)
        known = storages.setdefault(storage.key, storage)
        if (known.element, known.total) != (storage.element, storage.total):
            raise machine.damaged()
        return storage

    vocabulary = Vocabulary(_CALLS, ELEMENTS, persistent, _set_byte_order)
    return run(Machine(file, vocabulary, source)), storages


def _storage(machine: Machine, identity: object) -> Storage:
    """Return what ``("storage", type, key, place, elements[, view])`` describes."""
    if not isinstance(identity, tuple) or identity[:1] != ("storage",):
        raise machine.refused("an object that is kept outside the pickle")
    if len(identity) not in (5, 6):
        raise machine.damaged()
    _, element, key, _, total, view = (*identity, None)[:6]
    if not isinstance(element, Name) or element.text not in ELEMENTS or not isinstance(key, str):
        raise machine.damaged()
    start, count = 0, _natural(machine, total)
    if view is not None:
        if not isinstance(view, tuple) or len(view) != 3:
            raise machine.damaged()
        start, count = _natural(machine, view[1]), _natural(machine, view[2])
    return Storage(key, ELEMENTS[element.text], _natural(machine, total), start, count)


def _natural(machine: Machine, value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise machine.damaged()
    return value


def _naturals(machine: Machine, values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MAXIMUM_DIMENSIONS:
        raise machine.damaged()
    return tuple(_natural(machine, value) for value in values)


# What the pickle may call, by name. The functions are ours; each returns inert data.


def _rebuild_tensor(
    machine: Machine, storage: object, offset: object, shape: object, stride: object
) -> StoredTensor:
    sizes, steps = _naturals(machine, shape), _naturals(machine, stride)
    if not isinstance(storage, Storage) or len(sizes) != len(steps):
        raise machine.damaged()
    return StoredTensor(storage, _natural(machine, offset), sizes, steps)


def _rebuild_tensor_v2(machine: Machine, *arguments: object) -> StoredTensor:
    """Take storage, offset, shape, stride, requires_grad, hooks and, since torch 1.13, flags."""
    if len(arguments) not in (6, 7):
        raise machine.damaged()
    if any(arguments[6:]):  # conjugate or negative views: the stored numbers are not the tensor's
        raise machine.refused("a tensor with a pending negation")
    return _rebuild_tensor(machine, *arguments[:4])


def _rebuild_parameter(
    machine: Machine, tensor: object, requires_grad: object, hooks: object
) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise machine.damaged()
    return tensor


def _dictionary(machine: Machine, items: object = ()) -> dict[Hashable, object]:
    pairs = list(items.items()) if isinstance(items, dict) else items
    if not isinstance(pairs, (list, tuple)):
        raise machine.damaged()
    machine.spend(len(pairs))
    result: dict[Hashable, object] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise machine.damaged()
        result[machine.key(pair[0])] = pair[1]
    return result


def _sequence(machine: Machine, items: object) -> tuple[object, ...]:
    if not isinstance(items, (list, tuple)):
        raise machine.damaged()
    machine.spend(len(items))
    return tuple(items)


def _set(machine: Machine, items: object = ()) -> set[Hashable]:
    return {machine.key(item) for item in _sequence(machine, items)}


def _encode(machine: Machine, text: object, encoding: object) -> bytes:
    """How protocol 2 writes bytes: as text of code points below 256."""
    if not isinstance(text, str) or encoding != "latin1":
        raise machine.damaged()
    machine.spend(len(text))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise machine.damaged() from None


def _numpy_type(
    machine: Machine, code: object, align: object = False, copy: object = True
) -> _NumpyType:
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise machine.refused(f"numpy.dtype {code if isinstance(code, str) else '?'}")
    return _NumpyType(str(code))


def _numpy_scalar(machine: Machine, kind: object, data: object) -> object:
    """Return one number (say, the best accuracy of a training run) as a Python number."""
    if not isinstance(kind, _NumpyType) or not isinstance(data, bytes):
        raise machine.damaged()
    dtype = np.dtype(kind.code).newbyteorder(kind.order)  # type: ignore[arg-type]
    if len(data) != dtype.itemsize:
        raise machine.damaged()
    return np.frombuffer(data, dtype)[0].item()


def _set_byte_order(target: object, state: object) -> bool:
    """Set the state of a NumPy type, (version, byte order, ...); other objects have none."""
    if not isinstance(target, _NumpyType) or not isinstance(state, tuple) or len(state) < 2:
        return False
    order = state[1]
    if not isinstance(order, str) or order not in ("<", ">", "=", "|"):
        return False
    target.order = order
    return True


_CALLS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": _sequence,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,  # torch's learning-rate schedules have one
    "__builtin__.set": _set,
    "builtins.set": _set,
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}
