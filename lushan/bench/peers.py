"""Other runtimes, each with its best settings, behind one small interface.

A peer turns a workload into calls, one for each setting that may turn out to be its best; the
caller tries them all. Inputs and outputs are prepared and reused, so that a call is inference and
nothing else. All compute in float32, as lushan does, unless the name says otherwise; a quantised
network is given to those that can compute on bytes.
Left out on purpose: accelerators, and models that were compiled ahead of time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from lushan.bench.torch_network import torch_network
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.models.onnx_export import to_nchw, to_onnx
from lushan.passes.fold_batch_norm import fold_batch_norm

Call: TypeAlias = Callable[[], Array]  # → scores [N, classes]


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with its weights, a batch of pictures x [N, H, W, 3], and how many threads."""

    graph: Graph
    weights: Mapping[str, Array]
    x: Array
    threads: int

    @cached_property
    def pictures(self) -> Array:
        """The batch as peers take it, [N, 3, H, W]."""
        return to_nchw(self.x)

    @cached_property
    def onnx(self) -> dict[str, bytes]:
        """The network as ONNX files, by what is special about them.

        A quantised one is written in two ways: which is faster differs between runtimes.
        """
        files = {"": to_onnx(self.graph, self.weights).SerializeToString()}
        if any(value.type.dtype == "int8" for value in self.graph.parameters):
            rounded = to_onnx(self.graph, self.weights, round_before_sums=True)
            files["rounded before sums"] = rounded.SerializeToString()
        return files


class Peer(Protocol):
    """A runtime to compare with."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def precision(self) -> str:
        """The type it computes float32 networks in: peers of another one are no rivals."""

    @property
    def takes_int8(self) -> bool:
        """Whether it runs a quantised network as one."""

    def available(self) -> str | None:
        """Return its version, or None where it is not installed or this processor lacks it."""

    def prepare(self, workload: Workload) -> dict[str, Call]:
        """Return a call for each setting that might be its best one."""


class OnnxRuntime:
    """ONNX Runtime on the CPU: all of its graph rewrites, all sizes told in advance."""

    name = "onnxruntime"
    precision = "float32"
    takes_int8 = True

    def available(self) -> str | None:
        """See ``Peer``; it needs ``onnx`` too."""
        return version_of("onnxruntime") if version_of("onnx") else None

    def prepare(self, workload: Workload) -> dict[str, Call]:
        """See ``Peer``; there is one setting for each file."""
        files = workload.onnx.items()
        return {form or "default": self._run(workload, data) for form, data in files}

    def _run(self, workload: Workload, data: bytes) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = workload.threads
        for name, size in zip(("batch", "height", "width"), workload.x.shape, strict=False):
            options.add_free_dimension_override_by_name(name, size)
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        [output] = workload.graph.outputs
        feeds = {workload.graph.inputs[0].name: workload.pictures}

        def call() -> Array:
            scores: Array = session.run([output], feeds)[0]
            return scores

        return call


class OpenVino:
    """OpenVINO on the CPU, in ``precision`` float32 or bfloat16.

    One request with the whole batch (hint LATENCY); for several pictures also requests of a part
    each, as many at a time as it likes (hint THROUGHPUT): single pictures, or a part per thread.
    """

    def __init__(self, precision: str = "float32") -> None:
        self.precision = precision
        self.takes_int8 = precision == "float32"
        self.name = "openvino" if precision == "float32" else f"openvino {precision}"
        self._hint = {"float32": "f32", "bfloat16": "bf16"}[precision]

    def available(self) -> str | None:
        """See ``Peer``; it needs ``onnx`` too, and for bfloat16 a processor that has it."""
        version = version_of("openvino") if version_of("onnx") else None
        if version is None or self.precision == "float32":
            return version
        import openvino

        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return version if "BF16" in able else None

    def prepare(self, workload: Workload) -> dict[str, Call]:
        """See ``Peer``."""
        batch, threads = len(workload.x), workload.threads
        parts = {1, batch // threads} if batch % threads == 0 else {1}
        calls: dict[str, Call] = {}
        for form, data in workload.onnx.items():
            note = f", {form}" if form else ""
            calls[f"latency{note}"] = self._whole(workload, data)
            for part in sorted(parts - {batch}):
                title = f"throughput, requests of {part}{note}"
                calls[title] = self._in_parts(workload, data, part)
        return calls

    def _whole(self, workload: Workload, data: bytes) -> Call:
        compiled = self._compile(workload, data, "LATENCY", len(workload.x))
        request = compiled.create_infer_request()
        inputs = {0: workload.pictures}

        def call() -> Array:
            scores: Array = request.infer(inputs, share_inputs=True, share_outputs=True)[0]
            return scores

        return call

    def _compile(self, workload: Workload, data: bytes, hint: str, batch: int) -> Any:
        import openvino

        core = openvino.Core()
        model = core.read_model(data)
        model.reshape([batch, *workload.pictures.shape[1:]])
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": workload.threads,
        }
        return core.compile_model(model, "CPU", settings)

    def _in_parts(self, workload: Workload, data: bytes, part: int) -> Call:
        import openvino

        queue = openvino.AsyncInferQueue(self._compile(workload, data, "THROUGHPUT", part))
        parts = np.split(workload.pictures, len(workload.x) // part)
        scores: list[Any] = [None] * len(parts)

        def keep(request: Any, index: int) -> None:
            scores[index] = request.get_output_tensor().data.copy()

        queue.set_callback(keep)

        def call() -> Array:
            for index, pictures in enumerate(parts):
                queue.start_async({0: pictures}, index)
            queue.wait_all()
            return np.concatenate(scores)

        return call


class PyTorch:
    """PyTorch in inference mode, batch norm folded, in either order of memory."""

    name = "pytorch"
    precision = "float32"
    takes_int8 = False

    def available(self) -> str | None:
        """See ``Peer``."""
        return version_of("torch")

    def prepare(self, workload: Workload) -> dict[str, Call]:
        """See ``Peer``."""
        import torch

        torch.set_num_threads(workload.threads)
        graph, weights = fold_batch_norm(workload.graph, workload.weights)

        def setting(memory_format: Any) -> Call:
            network = torch_network(graph, weights, memory_format)
            x = torch.from_numpy(workload.pictures).contiguous(memory_format=memory_format)

            def call() -> Array:
                with torch.inference_mode():
                    scores: Array = network(x).numpy()
                return scores

            return call

        return {
            "channels_last": setting(torch.channels_last),
            "contiguous": setting(torch.contiguous_format),
        }


PEERS: tuple[Peer, ...] = (OnnxRuntime(), OpenVino(), PyTorch(), OpenVino("bfloat16"))


def version_of(module: str) -> str | None:
    """Return the version of a module, None where it is missing or cannot be loaded."""
    try:
        version = importlib.import_module(module).__version__
    except (ImportError, OSError, AttributeError):
        return None
    return str(version).split("-")[0].split("+")[0]
