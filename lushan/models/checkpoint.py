"""Weights between files and networks: any checkpoint in, parameters out, and back.

A checkpoint names tensors as torchvision does and stores convolution weights as [OC,IC,KH,KW];
lushan keeps them as [OC,KH,KW,IC], so that the channels of a pixel lie together. Files are told
apart by their content, not by their suffix.

Left out on purpose: what the parameters mean (``resnet_graph``), where models come from
(``zoo``, ``hub``), how each format is read (``torch_file``, ``safetensors_file``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lushan.errors import ModelError
from lushan.graph.weights import LazyWeights, origin_of, shape_of
from lushan.models.model_folder import read_model_folder, write_model_folder
from lushan.models.safetensors_file import LARGE_ELEMENTS, open_safetensors
from lushan.reference.quantization import HIGHEST, SMALLEST_SCALE
from lushan.text import first_few, printable

if TYPE_CHECKING:
    from lushan.models.torch_pickle import StoredTensor

__all__ = [
    "from_parameters",
    "read_model_folder",
    "read_tensors",
    "to_parameters",
    "write_model_folder",
]

# Where training programs keep the weights, first choice first. Averaged weights come first: where
# a run kept them, they are the ones it was judged by.
CONTAINERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)
# What torch's wrappers put before every name, and counters that only training needs.
PREFIXES = ("module.", "_orig_mod.")
COUNTERS = ("num_batches_tracked", "n_averaged")
VARIANCE = "running_var"  # of a batch norm, which takes its square root
SCALES = ("scale", "weight_scale")  # of a quantised network, which divides by them
ZERO_POINT = "zero_point"
LONGEST_LIST = 20


def read_tensors(path: str | Path) -> Mapping[str, NDArray[np.generic]]:
    """Return name -> array of a ``.safetensors``, ``.pth``, ``.th``, ``.pt`` or ``.bin`` file.

    Arrays keep the file's layout ([OC,IC,KH,KW]) and element type, except bfloat16, which becomes
    float32. ``module.`` and ``_orig_mod.`` are taken off when every name has them; counters such
    as ``num_batches_tracked`` are dropped. Large tensors of a safetensors file are read when they
    are asked for. Raises ModelError; nothing in the file is executed.
    """
    path = Path(path)
    source = str(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
            # The length of a safetensors header may begin with any byte: look for that one first.
            if start[4:9] == b"\0\0\0\0{":
                return _plain_names(open_safetensors(path))
            from lushan.models.torch_file import ZIP_SIGNATURES

            if start.startswith((b"\x80", *ZIP_SIGNATURES)) or start[257:262] == b"ustar":
                return _plain_names(_read_torch(file, source))
    except OSError as error:
        raise ModelError(
            "{source}: cannot be read: {reason}", source=source, reason=error.strerror or error
        ) from None
    if not start:
        raise ModelError("{source}: the file is empty", source=source)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            "{source}: a Git LFS pointer, not the weights themselves; run: git lfs pull",
            source=source,
        )
    raise ModelError(
        "{source}: neither safetensors nor a checkpoint of torch (it begins with {start})",
        source=source,
        start=printable(start[:12].decode("latin-1")),
    )


def to_parameters(
    tensors: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    source: str,
    int8: Collection[str] = (),
) -> Mapping[str, NDArray[Any]]:
    """Return the parameters of a network, in the order of ``shapes``: float32, or int8 by name.

    ``shapes`` are lushan's: a convolution weight is [OC,KH,KW,IC], and the tensor for it
    [OC,IC,KH,KW]. A fully connected weight [OC,IC] may also be stored as a 1×1 convolution. Arrays
    keep the file's order in memory. Raises one ModelError that lists everything missing,
    unexpected, of a wrong shape, not of a floating-point type (or int8), holding NaN or infinity,
    variances below 0, and scales and zero points of bytes that cannot be. What a file reads only
    when asked is looked at then: NaN and infinity in a large tensor raise ModelError when that
    parameter is got.
    """
    found: dict[str, list[ModelError]] = defaultdict(list)
    getters: dict[str, Callable[[], NDArray[Any]]] = {}
    for name in (name for name in shapes if name in tensors):
        received, shape = shape_of(tensors, name), _stored_shape(shapes[name])
        element = "int8" if name in int8 else "float32"
        as_convolution = (*shape, 1, 1) if len(shape) == 2 else shape
        getters[name] = partial(_parameter, tensors, name, shape, element, source)
        if received not in (shape, as_convolution):
            found["shape"].append(
                ModelError(
                    "{name} is {received}, expected {expected}",
                    name=printable(name),
                    received=list(received),
                    expected=list(shape),
                )
            )
        elif not (isinstance(tensors, LazyWeights) and math.prod(shape) >= LARGE_ELEMENTS):
            tensor = tensors[name]
            fault = _fault(name, tensor, element)
            if fault is not None:
                found[fault[0]].append(fault[1])
            elif element == "float32":
                getters[name] = partial(_itself, _converted(tensor, shape, element))
    found["missing"] = [_name(name) for name in shapes if name not in tensors]
    found["unexpected"] = [_name(name) for name in tensors if name not in shapes]
    if any(found.values()):
        raise _unfit(source, found)
    return LazyWeights({name: shapes[name] for name in getters}, getters, origin=origin_of(tensors))


def _unfit(source: str, found: Mapping[str, list[ModelError]]) -> ModelError:
    """Return the error that lists what was found wrong, kind by kind."""

    def listed(kind: str) -> dict[str, object]:
        return _listed(found.get(kind, []))

    lists = [
        ModelError("missing tensors ({count}): {names}", **listed("missing")),
        ModelError("unexpected tensors ({count}): {names}", **listed("unexpected")),
        ModelError("wrong shapes ({count}): {names}", **listed("shape")),
        ModelError("not floating-point numbers ({count}): {names}", **listed("float32")),
        ModelError("not int8 ({count}): {names}", **listed("int8")),
        ModelError("NaN or infinity in ({count}): {names}", **listed("finite")),
        ModelError("variances below 0 in ({count}): {names}", **listed("variance")),
        ModelError("scales that are 0 or below in ({count}): {names}", **listed("scale")),
        ModelError(
            "zero points that are no whole numbers from 0 to 255 in ({count}): {names}",
            **listed("zero point"),
        ),
    ]
    problems = [problem for problem in lists if problem.values["count"]]
    return ModelError(
        "{source}: the weights do not fit the network: {problems}",
        source=source,
        problems=reduce(_semicolon, problems),
    )


def _fault(name: str, tensor: NDArray[np.generic], element: str) -> tuple[str, ModelError] | None:
    """Return what is wrong with a tensor, as the kind of fault and how to name it."""
    if tensor.dtype != "int8" if element == "int8" else tensor.dtype.kind != "f":
        kind = str(tensor.dtype)
        return element, ModelError("{name} is {type}", name=printable(name), type=kind)
    if element == "int8":
        return None
    array = _converted(tensor, tensor.shape, element)
    last = name.rpartition(".")[2]
    if not np.isfinite(array).all():
        return "finite", _name(name)
    if last == VARIANCE and (array < 0).any():
        return "variance", _name(name)
    if last in SCALES and (array < SMALLEST_SCALE).any():
        return "scale", _name(name)
    if last == ZERO_POINT:
        # That of a picture lies between two pixel values; see ``reference.quantization``.
        is_whole = array.ndim or not (array % 1).any()
        if not is_whole or (array < 0).any() or (array > HIGHEST).any():
            return "zero point", _name(name)
    return None


def _converted(tensor: NDArray[np.generic], shape: tuple[int, ...], element: str) -> NDArray[Any]:
    """Return a stored tensor in lushan's axes and type, not copied unless it must be."""
    tensor = tensor.reshape(shape)
    if tensor.ndim == 4:
        tensor = tensor.transpose(0, 2, 3, 1)  # [OC,KH,KW,IC]
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity: reported
        return np.asarray(tensor, element)


def _itself(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _parameter(
    tensors: Mapping[str, NDArray[np.generic]],
    name: str,
    shape: tuple[int, ...],
    element: str,
    source: str,
) -> NDArray[Any]:
    """Read a parameter that was too large to be looked at before."""
    tensor = tensors[name]
    fault = _fault(name, tensor, element)
    if fault is not None:
        raise _unfit(source, {fault[0]: [fault[1]]})
    return _converted(tensor, shape, element)


def from_parameters(
    parameters: Mapping[str, NDArray[np.floating[Any]]],
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return parameters as a checkpoint stores them: the inverse of ``to_parameters``."""
    return {
        name: np.asarray(value.transpose(0, 3, 1, 2) if value.ndim == 4 else value, order="C")
        for name, value in parameters.items()
    }


def _read_torch(file: BinaryIO, source: str) -> dict[str, NDArray[np.generic]]:
    from lushan.models.torch_file import TorchFile

    checkpoint = TorchFile(file, source=source)
    chosen = _find_weights(checkpoint.content)
    if chosen is None:
        content = checkpoint.content
        keys = [str(key) for key in content] if isinstance(content, dict) else []
        raise ModelError(
            "{source}: no named tensors were found in it; it holds: {keys}",
            source=source,
            keys=first_few([printable(key, 40) for key in keys], LONGEST_LIST)
            or type(content).__name__,
        )
    arrays = dict(checkpoint.read(chosen))
    return {name: arrays[name] for name in chosen}


def _find_weights(value: object, depth: int = 3) -> dict[str, StoredTensor] | None:
    """Return the tensors of the first container of ``CONTAINERS`` that has any, or of ``value``."""
    from lushan.models.torch_pickle import StoredTensor

    if not isinstance(value, dict):
        return None
    for key in CONTAINERS if depth else ():
        inner = _find_weights(value.get(key), depth - 1)
        if inner is not None:
            return inner
    tensors = {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, StoredTensor)
    }
    return tensors or None


def _plain_names(
    tensors: Mapping[str, NDArray[np.generic]],
) -> Mapping[str, NDArray[np.generic]]:
    """Drop counters, and take off the prefixes that every name has, so that no two names meet."""
    names = [name for name in tensors if name.rpartition(".")[2] not in COUNTERS]
    plain = names
    for _ in range(8):  # wrappers within wrappers, in any order; nobody nests more
        common = [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in plain)]
        if not common:
            break
        plain = [name.removeprefix(common[0]) for name in plain]
    pairs = list(zip(plain, names, strict=True))
    return LazyWeights(
        {short: shape_of(tensors, name) for short, name in pairs},
        {short: partial(tensors.__getitem__, name) for short, name in pairs},
        origin=origin_of(tensors),
    )


def _stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[OC,KH,KW,IC] -> [OC,IC,KH,KW]; other shapes stay."""
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else tuple(shape)


def _name(name: str) -> ModelError:
    return ModelError("{name}", name=printable(name, 160))


def _listed(entries: list[ModelError]) -> dict[str, object]:
    """Return the values of one part of the message: how many there are, and the first of them."""
    if not entries:
        return {"count": 0, "names": ""}
    more = len(entries) - LONGEST_LIST
    shown = entries[:LONGEST_LIST]
    if more > 0:
        shown = [*shown, ModelError("… (+{count})", count=more)]
    return {"count": len(entries), "names": reduce(_comma, shown)}


# Parts are joined as messages, so that each of them can still be told in another language.


def _comma(first: ModelError, second: ModelError) -> ModelError:
    return ModelError("{first}, {second}", first=first, second=second)


def _semicolon(first: ModelError, second: ModelError) -> ModelError:
    return ModelError("{first}; {second}", first=first, second=second)
