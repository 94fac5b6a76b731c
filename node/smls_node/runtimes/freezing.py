# SPDX-License-Identifier: MIT
"""A model that only reads its variables, with their values in place of them.

TensorFlow's optimizer (Grappler) takes a variable for what may be another value in each run: it
folds nothing into one, and neither does ``folding``: MobileNetV2 takes 1.7 times as long. Where
nothing that answers can write one, or is otherwise another thing in each run, they are the
constants that they are in a frozen graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from smls_node.runtimes.tensorflow import give_back, imported
from smls_node.settings import Device

MOST_BYTES = 2**28
"""More of variables stay as they are: TensorFlow has constants some four times in memory, and more
while it loads, and a graph with all of them is to stay below the 2 GiB of a message."""

READERS = frozenset(
    {
        *("Variable", "VariableV2", "VarHandleOp"),
        *("ReadVariableOp", "ResourceGather", "ResourceGatherNd"),
        *("PartitionedCall", "StatefulPartitionedCall"),
    }
)
"""Operators with a state that they only read, and calls of functions, which are looked into."""

BRANCHES = frozenset(
    {
        *("If", "While", "Case", "StatelessIf", "StatelessWhile", "StatelessCase"),
        *("Switch", "Merge", "Enter", "Exit", "NextIteration"),
    }
)
"""Operators of loops and branches. Within those TensorFlow replaces some of what reads a variable
wrongly (as of 2.21), so that the graph cannot be run."""


def can_freeze(definition: Any, targets: Collection[str]) -> bool:
    """Whether what the operations ``targets`` give depends on their inputs and on variables that
    nothing before them writes, without loops and branches."""
    from tensorflow.python.framework import op_def_registry

    functions = {each.signature.name: each for each in definition.library.function}
    bodies: list[Iterable[Any]] = [_before(definition, targets)]
    seen: set[str] = set()
    while bodies:
        for node in bodies.pop():
            called = _called(node) & functions.keys() - seen
            bodies += [functions[name].node_def for name in called]
            seen |= called
            if node.op in functions:
                continue
            if node.op in BRANCHES:
                return False
            known = op_def_registry.get(node.op)
            # What takes a reference to a variable of TensorFlow 1 may write it.
            is_pure = known is not None and not any(each.is_ref for each in known.input_arg)
            if not is_pure or (known.is_stateful and node.op not in READERS):
                return False
    return True


def frozen(session: Any, sources: Collection[str], targets: Collection[str]) -> Any:
    """The definition of what leads from the operations ``sources`` to ``targets``, without
    variables and functions, where ``can_freeze``.

    :raises ValueError, RuntimeError, tensorflow.errors.OpError: where TensorFlow cannot.
    """
    from tensorflow.compat.v1 import graph_util
    from tensorflow.python.util import deprecation

    # An input that nothing uses is to be there too.
    ends = [*sources, *targets]
    with deprecation.silence():
        needed = graph_util.extract_sub_graph(session.graph.as_graph_def(add_shapes=True), ends)
        # TensorFlow replaces most of what reads a variable outside of functions alone.
        plain = _inlined(needed, ends)
        return graph_util.convert_variables_to_constants(session, plain, ends)


def _inlined(definition: Any, keep: Iterable[str]) -> Any:
    """The definition with the bodies of functions in place of their calls."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    graph = imported(definition, Device())
    told = tf.compat.v1.train.export_meta_graph(graph_def=definition, graph=graph)
    give_back(graph)
    # What an optimizer is not to lose.
    told.collection_def["train_op"].node_list.value.extend(f"{name}:0" for name in keep)
    config = tf.compat.v1.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.min_graph_nodes = -1
    rewriting.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, told)


def _before(definition: Any, targets: Collection[str]) -> Iterator[Any]:
    """The nodes of ``targets`` and all that they depend on."""
    nodes = {node.name: node for node in definition.node}
    waiting, seen = list(targets), set(targets)
    while waiting:
        node = nodes[waiting.pop()]
        yield node
        needed = {name.removeprefix("^").partition(":")[0] for name in node.input} - seen
        waiting += needed
        seen |= needed


def _called(node: Any) -> set[str]:
    """The functions that the node may call."""
    told = {node.op}
    for value in node.attr.values():
        told.update(each.name for each in (value.func, *value.list.func))
    return told
