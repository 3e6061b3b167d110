"""The stable text form of a graph: for reading, for golden tests, and for cache keys.

Equal graphs print equal text, in any process and on any Python version; nothing in it depends on
memory addresses, hashes or time. There is no parser: text is for people and for comparison.
"""

from __future__ import annotations

from lushan.graph.ir import Attribute, Graph
from lushan.graph.verify import infer_types


def to_text(graph: Graph) -> str:
    """Return ``graph`` as text: inputs, parameters, one line per node with its type, outputs."""
    types = infer_types(graph)
    lines = [f"input {value.name}: {value.type}" for value in graph.inputs]
    lines += [f"parameter {value.name}: {value.type}" for value in graph.parameters]
    for node in graph.nodes:
        attributes = "".join(f" {name}={_attribute(value)}" for name, value in node.attributes)
        updates = f" updates({', '.join(node.updates)})" if node.updates else ""
        call = f"{node.operator}({', '.join(node.inputs)}){attributes}{updates}"
        kinds = ", ".join(str(types[name]) for name in node.outputs)
        lines.append(f"{', '.join(node.outputs)} = {call}: {kinds}" if node.outputs else call)
    lines.append(f"output {', '.join(graph.outputs)}")
    return "\n".join(lines) + "\n"


def _attribute(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"({','.join(str(n) for n in value)})"
    return repr(value) if isinstance(value, str | float) else str(value)
