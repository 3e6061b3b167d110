"""The pickle machine: it reads what torch writes, and nothing that a file asks for is executed."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from lushan.errors import ModelError
from lushan.models.pickle_machine import MAXIMUM_BYTES
from lushan.models.torch_pickle import Storage, StoredTensor, read_pickle
from support.torch_files import Call, Name, Raw, Stored, pickled, storage, tensor

PLAIN = {
    "none": None,
    "truth": [True, False],
    "integers": [0, 1, 255, 256, 65536, -1, 2**31, -(2**40), 10**30],
    "floats": [0.5, -1e300],
    "text": ["", "庐山", "x" * 300],
    "bytes": [b"", b"abc\xff", b"x" * 300],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "nested": {"a": {"b": [{}, []]}, 3: {1, 2}, "empty": set()},
    "shared": [[1]] * 3,
}


def read(data: bytes) -> object:
    return read_pickle(io.BytesIO(data), source="x.pth")[0]


def encode(content: object) -> object:
    return read(pickled(content))


@pytest.mark.parametrize("protocol", range(1, 6))
def test_reads_plain_values_as_python_wrote_them(protocol: int) -> None:
    plain = dict(PLAIN)
    if protocol < 3:  # where bytes are empty, Python 3 asks these protocols for ``bytes`` itself
        plain["bytes"] = [b"abc\xff", b"x" * 300]
    assert read(pickle.dumps(plain, protocol)) == plain


def test_reads_the_text_instructions_of_protocol_0() -> None:
    plain = {"a": 1, "b": [2.5, None, (True, "c")], "long": 2**40}
    assert read(pickle.dumps(plain, 0)) == plain


def test_leaves_the_file_behind_the_pickle() -> None:
    file = io.BytesIO(pickled([1]) + b"rest")
    read_pickle(file, source="x")
    assert file.read() == b"rest"


def test_a_tensor_stays_a_description() -> None:
    content, storages = read_pickle(
        io.BytesIO(pickled({"w": tensor(storage("7", "float32", 12), (3, 4), (4, 1), 0)})),
        source="x",
    )
    expected = Storage(key="7", element="float32", total=12, start=0, count=12)
    assert content == {"w": StoredTensor(expected, 0, (3, 4), (4, 1))}
    assert storages == {"7": expected}


def test_a_storage_may_be_a_view_of_another() -> None:
    content = encode(Stored(("storage", Name("torch", "LongStorage"), "7", "cpu", 12, ("8", 4, 6))))
    assert content == Storage(key="7", element="int64", total=12, start=4, count=6)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(
    "value", [np.float64(71.25), np.float32(0.5), np.int64(-7), np.bool_(True), np.uint8(200)]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numpy_scalars_become_python_numbers(module: str, value: np.generic, order: str) -> None:
    dtype = value.dtype.newbyteorder(order)
    kind = Call(Name("numpy", "dtype"), (f"{dtype.kind}{dtype.itemsize}", False, True))
    built = Raw(pickled(kind)[2:-1] + pickled((3, order, None, None, None, -1, -1, 0))[2:-1] + b"b")
    text = np.array(value, dtype).tobytes().decode("latin-1")
    data = Call(Name("_codecs", "encode"), (text, "latin1"))
    number = encode(Call(Name(module, "scalar"), (built, data)))
    assert number == value.item()
    assert type(number) is type(value.item())


# Hostile files. Each would run a command, or reach for one, if it were unpickled.

COMMAND = ("touch /tmp/lushan-was-executed",)
SYSTEM = Name("os", "system")
HOSTILE = {
    "reduce": (Call(SYSTEM, COMMAND), "os.system"),
    "posix": (Call(Name("posix", "system"), COMMAND), "posix.system"),
    "eval": (Call(Name("builtins", "eval"), ("1",)), "builtins.eval"),
    "getattr chain": (
        Call(Name("builtins", "getattr"), (Name("os", "path"), "join")),
        "builtins.getattr",
    ),
    "stack global": (Raw(b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R"), "os.system"),
    "inst": (Raw(b"(X\x02\x00\x00\x00idios\nsystem\n"), "os.system"),
    "inst of protocol 0": (Raw(b"(S'id'\nios\nsystem\n"), "os.system"),
    "obj": (Raw(b"(cos\nsystem\nX\x02\x00\x00\x00ido"), "os.system"),
    "newobj": (Raw(b"csubprocess\nPopen\n)\x81"), "subprocess.Popen"),
    "newobj of an allowed name": (
        Raw(b"ccollections\nOrderedDict\n)\x81"),
        "collections.OrderedDict",
    ),
    "newobj_ex": (Raw(b"ctorch\nFloatStorage\n)}\x92"), "torch.FloatStorage"),
    "call of a label": (Call(Name("torch", "FloatStorage"), (3,)), "torch.FloatStorage"),
    "build on a name": (
        Raw(b"ccollections\nOrderedDict\n}X\x0c\x00\x00\x00__setstate__Nsb"),
        "collections.OrderedDict",
    ),
    "dotted name": (Name("torch", "FloatStorage.__init__.__globals__"), "torch.FloatStorage.__"),
    "other torch": (Call(Name("torch.hub", "load"), ("x",)), "torch.hub.load"),
    "nested load": (
        Call(Name("torch.storage", "_load_from_bytes"), ("",)),
        "torch.storage._load_from_bytes",
    ),
    "module": (Name("torchvision.models.resnet", "ResNet"), "torchvision.models.resnet.ResNet"),
    "numpy object": (Call(Name("numpy", "dtype"), ("O8", False, True)), "numpy.dtype O8"),
    "numpy array": (
        Name("numpy.core.multiarray", "_reconstruct"),
        "numpy.core.multiarray._reconstruct",
    ),
    "import hook": (Name("builtins", "__import__"), "builtins.__import__"),
    "persistent id": (Stored(("module", SYSTEM, "a.py", "import os")), "os.system"),
    "other persistent id": (
        Stored(("module", 1, "a.py", "x")),
        "an object that is kept outside the pickle",
    ),
    "names of other types": (Raw(b"K\x01K\x02\x93"), "?"),
    "terminal control": (Name("os\x1b[2J", "system"), r"os\x1b[2J.system"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_by_name_what_is_not_weights(name: str) -> None:
    hostile, named = HOSTILE[name]
    for content in (hostile, {"state_dict": {"a": [1, hostile]}}):
        with pytest.raises(ModelError, match="nothing was executed") as caught:
            encode(content)
        assert f"x.pth: the pickle asks for {named}" in str(caught.value)
        assert str(caught.value).isprintable()
    assert not Path("/tmp/lushan-was-executed").exists()


def test_extension_codes_are_refused() -> None:
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"Pid\n", b"\x97"):
        with pytest.raises(ModelError, match=r"never need.*nothing was executed"):
            read(b"\x80\x02" + code + b".")


BROKEN = {
    "nothing on the stack": b".",
    "two values": b"NN.",
    "a mark left": b"(N.",
    "pop below a mark": b"N(0.",
    "no mark": b"t.",
    "unknown memo": b"h\x05.",
    "memo of nothing": b"q\x05.",
    "odd items": b"}(Nu.",
    "items of a list": b"](NNu.",
    "append to a dictionary": b"}Na.",
    "unhashable key": b"}]Ns.",
    "tuple key": b"})Ns.",
    "reduce of text": b"X\x01\x00\x00\x00a)R.",
    "arguments that are no tuple": b"ccollections\nOrderedDict\n]R.",
    "wrong number of arguments": b"ctorch\nSize\n)R.",
    "build on text": b"X\x01\x00\x00\x00a}b.",
    "not UTF-8": b"X\x01\x00\x00\x00\xff.",
    "negative length": b"T\xff\xff\xff\xff.",
    "huge integer": b"\x8b\x00\x01\x00\x00" + bytes(256) + b".",
    "endless line": b"c" + b"a" * 5000,
    "protocol 9": b"\x80\x09N.",
    "storage of the wrong type": pickled(Stored(("storage", "FloatStorage", "0", "cpu", 1))),
    "negative size": pickled(storage("0", "float32", -1)),
    "enormous size": pickled(storage("0", "float32", 2**60)),
    "short identity": pickled(Stored(("storage",))),
    "two types": pickled([storage("0", "float32", 4), storage("0", "int64", 4)]),
    "tensor of no storage": pickled(tensor(None, (1,), (1,))),
    "strides of another rank": pickled(tensor(storage("0", "float32", 4), (2, 2), (1,))),
    "negative stride": pickled(tensor(storage("0", "float32", 4), (2, 2), (-2, 1))),
    "too many sides": pickled(tensor(storage("0", "float32", 1), (1,) * 33, (1,) * 33)),
    "scalar of the wrong size": pickled(
        Call(
            Name("numpy.core.multiarray", "scalar"),
            (
                Call(Name("numpy", "dtype"), ("f8",)),
                Call(Name("_codecs", "encode"), ("a", "latin1")),
            ),
        )
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_named_as_damaged(name: str) -> None:
    with pytest.raises(ModelError, match=r"x\.pth: .*(damaged|ends in the middle)"):
        read(BROKEN[name])


@pytest.mark.parametrize("code", [b"X", b"B", b"\x8d", b"\x8e", b"T"])
def test_lengths_beyond_the_file_cost_nothing(code: bytes) -> None:
    layout = "<Q" if code in (b"\x8d", b"\x8e") else "<I"
    with pytest.raises(ModelError, match="ends in the middle"):
        read(code + struct.pack(layout, 2**30) + b"short")


def test_long_texts_are_bounded() -> None:
    length = MAXIMUM_BYTES + 1
    with pytest.raises(ModelError, match="far larger than weights need"):
        read(b"X" + struct.pack("<I", length) + bytes(length) + b".")


def test_every_truncation_is_an_error() -> None:
    data = pickled({"w": tensor(storage("7", "float32", 12), (3, 4), (4, 1)), "n": [1, 2.5, "x"]})
    for length in range(len(data)):
        with pytest.raises(ModelError):
            read(data[:length])


@pytest.mark.parametrize(
    "bomb",
    [
        b"}" * 2_000_000,
        b"(" * 2_000_000,
        b"N" + b"2" * 2_000_000,
        # One list of 1,000 numbers, copied again and again.
        b"](" + b"N" * 1000 + b"eq\x00" + b"0ctorch\nSize\nh\x00\x85R" * 2000 + b".",
        pickled("x" * 100_000)[2:-1]
        + b"q\x00"
        + b"0c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 50
        + b".",
    ],
    ids=["dictionaries", "marks", "copies", "tuples", "bytes"],
)
def test_work_is_bounded(bomb: bytes) -> None:
    with pytest.raises(ModelError, match="far larger than weights need"):
        read(b"\x80\x02" + bomb)


def test_deep_nesting_is_no_recursion() -> None:
    depth = 100_000
    value = read(b"]" * depth + b"a" * (depth - 1) + b".")
    assert isinstance(value, list)
