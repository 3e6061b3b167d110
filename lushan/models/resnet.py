"""The ResNet family as plain data.

A network is a ``ResNet``: which block, how deep and wide, which activation, stem and shortcut.
``resnet_graph.py`` turns it into a graph of operators.
``ARCHITECTURES`` holds the published ones (He et al. 2015, "Deep residual learning for image
recognition"; the stride of a bottleneck sits on its 3×3, as in torchvision's "V1.5"). One's own
design is another ``ResNet``, a few lines long. Left out: grouped and squeeze-excitation variants.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from lushan.errors import ModelError
from lushan.record import as_dict, field_names, record, replace

Block: TypeAlias = Literal["basic", "bottleneck"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "prelu", "sigmoid", "tanh"]
Shortcut: TypeAlias = Literal["projection", "zero_padding", "none"]
Pooling: TypeAlias = Literal["max", "average", "none"]

# Descriptions come out of files. The deepest net of the paper, 1202 layers, has 600 blocks.
MAXIMUM_BLOCKS = 10_000
MAXIMUM_SIZE = 2**31 - 1


@record
class ResNet:
    """A residual network, described.

    ``depths`` and ``widths`` are the number of blocks and of channels of each stage; a bottleneck
    gives out four times its width. Every stage after the first halves height and width.
    ``shortcut`` says how a block's input crosses where its shape changes: by a 1×1 convolution
    ("projection"), by zero channels ("zero_padding", option A of the paper), or that there are no
    shortcuts at all ("none": a plain network). The stem is one convolution, then ``stem_pooling``
    of 3×3 with stride 2. ``classifier`` is the name of the fully connected layer in the weights.
    """

    block: Block
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    activation: Activation = "relu"
    shortcut: Shortcut = "projection"
    batch_norm: bool = True
    stem_channels: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pooling: Pooling = "max"
    classes: int = 1000
    classifier: str = "fc"

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def expansion(self) -> int:
        """How many times its width a block gives out: 1 for basic, 4 for bottleneck."""
        return 4 if self.block == "bottleneck" else 1

    def to_dict(self) -> dict[str, Any]:
        """Return the description as json-ready data (``model_args`` in ``config.json``)."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in as_dict(self).items()
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> ResNet:
        """Return the network that ``description`` describes; raises ModelError naming the key."""
        known = set(field_names(cls))
        for key in description:
            if key not in known:
                raise ModelError(
                    "unknown key {key} in the description of a network; known are {known}",
                    key=reprlib.repr(key),
                    known=", ".join(sorted(known)),
                )
        missing = [key for key in ("block", "depths") if key not in description]
        if missing:
            raise ModelError("the description of a network lacks {missing}", missing=missing)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in description.items()
        }
        return cls(**values)


def _validate(network: ResNet) -> None:
    """Raise ModelError for the first field that describes no network."""
    choices = {
        "block": get_args(Block),
        "activation": get_args(Activation),
        "shortcut": get_args(Shortcut),
        "stem_pooling": get_args(Pooling),
        "batch_norm": (True, False),
    }
    for key, accepted in choices.items():
        value = getattr(network, key)
        if value not in accepted:
            raise ModelError(
                "{key} of a network should be one of {accepted}; it is {value}",
                key=key,
                accepted=", ".join(str(choice) for choice in accepted),
                value=reprlib.repr(value),
            )
    sizes = ("stem_channels", "stem_kernel", "stem_stride", "classes")
    counts = {key: (getattr(network, key),) for key in sizes}
    for key, values in {**counts, "depths": network.depths, "widths": network.widths}.items():
        if not isinstance(values, tuple) or not values or not all(map(_is_size, values)):
            raise ModelError(
                "{key} of a network should be whole numbers from 1 to {most}; received {value}",
                key=key,
                most=MAXIMUM_SIZE,
                value=reprlib.repr(getattr(network, key)),
            )
    if len(network.depths) != len(network.widths):
        raise ModelError(
            "a network needs as many depths as widths; received {depths} and {widths}",
            depths=reprlib.repr(list(network.depths)),
            widths=reprlib.repr(list(network.widths)),
        )
    if sum(network.depths) > MAXIMUM_BLOCKS:
        raise ModelError(
            "a network may have {most} blocks in all; its depths ask for {blocks}",
            most=MAXIMUM_BLOCKS,
            blocks=sum(network.depths),
        )
    if network.stem_kernel % 2 == 0:
        raise ModelError(
            "stem_kernel of a network should be odd; it is {value}", value=network.stem_kernel
        )
    growing = (network.stem_channels, *(width * network.expansion for width in network.widths))
    if network.shortcut == "zero_padding" and list(growing) != sorted(growing):
        raise ModelError(
            "zero-padding shortcuts need channels that never shrink; they are {channels}",
            channels=reprlib.repr(list(growing)),
        )
    if not isinstance(network.classifier, str) or not network.classifier.isidentifier():
        raise ModelError(
            "classifier of a network should be a name; it is {value}",
            value=reprlib.repr(network.classifier),
        )


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= MAXIMUM_SIZE


_CIFAR = ResNet(
    block="basic",
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    shortcut="zero_padding",
    stem_channels=16,
    stem_kernel=3,
    stem_stride=1,
    stem_pooling="none",
    classes=10,
    classifier="linear",
)

ARCHITECTURES: Mapping[str, ResNet] = {
    "resnet18": ResNet("basic", (2, 2, 2, 2)),
    "resnet34": ResNet("basic", (3, 4, 6, 3)),
    "resnet50": ResNet("bottleneck", (3, 4, 6, 3)),
    "resnet101": ResNet("bottleneck", (3, 4, 23, 3)),
    "resnet152": ResNet("bottleneck", (3, 8, 36, 3)),
    **{f"resnet{6 * n + 2}_cifar": replace(_CIFAR, depths=(n, n, n)) for n in (3, 5, 7, 9, 18)},
}
