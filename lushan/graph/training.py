"""Training as a graph: one step (forward, loss, backward, update) is a program like any other.

Before, the network that answers::

    y = batch_norm(convolution(input, weight), …)
    scores = linear(…)

After::

    y, mean, variance = batch_norm_training(convolution(input, weight), …) updates(running_mean, …)
    scores = linear(…)
    loss = cross_entropy(scores, targets)
    scores.gradient = cross_entropy_backward(scores, targets)
    …
    weight.gradient = convolution_backward_weight(y.gradient, input)
    sgd(weight, weight.velocity, weight.gradient, …) updates(weight, weight.velocity)

A parameter is updated as soon as nobody in the step reads it any more, so that gradients of weights
live for a moment; where gradients are clipped, all of them must be there first. The state that a
step carries on to the next is in its parameters and nowhere else: those of the network and one
velocity for each that is trained. Whoever saves them can go on as if nothing had happened, bit for
bit.

Left out: everything that changes from step to step (schedules, pictures), which comes in as inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np

from lushan.errors import GraphError, UsageError
from lushan.graph.autodiff import Backward, differentiable, wanting
from lushan.graph.executor import Array, Program
from lushan.graph.ir import Graph, Node, TensorType, Value, make_node
from lushan.graph.verify import infer_types, verify
from lushan.reference.arrays import IntArray

TARGETS = "targets"  # float32 [N, K]
RATES = ("learning_rate", "momentum", "weight_decay")  # numbers
LOSS, SCORES = "loss", "scores"
GRADIENT_NORM = "gradient_norm"  # of all gradients together, before clipping
VELOCITY = ".velocity"
RUNNING_MOMENTUM = 0.1  # how far running statistics move towards those of a batch

Number: TypeAlias = "float | Array"


def training_step(
    graph: Graph,
    *,
    frozen: Collection[str] = (),
    label_smoothing: float = 0.0,
    nesterov: bool = True,
    watch: bool = False,
    clip: float | None = None,
) -> Graph:
    """Return the graph of one training step of ``graph``, which maps pictures to scores [N, K].

    Inputs: those of ``graph``, ``targets`` [N, K] (what share each class has in each picture),
    and the numbers ``learning_rate``, ``momentum`` and ``weight_decay``. Outputs: ``loss`` and
    ``scores``; with ``watch`` the norm of every gradient, ``{parameter}.gradient_norm``, too, and
    with ``watch`` or ``clip`` that of all together, ``gradient_norm``. ``clip`` is the greatest
    that it may have in the update. What is computed is in ``lushan.reference``: ``cross_entropy``,
    whose ``label_smoothing`` this is, and ``sgd``, whose ``nesterov``.

    ``frozen`` are names of parameters, or what they begin with up to a dot: ``"layer1"`` has
    ``layer1.0.conv1.weight``. Those are not written; a batch norm normalises with its running
    statistics where these are frozen, else with those of the batch. Raises GraphError for a name
    that nothing has, when nothing is left to train, and for what has no gradient.
    """
    verify(graph)
    if len(graph.outputs) != 1:
        raise GraphError(
            "a network is trained on one output; this has {outputs}", outputs=list(graph.outputs)
        )
    kept = _frozen(graph, frozen)
    trainable = [value.name for value in graph.parameters if value.name not in kept]
    read = {name for node in graph.nodes for name in differentiable(node)}
    trained = [name for name in trainable if name in read]
    forward = _forward(graph, set(trainable), wanting(graph.nodes, trained))
    types = infer_types(graph)
    scores = types[graph.outputs[0]]
    nodes = [
        *forward,
        make_node("cross_entropy", (SCORES, TARGETS), (LOSS,), label_smoothing=label_smoothing),
    ]
    step = _Step(Backward(forward, _renamed(types, graph), trained), trained, nesterov=nesterov)
    step.differentiate(forward, label_smoothing, watch=watch, clip=clip)
    if not step.updated:
        raise GraphError("nothing is left to train: every parameter before the scores is frozen")
    parameters = {value.name: value for value in graph.parameters}
    velocities = [Value(f"{name}{VELOCITY}", parameters[name].type) for name in step.updated]
    whole = Graph(
        (
            *graph.inputs,
            Value(TARGETS, TensorType(scores.shape, scores.dtype)),
            *(Value(name, TensorType((), scores.dtype)) for name in RATES),
        ),
        (*graph.parameters, *velocities),
        (*nodes, *step.nodes),
        (LOSS, SCORES, *step.norms),
    )
    verify(whole)
    return whole


def _frozen(graph: Graph, frozen: Collection[str]) -> set[str]:
    """Return the parameters that ``frozen`` names or begins."""
    names = [value.name for value in graph.parameters]
    found: set[str] = set()
    for prefix in frozen:
        chosen = {name for name in names if name == prefix or name.startswith(f"{prefix}.")}
        if not chosen:
            raise GraphError(
                "no parameter is called {prefix!r} or begins with it and a dot; they begin with "
                "{known}",
                prefix=prefix,
                known=", ".join(dict.fromkeys(name.split(".")[0] for name in names)),
            )
        found |= chosen
    return found


def _forward(graph: Graph, trainable: set[str], wanted: set[str]) -> list[Node]:
    """Return the nodes as they are in training; the output is called ``scores``."""
    nodes = []
    for node in graph.nodes:
        inputs, outputs = (
            tuple(SCORES if name == graph.outputs[0] else name for name in names)
            for names in (node.inputs, node.outputs)
        )
        operator, options, updates = node.operator, node.options, node.updates
        if operator == "batch_norm" and trainable.issuperset(inputs[3:]):
            operator, updates = "batch_norm_training", inputs[3:]
            options["momentum"] = RUNNING_MOMENTUM
            outputs = (*outputs, f"{outputs[0]}.mean", f"{outputs[0]}.variance")
        elif operator == "max_pooling" and inputs[0] in wanted and len(outputs) == 1:
            outputs = (*outputs, f"{outputs[0]}.switches")
        attributes = tuple(sorted(options.items()))
        nodes.append(Node(operator, inputs, outputs, attributes, updates))
    return nodes


def _renamed(types: Mapping[str, TensorType], graph: Graph) -> dict[str, TensorType]:
    return {**types, SCORES: types[graph.outputs[0]]}


class _Step:
    """The second half of a step: gradients, their norms, and updates as early as they can be."""

    def __init__(self, back: Backward, trained: Sequence[str], *, nesterov: bool) -> None:
        self.norms: list[str] = []  # outputs
        self.updated: list[str] = []
        self._back = back
        self._trained = trained
        self._nesterov = nesterov

    @property
    def nodes(self) -> list[Node]:
        return self._back.nodes

    def differentiate(
        self, forward: Sequence[Node], label_smoothing: float, *, watch: bool, clip: float | None
    ) -> None:
        back = self._back
        first = {name: node for node in reversed(forward) for name in node.inputs}
        known: list[tuple[str, str]] = []  # parameters and their gradients
        norms: list[str] = []

        def passed(node: Node) -> None:
            """See which parameters nobody reads any more: every reader has been passed."""
            for name in self._trained:
                gradient = back.gradient(name)
                if first.get(name) is node and gradient is not None:
                    known.append((name, gradient))
                    if watch or clip is not None:
                        norms.append(f"{name}.{GRADIENT_NORM}")
                        back.add("gradient_norm", (gradient,), norms[-1])
                    if clip is None:
                        self._update(name, gradient)

        seed = back.fresh(SCORES)
        back.add("cross_entropy_backward", (SCORES, TARGETS), seed, label_smoothing=label_smoothing)
        back.run(SCORES, seed, passed)
        if norms:
            back.add("total_norm", tuple(norms), GRADIENT_NORM)
            self.norms = [*(norms if watch else ()), GRADIENT_NORM]
        if clip is not None and known:
            back.add("clipping_factor", (GRADIENT_NORM,), "clipping_factor", most=float(clip))
            for name, gradient in known:
                self._update(name, gradient, "clipping_factor")

    def _update(self, name: str, gradient: str, *factor: str) -> None:
        updates = (name, f"{name}{VELOCITY}")
        inputs = (*updates, gradient, *RATES, *factor)
        self.nodes.append(make_node("sgd", inputs, (), updates=updates, nesterov=self._nesterov))
        self.updated.append(name)


# --- running it -----------------------------------------------------------------------------------


def training_state(step: Graph, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of all parameters of ``step``; a velocity that is not in ``weights`` is 0.

    Raises GraphError when another parameter is missing.
    """
    velocities = {node.updates[1]: node.updates[0] for node in step.nodes if node.operator == "sgd"}
    state: dict[str, Array] = {}
    for value in step.parameters:
        name = value.name
        if name in weights:
            state[name] = np.array(weights[name], order="C")
        elif name in velocities:
            state[name] = np.zeros_like(weights[velocities[name]], order="C")
        else:
            raise GraphError("no weights for the parameter {name!r}", name=name)
    return state


def one_hot(labels: IntArray, classes: int) -> Array:
    """Return targets float32 [N, K] for class indices [N]: 1 at the class, 0 elsewhere.

    Raises UsageError for an index that no class has.
    """
    if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise UsageError(
            "class indices should be a list of numbers from 0 to {last}; got {labels}",
            last=classes - 1,
            labels=labels,
        )
    return np.eye(classes, dtype=np.float32)[labels]


class UpdatingProgram(Program, Protocol):
    """A program that owns the parameters which its graph updates."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Every parameter by name, as the last run left it."""


class UpdatingEngine(Protocol):
    """An engine whose programs do; see ``lushan.graph.executor.Engine``."""

    def __call__(
        self, graph: Graph, weights: Mapping[str, Array], *, threads: int | None = None
    ) -> UpdatingProgram:
        """Return the program."""


class TrainingProgram:
    """A training step on an engine, with the state that it carries on.

    ``parameters`` are the engine's own arrays: they change with every step, and those that steps
    change may be written in between. An exception in the middle of a step leaves them half updated:
    begin anew with a program of saved ones.
    """

    def __init__(
        self,
        step: Graph,
        state: Mapping[str, Array],
        engine: UpdatingEngine,
        *,
        threads: int | None = None,
    ) -> None:
        self.graph = step
        self._program = engine(step, state, threads=threads)
        updated = {name for node in step.nodes for name in node.updates}
        arrays = {name: array.view() for name, array in self._program.parameters.items()}
        for name, array in arrays.items():
            if name not in updated:
                array.flags.writeable = False
        self.parameters: Mapping[str, Array] = MappingProxyType(arrays)
        self._dtype = next(iter(arrays.values())).dtype

    def step(self, inputs: Mapping[str, Number]) -> dict[str, Array]:
        """Run one step on named inputs; rates may be plain numbers. Returns the named outputs."""
        arrays = {name: np.asarray(value, self._dtype) for name, value in inputs.items()}
        return self._program(arrays)

    def close(self) -> None:
        """Give back threads and memory; ``parameters`` stay readable."""
        self._program.close()
