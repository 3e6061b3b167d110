"""What the rules of lowering share: where values lie, the weights, the instruction set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.packing import Allocate, Packer, Panels
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import LINEAR_VECTORS, choose_vectors
from lushan.graph.ir import Node
from lushan.graph.weights import Factors
from lushan.record import field, record, replace

Lowering: TypeAlias = "tuple[list[Task], list[Plane]]"  # a step's tasks and temporary planes


@record
class Options:
    """What the caller decides: how many threads, and whether Winograd's convolution is used."""

    threads: int = 1
    winograd: bool = True


@record
class Packing:
    """Tasks that pack the parameter called ``reads`` into memory called ``writes``."""

    tasks: list[Task]
    reads: str
    writes: str


@record
class Context:
    """What every rule needs: where values lie and when they end, weights, the instruction set."""

    planes: dict[str, Plane]
    ends: Mapping[str, Sequence[str]]  # by node, what nothing after it needs
    packer: Packer
    target: Target
    options: Options
    packing: list[Packing] = field(default_factory=list)  # before the step that is made now

    def overwrite(self, node: Node, name: str) -> Plane:
        """Return the plane of a node's output: that of its input ``name`` if it may lie there.

        It may where nothing else needs the input any more and the two lie alike. Then a picture
        takes less memory, and what is written is in the cache already. The node must read each
        number before it writes there, and only for that.
        """
        mine, other = self.planes[node.name], self.planes[name]
        ends = name in self.ends[node.name] and node.inputs.count(name) == 1
        if ends and replace(mine, value=other.value) == other:
            self.planes[node.name] = other
        return self.planes[node.name]

    def training_outputs(
        self, y: Plane, weight: tuple[int, ...], options: Mapping[str, Any]
    ) -> int:
        """Return the outputs of a tile of Winograd's for a convolution in a training step, or 0.

        y is its output, or the gradient of that.
        """
        from lushan.cpu.winograd import is_plain, suitable_training_outputs

        if not self.options.winograd or not is_plain(weight, options):
            return 0
        return suitable_training_outputs(weight[3], weight[0], y.shape[:3], self.target)

    def bias(self, node: Node, channels: int) -> NDArray[np.float32]:
        """Return the bias of a convolution or a fully connected layer, zeros without one."""
        if len(node.inputs) > 2:
            return self.packer[node.inputs[2]]
        return np.zeros(channels, np.float32)

    def panels(self, node: Node, shape: tuple[int, ...], groups: int = 1) -> list[Panels]:
        """Return the packed weights of each group, [OC, KH, KW, IC] of them in ``shape``."""
        oc = shape[0]
        is_linear = node.operator == "linear"
        vectors = LINEAR_VECTORS if is_linear else choose_vectors(oc, self.target)

        def reserve(allocate: Allocate) -> list[Panels]:
            writer = self.packer.writer
            return [writer.reserve(shape, vectors, allocate) for _ in range(groups)]

        def write(panels: list[Panels]) -> None:
            array, scale = self.packer.factors(node.inputs[1])
            bias = self.bias(node, groups * oc)
            if is_linear:
                array = array[:, None, None]
            for group, (packed, biases) in enumerate(panels):
                part = slice(group * oc, (group + 1) * oc)
                weight = Factors(array[part], None if scale is None else scale[part])
                self.packer.writer.write(weight, packed)
                biases[-1] = 0
                biases.reshape(-1)[:oc] = bias[part]

        changing = self.packer.changes(*node.inputs[1:3])
        key = (node.operator, shape, vectors, *node.inputs[1:3])
        panels = self.packer.once(key, reserve, clear if changing else write)
        if changing:
            self._pack_outputs(node, panels)
        return panels

    def _pack_outputs(self, node: Node, panels: list[Panels]) -> None:
        """Pack a weight [OC, …], and its bias, for each group, in every run."""
        from lushan.cpu.parameter_packing import pack_output_channels

        for place, name in enumerate(node.inputs[1:3]):
            array = self.packer.array(name)
            parts = np.split(array, len(panels))
            tasks = [
                pack_output_channels(part, packed[place], self.target)
                for part, packed in zip(parts, panels, strict=True)
            ]
            self.pack(name, tasks, panels[0][place])

    def input_panels(
        self, node: Node, shape: tuple[int, ...], groups: int, vectors: int
    ) -> list[Panels]:
        """Return panels of a weight [G·OC, KH, KW, IC] for the way back, packed in every run.

        ``shape`` is that of a group, [OC, KH, KW, IC]. They are [IC/NR, KH, KW, OC, NR], the
        kernel turned round, and zeros for a bias.
        """
        from lushan.cpu.parameter_packing import pack_input_channels

        oc, kh, kw, ic = shape
        nr = vectors * self.target.lanes
        blocks = -(-ic // nr)

        def reserve(allocate: Allocate) -> list[Panels]:
            return [
                (allocate((blocks, kh, kw, oc, nr)), allocate((blocks, nr))) for _ in range(groups)
            ]

        key = (node.operator, shape, vectors, node.inputs[1])
        panels = self.packer.once(key, reserve, clear)
        weight = self.packer.array(node.inputs[1]).reshape(groups, *shape)
        tasks = [
            pack_input_channels(part, packed, flipped=True, block=nr)
            for part, (packed, _) in zip(weight, panels, strict=True)
        ]
        self.pack(node.inputs[1], tasks, panels[0][0])
        return panels

    def pack(self, name: str, tasks: list[Task], packed: NDArray[np.float32]) -> None:
        """Have ``tasks`` pack the parameter ``name`` into ``packed`` before the step made now."""
        self.packing.append(Packing(tasks, name, f"packed at {packed.ctypes.data}"))


def clear(panels: list[Panels]) -> None:
    """Write zeros: what lies beyond the channels of a panel stays so."""
    for packed in panels:
        for array in packed:
            array[...] = 0
